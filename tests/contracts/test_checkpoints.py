"""A checkpoint holds the student under its own keys."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from helpers import tiny

NECK_ONLY = {"cls_weight": 0, "reg_weight": 0}
NECK_ONLY_KEYS = {"DISTILL__TADF__CLS_WEIGHT": 0.0, "DISTILL__TADF__REG_WEIGHT": 0.0}


def test_a_plain_detector_loads_the_checkpoint_of_a_distiller(tmp_path: Path) -> None:
    model = tiny.default_pair()
    DetectionCheckpointer(model, str(tmp_path)).save("model_final")
    plain = tiny.build(tiny.rcnn_cfg(), seed=9)
    assert not tiny.equal(plain.state_dict(), model.student.state_dict())
    DetectionCheckpointer(plain).load(str(tmp_path / "model_final.pth"))
    assert tiny.equal(plain.state_dict(), model.student.state_dict())


def test_a_distiller_loads_the_checkpoint_of_a_plain_detector(tmp_path: Path) -> None:
    plain = tiny.build(tiny.rcnn_cfg(), seed=9)
    DetectionCheckpointer(plain, str(tmp_path)).save("plain")
    model = tiny.default_pair()
    adapters = {k: x.clone() for k, x in model.distill.state_dict().items()}
    DetectionCheckpointer(model).load(str(tmp_path / "plain.pth"))
    assert tiny.equal(model.student.state_dict(), plain.state_dict())
    assert tiny.equal(model.distill.state_dict(), adapters)


def test_a_checkpoint_goes_round(tmp_path: Path) -> None:
    model = tiny.default_pair()
    DetectionCheckpointer(model, str(tmp_path)).save("model")
    other = tiny.default_pair()
    with torch.no_grad():
        for p in other.parameters():
            p += 1
    DetectionCheckpointer(other).load(str(tmp_path / "model.pth"))
    assert tiny.equal(other.state_dict(), model.state_dict())
    assert tiny.equal(tiny.step(other, tiny.batch()), tiny.step(model, tiny.batch()))


def test_keys_are_the_plain_detectors_and_distill() -> None:
    model = tiny.default_pair()
    keys = set(model.state_dict())
    assert {k for k in keys if not k.startswith("distill.")} == set(model.student.state_dict())
    prefixed = model.state_dict(prefix="module.")
    assert set(prefixed) == {f"module.{k}" for k in keys}


def test_a_strict_load_reports_keys_as_the_checkpoint_names_them() -> None:
    model = tiny.default_pair()
    state = model.state_dict()
    del state["backbone.fpn_lateral2.weight"]
    state["stranger"] = torch.zeros(1)
    result = model.load_state_dict(state, strict=False)
    assert result.missing_keys == ["backbone.fpn_lateral2.weight"]
    assert result.unexpected_keys == ["stranger"]
    with pytest.raises(RuntimeError, match="stranger"):
        model.load_state_dict(state)
