"""Perfect detections have AP 100, whatever the ids of a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Boxes, BoxMode, Instances
from helpers.coco_files import coco, write_coco

from distill.config import add_distill_config
from distill.data.registration import register_json_dataset
from distill.engine.coco_evaluation import FasterCOCOEvaluator, NormalizedCOCOEvaluator
from distill.engine.evaluation import build_evaluator

_EVALUATORS = (FasterCOCOEvaluator, NormalizedCOCOEvaluator)
Content = dict[str, Any]


def _name(folder: Path, content: Content, name: str = "labels.json") -> str:
    registered = f"{write_coco(folder / name, content)}@{folder}"
    register_json_dataset(registered)
    return registered


def _found(record: dict, classes: Callable[[int], int] = lambda x: x) -> Instances:
    table = torch.tensor([x["bbox"] for x in record["annotations"]]).reshape(-1, 4)
    table[:, 2:] += table[:, :2]
    found = Instances((record["height"], record["width"]))
    found.pred_boxes = Boxes(table)
    found.scores = torch.full((len(table),), 0.9)
    found.pred_classes = torch.tensor([classes(x["category_id"]) for x in record["annotations"]])
    return found


def _evaluate(evaluator: DatasetEvaluator, name: str, **options: Any) -> dict[str, float]:
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        output = {"instances": _found(record, **options)}
        evaluator.process([{"image_id": record["image_id"]}], [output])
    return evaluator.evaluate()["bbox"]


def _ids(content: Content, image: Callable, box: Callable, category: Callable) -> Content:
    for entry in content["images"]:
        entry["id"] = image(entry["id"])
    for entry in content["categories"]:
        entry["id"] = category(entry["id"])
    for entry in content["annotations"]:
        entry["id"] = box(entry["id"])
        entry["image_id"] = image(entry["image_id"])
        entry["category_id"] = category(entry["category_id"])
    return content


def _same(x: int) -> int:
    return x


_KINDS = {
    "boxes from 0": (_same, lambda x: x - 1, _same),
    "text": (lambda x: f"image {x}", str, lambda x: f"class {x}"),
    "text of numbers": (str, str, str),
    "huge": (lambda x: 2**60 + x, lambda x: 2**60 + x, lambda x: 2**60 + x),
    "zero": (lambda x: x - 1, lambda x: x - 1, lambda x: x - 4),
    "negative": (lambda x: -x, lambda x: -x, lambda x: -x),
    "floats": (float, float, float),
    "one id": (_same, lambda x: 1, _same),
}


@pytest.mark.parametrize("kind", _EVALUATORS)
@pytest.mark.parametrize("change", _KINDS.values(), ids=_KINDS)
def test_perfect_boxes_have_ap_100_whatever_the_ids(tmp_path, kind, change):
    name = _name(tmp_path, _ids(coco(), *change))
    found = _evaluate(kind(name, distributed=False, output_dir=str(tmp_path)), name)
    assert found["AP"] == pytest.approx(100) and found["AP-bee"] == pytest.approx(100)
    # What is written has the ids of the file.
    written = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert {x["image_id"] for x in written} == {x["image_id"] for x in DatasetCatalog.get(name)}


def _config(train: str = "") -> CfgNode:
    cfg = get_cfg()
    add_distill_config(cfg)
    cfg.DATASETS.TRAIN = (train,) if train else ()
    return cfg


def _numbered(*names: str, **changes: Any) -> Content:
    """Boxes of ants and bees in a file that numbers its classes from 1 in this order."""
    content = coco(**changes)
    numbers = {name: number for number, name in enumerate(names, start=1)}
    old = {x["id"]: x["name"] for x in content["categories"]}
    content["categories"] = [{"id": number, "name": name} for name, number in numbers.items()]
    for box in content["annotations"]:
        box["category_id"] = numbers[old[box["category_id"]]]
    return content


def test_each_class_gets_its_own_ap_where_the_test_file_numbers_them_otherwise(tmp_path):
    train = _name(tmp_path, _numbered("ant", "bee", "cow"), "train.json")
    test = _name(tmp_path, _numbered("bee", "ant"), "test.json")
    student = {"ant": 0, "bee": 1, "cow": 2}
    names = MetadataCatalog.get(test).thing_classes
    assert names == ["bee", "ant"]

    def learned(place: int) -> int:
        # A student that takes bees for cows.
        return {"ant": student["ant"], "bee": student["cow"]}[names[place]]

    evaluator = build_evaluator(_config(train), test, str(tmp_path / "out"))
    found = _evaluate(evaluator, test, classes=learned)
    assert found["AP-ant"] == pytest.approx(100) and found["AP-bee"] == 0
    written = json.loads((tmp_path / "out" / "coco_instances_results.json").read_text())
    assert {x["category_id"] for x in written} == {2}


def test_a_test_file_without_any_of_the_student_s_classes_is_refused(tmp_path):
    train = _name(tmp_path, coco(), "train.json")
    test = _name(tmp_path, _numbered("ameise", "biene", annotations=[]), "test.json")
    with pytest.raises(ValueError, match="has none of the student's classes .ant, bee. but ameise"):
        build_evaluator(_config(train), test, str(tmp_path))


def test_a_class_beyond_those_of_the_student_is_named(tmp_path):
    train = _name(tmp_path, coco(), "train.json")
    test = _name(tmp_path, _numbered("bee", "ant"), "test.json")
    evaluator = build_evaluator(_config(train), test, str(tmp_path))
    with pytest.raises(ValueError, match="predicts class 7, but its training dataset has 2"):
        _evaluate(evaluator, test, classes=lambda place: 7)


def test_detections_of_an_image_that_the_file_lacks_are_refused(tmp_path):
    name = _name(tmp_path, coco())
    evaluator = NormalizedCOCOEvaluator(name, distributed=False)
    evaluator.reset()
    (record, _) = DatasetCatalog.get(name)
    evaluator.process([{"image_id": 9}], [{"instances": _found(record)}])
    with pytest.raises(ValueError, match=r"The image 9 of .* is not in .*labels\.json"):
        evaluator.evaluate()


def test_a_file_without_annotations_gets_its_detections_written(tmp_path):
    content = coco()
    name = _name(tmp_path, content)
    del content["annotations"]
    write_coco(tmp_path / "labels.json", content)
    records = [{"image_id": 1}, {"image_id": 2}]
    evaluator = FasterCOCOEvaluator(name, distributed=False, output_dir=str(tmp_path))
    evaluator.reset()
    box = {"bbox": [1.0, 2.0, 3.0, 4.0], "category_id": 1}
    found = _found({"annotations": [box], "height": 48, "width": 64})
    for record in records:
        evaluator.process([record], [{"instances": found}])
    assert evaluator.evaluate() == {}
    written = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert [(x["image_id"], x["category_id"]) for x in written] == [(1, 9), (2, 9)]


@pytest.mark.parametrize("kind", _EVALUATORS)
def test_masks_are_evaluated_where_some_boxes_have_none(tmp_path, kind):
    content = coco()
    square = [4, 4, 24, 4, 24, 24, 4, 24]
    content["annotations"][0] |= {"segmentation": [square], "bbox": [4, 4, 20, 20], "area": 400}
    content["annotations"][1]["segmentation"] = [[1, 2, 3, 4]]
    name = _name(tmp_path, content)
    evaluator = kind(name, distributed=False)
    evaluator.reset()
    (record, other) = DatasetCatalog.get(name)
    found = _found({**record, "annotations": record["annotations"][:1]})
    mask = torch.zeros(1, 48, 64, dtype=torch.bool)
    mask[:, 4:24, 4:24] = True
    found.pred_masks = mask
    evaluator.process([{"image_id": 1}], [{"instances": found}])
    results = evaluator.evaluate()
    assert results["segm"]["AP"] == pytest.approx(100)
    assert results["bbox"]["AP"] < 60


def test_keypoints_of_a_json_path_are_evaluated(tmp_path):
    content = coco()
    content["categories"][0]["keypoints"] = ["left_end", "right_end"]
    for box in content["annotations"][:3]:
        box["keypoints"] = ["10", 10, 2, 20, 20, 2]
    name = _name(tmp_path, content)
    cfg = _config()
    cfg.MODEL.KEYPOINT_ON, cfg.DATASETS.TEST = True, (name,)
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 2
    with pytest.raises(ValueError, match="TEST.KEYPOINT_OKS_SIGMAS has 0 numbers for 2 keypoints"):
        build_evaluator(cfg, name, str(tmp_path))
    cfg.TEST.KEYPOINT_OKS_SIGMAS = [0.05, 0.05]
    evaluator = build_evaluator(cfg, name, str(tmp_path))
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        found = _found(record)
        points = [[[10.5, 10.5, 1.0], [20.5, 20.5, 1.0]]] * len(found)
        found.pred_keypoints = torch.tensor(points)
        evaluator.process([{"image_id": record["image_id"]}], [{"instances": found}])
    results = evaluator.evaluate()
    # COCO's keypoints have no small objects, which all of these are.
    assert results["bbox"]["AP"] == pytest.approx(100) and "keypoints" in results


def test_proposals_are_evaluated_and_written_with_the_ids_of_the_file(tmp_path):
    name = _name(tmp_path, _ids(coco(), lambda x: f"image {x}", str, _same))
    evaluator = FasterCOCOEvaluator(name, distributed=False, output_dir=str(tmp_path))
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        found = _found(record)
        proposals = Instances(found.image_size, proposal_boxes=found.pred_boxes)
        proposals.objectness_logits = found.scores
        evaluator.process([{"image_id": record["image_id"]}], [{"proposals": proposals}])
    assert evaluator.evaluate()["box_proposals"]["AR@100"] == pytest.approx(100)
    assert b"image 1" in (tmp_path / "box_proposals.pkl").read_bytes()


def test_a_dataset_without_a_file_is_evaluated_on_what_its_records_are_now(tmp_path):
    name = "coco_evaluation_records"
    boxes = [{**x, "category_id": i % 2} for i, x in enumerate(coco()["annotations"])]
    boxes = [{**x, "bbox_mode": BoxMode.XYWH_ABS} for x in boxes]
    records = [
        {"file_name": f"{i}.png", "image_id": i, "width": 64, "height": 48, "annotations": part}
        for i, part in ((7, boxes[:2]), ("b", boxes[2:]))
    ]
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).thing_classes = ["ant", "bee"]
    try:
        for _ in range(2):
            evaluator = build_evaluator(_config(), name, str(tmp_path / "out"))
            assert _evaluate(evaluator, name)["AP"] == pytest.approx(100)
            del records[0]["annotations"][1]
            records.reverse()
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
