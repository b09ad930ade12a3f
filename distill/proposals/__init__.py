"""Region proposals: sharing them between student and teacher, and selecting among them."""

from distill.proposals.discrepancy import (
    proposal_discrepancy,
    region_discrepancy,
    relative_distance,
    softmax_distance,
)
from distill.proposals.filtering import filter_regions, join_regions, suppress_overlaps
from distill.proposals.masks import anchor_overlap_masks, box_union_mask
from distill.proposals.pooling import FeatureTable, pool_pairs, pool_regions
from distill.proposals.selection import check_fraction, select_most_discrepant, select_top
from distill.proposals.sharing import SharedProposals, share_proposals

__all__ = [
    "FeatureTable",
    "SharedProposals",
    "anchor_overlap_masks",
    "box_union_mask",
    "check_fraction",
    "filter_regions",
    "join_regions",
    "pool_pairs",
    "pool_regions",
    "proposal_discrepancy",
    "region_discrepancy",
    "relative_distance",
    "select_most_discrepant",
    "select_top",
    "share_proposals",
    "softmax_distance",
    "suppress_overlaps",
]
