from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import HUMAN, PseudoLabels
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


def _coco(**changes: Any) -> dict[str, Any]:
    """Plain COCO labels of two images."""
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 40, "height": 30, "license": 2},
            {"id": 2, "file_name": "b.png", "width": 40, "height": 30},
        ],
        "categories": [{"id": 4, "name": "ant"}, {"id": 9, "name": "bee"}],
        "annotations": [
            {"id": 1, "image_id": 2, "category_id": 9, "bbox": [1, 2, 3, 4], "area": 12},
            {"id": 2, "image_id": 1, "category_id": 4, "bbox": [5, 6, 7, 8], "iscrowd": 0},
        ],
    }
    return {**content, **changes}


def _write(folder: Path, content: Any) -> Path:
    path = folder / "labels.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


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


def test_generators_are_written_as_lists_are(tmp_path):
    rows = np.array([[0, 0, 2, 3, 0.5, 0], [1, 1, 2, 2, 1, 1]])
    boxes = list(annotations((7, 3), rows, itertools.repeat("ssd")))
    write_pseudo_file(tmp_path / "a.json", {}, _IMAGES, ("x", "y"), boxes)
    write_pseudo_file(tmp_path / "b.json", {}, (x for x in _IMAGES), ("x", "y"), iter(boxes))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


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


def test_plain_coco_labels_are_human_and_certain(tmp_path):
    file = PseudoFile.load(_write(tmp_path, _coco()))
    assert file.teachers == (HUMAN,)
    assert file.info == {"image_root": "", "dataset": None}
    # In the order of the images, with the classes by place and corners for sizes.
    assert file.labels.image.tolist() == [0, 1]
    assert file.labels.classes.tolist() == [0, 1]
    assert file.labels.boxes.tolist() == [[5, 6, 12, 14], [1, 2, 4, 6]]
    assert file.labels.scores.tolist() == [1, 1]
    assert file.images[0] == {"id": 1, "file_name": "a.png", "width": 40, "height": 30}


def test_crowds_are_kept_apart(tmp_path):
    content = _coco()
    content["annotations"][0]["iscrowd"] = 1
    path = _write(tmp_path, content)
    file = PseudoFile.load(path)
    assert file.labels.classes.tolist() == [0]
    assert file.crowds.classes.tolist() == [1]


def test_some_images_or_classes_keep_their_boxes(tmp_path):
    file = PseudoFile.load(_write(tmp_path, _coco()))
    (image,) = file.labels.image[:1]
    part = file.select_images(np.array([image]))
    assert part.images == [file.images[image]] and part.labels.image.tolist() == [0]
    names = ("new", file.class_names[1])
    renamed = file.in_classes(names)
    assert renamed.class_names == names and renamed.images == file.images
    assert renamed.labels.classes.tolist() == [1] * int((file.labels.classes == 1).sum())


def test_boxes_without_an_area_are_kept(tmp_path):
    content = _coco()
    content["annotations"][0]["bbox"] = [1, 2, 0, 4]
    assert PseudoFile.load(_write(tmp_path, content)).labels.boxes[1].tolist() == [1, 2, 1, 6]


