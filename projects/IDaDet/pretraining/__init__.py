"""Pre-training of 1-bit backbones on image classification, in ReActNet's two steps.

Importing it adds the PRETRAIN keys to every config that is made from then on. Source: ReActNet
(arXiv 2003.03488); IDa-Det (arXiv 2210.03477) pre-trains its detectors' backbones so.
"""

from pretraining.classifier import BackboneClassifier
from pretraining.config import add_pretrain_config
from pretraining.steps import Pretraining, evaluate
from pretraining.trainer import ClassifierTrainer

__all__ = [
    "BackboneClassifier",
    "ClassifierTrainer",
    "Pretraining",
    "add_pretrain_config",
    "evaluate",
]
