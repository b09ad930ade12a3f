"""Labeling is measured beside Detectron2's own inference, on the same images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmark import command


def test_both_are_timed_and_the_ratio_is_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])
    file = tmp_path / "bench.json"
    options = ["--pair", "labeling", "--device", "cpu", "--threads", "1", "--rounds", "1"]
    options += ["--image-size", "48x64", "--batch-size", "3", "--json", str(file)]
    command.main(command.parser().parse_args(options))
    (result,) = json.loads(file.read_text())["pairs"]
    assert (result["image_size"], result["batch_size"], result["rounds"]) == ([48, 64], 3, 1)
    speed = result["images_per_second"]
    assert speed.keys() == {"generate", "inference_on_dataset"}
    ratio = speed["generate"] / speed["inference_on_dataset"]
    assert result["ratio"] == pytest.approx(ratio)
    printed = capsys.readouterr()
    assert "labeling: 64 images of 48x64 pixels in batches of 3" in printed.out
    assert f"{ratio:.3f}" in printed.out and "img/s" not in printed.err


def test_another_folder_is_named_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        command.main(command.parser().parse_args(["--pair", "labeling"]))
    assert left.value.code == 2
    assert "configs/digits/faster_rcnn_student.yaml does not exist" in capsys.readouterr().err
