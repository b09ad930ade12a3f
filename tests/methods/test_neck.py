"""The seam for feature losses: what a method of a few lines gets from it."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import tiny, tiny_dense
from torch import Tensor, nn

from distill.losses import gaussian_box_masks, squared_imitation
from distill.methods.adapters import build_adapters, variance_preserving
from distill.methods.neck import MapPair, NeckContext, NeckMethod
from distill.methods.schedule import Schedule
from distill.views.levels import Level, match_levels
from distill.views.student import StudentSignals

LEVELS = tuple(Level(f"p{i}", f"p{i}", 2**i, 2, 2) for i in (2, 3, 4))


class Squared(NeckMethod):
    """The plainest method: a hint."""

    name = "Squared"

    def __init__(
        self, levels: Sequence[Level] = LEVELS, weight: float = 1.0, **blocks: nn.ModuleDict
    ) -> None:
        adapters = build_adapters("conv1x1", levels, "KEY", variance_preserving, always=False)
        super().__init__(Schedule(), levels, adapters, weight)
        for name, block in blocks.items():
            self.add_module(name, block)

    def feature_loss(self, student: Tensor, teacher: Tensor, context: NeckContext) -> Tensor:
        context.note("stride", torch.tensor(float(context.level.stride)))
        return squared_imitation(student, teacher)


class Averaged(Squared):
    mean_over_levels = True


class Blocks(Squared):
    """A trainable block a level, as a generator of features is."""

    def feature_loss(self, student: Tensor, teacher: Tensor, context: NeckContext) -> Tensor:
        return squared_imitation(self.blocks[context.level.student](student), teacher)


class Masked(Squared):
    """Under a mask of the objects, computed once for all levels, and one for each."""

    def feature_loss(self, student: Tensor, teacher: Tensor, context: NeckContext) -> Tensor:
        factor = context.once("factor", lambda: torch.rand(()))
        objects = context.objects(64)
        mask = gaussian_box_masks(objects.boxes, objects.valid, context.size, context.level.stride)
        return factor * squared_imitation(student, teacher, weight=mask)


class TopDown(Squared):
    """A loss that goes from the coarsest level to the finest."""

    def compare(self, pairs: Sequence[MapPair]) -> Tensor:
        residual = 0
        for pair in reversed(pairs):
            if torch.is_tensor(residual):
                residual = nn.functional.interpolate(residual, size=pair.context.size)
            residual = residual + pair.student
        return squared_imitation(residual, pairs[0].teacher)


def signals(
    values: dict[str, tuple[float, float]], size: int = 64, pad: int = 0
) -> tuple[StudentSignals, Any]:
    """Maps of one value each, of student and teacher; the student's have more cells of padding."""
    inputs = [tiny.example([[0, 0, 16, 16], [0, 0, 60, 60]], (size, size))]
    own, other = {}, {}
    for name, (mine, theirs) in values.items():
        cells = size // 2 ** int(name[1:])
        own[name] = torch.full((1, 2, cells + pad, cells), mine, requires_grad=True)
        other[name] = torch.full((1, 2, cells, cells), theirs)
    return StudentSignals(None, inputs, features=own), SimpleNamespace(features=other)


VALUES = {"p2": (1.0, 2.0), "p3": (1.0, 4.0), "p4": (1.0, 6.0)}


def test_levels_are_summed_weighed_and_named_after_the_method() -> None:
    output = Squared(weight=2.0)(*signals(VALUES))
    assert {k: x.item() for k, x in output.losses.items()} == {"loss_squared": 2 * (1 + 9 + 25)}


def test_levels_are_averaged_where_the_method_says_so() -> None:
    assert Averaged()(*signals(VALUES)).losses["loss_squared"].item() == pytest.approx(35 / 3)


def test_a_part_of_the_levels_is_compared() -> None:
    method = Squared(LEVELS[:2])
    student, teacher = signals(VALUES)
    output = method(student, teacher)
    assert output.losses["loss_squared"] == 10
    output.losses["loss_squared"].backward()
    assert student.features["p4"].grad is None and list(method.adapters) == ["p2", "p3"]


def test_maps_are_cropped_to_the_cells_that_both_have() -> None:
    student, teacher = signals(VALUES, pad=3)
    pairs = Squared().pair_maps(student, teacher)
    assert [x.context.size for x in pairs] == [(16, 16), (8, 8), (4, 4)]
    assert all(x.student.shape == x.teacher.shape for x in pairs)
    assert Squared()(student, teacher).losses["loss_squared"] == 35


