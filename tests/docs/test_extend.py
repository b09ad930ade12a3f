"""The programs of the pages on extending the library."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers import tiny
from helpers.pages import ROOT, blocks

from distill.methods import METHODS

EXTEND = ROOT / "docs" / "extend"


@pytest.fixture
def registered() -> Iterator[None]:
    """Registers the page's method, and forgets it afterwards."""
    (code,) = blocks(EXTEND / "method.md", "python")
    exec(code, {"__name__": "mypkd"})
    yield
    METHODS._obj_map.pop("MyPKD")


@pytest.mark.usefixtures("registered")
def test_the_method_of_the_page_trains_by_its_name(tmp_path) -> None:
    changes = {"DISTILL__METHODS": ("MyPKD",), "DISTILL__MyPKD__WEIGHT": 2.0}
    teacher = tiny.rcnn_cfg(MODEL__FPN__OUT_CHANNELS=12)
    model = tiny.config_pair(tmp_path, tiny.rcnn_cfg(), teacher, **changes)
    losses = tiny.step(model, tiny.batch())
    sum(losses.values()).backward()
    assert losses["loss_mypkd"] > 0
    assert not tiny.without_gradient(model)


def test_the_signals_of_a_detector_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks(EXTEND / "detector.md", "python")
    exec(code, {"model": tiny.build(tiny.rcnn_cfg(), 0)})
    assert "'features'" in capsys.readouterr().out
