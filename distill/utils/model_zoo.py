"""References to Detectron2's model zoo: model_zoo://<config path>."""

from __future__ import annotations

from collections.abc import Callable

from detectron2 import model_zoo

__all__ = ["is_in_zoo", "zoo_checkpoint", "zoo_config"]

_PREFIX = "model_zoo://"


def is_in_zoo(reference: str) -> bool:
    """Whether a reference is model_zoo://<config path>."""
    return reference.startswith(_PREFIX)


def zoo_config(reference: str, key: str) -> str:
    """The config file that a reference stands for.

    Args:
        reference: model_zoo://<config path>.
        key: the config key or option that it comes from, for messages.

    Raises:
        FileNotFoundError: one sentence, if the zoo has no such config.
    """
    return _look_up(model_zoo.get_config_file, reference, key)


def zoo_checkpoint(reference: str, key: str) -> str:
    """The URL of the weights that a reference stands for.

    Args:
        reference: see :func:`zoo_config`.
        key: see there.

    Raises:
        FileNotFoundError: one sentence, if the zoo has no such weights.
    """
    return _look_up(model_zoo.get_checkpoint_url, reference, key)


def _look_up(find: Callable[[str], str], reference: str, key: str) -> str:
    name = reference[len(_PREFIX) :]
    try:
        return find(name)
    except RuntimeError as error:
        raise FileNotFoundError(
            f'{key}: the model zoo of Detectron2 has no "{name}"; look the name up in its list'
        ) from error
