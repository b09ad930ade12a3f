"""Backbones, detectors and layers that Detectron2 lacks; importing this registers them."""

from distill.modeling.slim import add_slim_config

__all__ = ["add_slim_config"]
