"""The teacher is frozen, hidden from every list of the module, and runs as little as possible."""

from __future__ import annotations

import copy
import gc
import pickle
from collections import Counter

import pytest
import torch
from detectron2.solver import build_optimizer
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from helpers import tiny
from torch import nn

from distill import Distiller
from distill.methods.schedule import Schedule
from distill.views.teacher import FrozenTeacher


def tensors(model: nn.Module) -> set[int]:
    return {id(x) for x in (*model.parameters(), *model.buffers())}


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: x.detach().clone() for name, x in state.items()}


def count_calls(model: nn.Module) -> Counter:
    """Counts the forwards of the parts of a detector."""
    calls: Counter = Counter()
    for name in ("backbone", "proposal_generator", "roi_heads"):
        getattr(model, name).register_forward_hook(lambda *_, n=name: calls.update([n]))
    heads = model.roi_heads
    for name in ("box_pooler", "box_head", "box_predictor"):
        getattr(heads, name).register_forward_hook(lambda *_, n=name: calls.update([n]))
    return calls


def sgd_step(model: Distiller, optimizer: torch.optim.Optimizer, seed: int) -> None:
    losses = tiny.step(model, tiny.batch(seed), seed)
    optimizer.zero_grad()
    sum(losses.values()).backward()
    optimizer.step()


def test_the_teacher_is_in_none_of_the_modules_lists() -> None:
    model = tiny.default_pair()
    hidden = tensors(model.teacher.model)
    assert hidden and not hidden & tensors(model)
    assert not any(x is model.teacher.model for _, x in model.named_modules())
    assert not any("teacher" in key for key in model.state_dict())
    parts = [f"{level}.{name}" for level in ("p2", "p3", "p4") for name in ("weight", "bias")]
    adapters = {f"distill.TADF.adapters.{part}" for part in parts}
    assert set(model.state_dict()) == set(model.student.state_dict()) | adapters


def test_the_optimizer_holds_student_and_adapters_only() -> None:
    model = tiny.default_pair()
    optimizer = build_optimizer(tiny.rcnn_cfg(), model)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}
    assert {id(p) for p in model.distill.parameters()} <= held
    assert not held & tensors(model.teacher.model)


def test_an_average_of_the_weights_shares_the_teacher() -> None:
    model = tiny.default_pair()
    average = copy.deepcopy(model)
    assert average.teacher is model.teacher
    assert not tensors(average) & tensors(model)


def test_distributed_training_neither_holds_nor_broadcasts_the_teacher(tmp_path) -> None:
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        model = tiny.default_pair()
        wrapped = nn.parallel.DistributedDataParallel(model)
        assert not tensors(wrapped) & tensors(model.teacher.model)
        before = snapshot(model.teacher.model)
        sum(tiny.step(wrapped, tiny.batch()).values()).backward()
        assert tiny.without_gradient(wrapped) == []
    finally:
        torch.distributed.destroy_process_group()
    after = snapshot(model.teacher.model)
    assert all(torch.equal(after[k], before[k]) for k in before)


def test_train_and_eval_return_self_and_leave_the_teacher_in_eval_mode() -> None:
    model = tiny.default_pair()
    assert model.eval() is model and not model.student.training
    assert model.train() is model and model.student.training and model.distill.training
    assert not any(m.training for m in model.teacher.model.modules())


def test_parameters_and_batch_statistics_of_the_teacher_never_move() -> None:
    model = tiny.default_pair(share="both")
    before = snapshot(model.teacher.model)
    assert any("running_mean" in name for name in before)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for seed in range(3):
        sgd_step(model.train(), optimizer, seed)
    after = snapshot(model.teacher.model)
    assert all(torch.equal(after[k], before[k]) for k in before)
    assert all(p.grad is None and not p.requires_grad for p in model.teacher.model.parameters())


def test_the_teacher_follows_the_module_to_other_types_and_devices() -> None:
    model = tiny.default_pair(class_map=torch.tensor([2, 0, 1]))
    model.to(torch.float64)
    floating = [x for x in snapshot(model.teacher.model).values() if x.is_floating_point()]
    assert floating and {x.dtype for x in floating} == {torch.float64}
    assert model.teacher.class_map.tolist() == [2, 0, 1]
    assert model.to("meta") is model
    assert {p.device.type for p in model.teacher.model.parameters()} == {"meta"}
    assert model.teacher.class_map.device.type == "meta"
    assert model.teacher.class_map.dtype == torch.int64


