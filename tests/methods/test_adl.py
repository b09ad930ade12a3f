"""ADL on all anchors at once, and its keys."""

from __future__ import annotations

import pytest
import torch
from helpers import tiny_dense

from distill.losses import adaptive_distillation
from distill.methods import ADL


@pytest.mark.parametrize("form", ["code", "paper"])
def test_adl_is_the_formula_over_all_levels(form: str) -> None:
    signals = tiny_dense.shown()
    x = tiny_dense.whole(signals)
    constants = {"gamma": 1.5, "beta": 0.5, "theta": 1.2, "form": form}
    method = tiny_dense.method(ADL, weight=3.0, **constants)
    found = method(*signals).losses["loss_adl"]
    assert not x["valid"].all()
    torch.testing.assert_close(
        found, 3 * adaptive_distillation(*tiny_dense.logits_of(x), **constants)
    )


def test_adl_may_be_divided_by_the_positives_instead() -> None:
    signals = tiny_dense.shown()
    by_teacher = tiny_dense.method(ADL)(*signals)
    by_positives = tiny_dense.method(ADL, normalizer="positives")(*signals)
    positives = tiny_dense.whole(signals)["positive"].sum()
    assert positives > 1
    expected = by_teacher.losses["loss_adl"] * by_teacher.diagnostics["adl/normalizer"] / positives
    torch.testing.assert_close(by_positives.losses["loss_adl"], expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"form": "odd"}, 'DISTILL.ADL.FORM is "odd"; choose one of code, paper'),
        ({"head": "roi"}, 'DISTILL.ADL.HEAD is "roi"; choose one of dense, rpn'),
        ({"normalizer": "x"}, 'DISTILL.ADL.NORMALIZER is "x"; choose one of teacher'),
        ({"head": "rpn", "normalizer": "positives"}, "DISTILL.ADL.NORMALIZER"),
        ({"gamma": -1.0}, "DISTILL.ADL.GAMMA is -1.0; it must be at least 0"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_key(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError) as error:
        tiny_dense.method(ADL, **arguments)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
