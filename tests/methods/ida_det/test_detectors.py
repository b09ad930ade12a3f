"""IDaDet between detectors: each kind, as far as the teacher runs, bad input, pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from detectron2.structures import Boxes, pairwise_iou
from detectron2.utils.events import EventStorage
from helpers import tiny, tiny_ida
from torch import Tensor, nn

from distill import Distiller
from distill.views.levels import common_region

SELECTIONS = ("discrepancy", "random", "all", "objectness", "ground_truth", "everywhere")
LOSSES = ("entropy", "l2", "cosine", "inner_product")

# A student and its teacher, which has other channels, other boxes, or both.
PAIRS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "faster_rcnn": (
        lambda: tiny.build(tiny.rcnn_cfg()),
        lambda: tiny.build(tiny.rcnn_cfg(MODEL__FPN__OUT_CHANNELS=12), 1),
    ),
    "retinanet": (
        lambda: tiny.build(tiny.retinanet_cfg()),
        lambda: tiny.build(tiny.rcnn_cfg(), 1),
    ),
    "fcos": (tiny.build_fcos, lambda: tiny.build_fcos(12, 1)),
    "c4": (lambda: tiny.build(tiny.c4_cfg()), lambda: tiny.build(tiny.rcnn_cfg(), 1)),
    "under_retinanet": (
        lambda: tiny.build(tiny.rcnn_cfg()),
        lambda: tiny.build(tiny.retinanet_cfg(), 1),
    ),
}


def pair(name: str, **arguments: Any) -> Distiller:
    student, teacher = PAIRS[name]
    return tiny_ida.ida_pair(student(), teacher(), **{"topk": 20, **arguments})


@pytest.fixture(autouse=True)
def _original_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pictures; they are otherwise enlarged."""
    monkeypatch.setattr("distill.methods.pictures._LEGIBLE", 1)


def distilled_step(model: Distiller, inputs: list[dict[str, Any]] | None = None) -> Tensor:
    """The method's loss of one step, with a finite gradient of all losses everywhere."""
    losses = tiny.step(model, tiny_ida.unequal_batch() if inputs is None else inputs)
    sum(losses.values()).backward()
    assert tiny.without_gradient(model) == []
    assert all(p.grad.isfinite().all() for p in model.parameters())
    return losses["loss_idadet"]


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(
    "arguments",
    [
        *({"selection": x} for x in SELECTIONS),
        *({"loss": x} for x in LOSSES[1:]),
        {"support": "mask"},
        {"pool_levels": "assigned"},
        {"pool_levels": "finest"},
    ],
    ids=str,
)
def test_every_option_trains_every_detector(name: str, arguments: dict) -> None:
    assert distilled_step(pair(name, **arguments)) > 0


@pytest.mark.parametrize("name", PAIRS)
def test_the_detection_losses_equal_plain_detectron2_bit_for_bit(name: str) -> None:
    model = pair(name, vis_period=1, log_period=1)
    losses = tiny.step(model, tiny_ida.unequal_batch())
    plain = tiny.step(pair(name).student, tiny_ida.unequal_batch())
    assert losses.keys() - plain.keys() == {"loss_idadet"}
    assert tiny.equal({key: losses[key] for key in plain}, plain)


# ------------------------------------------------------------- the teacher


def count_calls(model: nn.Module, *names: str) -> Counter:
    calls: Counter = Counter()
    for name in names:
        getattr(model, name).register_forward_hook(lambda *_, n=name: calls.update([n]))
    return calls


@pytest.mark.parametrize("selection", SELECTIONS)
def test_the_teacher_runs_as_far_as_the_selection_asks(selection: str) -> None:
    model = tiny_ida.default_pair(selection=selection)
    parts = ("backbone", "proposal_generator", "roi_heads")
    calls = count_calls(model.teacher.model, *parts)
    tiny.step(model, tiny.batch())
    cells = selection in ("ground_truth", "everywhere")
    assert calls == ({"backbone": 1} if cells else {"backbone": 1, "proposal_generator": 1})

    dense = pair("fcos", selection=selection)
    calls = count_calls(dense.teacher.model, "backbone", "head")
    tiny.step(dense, tiny.batch())
    assert calls == ({"backbone": 1} if cells else {"backbone": 1, "head": 1})


