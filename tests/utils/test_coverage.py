from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import tiny
from torch import Tensor, nn

from distill.utils.checkpoint import SafeCheckpointer
from distill.utils.coverage import Coverage, check_complete, check_fit, measure_coverage

Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]


@pytest.fixture
def model() -> nn.Module:
    return tiny.build(tiny.rcnn_cfg())


def _found(model: nn.Module, weights: dict[str, Tensor], folder: Path) -> Coverage:
    torch.save({"model": weights}, folder / "w.pth")
    checkpointer = SafeCheckpointer(model)
    checkpointer.load(str(folder / "w.pth"))
    return measure_coverage(model, checkpointer.incompatible)


def _complete(found: Coverage) -> None:
    check_complete(found, "w.pth", key="MODEL.WEIGHTS", config_key="--config-file", whose="own")


def _backbone(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v for k, v in weights.items() if k.startswith("backbone.bottom_up.")}


def _other_classes(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    predictors = ("cls_score.weight", "cls_score.bias", "bbox_pred.weight", "bbox_pred.bias")
    return {k: torch.ones(2) if k.endswith(predictors) else v for k, v in weights.items()}


def _head(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a student inherits of a teacher with another backbone."""
    foreign = {f"backbone.other.{i}": torch.ones(1) for i in range(400)}
    return {k: v for k, v in weights.items() if not k.startswith("backbone.")} | foreign


def _mmdetection(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    names = ("backbone.conv1.weight", "neck.lateral_convs.0.conv.weight", "bbox_head.cls.weight")
    return {name: torch.ones(2) for name in names}


def _pixels(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """What any two of Detectron2's detectors have in common."""
    own = {k: v for k, v in weights.items() if k.startswith("pixel_")}
    return own | {f"foreign.{i}": torch.ones(1) for i in range(20)}


def _one_of_many(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    first = dict(list(_backbone(weights).items())[:1])
    return first | {f"foreign.{i}": torch.ones(1) for i in range(20)}


@pytest.mark.parametrize("change", [dict, _backbone, _other_classes, _head])
def test_training_starts_from_a_part_of_a_detector(model, tmp_path, change: Change):
    weights = model.state_dict()
    found = _found(model, change(dict(weights)), tmp_path)
    assert "fit the student" in check_fit(found, "w.pth", key="MODEL.WEIGHTS")
    if change is not dict:
        with pytest.raises(ValueError, match=r"^MODEL.WEIGHTS: w.pth covers \d+\.\d % of the own"):
            _complete(found)
    else:
        _complete(found)


@pytest.mark.parametrize("change", [_mmdetection, _pixels, _one_of_many])
def test_training_does_not_start_from_weights_of_which_almost_nothing_fits(
    model, tmp_path, change: Change
):
    found = _found(model, change(dict(model.state_dict())), tmp_path)
    with pytest.raises(ValueError, match=r"less than a tenth of either \(it has ") as raised:
        check_fit(found, "w.pth", key="MODEL.WEIGHTS")
    assert str(raised.value).startswith("MODEL.WEIGHTS: of the ") and "w.pth" in str(raised.value)
    assert ("mmdetection's, which must be converted" in str(raised.value)) == (
        change is _mmdetection
    )


def test_weights_of_a_deeper_network_are_refused_though_they_fill_the_model(model, tmp_path):
    weights = dict(model.state_dict())
    deeper = tiny.build(tiny.rcnn_cfg(MODEL__SLIM__BLOCKS=(2, 1, 1))).state_dict()
    found = _found(model, weights | {k: v for k, v in deeper.items() if k not in weights}, tmp_path)
    assert not found.lost and found.percent == 100
    with pytest.raises(ValueError, match=r"is of a deeper network, with backbone\.bottom_up\.res2"):
        _complete(found)


def test_heads_that_the_model_lacks_do_no_harm(model, tmp_path):
    weights = dict(tiny.build(tiny.rcnn_cfg(MODEL__MASK_ON=True)).state_dict())
    found = _found(model, weights, tmp_path)
    assert any("mask_head" in name for name in found.surplus)
    _complete(found)


def test_a_tensor_of_two_names_is_filled_under_either(tmp_path):
    model = nn.ModuleDict({"a": nn.Linear(2, 2)})
    model["b"] = model["a"]
    for kept in "ab":
        weights = {k: v for k, v in model.state_dict().items() if k.startswith(kept)}
        _complete(_found(model, weights, tmp_path))


def test_a_rounded_share_is_never_all_of_it():
    names = [f"x{i}" for i in range(5000)]
    found = Coverage(names, names[:1], (), ())
    assert found.told("w.pth", "teacher's") == "w.pth covers 99.9 % of the teacher's 5000 keys"
