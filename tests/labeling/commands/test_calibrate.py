from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.data.pseudo.thresholds import Thresholds
from distill.data.pseudo.writing import annotations, write_pseudo_file
from distill.labeling.commands import calibrate

_IMAGES = [{"id": i, "file_name": f"{i}.png", "width": 99, "height": 99} for i in (1, 2)]
# Score of a box, and the left edge of it: that of the object, or another.
_ANTS = [(0.9, 0), (0.8, 0), (0.6, 50), (0.5, 50)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """P.json with ants, bees and cows, and labels.json with ants, bees and dogs."""

    def box(image: int, category: int, left: float, score: float):
        rows = np.array([[left, 0, left + 10, 10, score, category]])
        return next(annotations([image], rows, ["teacher"]))

    ants = [box(1 + i % 2, 0, left, score) for i, (score, left) in enumerate(_ANTS)]
    others = [box(1, 1, 0, 0.9), box(2, 2, 0, 0.9)]
    info = {"dataset": None, "image_root": "", "score_floor": 0.1}
    write_pseudo_file(tmp_path / "P.json", info, _IMAGES, ("ant", "bee", "cow"), [*ants, *others])
    truth = [box(1, 0, 0, 1.0), box(2, 0, 0, 1.0), box(1, 2, 0, 1.0), box(1, 2, 70, 1.0)]
    info = {"dataset": None, "image_root": ""}
    write_pseudo_file(tmp_path / "labels.json", info, _IMAGES, ("ant", "dog", "bee"), truth)
    return tmp_path


def _run(folder: Path, *options: str, output: str = "out") -> None:
    parser = argparse.ArgumentParser()
    calibrate.add_arguments(parser)
    paths = ["--pseudo", folder / "P.json", "--labels", folder / "labels.json"]
    calibrate.run(parser.parse_args([*map(str, paths), "--output", str(folder / output), *options]))


def test_thresholds_and_a_plot_are_written(folder, capsys):
    _run(folder, "--min-boxes", "2", "--min-kept", "1")
    path = folder / "out" / "thresholds.json"
    # Ants: the middle of 0.8 and 0.6; all: the same, as the right bee has 0.9.
    assert Thresholds.load(path) == Thresholds(0.7, {"ant": 0.7, "bee": 0.7})
    assert json.loads(path.read_text())["info"] == {
        "description": "Score thresholds",
        "pseudo": "P.json",
        "labels": "labels.json",
        "beta": 1.0,
        "iou": 0.5,
        "min_boxes": 2,
        "min_kept": 1,
        "floor": 0.1,
        "counts": {"images": 2, "objects": 4, "boxes": 3},
    }
    assert Image.open(path.with_suffix(".png")).width > 500
    printed = capsys.readouterr().out
    rows = {line.split("  ")[0].strip(): line.split() for line in printed.splitlines() if line}
    assert rows["ant"][1:8] == ["2", "0.7000", "1.000", "1.000", "1.000", "1.00", "2"]
    assert rows["bee"][1:8] == ["2", "0.7000", "1.000", "0.500", "0.667", "0.50", "1"]
    assert rows["all"][1:8] == ["4", "-", "1.000", "0.750", "0.857", "1.50", "3"]
    assert "Compared in 2 images" in printed
    assert "Without labels: cow. They take the default threshold, 0.7." in printed
    assert "Labels that no pseudo label can match: dog." in printed


def test_the_same_command_writes_the_same_bytes_under_any_name(folder):
    for output in ("a", "b/mine.json"):
        _run(folder, output=output)
    assert sorted(x.name for x in (folder / "b").iterdir()) == ["mine.json", "mine.png"]
    for end in ("json", "png"):
        first, second = folder / "a" / f"thresholds.{end}", folder / "b" / f"mine.{end}"
        assert first.read_bytes() == second.read_bytes()


def test_crowds_are_read_and_other_datasets_noted(folder, capsys):
    content = json.loads((folder / "labels.json").read_text())
    crowd = {"id": 99, "image_id": 1, "category_id": 1, "bbox": [50, 0, 10, 10], "iscrowd": 1}
    content["annotations"].append(crowd)
    content["info"]["dataset"] = "digits_test"
    (folder / "labels.json").write_text(json.dumps(content))
    pseudo = (folder / "P.json").read_text()
    (folder / "P.json").write_text(pseudo.replace('"dataset": null', '"dataset": "digits_val"'))
    # The wrong ant of image 1, score 0.6, lies in it; a threshold is between 0.8 and 0.5.
    _run(folder, "--min-boxes", "2", "--min-kept", "0")
    assert Thresholds.load(folder / "out" / "thresholds.json").classes["ant"] == 0.65
    assert "different datasets, digits_test and digits_val" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--beta", "0"), "--beta is 0: "),
        (("--pseudo", "nowhere.json"), r"nowhere\.json does not exist"),
        (("--labels", "digits_tran"), "--labels has digits_tran, which is not a registered"),
    ],
)
def test_bad_input_writes_nothing(folder, options, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        _run(folder, *options)
    assert not (folder / "out").exists()
