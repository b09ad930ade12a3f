"""COCO's unlabeled images are registered where Detectron2 looks for COCO."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from distill.data import check_datasets
from distill.data.coco import UNLABELED

LIST = """
import distill
from detectron2.data import DatasetCatalog, MetadataCatalog
records = DatasetCatalog.get("coco_2017_unlabeled")
print(len(records), records[0]["file_name"], records[0]["annotations"])
print(len(MetadataCatalog.get("coco_2017_unlabeled").thing_classes))
"""


def test_its_classes_are_those_of_training() -> None:
    own, train = (MetadataCatalog.get(x) for x in (UNLABELED, "coco_2017_train"))
    assert UNLABELED in DatasetCatalog.list()
    assert own.thing_classes == train.thing_classes and len(own.thing_classes) == 80


def test_missing_files_are_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"DATASETS.UNLABELED has coco_2017_unlabeled, but"):
        check_datasets((UNLABELED,), key="DATASETS.UNLABELED")


def test_images_are_listed_without_annotations(tmp_path: Path) -> None:
    folder = tmp_path / "coco" / "annotations"
    folder.mkdir(parents=True)
    metadata = MetadataCatalog.get("coco_2017_train")
    ids = metadata.thing_dataset_id_to_contiguous_id
    categories = [{"id": i, "name": metadata.thing_classes[n]} for i, n in ids.items()]
    image = {"id": 7, "file_name": "000000000007.jpg", "height": 4, "width": 6}
    (folder / "image_info_unlabeled2017.json").write_text(
        json.dumps({"images": [image], "categories": categories})
    )
    environment = {**os.environ, "DETECTRON2_DATASETS": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", "-c", LIST]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    path = tmp_path / "coco" / "unlabeled2017" / "000000000007.jpg"
    assert output.stdout.splitlines()[-2:] == [f"1 {path} []", "80"]
