"""Three images and three boxes in two of them."""

from __future__ import annotations

import numpy as np

from distill.data.pseudo.labels import PseudoLabels

__all__ = ["RECORDS", "three_boxes"]

RECORDS = [
    {"file_name": f"/data/{name}.png", "image_id": 7 + i, "height": 20, "width": 30}
    for i, name in enumerate("abc")
]


def three_boxes() -> PseudoLabels:
    return PseudoLabels(
        np.array([0, 0, 2]),
        np.array([[1.0, 2.0, 5.5, 9.25], [0.0, 0.0, 30.0, 20.0], [3.0, 4.0, 6.0, 8.0]]),
        np.array([0.9, 0.4, 0.6]),
        np.array([1, 0, 1]),
    )
