"""Curves: labeled axes, and none where there is nothing to draw."""

from __future__ import annotations

from experiments.curves import draw_detection_loss, draw_metrics, draw_scores

METRICS = [
    {"iteration": 19, "total_loss": 3.0, "loss_cls": 1.0, "loss_tadf_neck": 2.0, "AP": 10.0},
    {"iteration": 39, "total_loss": 2.0, "loss_cls": 0.5, "loss_tadf_neck": 1.5},
    {"iteration": 40, "AP": 20.0},
]


def test_axes_and_runs_are_named() -> None:
    svg = draw_detection_loss({"alone": METRICS})
    assert all(
        f">{text}<" in svg for text in ("iteration", "alone", "detection loss (median of 20)")
    )


def test_a_reference_is_a_line_of_its_own() -> None:
    runs = {"alone": METRICS}
    assert ">teacher<" in (draw_scores(runs, "AP", "AP", ("teacher", 30.0)) or "")
    assert ">teacher<" not in (draw_scores(runs, "AP", "AP", ("teacher", None)) or "")


def test_nothing_is_drawn_of_what_is_not_there() -> None:
    assert draw_metrics(METRICS, {"tadf/factor": "factor"}, "factor") is None
    assert draw_scores({"alone": METRICS[:1]}, "AP", "AP", ("teacher", None)) is None


def test_the_same_metrics_make_the_same_picture() -> None:
    keys = {"loss_tadf_neck": "neck"}
    assert draw_metrics(METRICS, keys, "loss") == draw_metrics(METRICS, keys, "loss")