def test_notes_are_logged_as_the_mean_over_the_levels() -> None:
    diagnostics = Squared()(*signals(VALUES)).diagnostics
    assert {k: x.item() for k, x in diagnostics.items()} == {
        "squared/stride": pytest.approx((4 + 8 + 16) / 3)
    }


def test_trainable_blocks_of_a_level_are_trained_and_saved() -> None:
    blocks = nn.ModuleDict({x.student: nn.Conv2d(2, 2, 1) for x in LEVELS})
    method = Blocks(blocks=blocks)
    method(*signals(VALUES)).losses["loss_squared"].backward()
    assert all(p.grad.any() for p in method.parameters())
    assert set(method.state_dict()) == {
        f"blocks.p{i}.{x}" for i in (2, 3, 4) for x in ("weight", "bias")
    }


def test_objects_are_those_of_the_level_or_all() -> None:
    student, teacher = signals(VALUES)
    contexts = [x.context for x in Squared().pair_maps(student, teacher)]
    # Boxes of 16 and 60 pixels, of which those of 64 belong on stride 16.
    own = [x.objects(64).valid.tolist() for x in contexts]
    assert own == [[[True, False]], [[False, True]], [[False, False]]]
    assert all(x.objects().valid.all() for x in contexts)
    assert contexts[0].objects(64).boxes is student.ground_truth.boxes


def test_what_all_levels_need_is_computed_once_a_batch() -> None:
    calls: list[int] = []
    method = Squared()
    for batch in range(2):
        pairs = method.pair_maps(*signals(VALUES))
        found = [x.context.once("x", lambda: calls.append(1) or len(calls)) for x in pairs]
        assert found == [batch + 1] * 3


def test_masks_see_the_objects_of_the_batch() -> None:
    torch.manual_seed(3)
    factor = torch.rand(())
    torch.manual_seed(3)
    loss = Masked()(*signals(VALUES)).losses["loss_squared"]
    # The small object is on p2, the large one on p3, and on p4 there is none.
    assert loss.item() == pytest.approx(factor.item() * (1 + 9), rel=1e-5)


def test_a_loss_of_all_levels_at_once_sees_them_from_the_finest_to_the_coarsest() -> None:
    student, teacher = signals(VALUES)
    loss = TopDown()(student, teacher).losses["loss_squared"]
    assert loss == (3 - 2) ** 2
    loss.backward()
    assert all(x.grad.any() for x in student.features.values())


def test_a_method_without_a_loss_says_what_is_missing() -> None:
    class Nothing(NeckMethod):
        name = "Nothing"

    method = Nothing(
        Schedule(), LEVELS, nn.ModuleDict({x.student: nn.Identity() for x in LEVELS}), 1.0
    )
    with pytest.raises(NotImplementedError, match="Nothing must define feature_loss or compare"):
        method(*signals(VALUES))


@pytest.mark.parametrize("kind", [Squared, Blocks, Masked, TopDown])
def test_every_kind_of_method_trains_a_pair_of_other_channels_and_families(
    kind: type[NeckMethod],
) -> None:
    student = tiny_dense.retinanet()
    teacher = tiny.build(tiny.rcnn_cfg(MODEL__FPN__OUT_CHANNELS=12), 1)
    levels = match_levels(student.backbone.output_shape(), teacher.backbone.output_shape())
    blocks = {}
    if kind is Blocks:
        blocks["blocks"] = nn.ModuleDict({x.student: nn.Conv2d(12, 12, 1) for x in levels})
    model = tiny_dense.pair(student, teacher, kind(levels, **blocks))
    losses = tiny.step(model, tiny.batch())
    assert losses["loss_squared"] > 0
    sum(losses.values()).backward()
    assert tiny.without_gradient(model) == []


@pytest.mark.parametrize("kind", [Squared, Masked, TopDown])
def test_nothing_is_read_back_from_the_device(kind: type[NeckMethod]) -> None:
    # On this device tensors have no values: asking for one raises.
    student, teacher = signals(VALUES)
    student.features = {k: x.detach().to("meta") for k, x in student.features.items()}
    student.features = {k: x.requires_grad_() for k, x in student.features.items()}
    teacher.features = {k: x.to("meta") for k, x in teacher.features.items()}
    loss = kind()(student, teacher).losses["loss_squared"]
    loss.backward()
    assert loss.device.type == "meta" and student.ground_truth.boxes.device.type == "meta"
