"""The images of all datasets are looked at before anything is built."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances, register_pascal_voc
from helpers import tiny, tiny_labeling

from distill.checks import check_config
from distill.data import check_datasets
from distill.data.image_check import check_images
from distill.data.loader import build_test_loader

KEYS = ("TRAIN", "TEST", "UNLABELED", "PSEUDO")
NAME = "dataset_of_image_check"


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    return tiny_labeling.write_noise(tmp_path / "images", 4)


def coco(folder: Path, images: list[Path]) -> str:
    """Its file as a dataset; each image has one object, of 60 x 40, 41, ... pixels."""
    content = {
        "images": [
            {"id": i, "file_name": path.name, "width": 60, "height": 39 + i}
            for i, path in enumerate(images, 1)
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [1, 2, 20, 20], "area": 400}
            | {"iscrowd": 0}
            for i in range(1, len(images) + 1)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(("ant", "bee", "cow"), 1)],
    }
    (folder / "coco.json").write_text(json.dumps(content))
    return f"{folder / 'coco.json'}@{folder / 'images'}"


def config(key: str, name: str, **changes: object):
    datasets = {f"DATASETS__{x}": () for x in KEYS}
    return tiny.rcnn_cfg(**{**datasets, f"DATASETS__{key}": (name,), **changes})


def look(cfg) -> None:
    """Looks at the images of a config's files, whatever else is wrong with it."""
    for key in KEYS:
        check_datasets(cfg.DATASETS[key])
    check_images(cfg)


@pytest.fixture
def forget() -> Iterator[None]:
    yield
    DatasetCatalog.pop(NAME, None)
    MetadataCatalog.pop(NAME, None)


@pytest.mark.parametrize("key", KEYS)
def test_missing_images_are_counted_before_training(
    tmp_path: Path, images: list[Path], key: str
) -> None:
    name = coco(tmp_path, images)
    cfg = config(key, name)
    look(cfg)
    for path in images[1:3]:
        path.unlink()
    with pytest.raises(FileNotFoundError) as caught:
        look(cfg)
    assert str(caught.value) == (
        f"2 of 4 images of DATASETS.{key} {tmp_path / 'coco.json'} are missing, {images[1]} among "
        f"them: put them there, write {tmp_path / 'coco.json'}@FOLDER, or set "
        "DATALOADER.SKIP_UNREADABLE to True to go on without them"
    )


@pytest.mark.parametrize("key", KEYS)
def test_each_kind_of_damage_is_in_the_sentence(
    tmp_path: Path, images: list[Path], key: str
) -> None:
    name = coco(tmp_path, images)
    images[0].write_text("no image")
    images[1].write_bytes(images[3].read_bytes())
    with pytest.raises(ValueError) as caught:
        look(config(key, name))
    assert str(caught.value) == (
        f"1 of 4 images of DATASETS.{key} {tmp_path / 'coco.json'} are damaged, {images[0]} (it is "
        "no image, or of a format that Pillow does not read) among them, and 1 are of another "
        f"size than their record says, {images[1]} (it has 60x43 pixels, but its record says "
        "60x41) among them: replace or remove them, or set DATALOADER.SKIP_UNREADABLE to True to "
        "go on without them"
    )


@pytest.mark.parametrize("key", ["TRAIN", "TEST", "UNLABELED"])
def test_a_dataset_of_any_function_is_looked_at(images: list[Path], key: str, forget: None) -> None:
    DatasetCatalog.register(NAME, lambda: [{"file_name": str(path)} for path in images])
    check_images(config(key, NAME))
    images[3].unlink()
    sentence = f"1 of 4 images of DATASETS.{key} {NAME} are missing, {images[3]} among them: put"
    with pytest.raises(FileNotFoundError, match=sentence):
        check_images(config(key, NAME))


def test_registered_coco_files_are_looked_at(
    tmp_path: Path, images: list[Path], forget: None
) -> None:
    coco(tmp_path, images)
    places = str(tmp_path / "coco.json"), str(tmp_path / "images")
    register_coco_instances(NAME, {}, *places)
    images[0].unlink()
    with pytest.raises(FileNotFoundError, match=f"1 of 4 images of DATASETS.TEST {NAME} are miss"):
        check_images(config("TEST", NAME), training=False)


def test_pascal_voc_is_looked_at(tmp_path: Path, images: list[Path], forget: None) -> None:
    (tmp_path / "images").rename(tmp_path / "JPEGImages")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "trainval.txt").write_text("0\n1\n")
    for i in range(2):
        (tmp_path / "JPEGImages" / f"{i}.png").rename(tmp_path / "JPEGImages" / f"{i}.jpg")
        size = f"<size><width>60</width><height>{40 + i}</height></size>"
        (tmp_path / "Annotations" / f"{i}.xml").write_text(f"<annotation>{size}</annotation>")
    register_pascal_voc(NAME, str(tmp_path), "trainval", 2007, class_names=("ant",))
    check_images(config("TEST", NAME))
    (tmp_path / "JPEGImages" / "1.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="1 of 2 images .*1.jpg among them"):
        check_images(config("TEST", NAME))


def test_an_image_that_no_training_draws_may_be_missing(images: list[Path], forget: None) -> None:
    one = {"bbox": [0, 0, 9, 9], "bbox_mode": 0, "category_id": 0}
    boxes = [[one], [], [{**one, "iscrowd": 1}], [one]]
    records = [{"file_name": str(x), "annotations": y} for x, y in zip(images, boxes, strict=True)]
    DatasetCatalog.register(NAME, lambda: records)
    images[1].unlink()
    images[2].unlink()
    check_images(config("TRAIN", NAME))
    with pytest.raises(FileNotFoundError, match="2 of 4 images"):
        check_images(config("TRAIN", NAME, DATALOADER__FILTER_EMPTY_ANNOTATIONS=False))


def test_a_config_says_how_closely_to_look(tmp_path: Path, images: list[Path]) -> None:
    name = coco(tmp_path, images)
    images[2].write_bytes(images[2].read_bytes()[:3000])
    look(config("TRAIN", name))
    cfg = config("TRAIN", name, DATALOADER__CHECK_IMAGES="decode")
    with pytest.raises(ValueError, match=r"1 of 4 images .* are damaged, .*2.png \(.*truncated"):
        look(cfg)
    images[1].unlink()
    look(config("TRAIN", name, DATALOADER__CHECK_IMAGES="none"))
    look(config("TRAIN", name, DATALOADER__SKIP_UNREADABLE=True))


def test_an_evaluation_does_not_ask_for_training_images(tmp_path: Path, images: list[Path]) -> None:
    name = coco(tmp_path, images)
    images[1].unlink()
    with pytest.raises(FileNotFoundError, match="1 of 4 images of DATASETS.TRAIN"):
        check_config(config("TRAIN", name))
    check_config(config("TRAIN", name), training=False)


def test_a_test_dataset_without_images_is_refused_before_training(forget: None) -> None:
    DatasetCatalog.register(NAME, list)
    cfg, sentence = config("TEST", NAME), f"DATASETS.TEST has {NAME}, which holds no image"
    with pytest.raises(ValueError, match=sentence):
        check_images(cfg)
    with pytest.raises(ValueError, match=sentence):
        build_test_loader(cfg, NAME)
