from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from helpers.three_images import RECORDS, three_boxes
from PIL import Image

from distill.config import add_distill_config
from distill.data.pseudo.config import check_pseudo_config
from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import PseudoLabels
from distill.data.pseudo.records import load_pseudo_records, pseudo_records
from distill.data.pseudo.thresholds import Thresholds

_SCORES = [0.9, 0.4, 0.6, 0.2]


def _file(folder: Path, names: tuple[str, ...] = ("ant", "bee")) -> str:
    """Images 7, 8 and 9; the first has an ant .4 and a bee .9, the second a bee .6 and .2."""
    for name in "abc":
        Image.new("RGB", (30, 20)).save(folder / f"{name}.png")
    images = [
        {"id": 7 + i, "file_name": f"{name}.png", "width": 30, "height": 20}
        for i, name in enumerate("abc")
    ]
    boxes = np.array([[1, 2, 5, 9], [0, 0, 30, 20], [3, 4, 6, 8], [3, 4, 9, 9]], float)
    columns = (np.array([0, 0, 1, 1]), boxes, np.array(_SCORES), np.array([1, 0, 1, 1]))
    info = {"image_root": ".", "dataset": None}
    labels = PseudoLabels(*columns, np.zeros(4, int))
    PseudoFile(info, images, names, ("t",), labels).save(folder / "p.json")
    return str(folder / "p.json")


def _config(**pseudo: object) -> CfgNode:
    cfg = get_cfg()
    add_distill_config(cfg)
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    cfg.MODEL.MASK_ON = False
    for key, value in pseudo.items():
        cfg.DISTILL.PSEUDO[key] = value
    return cfg


def _boxes(records: list[dict]) -> list[tuple]:
    return [
        (x["image_id"], tuple(a["bbox"]), a["category_id"], a.get("ignore", False))
        for x in records
        for a in x["annotations"]
    ]


def test_boxes_above_the_threshold_become_annotations(tmp_path):
    records = load_pseudo_records(_config(), _file(tmp_path))
    assert _boxes(records) == [(7, (1, 2, 5, 9), 1, False), (8, (3, 4, 6, 8), 1, False)]
    assert records[0]["file_name"] == str(tmp_path / "a.png")
    assert records[0]["height"] == 20 and records[0]["width"] == 30
    assert records[0]["annotations"][0]["bbox_mode"] == BoxMode.XYXY_ABS
    assert "score" not in records[0]["annotations"][0]


def test_images_without_boxes_are_kept_if_the_config_says_so(tmp_path):
    records = load_pseudo_records(_config(KEEP_EMPTY=True, SCORE_THRESHOLD=0.7), _file(tmp_path))
    assert [(x["image_id"], len(x["annotations"])) for x in records] == [(7, 1), (8, 0), (9, 0)]


def test_boxes_between_the_thresholds_are_ignored(tmp_path):
    records = load_pseudo_records(_config(IGNORE_THRESHOLD=0.3), _file(tmp_path))
    assert _boxes(records) == [
        (7, (1, 2, 5, 9), 1, False),
        (7, (0, 0, 30, 20), 0, True),
        (8, (3, 4, 6, 8), 1, False),
    ]


def test_an_image_of_ignored_boxes_alone_has_no_box(tmp_path):
    name = _file(tmp_path)
    cfg = _config(IGNORE_THRESHOLD=0.1, SCORE_THRESHOLD=0.7)
    assert [x["image_id"] for x in load_pseudo_records(cfg, name)] == [7]
    cfg.DISTILL.PSEUDO.KEEP_EMPTY = True
    assert _boxes(load_pseudo_records(cfg, name))[2:] == [
        (8, (3, 4, 6, 8), 1, True),
        (8, (3, 4, 9, 9), 1, True),
    ]


def test_a_file_of_thresholds_has_one_per_class(tmp_path):
    name = _file(tmp_path)
    Thresholds(0.5, {"ant": 0.3, "bee": 0.8}).save(tmp_path / "t.json")
    cfg = _config(THRESHOLDS=str(tmp_path / "t.json"))
    assert [x[1:3] for x in _boxes(load_pseudo_records(cfg, name))] == [
        ((1, 2, 5, 9), 1),
        ((0, 0, 30, 20), 0),
    ]
    cfg.DISTILL.PSEUDO.IGNORE_THRESHOLD = 0.4
    with pytest.raises(ValueError, match="IGNORE_THRESHOLD 0.4 is above the threshold of ant"):
        load_pseudo_records(cfg, name)


def test_thresholds_of_another_teacher_or_none_are_refused(tmp_path):
    name = _file(tmp_path)
    Thresholds(0.5, {"emu": 0.3}).save(tmp_path / "t.json")
    cfg = _config(THRESHOLDS=str(tmp_path / "t.json"))
    with pytest.raises(ValueError, match=r"DISTILL.PSEUDO.THRESHOLDS .*t.json has .*emu, none"):
        load_pseudo_records(cfg, name)
    (tmp_path / "t.json").write_text("{}")
    cfg.DATASETS.PSEUDO = (name,)
    # Before any file of labels is read.
    with pytest.raises(ValueError, match=r"t.json is no thresholds file"):
        check_pseudo_config(cfg)


def test_classes_are_matched_by_name_with_those_of_the_test_dataset(tmp_path, caplog):
    name = _file(tmp_path)
    cfg = _config(SCORE_THRESHOLD=0.3)
    if "records_insects" not in DatasetCatalog.list():
        DatasetCatalog.register("records_insects", list)
        MetadataCatalog.get("records_insects").thing_classes = ["bee", "wasp"]
    cfg.DATASETS.TEST = ("records_insects",)
    records = load_pseudo_records(cfg, name)
    assert [x[2] for x in _boxes(records)] == [0, 0]
    assert (
        "1 boxes of" in caplog.text and "lacks 1 of the student's 2 classes (wasp)" in caplog.text
    )
    cfg.DISTILL.PSEUDO.CLASSES_OF = name
    assert [x[2] for x in _boxes(load_pseudo_records(cfg, name))] == [1, 0, 1]


def test_a_file_without_any_of_the_student_s_classes_is_refused(tmp_path):
    cfg = _config()
    cfg.DATASETS.TEST = ("digits_test",)
    with pytest.raises(ValueError, match="none of the student's classes.*ant, bee.*--aliases"):
        load_pseudo_records(cfg, _file(tmp_path))


def test_a_threshold_that_nothing_passes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="lower DISTILL.PSEUDO.SCORE_THRESHOLD"):
        load_pseudo_records(_config(SCORE_THRESHOLD=0.95), _file(tmp_path))


def test_missing_images_are_named_before_training(tmp_path):
    name = _file(tmp_path)
    (tmp_path / "b.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 3 images.*b\.png.*@FOLDER"):
        load_pseudo_records(_config(), name)


def test_boxes_become_annotations_and_images_without_are_left_out():
    records = [{**record, "annotations": [{"bbox": "the truth"}]} for record in RECORDS]
    first, third = pseudo_records(records, three_boxes().above(0.5))
    assert first == {
        **RECORDS[0],
        "pseudo": True,
        "annotations": [
            {
                "bbox": [1.0, 2.0, 5.5, 9.25],
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": 1,
                "iscrowd": 0,
            }
        ],
    }
    assert third["image_id"] == 9 and len(third["annotations"]) == 1
