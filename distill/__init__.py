"""Distillation of object detectors in Detectron2.

Importing this package registers its meta-architectures, backbones, methods and datasets.
"""

from distill import data, modeling
from distill.config import add_distill_config
from distill.distiller import Distiller

__version__ = "0.1.0"
__all__ = ["Distiller", "add_distill_config", "data", "modeling"]
