from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_backbone
from detectron2.utils.events import EventStorage
from pretraining.classifier import BackboneClassifier
from pretraining.teacher import SoftLabelTeacher

_SSD = {
    "MODEL__BACKBONE__NAME": "build_ssd_bivgg_backbone",
    "MODEL__SSD__IMAGE_SIZE": 64,
    "MODEL__SSD__VGG_CHANNELS": (4, 4, 6, 8, 8),
    "MODEL__SSD__VGG_CONVS": (1, 1, 1, 1, 1),
    "MODEL__SSD__FC_CHANNELS": 10,
    "MODEL__SSD__EXTRA_CHANNELS": (6,),
    "MODEL__SSD__EXTRA_CONV_STRIDES": (2,),
    "MODEL__SSD__EXTRA_PADDINGS": (1,),
    "MODEL__SSD__EXTRA_STRIDES": (32,),
}
_PLAIN = {"MODEL__BACKBONE__NAME": "build_slim_backbone", "MODEL__SLIM__OUT_FEATURES": ("res4",)}


def _build(cfg: CfgNode) -> BackboneClassifier:
    torch.manual_seed(0)
    return BackboneClassifier(cfg)


def _batch(size: int = 32) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {"image": rng.integers(0, 256, (3, size, size), dtype=np.uint8), "label": label}
        for label in (0, 1, 2, 1)
    ]


@pytest.mark.parametrize(("changes", "prefix"), [({}, "bottom_up."), (_SSD, "vgg."), (_PLAIN, "")])
def test_the_backbone_has_the_keys_of_the_detector_and_nothing_that_is_not_trained(
    make_config, changes, prefix
):
    cfg = make_config(**changes)
    model = _build(cfg)
    detector = {f"backbone.{key}" for key in build_backbone(cfg).state_dict()}
    expected = {key for key in detector if key.startswith(f"backbone.{prefix}")}
    assert model.state_dict().keys() == expected | {"linear.weight", "linear.bias"}
    model.train()
    sum(model(_batch()).values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_logits_are_a_linear_map_of_the_mean_of_the_last_stage(make_config):
    model = _build(make_config(MODEL__PIXEL_MEAN=[1.0, 2.0, 3.0])).eval()
    batch = _batch()
    images = np.stack([x["image"] for x in batch]).astype(np.float32)
    images = (images - np.float32([1, 2, 3])[:, None, None]) / 60
    with torch.no_grad():
        features = model.trunk(torch.from_numpy(images))["res4"].mean(dim=(2, 3))
        expected = features @ model.linear.weight.T + model.linear.bias
        torch.testing.assert_close(model(batch), expected)


def test_labels_are_smoothed(make_config):
    model = _build(make_config(PRETRAIN__NUM_CLASSES=2)).train()
    with torch.no_grad():
        model.linear.weight.zero_()
        model.linear.bias.copy_(torch.tensor([0.0, math.log(3)]))
    (loss,) = model(_batch()[1:2] + _batch()[3:]).values()
    expected = -(0.95 * math.log(0.75) + 0.05 * math.log(0.25))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_learned_quantizer_adds_its_own_loss(make_config):
    model = _build(make_config(MODEL__BINARY__QUANTIZER="learned")).train()
    losses = model(_batch())
    assert losses.keys() == {"loss_labels", "loss_binary_reconstruction"}
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert isinstance(model.eval()(_batch()), torch.Tensor)


def test_the_soft_labels_are_the_only_targets_and_the_teacher_is_hidden(make_config):
    teacher = _build(make_config(MODEL__BINARY__ACTIVATIONS=False))
    model = _build(make_config())
    keys = model.state_dict().keys()
    model.teacher = SoftLabelTeacher(teacher)
    model.train()
    with EventStorage():
        losses = model([{"image": x["image"]} for x in _batch()])
    assert losses.keys() == {"loss_soft_labels"}
    losses["loss_soft_labels"].backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert not teacher.training
    assert model.state_dict().keys() == keys
    assert teacher not in set(model.modules())
    assert copy.deepcopy(model).teacher.model is teacher
    model.double()
    assert teacher.linear.weight.dtype == torch.float64


@pytest.mark.parametrize(
    "changes",
    [
        {"MODEL__BACKBONE__FREEZE_AT": 1},
        {"MODEL__BINARY__NORM": "FrozenBN"},
        {"MODEL__BINARY__NORM": "FrozenStatsBN"},
    ],
)
def test_a_frozen_backbone_is_refused(make_config, changes):
    with pytest.raises(ValueError, match="FREEZE_AT to 0 and its normalization"):
        _build(make_config(**changes))
