"""ATSS: detector, head and losses; its assignment is in `distill.modeling.dense`."""

from distill.modeling.atss.config import add_atss_config
from distill.modeling.atss.detector import ATSS
from distill.modeling.atss.head import ATSSHead
from distill.modeling.atss.losses import centerness_target

__all__ = ["ATSS", "ATSSHead", "add_atss_config", "centerness_target"]
