"""GFL: detector, head, losses, and the region that LD distills beside the positives."""

from distill.modeling.gfl.config import add_gfl_config
from distill.modeling.gfl.detector import GFL
from distill.modeling.gfl.distribution import expected_distance
from distill.modeling.gfl.head import GFLHead
from distill.modeling.gfl.losses import distribution_focal_loss, quality_focal_loss
from distill.modeling.gfl.region import valuable_region

__all__ = [
    "GFL",
    "GFLHead",
    "add_gfl_config",
    "distribution_focal_loss",
    "expected_distance",
    "quality_focal_loss",
    "valuable_region",
]