def test_everywhere_is_the_hint_on_all_that_both_maps_share() -> None:
    student = tiny.build(tiny.rcnn_cfg(MODEL__FPN__NORM=""))
    # Padded to multiples of 8 pixels, not 16.
    teacher = tiny.build(tiny.rcnn_cfg(**tiny.TWO_LEVELS), 1)
    model = tiny_ida.ida_pair(
        student, teacher, selection="everywhere", loss="l2", adapter="none", weight=0.5
    )
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    inputs = [tiny.example([[8, 8, 36, 36]], (40, 70))]
    found = tiny.step(model, inputs)["loss_idadet"]
    with torch.no_grad():
        maps = [x.backbone(x.preprocess_image(inputs).tensor) for x in (student, teacher)]
    assert maps[0]["p2"].shape != maps[1]["p2"].shape
    pairs = [common_region(maps[0][x], maps[1][x]) for x in ("p2", "p3")]
    expected = torch.stack([(a - b).square().mean() for a, b in pairs]).mean()
    torch.testing.assert_close(found, 0.5 * expected)


def test_ground_truth_is_imitated_around_the_anchors_that_fit() -> None:
    sizes = {"MODEL__ANCHOR_GENERATOR__SIZES": [[16], [40]]}
    cfg = tiny.rcnn_cfg(MODEL__RPN__IN_FEATURES=["p2", "p4"], **sizes)
    student, teacher = tiny.build(cfg), tiny.build(tiny.rcnn_cfg(), 1)
    model = tiny_ida.ida_pair(
        student, teacher, selection="ground_truth", loss="l2", adapter="none", weight=1.0
    )
    student.backbone.eval()
    # One object like the small anchors, three like the large ones.
    inputs = [tiny.example([[8, 8, 40, 48], [60, 10, 76, 28]], (50, 90)), tiny.batch()[1]]
    found = tiny.step(model, inputs)["loss_idadet"]
    with torch.no_grad():
        mine = student.backbone(student.preprocess_image(inputs).tensor)
        other = teacher.backbone(teacher.preprocess_image(inputs).tensor)
    names = ("p2", "p4")
    anchors = student.proposal_generator.anchor_generator([mine[name] for name in names])
    masks = [torch.zeros(2, 1, *mine[name].shape[-2:]) for name in names]
    for image, x in enumerate(inputs):
        for box in x["instances"].gt_boxes.tensor:
            overlaps = [pairwise_iou(Boxes(box[None]), level)[0] for level in anchors]
            least = 0.5 * max(overlap.max() for overlap in overlaps)
            for mask, overlap in zip(masks, overlaps, strict=True):
                mask[image, 0][(overlap > least).view(*mask.shape[-2:], -1).any(-1)] = 1
    assert all(0 < mask.mean() < 0.5 for mask in masks)
    terms = [
        ((mine[name] - other[name]).square() * mask).sum() / (8 * mask.sum())
        for name, mask in zip(names, masks, strict=True)
    ]
    # The third level has no anchors.
    torch.testing.assert_close(found, sum(terms) / 3)


# ------------------------------------------------------------- bad input


def without_proposals(model: Distiller, *which: str) -> None:
    """Takes all proposals of detectors away."""
    for name in which:
        part = model.student if name == "student" else model.teacher.model
        generator = part.proposal_generator
        generator.pre_nms_topk = dict.fromkeys(generator.pre_nms_topk, 0)
        generator.post_nms_topk = dict.fromkeys(generator.post_nms_topk, 0)


@pytest.mark.parametrize("which", [("student",), ("teacher",), ("student", "teacher")])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"selection": "random", "loss": "cosine"},
        {"selection": "objectness", "loss": "l2", "joint_nms_threshold": 0.5},
        {"selection": "all", "support": "mask"},
        {"pool_levels": "assigned", "loss": "inner_product"},
    ],
    ids=str,
)
def test_without_proposals_everything_is_finite_and_has_a_gradient(
    which: tuple[str, ...], arguments: dict
) -> None:
    model = tiny_ida.default_pair(log_period=1, vis_period=1, **arguments)
    without_proposals(model, *which)
    loss = distilled_step(model)
    assert loss == 0 if len(which) == 2 else loss > 0


