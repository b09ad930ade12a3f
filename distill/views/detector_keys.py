"""Which keys say what a detector will be: its classes and levels are known before it is built.

A detector beside Detectron2's own registers its keys where it registers itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from detectron2.config import CfgNode

__all__ = [
    "WRAPPER",
    "DetectorKeys",
    "classes_key",
    "detector_keys",
    "expected_classes",
    "key_value",
    "own_architecture",
    "reads_keys",
    "register_detector_keys",
]

D = TypeVar("D")

WRAPPER = "Distiller"


@dataclass(frozen=True)
class DetectorKeys:
    """Keys of a meta-architecture.

    Attributes:
        num_classes: the key of its number of classes, without a background; None for a detector
            that tells no classes apart.
        levels: the keys that name the levels of the backbone that it reads.
    """

    num_classes: str | None
    levels: tuple[str, ...] = ()


_KEYS: dict[str, DetectorKeys] = {}


def register_detector_keys(architecture: str, keys: DetectorKeys) -> None:
    """Notes the keys of a meta-architecture.

    Args:
        architecture: its name in Detectron2's META_ARCH_REGISTRY.
        keys: its keys.
    """
    _KEYS[architecture] = keys


def reads_keys(keys: DetectorKeys) -> Callable[[type[D]], type[D]]:
    """Decorates a meta-architecture that is registered under its class' name.

    Args:
        keys: its keys.
    """

    def note(detector: type[D]) -> type[D]:
        register_detector_keys(detector.__name__, keys)
        return detector

    return note


def own_architecture(cfg: CfgNode) -> str:
    """The meta-architecture of the detector itself, which a Distiller wraps."""
    name = cfg.MODEL.META_ARCHITECTURE
    return cfg.DISTILL.STUDENT.META_ARCHITECTURE if name == WRAPPER else name


def detector_keys(cfg: CfgNode) -> DetectorKeys | None:
    """The keys of a config's detector; None for a meta-architecture that registered none."""
    return _KEYS.get(own_architecture(cfg))


def classes_key(cfg: CfgNode) -> str | None:
    """The key of the number of classes; None where there is none, or none is known."""
    keys = detector_keys(cfg)
    return keys and keys.num_classes


def expected_classes(cfg: CfgNode) -> int | None:
    """The number of classes that a config's detector will predict, None where keys don't say."""
    key = classes_key(cfg)
    return key and key_value(cfg, key)


def key_value(cfg: CfgNode, key: str) -> Any:
    """The value of a key that is written with dots."""
    return functools.reduce(getattr, key.split("."), cfg)


_RPN, _ROI = "MODEL.RPN.IN_FEATURES", "MODEL.ROI_HEADS.IN_FEATURES"
for _name, _keys in {
    "GeneralizedRCNN": DetectorKeys("MODEL.ROI_HEADS.NUM_CLASSES", (_RPN, _ROI)),
    "PanopticFPN": DetectorKeys("MODEL.ROI_HEADS.NUM_CLASSES", (_RPN, _ROI)),
    "ProposalNetwork": DetectorKeys(None, (_RPN,)),
    "RetinaNet": DetectorKeys("MODEL.RETINANET.NUM_CLASSES", ("MODEL.RETINANET.IN_FEATURES",)),
    "SemanticSegmentor": DetectorKeys(None),
}.items():
    register_detector_keys(_name, _keys)
