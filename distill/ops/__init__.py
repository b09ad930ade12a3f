"""Operations on boxes and maps; torch alone."""

from distill.ops.box_masks import anchor_overlap_masks, box_union_mask
from distill.ops.boxes import aligned_overlap, box_centers, side_distances
from distill.ops.padding import pad_rows
from distill.ops.roi_lookup import FeatureTable, pool_boxes, pool_pairs

__all__ = [
    "FeatureTable",
    "aligned_overlap",
    "anchor_overlap_masks",
    "box_centers",
    "box_union_mask",
    "pad_rows",
    "pool_boxes",
    "pool_pairs",
    "side_distances",
]
