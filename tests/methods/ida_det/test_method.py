"""IDaDet on hand-made signals: where its loss falls, and what it is."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_ida import (
    LEVELS,
    Shown,
    ida,
    levels_of,
    loss_of,
    maps_at_random,
    noise,
    output_of,
    proposals_of,
)
from torch.nn import functional as F
from torchvision.ops import roi_align

from distill.methods.ida_det.discrepancy import proposal_discrepancy

NONE = proposals_of([[], []])
LOSSES = ("entropy", "l2", "cosine", "inner_product")
SELECTIONS = ("discrepancy", "random", "all", "objectness")


# ------------------------------------------------------------- where


# By image, a proposal in pixels and what the teacher's map holds in it, by stride.
PAINTED = [([16.0, 8, 40, 24], {4: 3.0, 8: 5.0}), ([56.0, 8, 72, 24], {4: 2.0, 8: 6.0})]


@pytest.fixture
def painted() -> tuple[Shown, Shown]:
    """Maps of 8 x 20 and 4 x 10 cells, the teacher's with a large value outside the proposals."""
    student, teacher = {}, {}
    for stride in (4, 8):
        own = torch.zeros(2, 4, 32 // stride, 80 // stride, requires_grad=True)
        other = torch.full((2, 4, 32 // stride, 80 // stride), 100.0)
        for i, (box, values) in enumerate(PAINTED):
            x0, y0, x1, y1 = (int(v) // stride for v in box)
            other[i, :, y0:y1, x0:x1] = values[stride]
        student[f"s{stride}"], teacher[f"s{stride}"] = own, other
    proposals = proposals_of([[box] for box, _ in PAINTED])
    return Shown(student, proposals), Shown(teacher, NONE)


@pytest.mark.parametrize("support", ["crops", "mask"])
def test_proposals_are_imitated_where_they_are_on_every_level(
    painted: tuple[Shown, Shown], support: str
) -> None:
    loss = loss_of(*painted, support=support, resolution=2)
    if support == "crops":
        # Every proposal counts alike.
        by_level = [(3.0**2 + 2.0**2) / 2, (5.0**2 + 6.0**2) / 2]
    else:
        # Every cell counts alike: 6 x 4 and 4 x 4, then 3 x 2 and 2 x 2.
        by_level = [(24 * 3.0**2 + 16 * 2.0**2) / 40, (6 * 5.0**2 + 4 * 6.0**2) / 10]
    assert loss.item() == pytest.approx(sum(by_level) / 2, rel=1e-5)
    loss.backward()
    for stride in (4, 8):
        # With two bins each way not every cell within a proposal has a part in its crop.
        touched = painted[0].features[f"s{stride}"].grad.abs().sum(1) > 0
        inside = painted[1].features[f"s{stride}"][:, 0] < 100
        assert touched.any((1, 2)).all() and not (touched & ~inside).any()
        if support == "mask":
            assert torch.equal(touched, inside)


def test_finest_looks_at_the_largest_map_alone(
    painted: tuple[Shown, Shown],
) -> None:
    method = ida(LEVELS, weight=1.0, loss="l2", adapter="none", pool_levels="finest", resolution=2)
    loss = method(*painted).losses["loss_idadet"]
    assert loss.item() == pytest.approx((3.0**2 + 2.0**2) / 2, rel=1e-5)
    loss.backward()
    assert painted[0].features["s8"].grad is None and list(method.adapters) == ["s4"]


@pytest.mark.parametrize("support", ["crops", "mask"])
def test_assigned_proposals_are_imitated_on_their_own_level(
    painted: tuple[Shown, Shown], support: str
) -> None:
    # Sides of about 19.6 and 16 pixels: on stride 8 from 18 on.
    arguments = {"pool_levels": "assigned", "canonical_box_size": 36, "resolution": 2}
    loss = loss_of(*painted, support=support, **arguments)
    if support == "crops":
        assert loss.item() == pytest.approx((5.0**2 + 2.0**2) / 2, rel=1e-5)
    else:
        assert loss.item() == pytest.approx((2.0**2 + 5.0**2) / 2, rel=1e-5)


@pytest.mark.parametrize("support", ["crops", "mask"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("selection", ["discrepancy", "objectness"])
def test_an_image_counts_the_same_alone_and_in_a_padded_batch(
    support: str, loss: str, selection: str
) -> None:
    sizes = [(40, 72), (64, 48)]
    # Away from the images' right and lower edge, where crops reach for the cell beyond.
    proposals = [
        [[4.0, 4, 30, 28], [20, 2, 56, 24], [40, 12, 60, 30], [8, 8, 16, 16]],
        [[4.0, 30, 36, 52], [16, 4, 30, 50]],
    ]
    arguments = {"support": support, "loss": loss, "selection": selection, "fraction": 0.5}
    alone, maps = [], []
    for size, boxes in zip(sizes, proposals, strict=True):
        shown = [maps_at_random(1, size, 4, 8) for _ in range(2)]
        maps.append(shown)
        signals = [
            Shown(shown[0], proposals_of([boxes])),
            Shown(shown[1], proposals_of([[]])),
        ]
        alone.append(loss_of(*signals, **arguments))
    together = []
    for side in range(2):
        batched = maps_at_random(2, (64, 80), 4, 8)
        for i in range(2):
            for name, x in maps[i][side].items():
                # What lies in the padding is noise of ten times the size.
                batched[name][i] *= 10
                batched[name][i, :, : x.shape[2], : x.shape[3]] = x[0]
        together.append(batched)
    found = loss_of(
        Shown(together[0], proposals_of(proposals)),
        Shown(together[1], NONE),
        **arguments,
    )
    if support == "crops":
        # Two proposals of the first image, one of the second.
        torch.testing.assert_close(found, (2 * alone[0] + alone[1]) / 3, rtol=1e-4, atol=1e-5)
    else:
        low, high = sorted(x.item() for x in alone)
        assert low < found < high


def test_maps_of_other_padding_are_compared_where_both_are() -> None:
    student, teacher = noise(size=(48, 96))
    expected = loss_of(student, teacher)
    wider = {k: F.pad(x, (0, 3, 0, 2), value=50.0) for k, x in student.features.items()}
    torch.testing.assert_close(loss_of(Shown(wider, student.proposed), teacher), expected)
    wider = {k: F.pad(x, (0, 2, 0, 3), value=50.0) for k, x in teacher.features.items()}
    torch.testing.assert_close(loss_of(student, Shown(wider, teacher.proposed)), expected)


# ------------------------------------------------------------- what


def test_the_loss_is_that_of_the_selected_crops_by_torchvision() -> None:
    student, teacher = noise()
    method = ida(
        LEVELS, weight=0.3, loss="l2", adapter="none", selection="objectness", resolution=3
    )
    found = method(student, teacher).losses["loss_idadet"]
    scores = torch.cat([student.proposed.objectness, teacher.proposed.objectness], 1)
    boxes = torch.cat([student.proposed.boxes, teacher.proposed.boxes], 1)
    # 0.6 of 12.
    best = scores.topk(7).indices
    chosen = list(boxes.gather(1, best[..., None].expand(-1, -1, 4)))
    terms = []
    for level in LEVELS:
        mine, other = (
            roi_align(x.features[level.student], chosen, 3, 1 / level.stride, 1, True)
            for x in (student, teacher)
        )
        terms.append((mine - other).square().mean())
    torch.testing.assert_close(found, 0.3 * torch.stack(terms).mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("support", ["crops", "mask"])
def test_a_student_equal_to_the_teacher_has_no_loss(loss: str, support: str) -> None:
    student, teacher = noise()
    student = Shown(teacher.features, student.proposed)
    found = loss_of(student, teacher, loss=loss, support=support, selection="all")
    torch.testing.assert_close(found, torch.tensor(0.0), atol=1e-6, rtol=0)


def test_the_entropy_loss_learns_one_variance() -> None:
    student, teacher = noise()
    squared = loss_of(student, teacher, selection="all")
    method = ida(LEVELS, weight=1.0, adapter="none", selection="all", log_weight=0.2)
    assert [name for name, _ in method.named_parameters()] == ["log_variance"]
    with torch.no_grad():
        method.log_variance.fill_(0.7)
    output = method(student, teacher)
    expected = squared * (1 + torch.exp(torch.tensor(-0.7))) + 0.2 * 0.7
    torch.testing.assert_close(output.losses["loss_idadet"], expected)
    assert output.diagnostics["idadet/log_variance"] == method.log_variance
    output.losses["loss_idadet"].backward()
    expected = -squared * torch.exp(torch.tensor(-0.7)) + 0.2
    torch.testing.assert_close(method.log_variance.grad, expected)


@pytest.mark.parametrize("loss", ["l2", "cosine", "inner_product"])
def test_other_losses_have_no_variance(loss: str) -> None:
    method = ida(LEVELS, loss=loss, adapter="none")
    assert method.log_variance is None and not list(method.parameters())


@pytest.mark.parametrize(
    ("compare", "channels", "adapted"),
    [("auto", 4, False), ("raw", 4, False), ("adapted", 4, True), ("auto", 6, True)],
)
def test_which_map_of_the_student_is_compared(compare: str, channels: int, adapted: bool) -> None:
    student, _ = noise()
    _, teacher = noise(channels=channels)
    levels = levels_of(4, 8, channels=(4, channels))
    method = ida(levels, compare=compare, adapter="conv1x1")
    for layer in method.adapters.values():
        torch.nn.init.normal_(layer.weight)
    output = method(student, teacher)
    boxes = torch.cat([student.proposed.boxes, teacher.proposed.boxes], 1)
    by_level = []
    for level in levels:
        own = student.features[level.student]
        own = method.adapters[level.student](own) if adapted else own
        crops = (
            roi_align(x, list(boxes), 7, 1 / level.stride, 1, True)
            for x in (own, teacher.features[level.teacher])
        )
        by_level.append(proposal_discrepancy(*crops))
    mean = torch.stack(by_level).mean()
    torch.testing.assert_close(
        output.diagnostics["idadet/discrepancy_mean"], mean, rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("selection", SELECTIONS)
def test_the_log_says_how_many_proposals_and_how_discrepant(selection: str) -> None:
    student, teacher = noise(2, 5)
    student.proposed.valid[1, :3] = False
    diagnostics = output_of(student, teacher, selection=selection).diagnostics
    # 10 and 7 proposals, of which 6 and 4 are selected.
    assert diagnostics["idadet/num_proposals"] == 8.5
    assert diagnostics["idadet/num_selected"] == (8.5 if selection == "all" else 5)
    mean, chosen = (diagnostics[f"idadet/{selection}_{x}"] for x in ("mean", "selected"))
    if selection == "all":
        torch.testing.assert_close(chosen, mean)
    else:
        assert chosen > mean
