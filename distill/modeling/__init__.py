"""Backbones, detectors and layers that Detectron2 lacks; importing this registers them."""

from distill.modeling.fcos import ConfigurableFCOS, add_fcos_config
from distill.modeling.slim import add_slim_config

__all__ = ["ConfigurableFCOS", "add_fcos_config", "add_slim_config"]
