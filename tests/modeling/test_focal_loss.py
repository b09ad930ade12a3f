"""A step of RetinaNet and FCOS doesn't depend on how many steps the process has made before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from detectron2.modeling.meta_arch import fcos, retinanet
from fvcore.nn import sigmoid_focal_loss_jit
from helpers import tiny, tiny_dense

from distill.modeling.focal_loss import use_plain_focal_loss, use_scripted_focal_loss


def _gradient(function: Any) -> torch.Tensor:
    logits = torch.randn(40, 3, generator=torch.Generator().manual_seed(2)).requires_grad_()
    labels = (torch.arange(120).view(40, 3) % 7 == 0).float()
    function(logits, labels, alpha=0.25, gamma=2.0, reduction="sum").backward()
    return logits.grad


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_the_same_step_has_the_same_gradients_every_time(name: str) -> None:
    def gradients() -> dict[str, torch.Tensor]:
        model = tiny_dense.DENSE[name]().train()
        sum(tiny.step(model, tiny.batch()).values()).backward()
        return {key: p.grad for key, p in model.named_parameters()}

    first, second, third = gradients(), gradients(), gradients()
    assert tiny.equal(first, second) and tiny.equal(second, third)


def test_the_loss_is_what_the_scripted_one_computes_in_its_first_call() -> None:
    # Another process, since in this one the scripted loss may have been called.
    code = "from test_focal_loss import _gradient, sigmoid_focal_loss_jit as function\n"
    code += "print(_gradient(function).flatten().tolist())"
    path = os.pathsep.join([*filter(None, sys.path), os.path.dirname(__file__)])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    expected = torch.tensor(json.loads(done.stdout.splitlines()[-1]))
    assert torch.equal(_gradient(retinanet.sigmoid_focal_loss_jit).flatten(), expected)


def test_the_replacement_can_be_undone() -> None:
    assert retinanet.sigmoid_focal_loss_jit is fcos.sigmoid_focal_loss_jit
    assert retinanet.sigmoid_focal_loss_jit is not sigmoid_focal_loss_jit
    use_scripted_focal_loss()
    try:
        assert retinanet.sigmoid_focal_loss_jit is fcos.sigmoid_focal_loss_jit
        assert retinanet.sigmoid_focal_loss_jit is sigmoid_focal_loss_jit
    finally:
        use_plain_focal_loss()
