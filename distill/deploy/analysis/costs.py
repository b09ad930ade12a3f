"""Parameters, size and operations, of a layer, a group of layers or a detector.

Source of the accounting: IDa-Det (arXiv 2210.03477) and the 1-bit detectors before it. 64 products
of 1-bit values are one XNOR of machine words, so that OPs = MACs(1-bit) / 64 + MACs(real).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

__all__ = ["Cost", "Costs", "LayerCost"]


@dataclass(frozen=True)
class Cost:
    """Parameters and products of one image.

    Attributes:
        params_1bit: number of parameters stored in one bit.
        params_real: number of parameters stored in four bytes.
        macs_1bit: multiplications of 1-bit weights and 1-bit activations.
        macs_real: all other multiplications.
    """

    params_1bit: int = 0
    params_real: int = 0
    macs_1bit: int = 0
    macs_real: int = 0

    def __add__(self, other: Cost) -> Cost:
        mine, others = asdict(self), asdict(other)
        return Cost(**{name: mine[name] + others[name] for name in mine})

    @property
    def size_mb(self) -> float:
        """Size of the parameters, in 10^6 bytes."""
        return (self.params_1bit / 8 + self.params_real * 4) / 1e6

    @property
    def ops_g(self) -> float:
        """Operations, in 10^9."""
        return (self.macs_1bit / 64 + self.macs_real) / 1e9

    def as_dict(self) -> dict[str, float]:
        """Parameters in millions, size in 10^6 bytes, operations in 10^9."""
        return {
            "params_1bit_m": self.params_1bit / 1e6,
            "params_real_m": self.params_real / 1e6,
            "size_mb": self.size_mb,
            "ops_g": self.ops_g,
        }


@dataclass(frozen=True)
class LayerCost:
    """One layer of a detector.

    Attributes:
        name: of the module.
        group: the part of the detector it belongs to, as "backbone" or "ROI head".
        kind: "1-bit convolutions", "real convolutions", ...
        cost: of the layer.
    """

    name: str
    group: str
    kind: str
    cost: Cost


@dataclass(frozen=True)
class Costs:
    """All layers of a detector.

    Attributes:
        layers: the layers, those of one group together.
        uncounted: names of modules that hold weights but did not run, and are in no number.
    """

    layers: tuple[LayerCost, ...]
    uncounted: tuple[str, ...] = ()

    @cached_property
    def total(self) -> Cost:
        """The sum over all layers."""
        return sum((layer.cost for layer in self.layers), Cost())

    @cached_property
    def groups(self) -> dict[str, Cost]:
        """The sum over the layers of each part of the detector."""
        return self._sum_by(lambda layer: layer.group)

    @cached_property
    def kinds(self) -> dict[str, Cost]:
        """The sum over the layers of each kind."""
        return self._sum_by(lambda layer: layer.kind)

    def as_dict(self) -> dict[str, Any]:
        """The total (see ``Cost.as_dict``), and under ``groups`` the same of each group."""
        groups = {name: cost.as_dict() for name, cost in self.groups.items()}
        return {**self.total.as_dict(), "groups": groups}

    def _sum_by(self, key: Callable[[LayerCost], str]) -> dict[str, Cost]:
        sums: dict[str, Cost] = {}
        for layer in self.layers:
            sums[key(layer)] = sums.get(key(layer), Cost()) + layer.cost
        return sums
