from __future__ import annotations

import argparse
import json

import pytest
from PIL import Image

from distill.labeling.commands.view import add_arguments, run


@pytest.fixture
def folder(tmp_path):
    """Two images, boxes in them, and labels of one."""
    (tmp_path / "images").mkdir()
    images = [
        {"id": 5 + i, "file_name": f"{i}.png", "width": 40, "height": 30 + i} for i in range(2)
    ]
    for image in images:
        size = (image["width"], image["height"])
        Image.new("RGB", size).save(tmp_path / "images" / image["file_name"])
    box = {"id": 1, "image_id": 5, "category_id": 1, "bbox": [1, 2, 3, 4]}
    content = {"images": images, "categories": [{"id": 1, "name": "ant"}]}
    scored = {
        **content,
        "info": {"image_root": str(tmp_path / "images")},
        "annotations": [{**box, "score": 0.75, "teacher": "T"}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(scored))
    truth = {**content, "images": images[:1], "annotations": [box]}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    return tmp_path


def _run(folder, *options: str) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    run(parser.parse_args(["--pseudo", str(folder / "boxes.json"), *options]))


def test_the_page_is_beside_the_file(folder, capsys):
    _run(folder)
    assert (folder / "boxes.html").is_file()
    assert capsys.readouterr().out == f"images: 2 of 2, boxes: 1\npage: {folder}/boxes.html\n"


@pytest.mark.parametrize(
    ("output", "page"),
    [("new/page.html", "new/page.html"), ("new/folder", "new/folder/boxes.html")],
)
def test_the_page_is_a_file_or_in_a_folder(folder, output, page):
    _run(folder, "--output", str(folder / output))
    assert (folder / page).is_file()


def test_labels_come_from_a_file(folder, capsys):
    _run(folder, "--labels", str(folder / "truth.json"), "--first", "--num-images", "1")
    assert "images: 1 of 2, boxes: 1, labels: 1\n" in capsys.readouterr().out


def test_a_moved_folder_and_missing_images_are_told(folder, capsys):
    moved = folder / "images" / "moved"
    moved.mkdir()
    (folder / "images" / "0.png").rename(moved / "0.png")
    _run(folder, "--image-root", str(moved), "--embed")
    assert f"images missing in {moved}: 1 " in capsys.readouterr().out
    assert "data:image/png;base64," in (folder / "boxes.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num-images", "0"], "--num-images is 0"),
        (["--seed", "-1"], "--seed is -1"),
        (["--score-threshold", "1.5"], "--score-threshold is 1.5"),
        (["--score-threshold", "nan"], "--score-threshold is nan"),
        (["--labels", "no_such_dataset"], "no_such_dataset"),
    ],
)
def test_bad_options_are_refused_by_name(folder, options, message):
    with pytest.raises(ValueError, match=message):
        _run(folder, *options)


def test_a_folder_without_the_images_is_refused(folder):
    with pytest.raises(FileNotFoundError, match="--image-root"):
        _run(folder, "--image-root", str(folder))


def test_the_images_of_a_file_are_relative_to_it(folder, monkeypatch, capsys):
    content = json.loads((folder / "boxes.json").read_text())
    content["info"]["image_root"] = "images"
    (folder / "boxes.json").write_text(json.dumps(content))
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    _run(folder)
    assert "missing" not in capsys.readouterr().out
