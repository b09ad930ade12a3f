"""Pictures of what a method borrows from the teacher, for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib import colormaps
from torch import Tensor

from distill.proposals import SharedProposals

__all__ = ["draw_regions"]

# Pixels that the shorter side of a panel has at least, roughly.
_LEGIBLE = 400
# Proposals on which nothing, only scores, only boxes, or both are borrowed.
_COLORS = {(0, 0): "gray", (1, 0): "orange", (0, 1): "deepskyblue", (1, 1): "lime"}


def draw_regions(
    example: dict,
    mask: Tensor | None,
    stride: int,
    regions: SharedProposals | None,
    gates: Mapping[str, Tensor],
) -> np.ndarray:
    """The first image of a batch: left its objects and the neck mask, right the proposals.

    The foreground proposals are green where scores and boxes are borrowed, orange where only
    scores, blue where only boxes, grey where nothing is.

    Args:
        example: the image's entry in the batch (`image` (C, H, W), `instances`).
        mask: (h, w) neck mask of the image, or None.
        stride: pixels per cell of the mask.
        regions: the batch's shared proposals, or None.
        gates: (P,) bool by "cls" and "box", where these terms are on.

    Returns:
        (s H, 2 s W, 3) uint8 RGB, with a whole-number scale s of 1 or more.
    """
    # Imported here as it needs OpenCV, which training without pictures does not.
    from detectron2.utils.visualizer import Visualizer

    image = _to_rgb(example["image"])
    left = image
    if mask is not None:
        heat = mask.detach().float().cpu().repeat_interleave(stride, 0)
        heat = heat.repeat_interleave(stride, 1)[: image.shape[0], : image.shape[1]].numpy()
        heat = np.pad(
            heat, [(0, size - have) for size, have in zip(image.shape[:2], heat.shape, strict=True)]
        )
        alpha = 0.6 * heat[..., None]
        left = ((1 - alpha) * image + alpha * 255 * colormaps["jet"](heat)[..., :3]).astype(
            np.uint8
        )
    truth = example["instances"].gt_boxes.tensor.cpu().numpy()
    # Small images are enlarged, so that the lines don't hide what they surround.
    scale = max(1, _LEGIBLE // min(image.shape[:2]))
    panels = [Visualizer(left, scale=scale).overlay_instances(boxes=truth).get_image()]
    panel = Visualizer(image, scale=scale)
    if regions is not None:
        shown = (regions.image_index == 0) & regions.foreground
        off = torch.zeros_like(shown)
        flags = torch.stack([gates.get("cls", off)[shown], gates.get("box", off)[shown]], 1)
        colors = [_COLORS[tuple(row)] for row in flags.int().tolist()]
        boxes = regions.boxes[shown].detach().cpu().numpy()
        panel.overlay_instances(boxes=boxes, assigned_colors=colors)
    panels.append(panel.output.get_image())
    return np.concatenate(panels, axis=1)


def _to_rgb(image: Tensor) -> np.ndarray:
    """An image of the batch as (H, W, 3) uint8; Detectron2's default order BGR is assumed."""
    return np.ascontiguousarray(image.detach().cpu().permute(1, 2, 0).numpy()[..., ::-1]).astype(
        np.uint8
    )
