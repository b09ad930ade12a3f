"""IDaDet on input that is odd: few or no proposals, maps without or with wild values."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_ida import LEVELS, ida, levels_of, noise, output_of, proposals_of

NONE = proposals_of([[], []])
LOSSES = ("entropy", "l2", "cosine", "inner_product")
SELECTIONS = ("discrepancy", "random", "all", "objectness")


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("support", ["crops", "mask"])
@pytest.mark.parametrize("which", ["none", "padding", "one_image"])
def test_few_or_no_proposals_leave_a_finite_gradient_everywhere(
    selection: str, loss: str, support: str, which: str
) -> None:
    student, teacher = noise(channels=3)
    levels = levels_of(4, 8, channels=(3, 3))
    if which == "none":
        student.proposed = teacher.proposed = NONE
    elif which == "padding":
        student.proposed.valid[:] = False
        teacher.proposed.valid[:] = False
    else:
        student.proposed = proposals_of([[], [[4.0, 4, 9, 9]]])
        teacher.proposed = NONE
    for x in student.features.values():
        x.requires_grad_()
    method = ida(levels, loss=loss, support=support, selection=selection, fraction=0.1)
    found = method(student, teacher).losses["loss_idadet"]
    found.backward()
    gradients = [p.grad for p in (*method.parameters(), *student.features.values())]
    assert len(gradients) == 6 + (loss == "entropy")
    assert all(x is not None and x.isfinite().all() for x in gradients)
    assert found > 0 if which == "one_image" else found == 0
    assert any(x.any() for x in gradients) == (which == "one_image")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("support", ["crops", "mask"])
@pytest.mark.parametrize("maps", ["constant", "dead_channel", "zero", "hundreds", "equal"])
def test_odd_maps_leave_a_finite_gradient(loss: str, support: str, maps: str) -> None:
    student, teacher = noise()
    for own, other in zip(student.features.values(), teacher.features.values(), strict=True):
        if maps == "constant":
            own.fill_(2.0), other.fill_(-3.0)
        elif maps == "dead_channel":
            own[:, 1], other[:, 2] = 0.0, 0.0
        elif maps == "zero":
            own.zero_(), other.zero_()
        elif maps == "hundreds":
            own *= 300
            other *= 300
        else:
            own.copy_(other)
        own.requires_grad_()
    output = output_of(student, teacher, loss=loss, support=support)
    assert output.losses["loss_idadet"].isfinite()
    assert all(x.isfinite() for x in output.diagnostics.values())
    output.losses["loss_idadet"].backward()
    assert all(x.grad.isfinite().all() for x in student.features.values())


def test_a_proposal_that_is_no_box_is_not_selected_before_others_and_spreads_no_nan() -> None:
    student, teacher = noise()
    student.proposed.boxes[0, 2] = float("nan")
    student.proposed.boxes[1, 3] = torch.tensor([-float("inf"), 0, float("inf"), 5])
    output = output_of(student, teacher, pool_levels="assigned")
    assert output.losses["loss_idadet"].isfinite()
    assert output.diagnostics["idadet/discrepancy_mean"].isfinite()


def test_the_loss_is_float32_under_autocast() -> None:
    student, teacher = noise()
    method = ida(LEVELS, adapter="conv3x3")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = method(student, teacher).losses["loss_idadet"]
    assert low.dtype == torch.float32
    torch.testing.assert_close(
        low, method(student, teacher).losses["loss_idadet"], rtol=2e-2, atol=1e-3
    )
