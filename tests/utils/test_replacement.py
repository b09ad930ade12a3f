from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn

from distill.utils.replacement import replaced_method


class Owner(nn.Module):
    def name(self, prefix: str) -> str:
        return f"{prefix} owner"


def louder(method: Callable[[str], str], prefix: str) -> str:
    return f"{method(prefix)}!"


def test_the_function_gets_the_method_and_its_arguments_within_the_context() -> None:
    owner = Owner()
    with replaced_method(owner, "name", louder):
        assert owner.name("the") == "the owner!" and Owner().name("an") == "an owner"
        with replaced_method(owner, "name", louder):
            assert owner.name("the") == "the owner!!"
        assert owner.name("the") == "the owner!"
    assert owner.name("the") == "the owner" and "name" not in vars(owner)


def test_an_error_leaves_the_instance_as_it_was() -> None:
    owner = Owner()
    owner.name = own = str.upper
    with pytest.raises(KeyError), replaced_method(owner, "name", louder):
        assert owner.name("the") == "THE!"
        raise KeyError
    assert vars(owner)["name"] is own
