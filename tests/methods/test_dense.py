"""The seam for methods of dense heads."""

from __future__ import annotations

import pytest
from detectron2.config import get_cfg
from helpers import tiny_dense

from distill.config import add_distill_config
from distill.methods import METHODS
from distill.methods.dense import DenseMethod
from distill.methods.schedule import Schedule


def test_a_method_requires_the_head_that_it_reads() -> None:
    assert DenseMethod(Schedule(), mask_padding=True).requires == {"features", "dense"}
    rpn = DenseMethod(Schedule(), mask_padding=True, head="rpn")
    assert rpn.requires == {"features", "rpn"}


@pytest.mark.parametrize("mask_padding", [True, False])
@pytest.mark.parametrize("name", ["ADL", "BCKD", "LD"])
def test_one_key_says_whether_anchors_in_the_padding_count(name: str, mask_padding: bool) -> None:
    cfg = get_cfg()
    add_distill_config(cfg)
    cfg.DISTILL.DENSE.MASK_PADDING = mask_padding
    assert METHODS.get(name)(cfg, ()).mask_padding == mask_padding


def test_the_levels_are_those_of_both_without_the_padding() -> None:
    models = tiny_dense.fcos(), tiny_dense.fcos(1)
    signals = tiny_dense.signals(*models, tiny_dense.unequal_batch())
    counts = [
        sum(int(x.valid.sum()) for x in method.pair_levels(*signals))
        for method in (DenseMethod(Schedule(), mask_padding=x) for x in (True, False))
    ]
    assert 0 < counts[0] < counts[1]
