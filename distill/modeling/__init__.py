"""Backbones, detectors and layers that Detectron2 lacks; importing this registers them."""

from distill.modeling import binary, slim
from distill.modeling.atss import ATSS
from distill.modeling.dense import backbone
from distill.modeling.fcos import ConfigurableFCOS
from distill.modeling.focal_loss import use_plain_focal_loss
from distill.modeling.gfl import GFL
from distill.modeling.ssd import SSD

__all__ = ["ATSS", "GFL", "SSD", "ConfigurableFCOS", "backbone", "binary", "slim"]

use_plain_focal_loss()