@pytest.mark.parametrize("selection", SELECTIONS)
def test_a_batch_without_objects_has_a_gradient_everywhere(selection: str) -> None:
    model = tiny_ida.default_pair(selection=selection, vis_period=1)
    loss = distilled_step(model, tiny.empty_batch())
    assert loss == 0 if selection == "ground_truth" else loss > 0


def last_convolutions(model: nn.Module) -> list[nn.Conv2d]:
    return [layer for name, layer in model.backbone.named_children() if "output" in name]


@pytest.mark.parametrize("side", ["student", "teacher", "both"])
@pytest.mark.parametrize("maps", ["constant", "dead_channels", "hundreds"])
@pytest.mark.parametrize("loss", ["entropy", "cosine"])
def test_odd_feature_maps_leave_loss_and_gradients_finite(side: str, maps: str, loss: str) -> None:
    student = tiny.build(tiny.rcnn_cfg(MODEL__FPN__NORM=""))
    teacher = tiny.build(tiny.rcnn_cfg(MODEL__FPN__NORM=""), 1)
    model = tiny_ida.ida_pair(student, teacher, loss=loss, weight=1e-3)
    chosen = {"student": [student], "teacher": [teacher], "both": [student, teacher]}[side]
    for detector in chosen:
        for layer in last_convolutions(detector):
            if maps == "constant":
                nn.init.zeros_(layer.weight)
            elif maps == "dead_channels":
                layer.weight.data[::2] = 0
                layer.bias.data[::2] = 0
            else:
                layer.weight.data *= 300
                layer.bias.data.fill_(-500.0)
    # The maps alone: heads that see hundreds are not what is tested.
    losses = tiny.step(model, tiny_ida.unequal_batch())
    losses["loss_idadet"].backward()
    assert losses["loss_idadet"].isfinite()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(x.isfinite().all() for x in gradients)


def test_more_proposals_are_asked_for_than_there_are() -> None:
    assert distilled_step(pair("fcos", topk=10**6)) > 0


# ------------------------------------------------------------- chance and pictures


def test_chance_is_repeatable_under_the_seed() -> None:
    losses = []
    for seed in (3, 3, 4):
        model = tiny_ida.default_pair(selection="random", fraction=0.1)
        losses.append(tiny.step(model, tiny.batch(), seed)["loss_idadet"])
    assert losses[0] == losses[1] != losses[2]


def pictures(model: Distiller, iteration: int = 0) -> dict[str, Any]:
    with EventStorage(start_iter=iteration) as storage:
        model(tiny_ida.unequal_batch())
        return {name: image for name, image, _ in storage._vis_data}


@pytest.mark.parametrize("name", PAIRS)
def test_a_picture_shows_four_panels_of_the_first_image(name: str) -> None:
    (picture,) = pictures(pair(name, vis_period=1)).values()
    assert picture.shape == (3, 50, 4 * 90) and str(picture.dtype) == "uint8"


def test_pictures_are_drawn_when_asked_for_and_leave_every_mode() -> None:
    model = tiny_ida.default_pair(vis_period=5)
    model.student.backbone.bottom_up.eval()
    modes = [m.training for m in model.modules()]
    calls = count_calls(model.student, "backbone")
    assert not pictures(model, 3) and calls.total() == 1
    assert list(pictures(model, 5)) == ["idadet/picture"] and calls.total() == 3
    assert [m.training for m in model.modules()] == modes
    assert not any(m.training for m in model.teacher.model.modules())
    assert not pictures(tiny_ida.default_pair(vis_period=0))


@pytest.mark.parametrize("selection", ["ground_truth", "everywhere"])
def test_cells_have_no_picture(selection: str) -> None:
    assert not pictures(tiny_ida.default_pair(selection=selection, vis_period=1))


def test_the_log_holds_the_numbers_of_the_step() -> None:
    model = tiny_ida.default_pair(log_period=1)
    with EventStorage() as storage:
        model(tiny.batch())
        found = {k: v for k, (v, _) in storage.latest().items() if k.startswith("idadet/")}
    assert found.keys() == {
        "idadet/factor",
        "idadet/num_proposals",
        "idadet/num_selected",
        "idadet/discrepancy_mean",
        "idadet/discrepancy_selected",
        "idadet/log_variance",
    }
    assert found["idadet/num_selected"] == pytest.approx(0.6 * found["idadet/num_proposals"], abs=1)
    assert found["idadet/discrepancy_selected"] > found["idadet/discrepancy_mean"]
