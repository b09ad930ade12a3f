from __future__ import annotations

import copy
import random
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing
from detectron2.utils.events import EventStorage
from helpers import tiny
from torch import nn

from distill.engine import TrainLoop, build_optimizer
from distill.utils.seeding import Stream, derive_seed, seed_all


class _Model(nn.Module):
    """Two losses, the second of which is what the batch says."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.seen: list = []

    def forward(self, batch: list[dict]) -> dict[str, torch.Tensor]:
        output = self.linear(batch[0]["image"] + torch.rand(4))
        self.seen.append((output.dtype, random.random(), np.random.rand()))
        return {"loss_box": output.square().mean(), "loss_cls": output.sum() * batch[0]["factor"]}


def _batch(factor: float = 1.0) -> list[dict]:
    image = torch.ones(1, 4)
    return [
        {"image": image, "factor": factor, "file_name": "a.png"},
        {"image": image, "factor": 1.0, "image_id": 17},
    ]


def _loop(batch: list[dict] | None = None, **options) -> TrainLoop:
    torch.manual_seed(0)
    model = _Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return TrainLoop(model, repeat(batch or _batch()), optimizer, seed=4, **options)


def _step(loop: TrainLoop, iteration: int) -> EventStorage:
    loop.iter = iteration
    with EventStorage(iteration) as storage:
        loop.run_step()
    return storage


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_weights_change(factor):
    loop = _loop(_batch(factor))
    before = loop.model.linear.weight.clone()
    with pytest.raises(FloatingPointError) as raised:
        _step(loop, 12)
    message = str(raised.value)
    assert "loss_cls (" in message and "loss_box" not in message
    assert "iteration 12" in message
    assert "a.png, 17" in message
    assert torch.equal(loop.model.linear.weight, before)


def _spoil(loop: TrainLoop, value: float = float("nan")) -> torch.Tensor:
    """Makes a gradient infinite or not a number under finite losses; returns the weights."""
    loop.model.linear.bias.register_hook(lambda gradient: torch.full_like(gradient, value))
    return loop.model.linear.weight.clone()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("clip_type", ["", "norm", "value", "full_model"])
def test_a_gradient_that_is_not_finite_stops_before_the_weights_change(value, clip_type):
    loop = _loop()
    cfg = tiny.rcnn_cfg()
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = bool(clip_type)
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = clip_type
    loop.optimizer = build_optimizer(cfg, loop.model)
    before = _spoil(loop, value)
    with pytest.raises(FloatingPointError) as raised:
        _step(loop, 12)
    message = str(raised.value)
    assert f"The gradient of linear.bias ({value}) is not finite at iteration 12" in message
    assert "linear.weight" not in message and "a.png, 17" in message
    assert torch.equal(loop.model.linear.weight, before)


def test_a_large_gradient_is_no_error():
    loop = _loop()
    _spoil(loop, 1e30)
    _step(loop, 0)
    assert loop.model.linear.bias.isfinite().all()


def test_the_scaler_skips_an_overflow_but_not_for_ever():
    loop = _loop()
    loop.grad_scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = _spoil(loop)
    for scale in (2.0, 1.0):
        _step(loop, 0)
        assert loop.grad_scaler.get_scale() == scale
    with pytest.raises(FloatingPointError, match="linear.bias"):
        _step(loop, 0)
    assert torch.equal(loop.model.linear.weight, before)


def test_a_signal_of_any_rank_is_known_after_the_step():
    loop = _loop()
    _step(loop, 0)
    assert loop.agreed_signal == 0
    loop.requested_signal = 15
    _step(loop, 1)
    assert loop.agreed_signal == 15


def test_a_step_depends_on_its_iteration_not_on_what_ran_before():
    straight, jumped = _loop(), _loop()
    _step(straight, 0)
    weights, state = copy.deepcopy((straight.model.state_dict(), straight.state_dict()))
    _step(straight, 1)
    jumped.model.load_state_dict(weights)
    jumped.load_state_dict(state)
    torch.rand(100)
    random.random()
    _step(jumped, 1)
    assert torch.equal(straight.model.linear.weight, jumped.model.linear.weight)
    assert straight.model.seen[1] == jumped.model.seen[0] != straight.model.seen[0]


def test_losses_are_written_by_name_with_their_sum():
    loop = _loop()
    latest = {name: value for name, (value, _) in _step(loop, 3).latest().items()}
    assert {"data_time", "total_loss", "loss_box", "loss_cls"} <= set(latest)
    assert latest["total_loss"] == pytest.approx(latest["loss_box"] + latest["loss_cls"])
    assert latest["data_time"] >= 0


def test_a_step_is_that_of_plain_gradient_descent():
    loop = _loop()
    reference = _loop()
    _step(loop, 0)
    seed_all(derive_seed(4, Stream.STEP, 0, 0))
    sum(reference.model(_batch()).values()).backward()
    reference.optimizer.step()
    assert torch.equal(loop.model.linear.weight, reference.model.linear.weight)


def test_bfloat16_on_a_cpu_computes_low_and_keeps_weights_high():
    loop = _loop(dtype=torch.bfloat16)
    before = loop.model.linear.weight.clone()
    _step(loop, 0)
    assert loop.model.seen[0][0] == torch.bfloat16
    assert loop.model.linear.weight.dtype == torch.float32
    assert not torch.equal(loop.model.linear.weight, before)
    assert "grad_scaler" not in loop.state_dict()


def test_the_gradient_scaler_is_part_of_the_state_where_there_is_one():
    loop, other = _loop(), _loop()
    for each in (loop, other):
        each.grad_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=1)
    _step(loop, 0)
    other.load_state_dict(loop.state_dict())
    assert other.grad_scaler.get_scale() == 2.0**11


def _two_ranks(rank: int, folder: str) -> None:
    """What two ranks draw, learn of a signal, and say of a bad gradient and a bad loss."""
    url = f"file://{folder}/rendezvous"
    torch.distributed.init_process_group("gloo", init_method=url, world_size=2, rank=rank)
    loop = _loop()
    loop.requested_signal = 15 * rank
    _step(loop, 5)
    Path(folder, f"{rank}_drawn").write_text(f"{loop.model.seen[0][1:]}")
    Path(folder, f"{rank}_signal").write_text(f"{loop.agreed_signal}")

    bad_gradient = _loop()
    if rank:
        _spoil(bad_gradient)
    batch = _batch(float("nan") if rank else 1.0)
    batch[0]["file_name"] = f"image_of_rank_{rank}.png"
    bad_loss = _loop(batch)
    for name, loop in (("gradient", bad_gradient), ("loss", bad_loss)):
        try:
            _step(loop, 5)
        except FloatingPointError as error:
            Path(folder, f"{rank}_{name}").write_text(str(error))


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    # fork: a spawned process could not import this file.
    torch.multiprocessing.start_processes(
        _two_ranks, args=(str(folder),), nprocs=2, start_method="fork"
    )
    return folder


def test_a_bad_loss_on_one_rank_stops_all_and_names_that_rank_s_images(two_ranks):
    for rank in "01":
        message = (two_ranks / f"{rank}_loss").read_text()
        assert "loss_cls (nan)" in message
        assert "image_of_rank_1.png" in message and "image_of_rank_0.png" not in message


def test_a_bad_gradient_on_one_rank_stops_all(two_ranks):
    for rank in "01":
        assert "linear.bias (nan)" in (two_ranks / f"{rank}_gradient").read_text()


def test_a_signal_that_one_rank_receives_is_known_to_all(two_ranks):
    assert [(two_ranks / f"{rank}_signal").read_text() for rank in "01"] == ["15", "15"]


def test_every_rank_draws_its_own_random_numbers(two_ranks):
    # In the same iteration of the same run: sampled anchors and proposals must not repeat.
    first, second = ((two_ranks / f"{rank}_drawn").read_text() for rank in "01")
    assert first != second
