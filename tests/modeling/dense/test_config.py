"""Keys that detectors share are each detector's own."""

from __future__ import annotations

import pytest
from detectron2.config import CfgNode, get_cfg

from distill import add_distill_config
from distill.modeling.dense.config import tower_keys


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_cfg()
    add_distill_config(cfg)
    return cfg


@pytest.mark.parametrize(("name", "score"), [("ATSS", 0.05), ("GFL", 0.05), ("FCOS", 0.2)])
def test_a_detector_has_the_shared_keys_with_its_own_score(
    cfg: CfgNode, name: str, score: float
) -> None:
    shared = tower_keys(score_thresh=score)
    assert {key: cfg.MODEL[name][key] for key in shared} == shared


def test_a_change_of_one_detector_changes_no_other(cfg: CfgNode) -> None:
    cfg.MODEL.ATSS.NUM_CLASSES = 3
    assert cfg.MODEL.GFL.NUM_CLASSES == cfg.MODEL.FCOS.NUM_CLASSES == 80


def test_a_detectors_dumped_keys_refer_to_no_other_place(cfg: CfgNode) -> None:
    nodes = CfgNode({name: cfg.MODEL[name] for name in ("ATSS", "GFL", "FCOS", "SSD")})
    assert "&id" not in nodes.dump()
