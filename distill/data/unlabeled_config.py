"""Keys of training on unlabeled images, and what they must not say."""

from __future__ import annotations

from detectron2.config import CfgNode

from distill.data.pseudo.config import check_boxes_suffice
from distill.utils.config_keys import defines_keys, limit
from distill.utils.key_limits import list_of, number, one_of, text
from distill.utils.trainer_keys import only_trainer_acts_on

__all__ = ["SCORE_FLOOR", "check_unlabeled_config"]

# Lowest score of a detection that is kept on disk.
SCORE_FLOOR = 0.05


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
    limit(cfg.DATASETS, UNLABELED=list_of(text()))
    only_trainer_acts_on({"DATASETS.UNLABELED": ()})
    limit(
        unlabeled,
        MIX=one_of("alternate", "ratio"),
        LABELED_FRACTION=number(above=0, below=1),
        SCORE_THRESHOLD=number(at_least=SCORE_FLOOR, below=1),
    )


def check_unlabeled_config(cfg: CfgNode) -> None:
    """Refuses values that make no sense together.

    Args:
        cfg: a config with DATASETS.UNLABELED.

    Raises:
        ValueError: one sentence that names the key to change.
    """
    check_boxes_suffice(cfg, "DATASETS.UNLABELED")
