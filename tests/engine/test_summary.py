"""A run says on a screen what it is going to do; its log file and config.yaml have everything."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import yaml
from detectron2.data import DatasetCatalog
from helpers import tiny

from distill.engine.setup import build_config, set_up, training_parser
from distill.engine.summary import run_summary

RETINANET = "{IN_FEATURES: [p2, p3, p4], NUM_CLASSES: 80}"


def arguments(folder: Path, *options: str, config: str = "tiny.yaml") -> list[str]:
    data = ["DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_test',)"]
    return ["--num-gpus", "0", "--config-file", str(folder / config), *options, *data]


def test_a_run_begins_with_a_summary_of_a_screen(
    tiny_coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = arguments(tiny_coco, "OUTPUT_DIR", str(tmp_path), "SOLVER.MAX_ITER", "7")
    cfg = set_up(training_parser().parse_args(command))
    shown = capsys.readouterr()
    assert len((shown.out + shown.err).splitlines()) <= 25
    for part in (
        "GeneralizedRCNN, build_slim_fpn_backbone, 80 classes",
        "tiny_train: 9 images, 80 classes (person, bicycle, car, motorcycle, airplane, ...)",
        "tiny_test: 3 images",
        "2 images, 7 iterations",
        "AdamW",
        str(tmp_path),
        "cpu, 1 process",
        "PyTorch",
    ):
        assert part in shown.out
    log = (tmp_path / "log.txt").read_text()
    assert "Running with full config" in log and "Environment info" in log
    assert "This run:" in log and (tmp_path / "env.txt").exists()
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert written == yaml.safe_load(cfg.dump())


def test_what_the_checks_say_is_in_the_log(tiny_coco: Path, tmp_path: Path) -> None:
    teacher = ("DISTILL.TEACHER.CONFIG_FILE", "teacher.yaml")
    command = arguments(tiny_coco, *teacher, "OUTPUT_DIR", str(tmp_path))
    set_up(training_parser().parse_args(command))
    assert "the student trains without it" in (tmp_path / "log.txt").read_text()
    assert logging.getLogger("distill").handlers


def test_teacher_methods_and_schedules_have_lines() -> None:
    DatasetCatalog.register("tiny_abc", list)
    try:
        cfg = tiny.distilled(tiny.rcnn_cfg(), DISTILL__TEACHER__CONFIG_FILE="teacher.yaml")
        lines = run_summary(cfg).splitlines()
    finally:
        DatasetCatalog.remove("tiny_abc")
    assert any(x.startswith("teacher") and "teacher.yaml, random weights" in x for x in lines)
    assert any("TADF, linear schedule, NECK_WEIGHT" in x for x in lines)


def overlay(folder: Path, text: str) -> str:
    (folder / "overlay.yaml").write_text(f"_BASE_: retinanet.yaml\n{text}\n")
    return str(folder / "overlay.yaml")


@pytest.fixture
def bases(tiny_coco: Path, tmp_path: Path) -> Path:
    base = f"_BASE_: {tiny_coco / 'tiny.yaml'}\nMODEL: {{META_ARCHITECTURE: RetinaNet, RETINANET: "
    (tmp_path / "retinanet.yaml").write_text(f"{base}{RETINANET}}}\n")
    return tmp_path


def own(*options: str) -> str:
    cfg = build_config(training_parser().parse_args(list(options)))
    return cfg.DISTILL.STUDENT.META_ARCHITECTURE


def test_a_forgotten_architecture_of_the_student_is_that_of_the_base(bases: Path) -> None:
    path = overlay(bases, "MODEL: {META_ARCHITECTURE: Distiller}")
    assert own("--config-file", path) == "RetinaNet"
    base = str(bases / "retinanet.yaml")
    assert own("--config-file", base, "MODEL.META_ARCHITECTURE", "Distiller") == "RetinaNet"


def test_a_given_architecture_stays_and_another_base_is_said(
    bases: Path, caplog: pytest.LogCaptureFixture
) -> None:
    student = "DISTILL: {STUDENT: {META_ARCHITECTURE: %s}}"
    wrapped = "MODEL: {META_ARCHITECTURE: Distiller}\n"
    path = overlay(bases, wrapped + student % "RetinaNet")
    assert own("--config-file", path) == "RetinaNet" and not caplog.text
    path = overlay(bases, wrapped + student % "ConfigurableFCOS")
    assert own("--config-file", path) == "ConfigurableFCOS"
    assert "is ConfigurableFCOS, but the config that" in caplog.text
    assert "is of a RetinaNet" in caplog.text
