from __future__ import annotations

import numpy as np
from PIL import Image

from distill.labeling.calibration import CalibratedClass, Calibration
from distill.labeling.calibration_plot import plot_calibration
from distill.labeling.score_curve import Curve, score_curve


def _curve(scores: list[float], right: list[bool], objects: int) -> Curve:
    return score_curve(np.array(scores, float), np.array(right, bool), objects, beta=1.0, floor=0.1)


def _calibration(classes: int) -> Calibration:
    curve = _curve([0.9, 0.7, 0.4], [True, False, True], 3)
    rows = [CalibratedClass(f"class {i}", 0.55, "", curve, 2) for i in range(classes)]
    pooled = _curve([0.9, 0.6, 0.2], [False, True, True], 3)
    return Calibration(tuple(rows), (), 0.5, pooled, 2, 0.1)


def test_equal_calibrations_make_equal_pictures(tmp_path):
    for name in ("a.png", "b.png"):
        plot_calibration(_calibration(12), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_class_without_boxes_is_drawn(tmp_path):
    rest = _calibration(1)
    rows = (CalibratedClass("rare", 0.55, "", _curve([], [], 2), 0), *rest.classes)
    plot_calibration(Calibration(rows, (), 0.5, rest.pooled, 2, 0.1), tmp_path / "a.png")
    pixels = np.array(Image.open(tmp_path / "a.png").convert("RGB"))
    # The second class' color, orange.
    assert (pixels == (255, 127, 14)).all(-1).any()
