"""No teacher labels what evaluations use, by name, by config or by folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from distill.labeling.evaluation_sets import refuse_evaluation_images

NAME = "pictures"


@pytest.fixture(autouse=True)
def _registered(tmp_path: Path) -> Iterator[None]:
    DatasetCatalog.register(NAME, list)
    MetadataCatalog.get(NAME).image_root = str(tmp_path)
    yield
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


@pytest.mark.parametrize(
    "name", ["digits_val", "digits_test", "coco_2017_val", "coco_2014_minival", "voc_2007_test"]
)
def test_evaluation_sets_are_known_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is there to evaluate with.*--force"):
        refuse_evaluation_images(name, None, ())


def test_those_of_the_config_are_refused_too() -> None:
    for name in ("digits_train", "coco_2017_unlabeled", "voc_2007_trainval"):
        refuse_evaluation_images(name, None, ("digits_val",))
        with pytest.raises(ValueError, match=f"{name} is there to evaluate with"):
            refuse_evaluation_images(name, None, (name,))


def test_so_are_their_folders(tmp_path: Path) -> None:
    link = tmp_path.parent / f"{tmp_path.name}-link"
    link.symlink_to(tmp_path)
    for folder in (tmp_path, link):
        refuse_evaluation_images(None, str(folder), ())
        with pytest.raises(ValueError, match="has the images of pictures.*--force"):
            refuse_evaluation_images(None, str(folder), (NAME,))
    refuse_evaluation_images(None, str(tmp_path.parent), (NAME,))
