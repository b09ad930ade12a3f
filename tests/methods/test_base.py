"""The registry of methods and what every method inherits."""

from __future__ import annotations

import pytest
import torch
from helpers import tiny
from torch import nn

from distill.methods import METHODS, TADF, IDaDet, Method, build_methods
from distill.methods.schedule import Schedule
from distill.views.levels import Level

LEVELS = (Level("p2", "p2", 4, 8, 12),)


class Adapted(Method):
    name = "Adapted"

    def __init__(self) -> None:
        super().__init__(Schedule())
        self.layers = nn.ModuleList([nn.Linear(2, 3), nn.Linear(3, 1)])


class Plain(Method):
    name = "Plain"


def test_methods_are_found_by_name_and_built_from_the_config() -> None:
    cfg = tiny.rcnn_cfg(DISTILL__TADF__CLS_WEIGHT=5.0, DISTILL__TADF__SHARE="both")
    (method,) = build_methods(("TADF",), cfg, LEVELS)
    assert type(method) is TADF is METHODS.get("TADF")
    assert method.weights == {"neck": 3.0, "cls": 5.0, "box": 1.0}
    assert method.share == "both"
    assert method.schedule == Schedule("linear", max_iter=100)


def test_several_methods_come_in_the_order_of_their_names() -> None:
    methods = build_methods(("IDaDet", "TADF"), tiny.rcnn_cfg(), LEVELS)
    assert [type(x) for x in methods] == [IDaDet, TADF]


def test_no_names_give_no_methods() -> None:
    assert build_methods((), tiny.rcnn_cfg(), LEVELS) == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("TADFF",), 'DISTILL.METHODS names "TADFF".*did you mean "TADF"'),
        (("TAFD",), 'did you mean "TADF"'),
        (("Nothing",), 'DISTILL.METHODS names "Nothing", which is none of .*TADF'),
        (("TADF", "TADF"), 'DISTILL.METHODS names "TADF" more than once'),
    ],
)
def test_unknown_and_repeated_names_are_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        build_methods(names, tiny.rcnn_cfg(), LEVELS)
    assert "\n" not in str(error.value)


def test_a_name_that_resembles_nothing_gets_no_suggestion() -> None:
    with pytest.raises(ValueError) as error:
        build_methods(("Nothing",), tiny.rcnn_cfg(), LEVELS)
    assert "did you mean" not in str(error.value)


def test_switched_off_is_a_zero_that_reaches_every_parameter() -> None:
    method = Adapted()
    losses = method.switched_off()
    assert list(losses) == ["loss_adapted_off"] and losses["loss_adapted_off"] == 0
    losses["loss_adapted_off"].backward()
    gradients = [p.grad for p in method.parameters()]
    assert len(gradients) == 4 and all(torch.equal(g, torch.zeros_like(g)) for g in gradients)


def test_switched_off_without_parameters_is_a_plain_zero() -> None:
    (loss,) = Plain(Schedule()).switched_off().values()
    assert loss == 0 and loss.shape == ()


def test_a_subclass_must_say_what_it_requires_and_does() -> None:
    method = Plain(Schedule())
    with pytest.raises(NotImplementedError, match="Plain must define requires"):
        _ = method.requires
    with pytest.raises(NotImplementedError, match="Plain must define forward"):
        method(None, None)
    assert "DISTILL.METHODS" in method.remedy


def test_by_default_the_teacher_must_provide_what_the_student_must() -> None:
    class Needy(Method):
        requires = frozenset({"features", "roi"})

    assert Needy(Schedule()).teacher_requires == {"features", "roi"}
