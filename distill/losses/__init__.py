"""Losses: pure tensor functions that know neither Detectron2 nor configs."""

from distill.losses.box_regression import gated_box_regression
from distill.losses.foreground import foreground_classification
from distill.losses.gaussian import gaussian_box_mask, gaussian_box_masks
from distill.losses.imitation import masked_imitation
from distill.losses.region_imitation import (
    cosine_imitation,
    entropy_imitation,
    inner_product_imitation,
    squared_imitation,
)

__all__ = [
    "cosine_imitation",
    "entropy_imitation",
    "foreground_classification",
    "gated_box_regression",
    "gaussian_box_mask",
    "gaussian_box_masks",
    "inner_product_imitation",
    "masked_imitation",
    "squared_imitation",
]
