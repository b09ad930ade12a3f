"""True labels are the dataset's own or those that its metadata hides, in the classes asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from distill.labeling.truth import true_annotations

NAME = "has_truth"
BOX = {"bbox": [1, 2, 3, 4], "bbox_mode": BoxMode.XYWH_ABS}


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    MetadataCatalog.get(NAME).thing_classes = ["ant", "bee"]
    yield
    for catalog in (MetadataCatalog, DatasetCatalog):
        if NAME in catalog.list():
            catalog.remove(NAME)


def test_own_annotations_come_in_the_wanted_classes() -> None:
    found = [{**BOX, "category_id": 0}, {**BOX, "category_id": 1}]
    records = [{"annotations": found}, {}]
    assert true_annotations(NAME, records, ()) == [found, []]
    assert true_annotations(NAME, records, ("cow", "bee", "ant")) == [
        [{**BOX, "category_id": 2}, {**BOX, "category_id": 1}],
        [],
    ]
    assert true_annotations(NAME, records, ("bee",)) == [[{**BOX, "category_id": 0}], []]


def test_without_any_annotation_nothing_is_known() -> None:
    assert true_annotations(NAME, [{"annotations": []}, {}], ("ant",)) is None


def test_hidden_labels_are_matched_by_the_images_ids(tmp_path: Path) -> None:
    sizes = {"width": 9, "height": 9}
    box = {"bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", **sizes} for i in (3, 5)],
        "categories": [{"id": 1, "name": "ant"}, {"id": 2, "name": "bee"}],
        "annotations": [{**box, "id": 1, "image_id": 5, "category_id": 2}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(content))
    MetadataCatalog.get(NAME).set(
        labels_json=str(tmp_path / "labels.json"), image_root=str(tmp_path)
    )
    records = [{"image_id": i, "annotations": []} for i in (5, 3, 4)]
    (first, *others) = true_annotations(NAME, records, ("bee",))
    assert [(x["category_id"], x["bbox"]) for x in first] == [(0, [1, 2, 3, 4])]
    assert others == [[], []]
