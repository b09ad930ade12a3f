"""Keys of training on unlabeled images, and what they must not say."""

from __future__ import annotations

from detectron2.config import CfgNode

from distill.data.pseudo.config import check_boxes_suffice
from distill.utils.config_keys import defines_keys

__all__ = ["SCORE_FLOOR", "check_unlabeled_config"]

# Lowest score of a detection that is kept on disk.
SCORE_FLOOR = 0.05

_MIXES = ("alternate", "ratio")


@defines_keys
def _add_unlabeled_keys(cfg: CfgNode) -> None:
    # Datasets whose boxes, if they have any, are replaced by the teacher's detections; () trains
    # on DATASETS.TRAIN alone.
    cfg.DATASETS.UNLABELED = ()
    unlabeled = cfg.DISTILL.UNLABELED = CfgNode()
    # "alternate": a batch of labeled images, then one of labeled and unlabeled images as they
    # come, and so on; "ratio": LABELED_FRACTION of every batch is labeled.
    unlabeled.MIX = "alternate"
    # "ratio": share of labeled images, rounded to whole images of SOLVER.IMS_PER_BATCH.
    unlabeled.LABELED_FRACTION = 0.5
    # Detections above this score become boxes; images without any are left out.
    unlabeled.SCORE_THRESHOLD = 0.5
    # Folder of the cached detections; "" is OUTPUT_DIR/pseudo_boxes.
    unlabeled.CACHE_DIR = ""


def check_unlabeled_config(cfg: CfgNode) -> None:
    """Refuses values that make no sense together.

    Args:
        cfg: a config with DATASETS.UNLABELED.

    Raises:
        ValueError: one sentence that names the key to change.
    """
    node = cfg.DISTILL.UNLABELED
    if node.MIX not in _MIXES:
        raise ValueError(
            f'DISTILL.UNLABELED.MIX is "{node.MIX}"; choose one of {", ".join(_MIXES)}'
        )
    if not 0 < node.LABELED_FRACTION < 1:
        raise ValueError(
            f"DISTILL.UNLABELED.LABELED_FRACTION is {node.LABELED_FRACTION}: set it between 0 and 1"
        )
    if not SCORE_FLOOR <= node.SCORE_THRESHOLD < 1:
        raise ValueError(
            f"DISTILL.UNLABELED.SCORE_THRESHOLD is {node.SCORE_THRESHOLD}: set it to at least "
            f"{SCORE_FLOOR} and below 1"
        )
    check_boxes_suffice(cfg, "DATASETS.UNLABELED")
