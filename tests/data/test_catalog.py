"""Registered COCO files are read by the one reader, whoever registered them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json, register_coco_instances
from helpers.coco_files import coco, write_coco

from distill.data import check_datasets
from distill.data.catalog import use_one_reader

_NAME = "catalog_test"


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A file that pycocotools can't read."""
    yield write_coco(tmp_path / "labels.json", coco(), "utf-16")
    for catalog in (DatasetCatalog, MetadataCatalog):
        if _NAME in catalog.list():
            catalog.remove(_NAME)


def _by_detectron2(path: Path) -> None:
    register_coco_instances(_NAME, {}, str(path), str(path.parent))


def _by_a_function(path: Path) -> None:
    def read(file: str = str(path)) -> list[dict]:
        return load_coco_json(file, str(path.parent), _NAME)[:1] * 2

    DatasetCatalog.register(_NAME, read)


def _by_a_partial(path: Path) -> None:
    read = functools.partial(load_coco_json, str(path), str(path.parent), dataset_name=_NAME)
    DatasetCatalog.register(_NAME, read)


def _by_a_closure(path: Path) -> None:
    reader = load_coco_json
    DatasetCatalog.register(_NAME, lambda: reader(str(path), str(path.parent), _NAME))


@pytest.mark.parametrize("register", [_by_detectron2, _by_a_function, _by_a_partial, _by_a_closure])
def test_a_registered_file_is_read_by_the_one_reader(path, register: Callable[[Path], None]):
    register(path)
    use_one_reader(_NAME)
    use_one_reader(_NAME)
    records = DatasetCatalog.get(_NAME)
    assert len(records) == 2 and records[0]["annotations"][1]["category_id"] == 1
    assert MetadataCatalog.get(_NAME).thing_classes == ["ant", "bee"]


def test_other_datasets_stay_as_they_are(path):
    read = list
    DatasetCatalog.register(_NAME, read)
    use_one_reader(_NAME)
    assert DatasetCatalog[_NAME] is read
    use_one_reader("catalog_test_that_nobody_registered")


def test_a_check_reads_a_registered_file_and_tells_its_classes(path):
    _by_detectron2(path)
    check_datasets((_NAME,))
    assert MetadataCatalog.get(_NAME).thing_classes == ["ant", "bee"]
    bad = coco()
    bad["annotations"][0]["bbox"] = [1, 2, 3]
    write_coco(path, bad)
    with pytest.raises(ValueError, match="labels.json: box 1 has the bbox"):
        check_datasets((_NAME,))
