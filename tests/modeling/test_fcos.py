from __future__ import annotations

import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from helpers.recipes import ROOT, load_at_random_weights


def _model() -> torch.nn.Module:
    return build_model(load_at_random_weights(ROOT / "configs" / "digits" / "fcos_student.yaml"))


def _example() -> dict:
    instances = Instances((64, 96))
    instances.gt_boxes = Boxes(torch.tensor([[10.0, 10.0, 30.0, 40.0]]))
    instances.gt_classes = torch.tensor([3])
    return {"image": torch.rand(3, 64, 96) * 255, "instances": instances}


def test_fcos_trains_from_a_yaml_config() -> None:
    model = _model()
    with EventStorage():
        losses = model([_example(), _example()])
    assert set(losses) == {"loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr"}
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_fcos_detects_within_the_image() -> None:
    model = _model().eval()
    model.test_score_thresh = 0.0
    with torch.no_grad():
        instances = model([_example()])[0]["instances"]
    assert 0 < len(instances) <= 100
    assert instances.pred_classes.max() < 10
    corners = instances.pred_boxes.tensor
    assert (corners >= 0).all() and (corners[:, 2] <= 96).all() and (corners[:, 3] <= 64).all()