def test_the_teacher_follows_no_copy_of_the_module_as_long_as_that_lives() -> None:
    model = tiny.default_pair()
    before = snapshot(model.teacher.model)
    copied, again = copy.deepcopy(model), copy.deepcopy(copy.deepcopy(model))
    copied.half()
    again.to(torch.float64)
    assert tiny.equal(snapshot(model.teacher.model), before)
    assert {x.dtype for x in before.values() if x.is_floating_point()} == {torch.float32}
    tiny.step(model, tiny.batch())
    model.to(torch.float64)
    del model
    gc.collect()
    copied.float()
    types = {x.dtype for x in snapshot(copied.teacher.model).values() if x.is_floating_point()}
    assert types == {torch.float32}


def test_a_pickled_pair_has_a_teacher_of_its_own() -> None:
    model = tiny.default_pair()
    other = pickle.loads(pickle.dumps(model)).double()
    assert {p.dtype for p in other.teacher.model.parameters()} == {torch.float64}
    assert {p.dtype for p in model.teacher.model.parameters()} == {torch.float32}


def test_nothing_runs_before_it_is_asked_for_and_nothing_runs_twice() -> None:
    teacher = FrozenTeacher(tiny.build(tiny.rcnn_cfg()))
    calls = count_calls(teacher.model)
    signals = teacher.signals(tiny.batch())
    assert not calls
    assert signals.features is signals.features
    assert calls == {"backbone": 1}
    boxes = [x["instances"].gt_boxes for x in tiny.batch()]
    signals.run_roi_head(boxes)
    # The ROI head's own forward, which samples or suppresses, is not used at all.
    once = {"backbone": 1, "box_pooler": 1, "box_head": 1, "box_predictor": 1}
    assert calls == once
    assert signals.rpn_proposals is signals.rpn_proposals
    assert calls == {**once, "proposal_generator": 1}


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ({"cls_weight": 0, "reg_weight": 0}, {"backbone": 1}),
        ({"neck_weight": 0}, {"backbone": 1, "box_pooler": 1, "box_head": 1, "box_predictor": 1}),
    ],
)
def test_a_distilled_step_runs_the_teacher_no_deeper_than_its_terms(
    terms: dict, expected: dict
) -> None:
    model = tiny.default_pair(**terms)
    calls = count_calls(model.teacher.model)
    tiny.step(model, tiny.batch())
    assert calls == expected


def test_a_step_with_factor_0_does_not_run_the_teacher() -> None:
    model = tiny.default_pair(schedule=Schedule("linear", max_iter=5))
    calls = count_calls(model.teacher.model)
    with EventStorage(start_iter=5):
        model(tiny.batch())
    assert not calls


