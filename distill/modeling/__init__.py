"""Backbones, detectors and layers that Detectron2 lacks; importing this registers them."""

from distill.modeling import binary
from distill.modeling.atss import ATSS, add_atss_config
from distill.modeling.fcos import ConfigurableFCOS, add_fcos_config
from distill.modeling.gfl import GFL, add_gfl_config
from distill.modeling.slim import add_slim_config
from distill.modeling.ssd import SSD, add_ssd_config

__all__ = [
    "ATSS",
    "GFL",
    "SSD",
    "ConfigurableFCOS",
    "add_atss_config",
    "add_fcos_config",
    "add_gfl_config",
    "add_slim_config",
    "add_ssd_config",
    "binary",
]
