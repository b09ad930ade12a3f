"""One form for what exporters write; a sentence with file and entry for what may mean two."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.coco_files import coco, write_coco

from distill.data.coco_json import CocoFile, forget_large_files, read_coco
from distill.data.coco_json import reading as reading_module

Content = dict[str, Any]
Change = Callable[[Content], Any]


def _read(folder: Path, *changes: Change, **keys: Any) -> CocoFile:
    content = coco(**keys)
    for change in changes:
        change(content)
    return read_coco(write_coco(folder / "labels.json", content))


def _each(kind: str, **values: Any) -> Change:
    """Sets keys of all entries; a value may be a function of the present one."""

    def change(content: Content) -> None:
        for entry in content[kind]:
            for key, value in values.items():
                entry[key] = value(entry.get(key)) if callable(value) else value

    return change


def _first(kind: str, *without: str, **values: Any) -> Change:
    def change(content: Content) -> None:
        content[kind][0].update(values)
        for key in without:
            del content[kind][0][key]

    return change


def _boxes(file: CocoFile) -> list[tuple[str, int, list[float]]]:
    """What training sees: image, class and box."""
    names = {image["id"]: image["file_name"] for image in file.images}
    places = file.class_places()
    found = file.annotations
    return [(names[x["image_id"]], places[x["category_id"]], x["bbox"]) for x in found]


_PLAIN = [
    ("a.png", 0, [3.0, 4.0, 20.0, 22.5]),
    ("a.png", 1, [6.0, 4.0, 20.0, 22.5]),
    ("b.png", 1, [9.0, 4.0, 20.0, 22.5]),
    ("b.png", 0, [12.0, 4.0, 20.0, 22.5]),
]

_SAME = {
    "as written": lambda content: None,
    "categories in another order": lambda content: content["categories"].reverse(),
    "iscrowd null": _each("annotations", iscrowd=None),
    "iscrowd as text": _each("annotations", iscrowd="0"),
    "iscrowd false": _each("annotations", iscrowd=False),
    "iscrowd missing": lambda content: [x.pop("iscrowd") for x in content["annotations"]],
    "category ids of boxes as text": _each("annotations", category_id=str),
    "image ids of boxes as text": _each("annotations", image_id=lambda x: f" {x}.0"),
    "image ids of images as text": _each("images", id=str),
    "category ids as text": _each("categories", id=str),
    "ids as floats": lambda content: [
        _each(kind, id=float)(content) for kind in ("images", "annotations", "categories")
    ],
    "boxes as text": _each("annotations", bbox=lambda box: [str(x) for x in box]),
    "sizes as text": _each("images", width="64", height="48.0"),
    "ids of boxes from 0": _each("annotations", id=lambda x: x - 1),
    "huge ids of boxes": _each("annotations", id=lambda x: x + 2**60),
    "one id for all boxes": _each("annotations", id=7),
    "no ids of boxes": lambda content: [x.pop("id") for x in content["annotations"]],
    "area missing": lambda content: [x.pop("area") for x in content["annotations"]],
    "area as text": _each("annotations", area="450"),
    "area is no number": _each("annotations", area=math.nan),
    "no info": lambda content: content.pop("info"),
    "info as text": lambda content: content.update(info="my data"),
    "a root without boxes": lambda content: (
        content["categories"].insert(0, {"id": 0, "name": "all", "supercategory": "none"}),
        [x.update(supercategory="all") for x in content["categories"][1:]],
    ),
}


@pytest.mark.parametrize("change", _SAME.values(), ids=_SAME)
def test_what_is_meant_unmistakably_is_read_alike(tmp_path, change):
    file = _read(tmp_path, change)
    assert _boxes(file) == _PLAIN
    assert file.class_names == ("ant", "bee")
    assert all(type(image["width"]) is type(image["height"]) is int for image in file.images)
    for box in file.annotations:
        assert type(box["iscrowd"]) is int and box["iscrowd"] == 0 and box["area"] == 450
        assert all(type(x) is float for x in box["bbox"])
    assert len({box["id"] for box in file.annotations}) == 4


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_any_unicode_encoding_is_read(tmp_path, encoding):
    path = write_coco(tmp_path / "labels.json", coco(), encoding)
    assert _boxes(read_coco(path)) == _PLAIN


def test_everything_else_is_kept(tmp_path):
    file = _read(
        tmp_path,
        _first("images", license=2),
        _first("annotations", segmentation=[[1, 2, 3, 4]], score=0.5, attributes={"x": 1}),
        _first("categories", keypoints=["nose"]),
        info={"year": 2017},
        licenses=[{"id": 2}],
    )
    assert file.info == {"year": 2017} and file.rest == {"licenses": [{"id": 2}]}
    assert file.images[0]["license"] == 2 and file.categories[0]["keypoints"] == ["nose"]
    kept = {"segmentation": [[1, 2, 3, 4]], "score": 0.5, "attributes": {"x": 1}}
    assert kept.items() <= file.annotations[0].items()


@pytest.mark.parametrize(
    ("ids", "names"),
    [((10, 2), ("bee", "ant")), (("10", "2"), ("bee", "ant")), (("x", "2"), ("ant", "bee"))],
)
def test_classes_are_in_the_order_of_numbers_else_of_the_file(tmp_path, ids, names):
    def change(content: Content) -> None:
        for category, new in zip(content["categories"], ids, strict=True):
            for box in content["annotations"]:
                box["category_id"] = (
                    new if box["category_id"] == category["id"] else box["category_id"]
                )
            category["id"] = new

    assert _read(tmp_path, change).class_names == names


def test_an_id_that_stands_for_two_is_taken_as_it_is_written(tmp_path):
    images = [{"id": x, "file_name": f"{x!r}", "width": 64, "height": 48} for x in (1, "1")]
    file = _read(
        tmp_path,
        _first("annotations", image_id="1"),
        _each("images"),
        images=images,
        annotations=coco()["annotations"][:2],
    )
    assert [x["image_id"] for x in file.annotations] == ["1", 1]


def test_a_parent_with_boxes_or_a_parent_of_its_own_stays_a_class(tmp_path):
    categories = [
        {"id": 4, "name": "ant", "supercategory": "none"},
        {"id": 9, "name": "bee", "supercategory": "ant"},
    ]
    assert _read(tmp_path, categories=categories).class_names == ("ant", "bee")
    person = [{"id": 4, "name": "ant", "supercategory": "ant"}, categories[1]]
    assert _read(tmp_path, categories=person, annotations=[]).class_names == ("ant", "bee")


def test_file_names_have_forward_slashes(tmp_path):
    file = _read(tmp_path, _first("images", file_name="day 1\\a.png"))
    assert file.images[0]["file_name"] == "day 1/a.png"


def test_what_was_made_plain_is_said_once(tmp_path, caplog):
    file = _read(
        tmp_path, _first("annotations", bbox=[50, 4, 20, 20], area=-1), _each("annotations", id=0)
    )
    text = " ".join(file.notes)
    assert "1 areas that are no number" in text and "numbered anew" in text
    assert "1 of 4 boxes reach beyond their image, 0 of them" in text
    assert _read(tmp_path).notes == ()
    for _ in range(2):
        file.say_notes()
    assert len(caplog.messages) == len(file.notes) == 3
    assert all("labels.json: " in message for message in caplog.messages)


def test_boxes_outside_of_their_images_are_kept_and_counted(tmp_path):
    file = _read(tmp_path, _first("annotations", bbox=[70, 4, 20, 20]))
    assert len(file.annotations) == 4
    assert "1 of them lie outside of it, box 1 of image 1 is the first" in file.notes[0]


def test_boxes_of_images_that_are_not_listed_are_left_out_where_detectron2_does(tmp_path):
    path = write_coco(tmp_path / "labels.json", coco(images=coco()["images"][:1]))
    with pytest.raises(ValueError, match="image_id 2 of box 3 is not listed"):
        read_coco(path)
    file = read_coco(path, keep_unlisted=False)
    assert _boxes(file) == _PLAIN[:2]
    assert file.notes == ("2 boxes of images that are not listed are left out.",)


def test_a_file_without_annotations_is_a_list_of_images(tmp_path):
    file = _read(tmp_path, lambda content: content.pop("annotations"))
    assert len(file.images) == 2 and file.annotations == [] and not file.has_annotations


_REFUSED = {
    "image 'x'": (_first("annotations", image_id="x"), "image_id 'x' of box 1 is not listed"),
    "image list": (_first("annotations", image_id=[1]), r"image_id \[1\] of box 1 is not listed"),
    "category": (_first("annotations", category_id=0), "category_id 0 of box 1 is not listed"),
    "no category": (_first("annotations", "category_id"), "'category_id' is missing in box 1"),
    "no box": (_first("annotations", "bbox"), "'bbox' is missing in box 1"),
    "box text": (_first("annotations", bbox=[1, 2, "x", 4]), "box 1 has the bbox"),
    "box nan": (_first("annotations", bbox=[1, 2, "nan", 4]), "box 1 has the bbox .* finite"),
    "box inf": (_first("annotations", bbox=[1, 2, math.inf, 4]), "box 1 has the bbox .* finite"),
    "box true": (_first("annotations", bbox=[True, 2, 3, 4]), "box 1 has the bbox"),
    "box object": (_first("annotations", bbox={"x": 1}), "box 1 has the bbox"),
    "negative": (_first("annotations", bbox=[1, 2, 3, -4.0]), "sizes not negative"),
    "crowd": (_first("annotations", iscrowd=2), "'iscrowd' is 2 in box 1: write 0 or 1"),
    "ignore": (_first("annotations", ignore=1), "'ignore' is set in box 1"),
    "shares": (_each("annotations", bbox=[0.1, 0.2, 0.3, 0.4]), "all 4 boxes lie between 0 and 1"),
    "panoptic": (_each("annotations", segments_info=[]), "panoptic file, .* instances"),
    "image id": (_first("images", id=1.5), "the id 1.5 is neither .* image number 1, 'a.png'"),
    "no image id": (_first("images", "id"), "'id' is missing in image number 1, 'a.png'"),
    "image twice": (_first("images", id=2), "id 2 is there twice in its images"),
    "no name": (_first("images", "file_name"), "'file_name' is missing in image 1"),
    "no width": (_first("images", "width"), "'width' is missing in image 1"),
    "broken width": (_first("images", width=64.5), "image 1 has the size 64.5 x 48"),
    "category id": (_first("categories", id=None), "the id None is neither .* number 1, 'ant'"),
    "category twice": (_first("categories", id=9), "id 9 is there twice in its categories"),
    "class twice": (_first("categories", name="bee"), "name 'bee' is there twice"),
    "no class name": (_first("categories", "name"), "'name' is missing in category 4"),
    "no images": (lambda x: x.pop("images"), "'images' is missing"),
    "no categories": (lambda x: x.pop("categories"), "'categories' is missing"),
    "no list": (lambda x: x.update(images={}), "its images are {}"),
    "no entry": (lambda x: x["images"].append(3), "number 3 of its images is 3"),
}


@pytest.mark.parametrize(("change", "message"), _REFUSED.values(), ids=_REFUSED)
def test_what_may_mean_anything_is_refused_with_file_and_entry(tmp_path, change, message):
    with pytest.raises(ValueError, match=message) as error:
        _read(tmp_path, change)
    text = str(error.value)
    assert "labels.json" in text and "\n" not in text and text.endswith(".")
    assert text.count(": ") >= 2  # the file, what is wrong, and what to do


def test_a_list_of_detections_is_recognized(tmp_path):
    found = [{"image_id": 1, "category_id": 4, "bbox": [1, 2, 3, 4], "score": 0.5}]
    with pytest.raises(ValueError, match=r"labels\.json .* list of detections.*: make a file with"):
        read_coco(write_coco(tmp_path / "labels.json", found))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"info": {}', '"annotations": []', "the key 'annotations' twice"),
        ('"iscrowd": 0', '"bbox": [1, 1, 1, 1]', "the key 'bbox' twice in one object"),
        ('"iscrowd": 0', '"category_id": 9', "'category_id' twice in one object, with 4 and 9"),
    ],
)
def test_two_values_of_one_key_are_refused(tmp_path, old, new, message):
    path = write_coco(tmp_path / "labels.json", coco())
    text = path.read_text()
    path.write_text(text.replace(old, f"{old}, {new}", 1))
    with pytest.raises(ValueError, match=message):
        read_coco(path)
    path.write_text(text.replace('"iscrowd": 0', '"iscrowd": 0, "iscrowd": 0'))
    assert _boxes(read_coco(path)) == _PLAIN


def test_a_file_is_read_once_until_it_changes(tmp_path, monkeypatch):
    first = _read(tmp_path)
    assert read_coco(first.path) is first and read_coco(str(first.path)) is first
    forget_large_files()
    assert read_coco(first.path) is first
    monkeypatch.setattr(reading_module, "_LARGE", 1)
    forget_large_files()
    assert read_coco(first.path) is not first
    changed = _read(tmp_path, lambda content: content["categories"][0].update(name="wasp"))
    assert changed.class_names == ("wasp", "bee")


def test_memory_of_files_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(reading_module, "_CACHE_SIZE", 1)
    paths = [write_coco(tmp_path / f"{number}.json", coco()) for number in range(2)]
    files = [read_coco(path) for path in paths]
    assert read_coco(paths[1]) is files[1] and read_coco(paths[0]) is not files[0]


def test_whole_numbers_of_boxes_stay_such(tmp_path):
    # Detectron2 rounds them down where it resizes; a run that goes on has to find the same.
    file = _read(tmp_path, _first("annotations", bbox=[1, 2, 3, 4]))
    assert all(type(x) is int for x in file.annotations[0]["bbox"])
    with pytest.raises(ValueError, match="box 1 has the bbox"):
        _read(tmp_path, _first("annotations", bbox=[1, 2, 3, 10**400]))
