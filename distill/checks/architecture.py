"""Names of detectors and of their parts: unknown ones are said before anything is built."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec, get_norm
from detectron2.modeling import (
    ANCHOR_GENERATOR_REGISTRY,
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    PROPOSAL_GENERATOR_REGISTRY,
    ROI_BOX_HEAD_REGISTRY,
    ROI_HEADS_REGISTRY,
    ROI_KEYPOINT_HEAD_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
    build_backbone,
)
from detectron2.modeling.proposal_generator import RPN_HEAD_REGISTRY
from fvcore.common.registry import Registry

from distill.config import student_config
from distill.utils.wording import did_you_mean
from distill.views.detector_keys import WRAPPER, detector_keys, key_value, own_architecture

__all__ = ["backbone_levels", "check_architecture", "check_detector", "check_methods_are_used"]

_PRECOMPUTED = "PrecomputedProposals"
# Those of `distill.modeling.norm`, and of Detectron2's get_norm in any version.
_NORMS = ("BN", "FrozenStatsBN", "FrozenBN", "SyncBN", "GN", "LN", "nnSyncBN", "naiveSyncBN")
_OWN_NORM = "FrozenStatsBN"


def check_architecture(cfg: CfgNode) -> None:
    """Checks the names of a student's config, and that its methods are used.

    Args:
        cfg: the student's config.

    Raises:
        ValueError: one sentence that names the key.
    """
    own = own_architecture(cfg)
    wraps = cfg.MODEL.META_ARCHITECTURE == WRAPPER
    key = "DISTILL.STUDENT.META_ARCHITECTURE" if wraps else "MODEL.META_ARCHITECTURE"
    if own == WRAPPER:
        raise ValueError(
            f'{key} is "{WRAPPER}", which wraps a student: set it to the student\'s own, such as '
            "GeneralizedRCNN or RetinaNet"
        )
    _check_name(key, own, META_ARCH_REGISTRY)
    check_detector(student_config(cfg))


def check_methods_are_used(cfg: CfgNode) -> None:
    """Refuses methods that the meta-architecture would ignore.

    Args:
        cfg: the config of a training.

    Raises:
        ValueError: one sentence that names both keys.
    """
    own = cfg.MODEL.META_ARCHITECTURE
    if cfg.DISTILL.METHODS and own != WRAPPER:
        raise ValueError(
            f"DISTILL.METHODS names {', '.join(cfg.DISTILL.METHODS)}, but MODEL.META_ARCHITECTURE "
            f"is {own}, which trains without methods: set it to {WRAPPER} and "
            f"DISTILL.STUDENT.META_ARCHITECTURE to {own}, or DISTILL.METHODS to ()"
        )


def check_detector(cfg: CfgNode, source: str = "") -> None:
    """Checks the names of a detector and its parts: registered ones, norms and levels.

    Args:
        cfg: the detector's config, whose meta-architecture is its own.
        source: what the config comes from, to begin an error with.

    Raises:
        ValueError: one sentence that names the key, and what may have been meant.
    """
    _check_name(f"{source}MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE, META_ARCH_REGISTRY)
    for key, registry, also in _named_parts(cfg):
        if key_value(cfg, key) not in also:
            _check_name(f"{source}{key}", key_value(cfg, key), registry)
    for key in _norm_keys(cfg.MODEL, "MODEL"):
        value = key_value(cfg, key)
        if not _is_norm(value):
            known = [name for name in _NORMS if _is_norm(name)]
            raise ValueError(
                f'{source}{key} is "{value}", which is none of {", ".join(known)}'
                f"{did_you_mean(value, known)}"
            )
    _check_levels(cfg, source)


def _check_name(key: str, name: str, registry: Registry) -> None:
    if name not in registry:
        known = [known for known, _ in registry]
        hint = did_you_mean(name, known) or ": correct it, or import what registers it"
        raise ValueError(f'{key} is "{name}", which is not registered with Detectron2{hint}')


def _named_parts(cfg: CfgNode) -> Iterator[tuple[str, Registry, Container[str]]]:
    """Keys that name a part of the detector, where it is looked up, and names besides."""
    keys = detector_keys(cfg)
    if keys is None:
        # What another detector reads, it knows itself.
        return
    yield "MODEL.BACKBONE.NAME", BACKBONE_REGISTRY, ()
    if "MODEL.RPN.IN_FEATURES" in keys.levels:
        yield "MODEL.PROPOSAL_GENERATOR.NAME", PROPOSAL_GENERATOR_REGISTRY, (_PRECOMPUTED,)
        if cfg.MODEL.PROPOSAL_GENERATOR.NAME != _PRECOMPUTED:
            yield "MODEL.RPN.HEAD_NAME", RPN_HEAD_REGISTRY, ()
            yield "MODEL.ANCHOR_GENERATOR.NAME", ANCHOR_GENERATOR_REGISTRY, ()
    if "MODEL.ROI_HEADS.IN_FEATURES" in keys.levels:
        yield "MODEL.ROI_HEADS.NAME", ROI_HEADS_REGISTRY, ()
        # ROI heads of other names may have no such part.
        empty = () if cfg.MODEL.ROI_HEADS.NAME in ("StandardROIHeads", "CascadeROIHeads") else ("",)
        yield "MODEL.ROI_BOX_HEAD.NAME", ROI_BOX_HEAD_REGISTRY, empty
        if cfg.MODEL.MASK_ON:
            yield "MODEL.ROI_MASK_HEAD.NAME", ROI_MASK_HEAD_REGISTRY, ()
        if cfg.MODEL.KEYPOINT_ON:
            yield "MODEL.ROI_KEYPOINT_HEAD.NAME", ROI_KEYPOINT_HEAD_REGISTRY, ()


def _norm_keys(node: CfgNode, path: str) -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from _norm_keys(value, f"{path}.{key}")
        elif key == "NORM":
            yield f"{path}.{key}"


def _is_norm(name: str) -> bool:
    if name == _OWN_NORM:
        return True
    try:
        get_norm(name, 32)
    except KeyError:
        return False
    return True


def _check_levels(cfg: CfgNode, source: str) -> None:
    """Refuses levels that the backbone lacks."""
    keys = detector_keys(cfg)
    if keys is None or not keys.levels:
        return
    levels = backbone_levels(cfg, source)
    for key in keys.levels:
        if key == "MODEL.RPN.IN_FEATURES" and cfg.MODEL.PROPOSAL_GENERATOR.NAME == _PRECOMPUTED:
            continue
        for name in key_value(cfg, key):
            if name not in levels:
                raise ValueError(
                    f'{source}{key} names the level "{name}", but {cfg.MODEL.BACKBONE.NAME} has '
                    f"{', '.join(levels)}{did_you_mean(name, levels)}"
                )


def backbone_levels(cfg: CfgNode, source: str = "") -> Mapping[str, ShapeSpec]:
    """The levels of a config's backbone, which is built without memory for its weights.

    Args:
        cfg: the detector's config.
        source: what the config comes from, to begin an error with.

    Raises:
        ValueError: one sentence, if it cannot be built.
    """
    try:
        with torch.device("meta"):
            return build_backbone(cfg).output_shape()
    except Exception:
        # One that cannot do without weights, or that cannot be built at all.
        pass
    try:
        return build_backbone(cfg).output_shape()
    except (KeyError, AssertionError, ValueError, IndexError, TypeError) as error:
        said = " ".join(str(error.args[0] if error.args else error).split()).rstrip(".")
        reason = f"it has no {said}" if isinstance(error, KeyError) else said
        raise ValueError(
            f"{source}the backbone {cfg.MODEL.BACKBONE.NAME} cannot be built ({reason}): correct "
            "MODEL.BACKBONE.NAME, MODEL.FPN.IN_FEATURES or other keys of it"
        ) from error
