"""Distillation of object detectors in Detectron2.

Importing this package registers its meta-architectures, backbones, methods, datasets and keys.
"""

from distill import data, deploy, engine, labeling, modeling
from distill.config import add_distill_config
from distill.distiller import Distiller
from distill.utils.version import VERSION

__version__ = VERSION
__all__ = ["Distiller", "add_distill_config", "data", "deploy", "engine", "labeling", "modeling"]