def test_features_and_roi_outputs_need_no_suppression(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("boxes were suppressed")

    teacher = FrozenTeacher(tiny.build(tiny.rcnn_cfg()))
    for place in (
        "detectron2.modeling.proposal_generator.proposal_utils.batched_nms",
        "detectron2.modeling.roi_heads.fast_rcnn.batched_nms",
    ):
        monkeypatch.setattr(place, refuse)
    signals = teacher.signals(tiny.batch())
    boxes = [x["instances"].gt_boxes for x in tiny.batch()]
    assert signals.run_roi_head(boxes).scores.isfinite().all()
    with pytest.raises(AssertionError, match="suppressed"):
        signals.rpn_proposals  # noqa: B018 (computed on access)


def test_signals_are_constants_and_equal_the_detectors_own_computation() -> None:
    model = tiny.build(tiny.rcnn_cfg()).eval()
    inputs = tiny.batch()
    boxes = [x["instances"].gt_boxes for x in inputs]
    signals = FrozenTeacher(model).signals(inputs)
    with torch.no_grad():
        features = model.backbone(model.preprocess_image(inputs).tensor)
        heads = model.roi_heads
        maps = [features[name] for name in heads.box_in_features]
        scores, deltas = heads.box_predictor(heads.box_head(heads.box_pooler(maps, boxes)))
        proposals, _ = model.proposal_generator(model.preprocess_image(inputs), features, None)
    assert all(torch.equal(signals.features[k], features[k]) for k in features)
    outputs = signals.run_roi_head(boxes)
    assert torch.equal(outputs.scores, scores) and torch.equal(outputs.deltas, deltas)
    for mine, own in zip(signals.rpn_proposals, proposals, strict=True):
        assert torch.equal(mine.proposal_boxes.tensor, own.proposal_boxes.tensor)
    assert not outputs.scores.requires_grad and not signals.features["p2"].requires_grad


def test_the_teacher_reads_images_only() -> None:
    inputs = [{"image": x["image"], "instances": Instances((1, 1))} for x in tiny.batch()]
    signals = FrozenTeacher(tiny.build(tiny.rcnn_cfg())).signals(inputs)
    assert len(signals.rpn_proposals) == 2


def test_images_are_normalized_padded_and_ordered_as_the_teachers_own() -> None:
    cfg = tiny.rcnn_cfg(
        MODEL__PIXEL_MEAN=[10.0, 20.0, 30.0],
        MODEL__PIXEL_STD=[2.0, 4.0, 5.0],
        **tiny.TWO_LEVELS,
    )
    inputs = [tiny.example([], (40, 52))]
    image = inputs[0]["image"].float()
    for swap in (False, True):
        teacher = FrozenTeacher(tiny.build(cfg), swap_channels=swap)
        divisor = teacher.model.backbone.size_divisibility
        assert divisor == 8
        images = teacher.signals(inputs).images
        assert images.tensor.shape == (1, 3, 40, 56)
        channels = image.flip(0) if swap else image
        mean, std = torch.tensor([10.0, 20, 30]), torch.tensor([2.0, 4, 5])
        expected = (channels - mean[:, None, None]) / std[:, None, None]
        torch.testing.assert_close(images.tensor[0, :, :, :52], expected)
        assert not images.tensor[..., 52:].any()


def test_classes_are_permuted_in_scores_and_in_class_specific_deltas() -> None:
    model = tiny.build(tiny.rcnn_cfg(MODEL__ROI_HEADS__NUM_CLASSES=4))
    boxes = [x["instances"].gt_boxes for x in tiny.batch()]
    plain = FrozenTeacher(model).signals(tiny.batch()).run_roi_head(boxes)
    mapped = FrozenTeacher(model, class_map=torch.tensor([2, 3, 1]))
    outputs = mapped.signals(tiny.batch()).run_roi_head(boxes)
    assert torch.equal(outputs.scores, plain.scores[:, [2, 3, 1, 4]])
    for own, column in enumerate((2, 3, 1)):
        classes = torch.full((3,), own), torch.full((3,), column)
        assert torch.equal(outputs.class_deltas(classes[0]), plain.class_deltas(classes[1]))


def test_class_agnostic_deltas_are_not_permuted() -> None:
    cfg = tiny.rcnn_cfg(MODEL__ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG=True)
    model = tiny.build(cfg)
    boxes = [Boxes(torch.tensor([[0.0, 0.0, 30.0, 30.0]]))] * 2
    plain = FrozenTeacher(model).signals(tiny.batch()).run_roi_head(boxes)
    mapped = FrozenTeacher(model, class_map=torch.tensor([2, 0, 1]))
    outputs = mapped.signals(tiny.batch()).run_roi_head(boxes)
    assert torch.equal(outputs.deltas, plain.deltas)
    assert torch.equal(outputs.scores, plain.scores[:, [2, 0, 1, 3]])


@pytest.mark.parametrize(
    ("precision", "outer", "expected"),
    [
        ("auto", False, torch.float32),
        ("auto", True, torch.bfloat16),
        ("float32", True, torch.float32),
        ("bfloat16", False, torch.bfloat16),
    ],
)
def test_the_teacher_runs_in_its_own_precision(
    precision: str, outer: bool, expected: torch.dtype
) -> None:
    teacher = FrozenTeacher(tiny.build(tiny.rcnn_cfg(MODEL__FPN__NORM="")), precision=precision)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=outer):
        features = teacher.signals(tiny.batch()).features
    assert {x.dtype for x in features.values()} == {expected}


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match='PRECISION is "int8"; choose one of auto, float32'):
        FrozenTeacher(tiny.build_fcos(), precision="int8")
