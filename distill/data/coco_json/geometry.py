"""Whether boxes lie in their images."""

from __future__ import annotations

from itertools import chain

import numpy as np

from distill.data.coco_json.file import Entry

__all__ = ["boxes_outside", "refuse_shares"]

# Rounding may put a box this far, in pixels, beyond its image.
_TOLERANCE = 1.0
# So few boxes of small objects may all lie in an image's first pixel.
_FEW = 4


def refuse_shares(annotations: list[Entry]) -> None:
    """Refuses boxes in shares of the images' sides in place of pixels.

    Raises:
        ValueError: half a sentence, if all boxes lie between 0 and 1.
    """
    if len(annotations) < _FEW:
        return
    # Most files are found to be sound by their first boxes.
    for part in (annotations[:_FEW], annotations):
        table = _table(part)
        if (table[:, :2] + table[:, 2:]).max() > 1 or not (table % 1).any():
            return
    raise ValueError(
        f"all {len(annotations)} boxes lie between 0 and 1, as shares of the images' sides: write "
        "x, y, width and height in pixels"
    )


def boxes_outside(images: list[Entry], annotations: list[Entry]) -> list[str]:
    """A sentence on boxes that reach beyond their images, if there are any."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in images}
    limits = np.array([sizes[x["image_id"]] for x in annotations], float).reshape(-1, 2)
    table = _table(annotations)
    ends = table[:, :2] + table[:, 2:]
    out = (table[:, :2] < -_TOLERANCE) | (ends > limits + _TOLERANCE)
    number = int(out.any(axis=1).sum())
    if not number:
        return []
    apart = int(((ends <= 0) | (table[:, :2] >= limits)).any(axis=1).sum())
    first = annotations[int(out.any(axis=1).argmax())]
    return [
        f"{number} of {len(annotations)} boxes reach beyond their image, {apart} of them lie "
        f"outside of it, box {first['id']!r} of image {first['image_id']!r} is the first: training "
        "cuts them off, evaluation takes them as they are"
    ]


def _table(annotations: list[Entry]) -> np.ndarray:
    """(N, 4) x, y, width and height."""
    numbers = chain.from_iterable(x["bbox"] for x in annotations)
    return np.fromiter(numbers, float, 4 * len(annotations)).reshape(-1, 4)
