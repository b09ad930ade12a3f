"""Files that are made of others keep all that these say: split and complete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pseudo_label
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from helpers import tiny
from helpers.teacher_files import pseudo_file
from PIL import Image

from distill.checks import check_config
from distill.data.builtin import check_datasets
from distill.data.loader import build_mapper
from distill.data.pseudo.file import PseudoFile
from distill.data.records import training_records

_SQUARE = [[4.0, 4.0, 40.0, 4.0, 40.0, 36.0, 4.0, 36.0]]
_RLE = {"size": [48, 64], "counts": [0, 48 * 64]}
# Ids of every kind, an image without a box, a crowd, and whatever an exporter adds.
_LABELS: dict[str, Any] = {
    "info": {"description": "Mine", "version": "3", "contributor": "somebody"},
    "licenses": [{"id": 2, "name": "CC"}],
    "images": [
        {"id": 10, "file_name": "a.png", "width": 64, "height": 48, "license": 2},
        {"id": "b", "file_name": "b.png", "width": 64, "height": 48, "flickr_url": "x"},
        {"id": 0, "file_name": "c.png", "width": 64, "height": 48},
    ],
    "annotations": [
        {
            "id": 2**60,
            "image_id": "b",
            "category_id": 3,
            "bbox": [4.0, 4.0, 36.0, 32.0],
            "area": 1152.0,
            "iscrowd": 0,
            "segmentation": _SQUARE,
            "keypoints": [10, 10, 2],
            "num_keypoints": 1,
            "track": {"name": "t"},
        },
        {
            "id": 0,
            "image_id": 10,
            "category_id": 8,
            "bbox": [4.125, 4.0, 36.0, 32.0],
            "area": 1000,
            "iscrowd": 0,
            "segmentation": _SQUARE,
            "keypoints": [10, 10, 2],
        },
        {
            "id": 7,
            "image_id": 10,
            "category_id": 3,
            "bbox": [0.0, 0.0, 64.0, 48.0],
            "area": 3072,
            "iscrowd": 1,
            "segmentation": _RLE,
        },
    ],
    "categories": [
        {"id": 3, "name": "ant", "supercategory": "insect", "keypoints": ["head"]},
        {"id": 8, "name": "cow", "supercategory": "mammal", "skeleton": []},
    ],
}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """labels.json beside its images; the place where one works."""
    monkeypatch.chdir(tmp_path)
    Path("labels.json").write_text(json.dumps(_LABELS))
    for number, image in enumerate(_LABELS["images"]):
        pixels = np.random.default_rng(number).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(image["file_name"])


def _run(command: str) -> dict[str, Any]:
    """What a command wrote as its last option says."""
    pseudo_label.main(command.split())
    return json.loads(Path(command.split()[-1]).read_text())


def _split(labels: str = "labels.json") -> dict[str, Any]:
    pseudo_label.main(["split", "--labels", labels, "--percent", "100", "--output", "out"])
    (path,) = Path("out").iterdir()
    return json.loads(path.read_text())


def test_a_split_keeps_all_that_its_labels_say(tmp_path: Path) -> None:
    made = _split()
    # The images lie beside the labels, and the split elsewhere.
    assert made["info"]["image_root"] == str(tmp_path)
    for key in ("licenses", "images", "annotations", "categories"):
        assert made[key] == _LABELS[key]
    assert made["info"].items() >= _LABELS["info"].items()
    assert made["info"]["percent"] == 100 and made["info"]["counts"] == {"images": 3, "boxes": 2}


def test_a_split_of_a_split_does_too() -> None:
    first = _split()
    Path("out/labels_100pct_seed0.json").rename("again.json")
    second = _split("again.json")
    assert {**first, "info": {}} == {**second, "info": {}}


def test_a_split_trains_masks_and_crowds_stay_crowds(tmp_path: Path) -> None:
    _split()
    name = str(tmp_path / "out" / "labels_100pct_seed0.json")
    cfg = tiny.rcnn_cfg(MODEL__MASK_ON=True, DATASETS__TRAIN=(name,), DATASETS__TEST=())
    check_datasets([name])
    records = training_records(cfg)
    assert [x["iscrowd"] for r in records for x in r["annotations"]].count(1) == 1
    mapper = build_mapper(cfg, is_train=True)
    losses = tiny.step(tiny.build(cfg), [mapper(record) for record in records])
    assert losses["loss_mask"].item() > 0 and torch.isfinite(losses["loss_mask"])


def _complete() -> dict[str, Any]:
    rows = [(0, [1.0, 40.0, 9.0, 47.0], 0.9, "bee"), (1, [50.0, 1.0, 60.0, 9.0], 0.8, "bee")]
    images = _LABELS["images"]
    pseudo_file("T", ["bee"], *rows, images=images).save("pseudo.json")
    return _run("complete --labels labels.json --pseudo pseudo.json --output completed.json")


def test_completed_labels_keep_all_and_the_others_get_free_ids(capsys) -> None:
    made = _complete()
    assert made["annotations"][:3] == _LABELS["annotations"]
    assert [(x["id"], x["image_id"]) for x in made["annotations"][3:]] == [
        (2**60 + 1, 10),
        (2**60 + 2, "b"),
    ]
    # By name, with the ids that the labels have; 4 is free between 3 and 8.
    first, second = _LABELS["categories"]
    assert made["categories"] == [first, {"id": 4, "name": "bee"}, second]
    assert {x["category_id"] for x in made["annotations"][3:]} == {4}
    assert made["images"] == _LABELS["images"] and made["licenses"] == _LABELS["licenses"]
    assert made["info"].items() >= _LABELS["info"].items()
    said = capsys.readouterr().out
    assert "Labels keep their segmentation and keypoints, and pseudo labels have none" in said


def test_masks_are_not_trained_where_pseudo_labels_have_none(tmp_path: Path) -> None:
    _complete()
    cfg = tiny.changed(
        tiny.rcnn_cfg(),
        MODEL__MASK_ON=True,
        DATASETS__TRAIN=("completed.json",),
        DATASETS__TEST=(),
    )
    with pytest.raises(ValueError, match=r"MODEL.MASK_ON is True, but completed.json has 2 pseudo"):
        check_config(cfg)


def test_what_a_merge_leaves_out_is_said(capsys) -> None:
    made = _run("merge labels.json --output merged.json")
    assert len(made["annotations"]) == 2 and made["images"] == _LABELS["images"]
    said = capsys.readouterr().out
    assert "crowds (1), keypoints (2), licenses (1), num_keypoints (1), segmentation (3)" in said


def test_records_of_a_registered_dataset_keep_what_they_have() -> None:
    box = {"bbox": [4, 4, 40, 36], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1}
    more = {"segmentation": {"size": [48, 64], "counts": b"0"}, "keypoints": [10.5, 10.5, 2]}
    record = {"file_name": str(Path("a.png").absolute()), "image_id": "x", "width": 64}
    record |= {"height": 48, "annotations": [{**box, **more, "difficult": np.bool_(True)}]}
    DatasetCatalog.register("kept_test", lambda: [record])
    try:
        MetadataCatalog.get("kept_test").set(
            thing_classes=["ant", "bee"], keypoint_names=["head"], evaluator_type="pascal_voc"
        )
        made = _split("kept_test")
    finally:
        DatasetCatalog.remove("kept_test")
        MetadataCatalog.remove("kept_test")
    (annotation,) = made["annotations"]
    assert annotation == {
        "id": 1,
        "image_id": "x",
        "category_id": 2,
        "bbox": [4, 4, 36, 32],
        "area": 1152,
        "iscrowd": 0,
        "segmentation": {"size": [48, 64], "counts": "0"},
        "keypoints": [10, 10, 2],
        "difficult": True,
    }
    assert made["categories"][1] == {"id": 2, "name": "bee", "keypoints": ["head"]}


def test_crowds_survive_a_file_of_arrays(tmp_path: Path) -> None:
    file = PseudoFile.load("labels.json").boxes_only()
    file.save("boxes.json")
    again = PseudoFile.load("boxes.json")
    assert again.crowds.boxes.tolist() == file.crowds.boxes.tolist() == [[0, 0, 64, 48]]
    assert len(again.labels) == 2
