from __future__ import annotations

import pytest
from detectron2.config import CfgNode, get_cfg

from distill.config import add_distill_config, check_keys
from distill.data.pseudo.config import check_pseudo_config


def _config() -> CfgNode:
    cfg = get_cfg()
    add_distill_config(cfg)
    cfg.DATASETS.TRAIN = ("a",)
    return cfg


def test_the_defaults_are_accepted():
    check_pseudo_config(_config())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("DISTILL.PSEUDO.SCORE_THRESHOLD", 1.5, "SCORE_THRESHOLD is 1.5"),
        ("DISTILL.PSEUDO.IGNORE_THRESHOLD", -0.1, "IGNORE_THRESHOLD is -0.1"),
        ("DISTILL.PSEUDO.IGNORE_THRESHOLD", 0.6, "IGNORE_THRESHOLD 0.6 is above SCORE_THRESHOLD"),
        ("DATASETS.PSEUDO", ("coco_2017_train",), '"coco_2017_train", which is no JSON file'),
        ("DATASETS.PSEUDO", ("a.json",), "set MODEL.MASK_ON to False"),
        ("DATASETS.REPEAT_FACTORS", (1.0, 2.0), "has 2 numbers for 1 datasets"),
        ("DATASETS.REPEAT_FACTORS", (0.0,), "of its entry 0.0: it must be above 0"),
    ],
)
def test_a_value_without_sense_is_refused_by_its_key(key, value, message):
    cfg = _config()
    node, _, name = key.rpartition(".")
    parent = cfg
    for part in node.split("."):
        parent = parent[part]
    parent[name] = value
    cfg.MODEL.MASK_ON = key == "DATASETS.PSEUDO"
    with pytest.raises(ValueError, match=message):
        check_keys(cfg)
        check_pseudo_config(cfg)