def _box(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["annotations"][0].update(changes)


def _image(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["images"][0].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_box(image_id=8), "the image_id 8 of box 1 is not listed"),
        (_box(category_id=1), "the category_id 1 of box 1 is not listed"),
        (_box(bbox=[1, 2, -3, 4]), "box 1 has the bbox .*sizes not negative"),
        (_box(bbox=[1, 2, 3, -0.5]), "box 1 has the bbox .*sizes not negative"),
        (_box(bbox=[1, 2, 3]), "box 1 has the bbox"),
        (_box(bbox=[1, 2, 3, 4, 5]), "box 1 has the bbox"),
        (_box(bbox=[1, 2, math.nan, 4]), "box 1 has the bbox .*finite"),
        (_box(bbox=[math.inf, 2, 3, 4]), "box 1 has the bbox .*finite"),
        (_box(bbox=None), "no COCO file of boxes"),
        (_box(score=math.nan), "box 1 has the score nan"),
        (_box(score=1.5), "box 1 has the score 1.5"),
        (_box(score=-0.1), "box 1 has the score -0.1"),
        (_box(id=2), "id 2 is there twice in its annotations"),
        (_image(id=2), "id 2 is there twice in its images"),
        (_image(width=-40), "image 1 has the size -40 x 30"),
        (_image(height=math.nan), "image 1 has the size 40 x nan"),
        (lambda x: x["categories"][0].update(id=9), "id 9 is there twice in its categories"),
        (lambda x: x["categories"][0].update(name="bee"), "'bee' is there twice in its categories"),
        (lambda x: x["images"][0].pop("file_name"), "'file_name' is missing"),
        (lambda x: x["annotations"][0].pop("bbox"), "'bbox' is missing"),
        (lambda x: x.pop("annotations"), "'annotations' is missing"),
        (lambda x: x.pop("images"), "'images' is missing"),
        (lambda x: x.update(images=3), "no COCO file of boxes"),
    ],
)
def test_bad_content_is_named_in_one_sentence(tmp_path, change, message):
    content = _coco()
    change(content)
    with pytest.raises(ValueError, match=message) as error:
        PseudoFile.load(_write(tmp_path, content))
    assert "labels.json" in str(error.value) and "\n" not in str(error.value)


def test_a_file_cut_short_is_refused_wherever_it_ends(file, tmp_path):
    whole = _saved(file, tmp_path).read_bytes()
    for end in (0, 1, len(whole) // 3, whole.index("蜂".encode()) + 1, len(whole) - 2):
        path = tmp_path / "cut.json"
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"cut\.json is no JSON, or cut short"):
            PseudoFile.load(path)


@pytest.mark.parametrize("content", [[], 3, None, [{"image_id": 1, "bbox": [1, 2, 3, 4]}]])
def test_another_json_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match=r"labels\.json is no COCO file of boxes"):
        PseudoFile.load(_write(tmp_path, content))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json does not exist"):
        PseudoFile.load(tmp_path / "nowhere.json")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        PseudoFile.load(tmp_path)


def _saved(file: PseudoFile, folder: Path) -> Path:
    path = folder / "pseudo.json"
    file.save(path)
    return path


def test_boxes_are_rounded_to_a_hundredth_of_a_pixel_and_five_digits_of_score():
    rows = np.array([[1.234, 2, 4.001, 9.996, 0.1234567, 2]])
    (box,) = annotations(itertools.repeat(5), rows, itertools.repeat("ssd"))
    assert box == {
        "image_id": 5,
        "category_id": 3,
        "bbox": [1.23, 2, 2.77, 8],
        "area": 22.16,
        "iscrowd": 0,
        "score": 0.12346,
        "teacher": "ssd",
    }
    assert list(annotations(itertools.repeat(5), rows[:0], itertools.repeat("ssd"))) == []


def test_a_box_is_written_as_json_writes_it(tmp_path):
    rows = np.array([[0, 0.5, 1e-2, 100_000, 1e-5, 0], [1, 2, 3, 4, 1, 1]])
    rows = np.concatenate([rows, [[0, 0, 1, 1, 0.5, 0]]])
    boxes = list(annotations(("蜂\n", "蜂\n", 1), rows, ('a "b" \\ ü', "ssd", "ssd")))
    write_pseudo_file(tmp_path / "x.json", {}, [], ("a", "b"), boxes)
    lines = (tmp_path / "x.json").read_text(encoding="utf-8").splitlines()[-3:]
    expected = [json.dumps({"id": i, **x}, ensure_ascii=False) for i, x in enumerate(boxes, 1)]
    assert [line.removesuffix(",").removesuffix("]}") for line in lines] == expected
