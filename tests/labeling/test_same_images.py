from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers.teacher_files import IMAGES, box, pseudo_file, rows_of
from PIL import Image

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import HUMAN
from distill.labeling.calibration import calibrate
from distill.labeling.complete import complete
from distill.labeling.merge import merge
from distill.labeling.pool import TeacherInput
from distill.labeling.same_images import align_images, match_images

_NAMES = ("A.json", "B.json")


def _changed(**fields) -> list[dict]:
    return [{**IMAGES[0], **fields}, *IMAGES[1:]]


def test_images_are_found_by_their_ids():
    first, second = pseudo_file("A", ["ant"]), pseudo_file("B", ["ant"], images=IMAGES[:0:-1])
    assert align_images(first, second, _NAMES).tolist() == [-1, 1, 0]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"file_name": "9.png"}, "The image 1 is 1.png in one file of labels and 9.png"),
        ({"width": 100}, "image 1 has 200x100 pixels in one and 100x100 in the other"),
    ],
)
def test_another_image_of_the_same_id_is_refused(fields, reason):
    second = pseudo_file("B", ["ant"], images=_changed(**fields))
    with pytest.raises(ValueError, match="A.json and B.json are not of the same images") as error:
        align_images(pseudo_file("A", ["ant"]), second, _NAMES)
    assert reason in str(error.value)


def test_images_of_the_same_names_in_another_folder_are_refused():
    first = pseudo_file("A", ["ant"], image_root="/data/train")
    second = pseudo_file("B", ["ant"], image_root="/data/test")
    with pytest.raises(ValueError, match="image 1 is /data/train/1.png in one and /data/test/1"):
        align_images(first, second, _NAMES)


@pytest.mark.parametrize(
    "info",
    [
        {"image_root": "/data/train"},
        {"image_root": "/copy/train", "dataset": "train"},
        {"image_root": ""},
    ],
)
def test_a_dataset_may_have_moved_and_a_folder_be_unknown(info):
    first = pseudo_file("A", ["ant"], image_root="/data/train", dataset="train")
    second = pseudo_file("B", ["ant"], **info)
    assert align_images(first, second, _NAMES).tolist() == [0, 1, 2]


def test_a_folder_may_be_part_of_the_names():
    images = [{**x, "file_name": f"train/{x['file_name']}"} for x in IMAGES]
    first = pseudo_file("A", ["ant"], image_root="/data/train")
    second = pseudo_file("B", ["ant"], images=images, image_root="/data")
    assert align_images(first, second, _NAMES).tolist() == [0, 1, 2]


def test_images_are_found_by_id_in_any_folder():
    inside = [{**x, "file_name": f"val/{x['file_name']}"} for x in IMAGES[:2]]
    first, second = pseudo_file("A", ["ant"]), pseudo_file("B", ["ant"], images=inside)
    assert match_images(first, second).tolist() == [0, 1, -1]
    assert match_images(second, first).tolist() == [0, 1]


def _in(folder: Path, *names: str, first_id: int = 1, seeds: Sequence[int] = ()) -> PseudoFile:
    """A file of labels of noise in a folder, numbered on from an id."""
    images = []
    for number, name in enumerate(names):
        seed = seeds[number] if seeds else sum(name.encode())
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        images.append({"id": first_id + number, "file_name": name, "width": 9, "height": 8})
    return pseudo_file("A", ["ant"], images=images, image_root=str(folder))


def test_images_of_a_folder_are_those_of_a_dataset_by_their_names(tmp_path: Path) -> None:
    folder = _in(tmp_path, "a.png", "b.png", "c.png", "d.png")
    # The ids 2 and 3 stand for other images in the folder.
    dataset = _in(tmp_path, "d.png", "a.png", "c.png", first_id=2)
    assert match_images(dataset, folder).tolist() == [3, 0, 2]
    assert align_images(folder, dataset, _NAMES).tolist() == [1, -1, 2, 0]


def test_images_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folder = _in(tmp_path, "x/1.png", "y/1.png", "y/2.png")
    dataset = _in(tmp_path / "y", "2.png", "1.png", first_id=1)
    assert match_images(dataset, folder).tolist() == [2, 1]
    assert match_images(folder, dataset).tolist() == [-1, 1, 0]


def test_copies_are_the_same_images_under_any_name(tmp_path: Path) -> None:
    folder = _in(tmp_path / "a", "1.png", "2.png", "3.png", "4.png", seeds=(1, 2, 3, 4))
    dataset = _in(tmp_path / "b", "x.png", "3.png", "4.png", first_id=7, seeds=(2, 3, 9))
    # 4.png is another image there.
    assert align_images(dataset, folder, _NAMES).tolist() == [1, 2, -1]


def test_equal_names_are_enough_where_files_are_elsewhere() -> None:
    other = [{**x, "id": f"image {x['id']}"} for x in reversed(IMAGES)]
    second = pseudo_file("B", ["ant"], images=other, image_root="/data/train")
    assert match_images(pseudo_file("A", ["ant"]), second).tolist() == [2, 1, 0]
    other[0] = {**other[0], "width": 100}
    assert match_images(pseudo_file("A", ["ant"]), second).tolist() == [2, 1, -1]


def test_what_could_be_several_images_is_refused(tmp_path: Path) -> None:
    elsewhere = [{**IMAGES[0], "id": 8 + i, "file_name": f"{x}/1.png"} for i, x in enumerate("xy")]
    second = pseudo_file("B", ["ant"], images=elsewhere)
    with pytest.raises(ValueError, match="image 1.png of one .* may be x/1.png or y/1.png of the"):
        match_images(pseudo_file("A", ["ant"]), second)
    copies = _in(tmp_path / "a", "1.png", "2.png", seeds=(1, 1))
    other = _in(tmp_path / "b", "x.png", first_id=7, seeds=(1,))
    with pytest.raises(ValueError, match="1.png or 2.png of one .* and x.png .* same content"):
        match_images(copies, other)


def test_boxes_of_a_folder_are_calibrated_completed_and_merged_with_a_dataset(
    tmp_path: Path,
) -> None:
    folder, dataset = _in(tmp_path, "a.png", "b.png"), _in(tmp_path, "b.png", "a.png", first_id=5)
    found = pseudo_file(
        "T",
        ["ant", "bee"],
        *((0, box(0), 0.9, "ant"), (1, box(20), 0.8, "ant"), (1, box(60), 0.7, "bee")),
        images=folder.images,
        **folder.info,
    )
    truth = pseudo_file(
        HUMAN,
        ["ant"],
        *((0, box(20), 1.0, "ant"), (1, box(0), 1.0, "ant")),
        images=dataset.images,
        image_root=dataset.info["image_root"],
    )
    assert calibrate(found, truth, min_boxes=1, min_kept=0).total.precision == 1
    completed = complete(truth, TeacherInput("T.json", found)).file
    assert [(x[0], x[1][0], x[3]) for x in rows_of(completed)] == [
        *((0, 20.0, "ant"), (0, 60.0, "bee"), (1, 0.0, "ant"))
    ]
    merged = merge([TeacherInput("T.json", found), TeacherInput("H.json", truth)])
    names = [x["file_name"] for x in merged.file.images]
    together = {(names[x[0]], x[1][0], x[4]) for x in rows_of(merged.file)}
    assert together == {
        *(("a.png", 0.0, f"T+{HUMAN}"), ("b.png", 20.0, f"T+{HUMAN}"), ("b.png", 60.0, "T"))
    }
