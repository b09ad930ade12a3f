"""Losses: pure tensor functions that know neither Detectron2 nor configs."""

from distill.losses.box_regression import gated_box_regression
from distill.losses.foreground import foreground_classification
from distill.losses.gaussian import gaussian_box_mask, gaussian_box_masks
from distill.losses.imitation import masked_imitation

__all__ = [
    "foreground_classification",
    "gated_box_regression",
    "gaussian_box_mask",
    "gaussian_box_masks",
    "masked_imitation",
]
