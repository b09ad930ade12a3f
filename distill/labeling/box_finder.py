"""A teacher as the source of boxes: checked, built, and its detections as plain rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN, GeneralizedRCNNWithTTA
from detectron2.structures import Instances
from torch import nn

from distill.build import read_config, said_of_keys
from distill.checks.architecture import check_detector
from distill.data.pseudo.labels import PIXEL_DIGITS, SCORE_DIGITS
from distill.views.classes import num_classes
from distill.views.teacher import FrozenTeacher
from distill.views.teacher_weights import load_covering_weights

__all__ = ["BoxFinder", "build_labeling_teacher", "check_can_label", "read_labeling_config"]


class BoxFinder:
    """Finds boxes in batches of images."""

    def __init__(
        self,
        teacher: FrozenTeacher,
        *,
        score_floor: float,
        limits: np.ndarray | None = None,
        tta: bool = False,
    ) -> None:
        """Prepares a teacher, and warns of boxes that it will not show.

        Args:
            teacher: any detector of Detectron2, with its config if `tta`.
            score_floor: lowest score of a box.
            limits: (K,) scores that the boxes of a class have to exceed; None for no such limits.
            tta: use Detectron2's test-time augmentation, by TEST.AUG of the teacher's config.

        Raises:
            ValueError: if that augmentation does not know the teacher's meta-architecture.
        """
        self.teacher = teacher
        self.score_floor = score_floor
        self.limits = limits
        self._model = _augmented(teacher) if tta else teacher.model
        self._device_type = next(teacher.model.parameters()).device.type
        own = _own_floor(teacher.model)
        if own > score_floor and not tta:
            logging.getLogger(__name__).warning(
                "The teacher's config drops boxes of scores up to %g itself: for all from %g on, "
                "lower its SCORE_THRESH_TEST.",
                own,
                score_floor,
            )

    def __call__(self, batched_inputs: Sequence[dict[str, Any]]) -> list[np.ndarray]:
        """Boxes of every image, (B, 6) float64: x0, y0, x1, y1, score, class.

        Corners are in pixels of the image on disk, to a hundredth; a score has five digits.

        Raises:
            ValueError: if the model returns no upright boxes.
        """
        if not batched_inputs:
            return []
        with torch.no_grad(), self.teacher.autocast(self._device_type):
            outputs = self._model(batched_inputs)
        found = [_boxes_of(output) for output in outputs]
        columns = ((x.pred_boxes.tensor, x.scores[:, None], x.pred_classes[:, None]) for x in found)
        # One way from the GPU for the whole batch; a float holds a class exactly.
        tables = [torch.cat([column.float() for column in row], dim=1) for row in columns]
        table = torch.cat(tables).cpu().double().numpy()
        return [
            self._select(rows) for rows in np.split(table, np.cumsum([len(x) for x in found])[:-1])
        ]

    def _select(self, rows: np.ndarray) -> np.ndarray:
        rows = rows[np.isfinite(rows).all(axis=1)]
        # Adding nothing makes a zero of a negative zero.
        rows[:, :4] = rows[:, :4].round(PIXEL_DIGITS) + 0.0
        # Before anything is compared, so that whoever reads the file comes to the same result.
        rows[:, 4] = rows[:, 4].round(SCORE_DIGITS)
        keep = rows[:, 4] >= self.score_floor
        if self.limits is not None:
            keep &= rows[:, 4] > self.limits[rows[:, 5].astype(int)]
        return rows[keep]


def read_labeling_config(config_file: str, opts: Sequence[str], *, use_gpu: bool) -> CfgNode:
    """The config of a teacher that a command line names, without what does not change its boxes.

    Args:
        config_file: a path, or model_zoo://<config path>.
        opts: KEY VALUE overrides.
        use_gpu: False moves it to the CPU.

    Raises:
        ValueError, FileNotFoundError: one sentence, if it is missing or wrong.
    """
    cfg = read_config(config_file, opts, key="--config-file")
    check_can_label(cfg, f"--config-file {config_file}")
    if cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN":
        # They work on the boxes that were found and leave them as they are.
        cfg.MODEL.MASK_ON = cfg.MODEL.KEYPOINT_ON = False
    if cfg.MODEL.DEVICE.startswith("cuda") and not use_gpu:
        cfg.MODEL.DEVICE = "cpu"
    return cfg


def check_can_label(cfg: CfgNode, source: str) -> None:
    """Verifies that a teacher's config is of a known detector that needs nothing but images.

    Args:
        cfg: the teacher's config.
        source: the option or key and the file that it comes from, for messages.

    Raises:
        ValueError: one sentence, if it is not.
    """
    if cfg.MODEL.META_ARCHITECTURE not in META_ARCH_REGISTRY:
        raise ValueError(
            f"{source} has the unknown MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE}: "
            "register it, or correct the name."
        )
    check_detector(cfg, f"{source}: ")
    if cfg.MODEL.LOAD_PROPOSALS:
        raise ValueError(
            f"{source} needs proposals that were computed before (MODEL.LOAD_PROPOSALS): take a "
            "teacher that makes its own."
        )


def build_labeling_teacher(
    cfg: CfgNode, weights: str, class_names: Sequence[str], *, precision: str
) -> FrozenTeacher:
    """Builds the teacher that a command line names, with its weights.

    Args:
        cfg: its config, from :func:`read_labeling_config`.
        weights: a path, a URL, or model_zoo://<config path>.
        class_names: the names of its classes.
        precision: "auto", float32, float16 or bfloat16.

    Raises:
        ValueError: one sentence, if the weights do not cover it or it predicts another number of
            classes.
        FileNotFoundError: if the weights are missing.
    """
    with said_of_keys("--config-file: "):
        model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    number = num_classes(model)
    if number != len(class_names):
        raise ValueError(
            f"The teacher predicts {number} classes, but {len(class_names)} names are known: give "
            "the names of all with --classes, in the teacher's order."
        )
    load_covering_weights(model, weights, key="--weights", config_key="--config-file")
    model.to(torch.device(cfg.MODEL.DEVICE))
    return FrozenTeacher(model, cfg=cfg, precision=precision)


def _augmented(teacher: FrozenTeacher) -> nn.Module:
    if not isinstance(teacher.model, GeneralizedRCNN):
        raise ValueError(
            "--tta knows the meta-architecture GeneralizedRCNN alone, and the teacher is a "
            f"{type(teacher.model).__name__}: leave it out."
        )
    return GeneralizedRCNNWithTTA(teacher.cfg, teacher.model)


def _boxes_of(output: dict[str, Any]) -> Instances:
    found = output.get("instances")
    # Those of rotated boxes have an angle too.
    if found is None or found.pred_boxes.tensor.shape[1] != 4:
        raise ValueError("The teacher finds no upright boxes: take one that does.")
    return found


def _own_floor(model: nn.Module) -> float:
    """The score below which a model drops boxes, by the name that Detectron2's detectors use."""
    floors = (getattr(module, "test_score_thresh", 0.0) for module in model.modules())
    return max((floor for floor in floors if isinstance(floor, (int, float))), default=0.0)
