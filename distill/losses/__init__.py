"""Losses: pure tensor functions that know neither Detectron2 nor configs."""

# ruff: noqa: F401 (names for others to import; a new loss adds its line)

from distill.losses.adaptive_distillation import (
    adaptive_distillation,
    adaptive_distillation_sums,
)
from distill.losses.binary_consistency import (
    binary_consistency,
    binary_consistency_sums,
    largest_discrepancy,
)
from distill.losses.box_regression import gated_box_regression
from distill.losses.distribution_distillation import distribution_distillation
from distill.losses.foreground import foreground_classification
from distill.losses.gaussian import gaussian_box_mask, gaussian_box_masks
from distill.losses.imitation import masked_imitation, squared_imitation
from distill.losses.iou_localization import iou_localization
from distill.losses.pearson_imitation import pearson_imitation
from distill.losses.softmax_logits import binary_class_logits
from distill.losses.weighted_imitation import (
    cosine_imitation,
    entropy_imitation,
    inner_product_imitation,
)
from distill.ops.boxes import aligned_overlap
