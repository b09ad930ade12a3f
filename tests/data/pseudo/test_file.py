from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import PseudoLabels
from distill.data.pseudo.writing import annotations, write_pseudo_file

_IMAGES = [
    {"id": 7, "file_name": "a.png", "width": 40, "height": 30},
    {"id": 3, "file_name": "über/蜂 1.png", "width": 20, "height": 10},
    {"id": 5, "file_name": "b.png", "width": 1, "height": 1},
]


@pytest.fixture
def file() -> PseudoFile:
    labels = PseudoLabels(
        image=np.array([0, 0, 1]),
        boxes=np.array([[1, 2, 11, 22], [0.126, 0, 3.5, 4.25], [5, 5, 5, 9]]),
        scores=np.array([0.9, 0.1234567, 1.0]),
        classes=np.array([1, 0, 1]),
        teacher=np.array([0, 1, 1]),
    )
    info = {"image_root": "/images", "dataset": None, "score_floor": 0.05}
    return PseudoFile(info, _IMAGES, ("ameise", "蜂"), ("retinanet", "ssd"), labels)


def test_what_is_saved_is_loaded(file, tmp_path):
    path = tmp_path / "new" / "pseudo.json"
    file.save(path)
    again = PseudoFile.load(path)
    assert again.info == file.info
    assert again.images == _IMAGES
    assert again.class_names == file.class_names and again.teachers == file.teachers
    assert again.labels.image.tolist() == [0, 0, 1]
    # Boxes are kept to a hundredth of a pixel, scores to five digits.
    assert again.labels.boxes[0].tolist() == [1, 2, 11, 22]
    assert again.labels.boxes[1].tolist() == pytest.approx([0.13, 0, 3.5, 4.25], abs=1e-9)
    assert again.labels.scores.tolist() == [0.9, 0.12346, 1.0]
    assert again.labels.classes.tolist() == [1, 0, 1]
    assert again.labels.teacher.tolist() == [0, 1, 1]


def test_loading_and_saving_again_leaves_the_bytes(file, tmp_path):
    file.save(tmp_path / "a.json")
    PseudoFile.load(tmp_path / "a.json").save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_coco_reads_it(file, tmp_path):
    content = json.loads(_saved(file, tmp_path).read_bytes())
    assert content["annotations"][0] == {
        "id": 1,
        "image_id": 7,
        "category_id": 2,
        "bbox": [1.0, 2.0, 10.0, 20.0],
        "area": 200.0,
        "iscrowd": 0,
        "score": 0.9,
        "teacher": "retinanet",
    }
    assert content["categories"] == [{"id": 1, "name": "ameise"}, {"id": 2, "name": "蜂"}]


def test_names_stay_readable_in_the_text(file, tmp_path):
    assert "über/蜂 1.png" in _saved(file, tmp_path).read_text(encoding="utf-8")


def test_a_failure_leaves_the_old_file(file, tmp_path):
    path = _saved(file, tmp_path)
    before = path.read_bytes()
    bad, *_ = annotations([7], np.array([[0, 0, 2, math.nan, 0.5, 0]]), ["ssd"])
    with pytest.raises(ValueError, match="JSON compliant"):
        write_pseudo_file(path, {}, _IMAGES, ("x",), [bad])
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_file_without_images_or_boxes_is_one(tmp_path):
    path = tmp_path / "empty.json"
    write_pseudo_file(path, {"image_root": "", "dataset": None}, [], ("x",), [])
    file = PseudoFile.load(path)
    assert file.images == [] and len(file.labels) == 0 and file.labels.boxes.shape == (0, 4)
    file.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_some_images_keep_their_boxes(file):
    part = file.select_images(np.array([1, 2]))
    assert part.images == _IMAGES[1:]
    assert part.labels.image.tolist() == [0] and part.labels.boxes.tolist() == [[5, 5, 5, 9]]


def test_other_classes_are_matched_by_name(file):
    renamed = file.in_classes(("new", "蜂"))
    assert renamed.class_names == ("new", "蜂") and renamed.images == _IMAGES
    assert renamed.labels.classes.tolist() == [1, 1] and renamed.labels.image.tolist() == [0, 1]


def test_a_file_cut_short_is_refused_wherever_it_ends(file, tmp_path):
    whole = _saved(file, tmp_path).read_bytes()
    for end in (0, 1, len(whole) // 3, whole.index("蜂".encode()) + 1, len(whole) - 2):
        path = tmp_path / "cut.json"
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"cut\.json is no JSON, or cut short"):
            PseudoFile.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json does not exist"):
        PseudoFile.load(tmp_path / "nowhere.json")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        PseudoFile.load(tmp_path)


def _saved(file: PseudoFile, folder: Path) -> Path:
    path = folder / "pseudo.json"
    file.save(path)
    return path
