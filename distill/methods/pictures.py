"""Pictures of what a method borrows from the teacher, for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from detectron2.structures import Instances
from torch import Tensor
from torch.nn import functional as F

from distill.losses import largest_discrepancy
from distill.views.dense_pairs import pair_levels
from distill.views.sharing import SharedProposals
from distill.views.student import StudentSignals
from distill.views.teacher import TeacherSignals

if TYPE_CHECKING:
    from detectron2.utils.visualizer import Visualizer

__all__ = ["draw_dense_discrepancy", "draw_discrepancy", "draw_heat", "draw_proposals"]

# Pixels that the shorter side of a panel has at least, roughly.
_LEGIBLE = 400
# Score from which a detection is drawn.
_SURE = 0.5
# Proposals on which nothing, only scores, only boxes, or both are borrowed.
_COLORS = {(0, 0): "gray", (1, 0): "orange", (0, 1): "deepskyblue", (1, 1): "lime"}


def draw_proposals(
    example: dict,
    mask: Tensor | None,
    stride: int,
    proposals: SharedProposals | None,
    gates: Mapping[str, Tensor],
) -> np.ndarray:
    """The first image of a batch: left its objects and the neck mask, right the proposals.

    The foreground proposals are green where scores and boxes are borrowed, orange where only
    scores, blue where only boxes, gray where nothing is.

    Args:
        example: the image's entry in the batch (`image` (C, H, W), `instances`).
        mask: (h, w) neck mask of the image, or None.
        stride: pixels per cell of the mask.
        proposals: the batch's shared proposals, or None.
        gates: (P,) bool by "cls" and "box", where these terms are on.

    Returns:
        (s H, 2 s W, 3) uint8 RGB, with a whole-number scale s of 1 or more.
    """
    image = _to_rgb(example["image"])
    left = image
    if mask is not None:
        heat = mask.detach().float().cpu().repeat_interleave(stride, 0)
        heat = heat.repeat_interleave(stride, 1)[: image.shape[0], : image.shape[1]].numpy()
        heat = np.pad(
            heat, [(0, size - have) for size, have in zip(image.shape[:2], heat.shape, strict=True)]
        )
        alpha = 0.6 * heat[..., None]
        left = ((1 - alpha) * image + alpha * 255 * _colors("jet", heat)).astype(np.uint8)
    truth = example["instances"].gt_boxes.tensor.cpu().numpy()
    panels = [_canvas(left).overlay_instances(boxes=truth).get_image()]
    panel = _canvas(image)
    if proposals is not None:
        shown = (proposals.image_index == 0) & proposals.foreground
        off = torch.zeros_like(shown)
        flags = torch.stack([gates.get("cls", off)[shown], gates.get("box", off)[shown]], 1)
        colors = [_COLORS[tuple(row)] for row in flags.int().tolist()]
        boxes = proposals.boxes[shown].detach().cpu().numpy()
        panel.overlay_instances(boxes=boxes, assigned_colors=colors)
    panels.append(panel.output.get_image())
    return np.concatenate(panels, axis=1)


def draw_discrepancy(
    example: dict,
    boxes: Tensor,
    scores: Tensor,
    selected: Tensor,
    student: Instances,
    teacher: Instances,
) -> np.ndarray:
    """One image in four panels: scored proposals, the selected ones, and what both detectors find.

    Proposals go from blue (the lowest score) to red (the highest); what was selected is drawn as
    the union of its boxes, bright on the darkened image.

    Args:
        example: the image's entry in the batch (`image` (C, H, W)).
        boxes: (P, 4) proposals.
        scores: (P,) discrepancy, or what else proposals are selected by.
        selected: (k, 4) the selected proposals.
        student: the student's detections.
        teacher: the teacher's.

    Returns:
        (s H, 4 s W, 3) uint8 RGB, with a whole-number scale s of 1 or more.
    """
    image = _to_rgb(example["image"])
    order = scores.argsort()
    ranks = np.linspace(0, 1, max(1, len(order)))
    colors = [tuple(color) for color in _colors("jet", ranks[: len(order)])]
    scored = _canvas(image)
    for box, color in zip(boxes[order].detach().cpu().numpy(), colors, strict=True):
        scored.draw_box(box, edge_color=color)
    lit = np.zeros(image.shape[:2], dtype=bool)
    for x0, y0, x1, y1 in selected.detach().cpu().round().int().clamp(min=0).tolist():
        lit[y0:y1, x0:x1] = True
    chosen = np.where(lit[..., None], image, image // 4).astype(np.uint8)
    panels = [scored.output.get_image(), _canvas(chosen).output.get_image()]
    panels += [_draw_detections(image, x) for x in (student, teacher)]
    return np.concatenate(panels, axis=1)


def draw_heat(example: dict, heat: Tensor, student: Instances, teacher: Instances) -> np.ndarray:
    """One image in three panels: how much the detectors disagree where, and what both find.

    Args:
        example: the image's entry in the batch (`image` (C, H, W)).
        heat: (H', W') disagreement in [0, 1], by pixel; what exceeds the image is cut off.
        student: the student's detections.
        teacher: the teacher's.

    Returns:
        (s H, 3 s W, 3) uint8 RGB, with a whole-number scale s of 1 or more.
    """
    image = _to_rgb(example["image"])
    height, width = image.shape[:2]
    colors = _colors("inferno", heat[:height, :width].cpu().numpy())
    blended = (0.4 * image + 0.6 * 255 * colors).astype(np.uint8)
    panels = [_canvas(blended).output.get_image()]
    panels += [_draw_detections(image, x) for x in (student, teacher)]
    return np.concatenate(panels, axis=1)


@torch.no_grad()
def draw_dense_discrepancy(
    student: StudentSignals, teacher: TeacherSignals, head: str = "dense"
) -> np.ndarray:
    """Draws the first image of a batch.

    The heat of a pixel is the largest difference of the two detectors' probabilities over the
    classes, the anchors and the levels at its place; anchors that are left out have none.

    Args:
        student: signals with "dense" or "rpn".
        teacher: likewise.
        head: "dense" or "rpn".

    Returns:
        (s H, 3 s W, 3) uint8 RGB: heat, the student's detections, the teacher's.
    """
    height, width = student.batched_inputs[0]["image"].shape[-2:]
    heat = torch.zeros(height, width, device=student.model.device)
    for pair in pair_levels(student, teacher, head=head):
        stride, (rows, columns) = pair.student.stride, pair.size
        apart = largest_discrepancy(pair.student.logits[0], pair.teacher.logits[0]) * pair.valid[0]
        cells = apart.view(rows, columns, -1).amax(-1)
        pixels = F.interpolate(cells[None, None], scale_factor=stride, mode="nearest")[0, 0]
        # A cell is drawn around the center of its anchors.
        shift = round((0.5 - pair.student.head.anchor_generator.offset) * stride)
        pixels = pixels[max(0, shift) :, max(0, shift) :]
        part = heat[: pixels.shape[0], : pixels.shape[1]]
        torch.maximum(part, pixels[:height, :width], out=part)
    return draw_heat(student.batched_inputs[0], heat, student.detect(0), teacher.detect(0))


def _draw_detections(image: np.ndarray, found: Instances) -> np.ndarray:
    """The surer detections on an image, with class and score."""
    sure = found[found.scores > _SURE].to("cpu")
    labels = [
        f"{label} {score:.2f}"
        for label, score in zip(sure.pred_classes.tolist(), sure.scores.tolist(), strict=True)
    ]
    return _canvas(image).overlay_instances(boxes=sure.pred_boxes, labels=labels).get_image()


def _colors(name: str, values: np.ndarray) -> np.ndarray:
    """Values (...) in [0, 1] as colors (..., 3) in [0, 1], by one of Matplotlib's maps."""
    # Imported here as it takes long, and training without pictures does not need it.
    from matplotlib import colormaps

    return colormaps[name](values)[..., :3]


def _canvas(image: np.ndarray) -> Visualizer:
    """An image to draw on; small ones are enlarged, so that lines don't hide what they surround."""
    # Imported here as it needs OpenCV, which training without pictures does not.
    from detectron2.utils.visualizer import Visualizer

    return Visualizer(image, scale=max(1, _LEGIBLE // min(image.shape[:2])))


def _to_rgb(image: Tensor) -> np.ndarray:
    """An image of the batch as (H, W, 3) uint8; Detectron2's default order BGR is assumed."""
    return np.ascontiguousarray(image.detach().cpu().permute(1, 2, 0).numpy()[..., ::-1]).astype(
        np.uint8
    )
