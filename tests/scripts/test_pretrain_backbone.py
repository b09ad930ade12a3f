from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pretrain_backbone
import pytest
from helpers.tiny import rcnn_cfg
from PIL import Image

_SCRIPT = pretrain_backbone.__file__


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images by class below images/, and the config of a small 1-bit detector, config.yaml."""
    root = tmp_path_factory.mktemp("pretraining")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("a", "b"):
            (root / "images" / split / name).mkdir(parents=True)
            for index in range(3):
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / "images" / split / name / f"{index}.png")
    cfg = rcnn_cfg(
        MODEL__BACKBONE__NAME="build_binary_slim_fpn_backbone",
        PRETRAIN__NUM_CLASSES=2,
        PRETRAIN__CROP_SIZE=16,
        PRETRAIN__RESIZE=16,
        DATALOADER__NUM_WORKERS=0,
        SOLVER__IMS_PER_BATCH=2,
        SOLVER__WARMUP_ITERS=0,
        SOLVER__MAX_ITER=1,
        SEED=3,
    )
    (root / "config.yaml").write_text(cfg.dump())
    return root


def _run_here(folder: Path, output: Path, *arguments: str) -> None:
    flags = [x for x in arguments if x.startswith("--")]
    options = [x for x in arguments if not x.startswith("--")]
    command = ["--config-file", str(folder / "config.yaml"), *flags]
    if not any(flag.startswith("--data") for flag in flags):
        command.append(f"--data={folder / 'images'}")
    parser = pretrain_backbone.build_parser()
    pretrain_backbone.main(parser.parse_args([*command, "OUTPUT_DIR", str(output), *options]))


def test_both_steps_run_and_the_last_one_is_evaluated_alone(folder, tmp_path, capsys):
    _run_here(folder, tmp_path)
    table = capsys.readouterr().out.split("top-5")[-1].split()
    assert "activations" in table and "weights" in table
    assert (tmp_path / "backbone.pth").exists()
    accuracies = table[table.index("weights") + 1 :]
    _run_here(folder, tmp_path, "--eval-only", "--resume")
    assert capsys.readouterr().out.split("evaluation")[-1].split() == accuracies


def test_the_teacher_is_evaluated_before_training(folder, tmp_path, capsys):
    twin = ("MODEL.BINARY.WEIGHTS", "False", "PRETRAIN.STEP", "weights")
    _run_here(folder, tmp_path / "twin", *twin)
    twin_accuracy = capsys.readouterr().out.split("weights")[-1].split()
    teacher = (
        "PRETRAIN.TEACHER.CONFIG_FILE",
        str(tmp_path / "twin" / "config.yaml"),
        "PRETRAIN.TEACHER.WEIGHTS",
        str(tmp_path / "twin" / "model_final.pth"),
    )
    _run_here(folder, tmp_path / "student", "--eval-teacher", *teacher)
    output = capsys.readouterr().out
    assert output.split("\nteacher")[-1].split()[:2] == twin_accuracy
    assert "loss_soft_labels" not in output and "total_loss" in output


def test_the_built_in_crops_are_made_where_they_are_named(folder, tmp_path, monkeypatch):
    made = []

    def make() -> Path:
        made.append(True)
        return folder / "images"

    monkeypatch.setattr(pretrain_backbone, "prepare_digit_crops", make)
    _run_here(folder, tmp_path, "--data=digits", "PRETRAIN.STEP", "weights")
    assert made == [True]
    assert f"DATA: {folder / 'images'}" in (tmp_path / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data=",), "There are no images: give --data"),
        (("--data=nowhere",), "nowhere/train"),
        (("--eval-only",), "--eval-only has no weights to evaluate"),
        (("--eval-teacher",), "no teacher to evaluate"),
        (("MODEL.WEIGHTS", "nowhere.pth"), "nowhere.pth does not exist"),
        (("PRETRAIN.NUM_CLASSES", "3"), "PRETRAIN.NUM_CLASSES is 3"),
        (("PRETRAIN.STEP", "third"), 'PRETRAIN.STEP is "third"; choose one of activations'),
        (("PRETRAIN.TEACHER.NAME", "resnet34"), "PRETRAIN.TEACHER.WEIGHTS is empty"),
        (("MODEL.BACKBONE.FREEZE_AT", "2"), "MODEL.BACKBONE.FREEZE_AT"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(
    folder, tmp_path, capsys, monkeypatch, arguments, message
):
    # Detectron2's console handlers keep the first test's standard output, which pytest closed.
    monkeypatch.setattr(logging, "raiseExceptions", False)
    with pytest.raises(SystemExit) as left:
        _run_here(folder, tmp_path, *arguments)
    assert left.value.code == 2
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    last = errors.splitlines()[-1]
    assert last.startswith("error: ") and message in last


def test_the_script_is_short():
    assert len(Path(_SCRIPT).read_text().splitlines()) < 120
