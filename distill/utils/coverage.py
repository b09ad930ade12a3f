"""How much of a model a file of weights fills, and what is too little."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from distill.utils.weight_files import CheckpointError
from distill.utils.wording import some_of

__all__ = ["LEAST_FIT", "Coverage", "check_complete", "check_fit", "measure_coverage"]

# The share of a file's tensors, or of the model's, that must fit to start training from them.
LEAST_FIT = 0.1
# They do not change what a network computes, and are in some releases or everywhere.
_UNTOLD = ("num_batches_tracked",)
_EVERYWHERE = ("pixel_mean", "pixel_std", *_UNTOLD)
_FOREIGN = (
    (("neck.", "bbox_head.", "rpn_head.", "backbone.layer1."), "mmdetection's"),
    (("layer1.0.conv1.", "features.0."), "torchvision's"),
)


@dataclasses.dataclass(frozen=True)
class Coverage:
    """What became of a file's tensors and of a model's.

    Attributes:
        names: the model's tensors, without counters of batches.
        lost: those of them that the file lacks or has in another shape.
        reshaped: those of them that it has in another shape.
        surplus: the file's tensors that the model lacks.
    """

    names: Sequence[str]
    lost: Sequence[str]
    reshaped: Sequence[str]
    surplus: Sequence[str]

    @property
    def percent(self) -> float:
        """The share of the model that is filled, in percent; 100 for a full one alone."""
        if not self.lost:
            return 100.0
        return min(99.9, 100.0 * (len(self.names) - len(self.lost)) / len(self.names))

    def told(self, reference: str, whose: str) -> str:
        """In words: "w.pth covers 97.1 % of the teacher's 215 keys"."""
        return f"{reference} covers {self.percent:.1f} % of the {whose} {len(self.names)} keys"

    @property
    def deeper(self) -> Sequence[str]:
        """The file's tensors that make it the file of a deeper network.

        A layer res4.6 beside the model's res4.0 to res4.5, say: all of the model is filled, and
        yet it is not the network that was trained.
        """
        own = {_place(name) for name in self.names}
        lists = {name for name, _ in own}
        places = [(name, _place(name)) for name in self.surplus]
        return [name for name, place in places if place[0] in lists and place not in own]


def measure_coverage(model: nn.Module, incompatible: Any) -> Coverage:
    """What a load that was not strict has filled.

    A tensor with several names is filled under any of them. Of a Distiller the methods' own layers
    do not count.

    Args:
        model: the module that was loaded into.
        incompatible: what SafeCheckpointer found: missing and unexpected keys, incorrect shapes.
    """
    state = model.state_dict(keep_vars=True)
    aliases: dict[int, set[str]] = defaultdict(set)
    for name, tensor in state.items():
        aliases[id(tensor)].add(name)
    names = [n for n in state if not n.endswith(_UNTOLD) and not n.startswith("distill.")]
    reshaped = {name for name, _, _ in incompatible.incorrect_shapes}
    lost = {*incompatible.missing_keys, *reshaped}
    return Coverage(
        names=names,
        lost=sorted(n for n in names if aliases[id(state[n])] <= lost),
        reshaped=sorted(reshaped & set(names)),
        surplus=sorted(n for n in incompatible.unexpected_keys if not n.endswith(_UNTOLD)),
    )


def check_complete(
    found: Coverage, reference: str, *, key: str, config_key: str, whose: str, way_out: str = ""
) -> None:
    """Refuses weights that do not fill a model, or are those of a deeper one.

    Args:
        found: what they fill.
        reference: the weights, as the user named them.
        key: the config key or option that they come from.
        config_key: that of the model's config.
        whose: "teacher's" or the like.
        way_out: what else can be done.

    Raises:
        CheckpointError: one sentence.
    """
    message = f"{key}: {found.told(reference, whose)}"
    if found.lost:
        raise CheckpointError(
            f"{message} ({len(found.lost)} lacking or of another shape: {some_of(found.lost)}); "
            f"check that weights and {config_key} belong together{way_out}{_origin(found.surplus)}"
        )
    if found.deeper:
        raise CheckpointError(
            f"{message}, but is of a deeper network, with {some_of(found.deeper)} besides; check "
            f"that weights and {config_key} belong together{way_out}"
        )


def check_fit(found: Coverage, reference: str, *, key: str) -> str:
    """Refuses weights to start training from of which (almost) nothing fits.

    A backbone alone is enough, and so is a detector with other classes: a tenth of the file's
    tensors, or a tenth of the model's, without pixel statistics.

    Args:
        found: what they fill.
        reference: the weights, as the user named them.
        key: the config key that they come from.

    Returns:
        What fits, for the log.

    Raises:
        CheckpointError: one sentence.
    """
    names, lost, surplus = (_telling(x) for x in (found.names, found.lost, found.surplus))
    fitting = len(names) - len(lost)
    held = fitting + len(surplus) + len(_telling(found.reshaped))
    message = (
        f"{key}: of the {held} tensors in {reference} {fitting} fit the student, and are "
        f"{fitting} of its {len(names)}"
    )
    if fitting < LEAST_FIT * held and fitting < LEAST_FIT * len(names):
        raise CheckpointError(
            f"{message}, less than a tenth of either (it has {some_of(surplus or lost)} and the "
            f"student {some_of(lost)}): give weights of this detector or of its backbone"
            f"{_origin(found.surplus)}"
        )
    return message


def _telling(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.endswith(_EVERYWHERE)]


def _place(name: str) -> tuple[str, str]:
    """The innermost list and number in a name: "res4.", "6" of res4.6.conv1.weight."""
    found = re.match(r"(.*\.)(\d+)\.", name)
    return (found[1], found[2]) if found else (name, "")


def _origin(surplus: Sequence[str]) -> str:
    for prefixes, program in _FOREIGN:
        if any(name.startswith(prefixes) for name in surplus):
            return f"; these names are {program}, which must be converted to Detectron2's"
    return ""
