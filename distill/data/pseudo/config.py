"""Keys of training on files of pseudo labels, and what they must not say."""

from __future__ import annotations

from detectron2.config import CfgNode

from distill.data.pseudo.thresholds import Thresholds
from distill.utils.config_keys import defines_keys, limit
from distill.utils.key_limits import list_of, number, text
from distill.utils.trainer_keys import only_trainer_acts_on

__all__ = ["check_boxes_suffice", "check_pseudo_config"]


@defines_keys
def _add_pseudo_keys(cfg: CfgNode) -> None:
    # Files that pseudo_label.py wrote, trained on together with DATASETS.TRAIN; add
    # @FOLDER to a path where the images are no longer where the file's header says.
    cfg.DATASETS.PSEUDO = ()
    # How often an image comes in an epoch: a number for each of DATASETS.TRAIN, then for each of
    # DATASETS.PSEUDO; () is once.
    cfg.DATASETS.REPEAT_FACTORS = ()
    pseudo = cfg.DISTILL.PSEUDO = CfgNode()
    # Boxes above this score are trained on.
    pseudo.SCORE_THRESHOLD = 0.5
    # A file of "pseudo_label.py calibrate" with a threshold per class, instead of that one.
    pseudo.THRESHOLDS = ""
    # Boxes between this score and their threshold are ignored: neither object nor background; 0
    # makes them background.
    pseudo.IGNORE_THRESHOLD = 0.0
    # Keep images without a box above its threshold, as nothing but background.
    pseudo.KEEP_EMPTY = False
    # Without DATASETS.TRAIN: the dataset in whose order the student's classes are; "" is the first
    # of DATASETS.TEST, or of DATASETS.PSEUDO.
    pseudo.CLASSES_OF = ""
    limit(cfg.DATASETS, PSEUDO=list_of(text()), REPEAT_FACTORS=list_of(number(above=0)))
    only_trainer_acts_on(
        {
            "DATASETS.PSEUDO": (),
            "DATASETS.REPEAT_FACTORS": (),
            "DISTILL.PSEUDO.IGNORE_THRESHOLD": 0.0,
        }
    )
    score = number(at_least=0, below=1)
    limit(pseudo, SCORE_THRESHOLD=score, IGNORE_THRESHOLD=score)


def check_pseudo_config(cfg: CfgNode) -> None:
    """Refuses values that make no sense together.

    Args:
        cfg: the config.

    Raises:
        ValueError: one sentence that names the key to change.
    """
    node = cfg.DISTILL.PSEUDO
    if not node.THRESHOLDS and node.IGNORE_THRESHOLD > node.SCORE_THRESHOLD:
        raise ValueError(
            f"DISTILL.PSEUDO.IGNORE_THRESHOLD {node.IGNORE_THRESHOLD} is above SCORE_THRESHOLD "
            f"{node.SCORE_THRESHOLD}: set it below"
        )
    for name in cfg.DATASETS.PSEUDO:
        if ".json" not in name:
            raise ValueError(
                f'DATASETS.PSEUDO has "{name}", which is no JSON file: name a file that '
                "pseudo_label.py wrote, and put registered datasets into DATASETS.TRAIN"
            )
    if cfg.DATASETS.PSEUDO:
        check_boxes_suffice(cfg, "DATASETS.PSEUDO")
        if node.THRESHOLDS:
            Thresholds.load(node.THRESHOLDS)
    factors = tuple(cfg.DATASETS.REPEAT_FACTORS)
    names = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.PSEUDO)
    if factors and len(factors) != len(names):
        raise ValueError(
            f"DATASETS.REPEAT_FACTORS has {len(factors)} numbers for {len(names)} datasets: give "
            "one for each of DATASETS.TRAIN, then for each of DATASETS.PSEUDO"
        )


def check_boxes_suffice(cfg: CfgNode, source: str) -> None:
    """Refuses a student that learns more than boxes.

    Args:
        cfg: the config.
        source: the key of what has boxes alone.

    Raises:
        ValueError: one sentence that names the key to change.
    """
    for key in ("MASK_ON", "KEYPOINT_ON", "LOAD_PROPOSALS"):
        if cfg.MODEL[key]:
            raise ValueError(f"{source} gives the student boxes only: set MODEL.{key} to False")
