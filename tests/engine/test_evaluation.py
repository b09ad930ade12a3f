from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator, PascalVOCDetectionEvaluator
from detectron2.structures import Boxes, Instances

from distill.engine.evaluation import FasterCOCOEvaluator, build_evaluator, format_results

_SIZE = 200
_IMAGES = 12


def _rectangle(box: np.ndarray) -> list[list[float]]:
    x, y, w, h = (float(v) for v in box)
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Random boxes of all sizes in three classes, some of them crowds, one image empty."""
    rng = np.random.default_rng(0)
    annotations = []
    for image_id in range(1, _IMAGES):
        for _ in range(6):
            box = np.concatenate([rng.uniform(0, 90, 2), rng.uniform(8, 110, 2)])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(rng.choice([3, 5, 9])),
                    "bbox": box.tolist(),
                    "area": float(box[2] * box[3]),
                    "iscrowd": int(rng.random() < 0.1),
                    "segmentation": _rectangle(box),
                }
            )
    images = [
        {"id": i, "file_name": f"{i}.png", "height": _SIZE, "width": _SIZE}
        for i in range(1, _IMAGES + 1)
    ]
    categories = [{"id": i, "name": f"c{i}"} for i in (3, 5, 9)]
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "gt.json").write_text(json.dumps(content))
    metadata = {"thing_dataset_id_to_contiguous_id": {3: 0, 5: 1, 9: 2}}
    register_coco_instances("random_coco", metadata, str(folder / "gt.json"), str(folder))
    MetadataCatalog.get("random_coco").thing_classes = ["c3", "c5", "c9"]
    return "random_coco"


def _detections(dataset: str, masks: bool) -> list[tuple[dict, dict]]:
    """Ground truth shifted at random, some of it left out, some of another class, and noise."""
    rng = np.random.default_rng(1)
    content = json.load(open(MetadataCatalog.get(dataset).json_file))
    pairs = []
    for image_id in range(1, _IMAGES + 1):
        truth = [a for a in content["annotations"] if a["image_id"] == image_id]
        boxes = [np.array(a["bbox"]) + rng.normal(0, 4, 4) for a in truth if rng.random() < 0.8]
        boxes += [np.concatenate([rng.uniform(0, 90, 2), rng.uniform(5, 100, 2)]) for _ in "ab"]
        classes = [(3, 5, 9).index(a["category_id"]) for a in truth][: len(boxes)]
        classes += [int(c) for c in rng.integers(0, 3, len(boxes) - len(classes))]
        corners = np.array([[x, y, x + abs(w), y + abs(h)] for x, y, w, h in boxes])
        instances = Instances((_SIZE, _SIZE))
        instances.pred_boxes = Boxes(torch.tensor(corners, dtype=torch.float32))
        # Coarse scores, so that ties occur.
        scores = rng.integers(1, 9, len(boxes)) / 10
        instances.scores = torch.tensor(scores, dtype=torch.float32)
        instances.pred_classes = torch.tensor(classes)
        if masks:
            ys, xs = torch.meshgrid(torch.arange(_SIZE), torch.arange(_SIZE), indexing="ij")
            instances.pred_masks = torch.stack(
                [(xs >= a) & (xs < c) & (ys >= b) & (ys < d) for a, b, c, d in corners]
            )
        pairs.append(({"image_id": image_id}, {"instances": instances}))
    return pairs


def _evaluate(evaluator: COCOEvaluator, pairs: list[tuple[dict, dict]]) -> dict:
    evaluator.reset()
    for sample, output in pairs:
        evaluator.process([sample], [output])
    return evaluator.evaluate()


@pytest.mark.parametrize("masks", [False, True])
def test_the_fast_evaluation_equals_pycocotools(dataset, masks, tmp_path):
    pairs = _detections(dataset, masks)
    slow = _evaluate(COCOEvaluator(dataset, distributed=False, use_fast_impl=False), pairs)
    fast = _evaluate(
        FasterCOCOEvaluator(dataset, distributed=False, output_dir=str(tmp_path)), pairs
    )
    assert fast.keys() == slow.keys() == ({"bbox", "segm"} if masks else {"bbox"})
    for task in slow:
        assert 5 < slow[task]["AP"] < 95
        assert fast[task] == pytest.approx(slow[task], rel=1e-9, nan_ok=True)
    written = json.load(open(tmp_path / "coco_instances_results.json"))
    assert {result["category_id"] for result in written} == {3, 5, 9}


def test_no_detection_at_all_gives_nan(dataset):
    empty = Instances((_SIZE, _SIZE))
    empty.pred_boxes, empty.scores = Boxes(torch.zeros(0, 4)), torch.zeros(0)
    empty.pred_classes = torch.zeros(0, dtype=torch.int64)
    pairs = [({"image_id": 1}, {"instances": empty})]
    results = _evaluate(FasterCOCOEvaluator(dataset, distributed=False), pairs)
    assert math.isnan(results["bbox"]["AP"])


def test_a_class_that_the_dataset_lacks_is_named(dataset):
    pairs = _detections(dataset, masks=False)[:1]
    pairs[0][1]["instances"].pred_classes[:] = 3
    with pytest.raises(ValueError, match="predicts class 3, but the dataset has 3 classes"):
        _evaluate(FasterCOCOEvaluator(dataset, distributed=False), pairs)


def test_the_evaluator_follows_the_dataset(dataset, tmp_path):
    cfg = get_cfg()
    assert isinstance(build_evaluator(cfg, dataset, str(tmp_path)), COCOEvaluator)
    voc = build_evaluator(cfg, "voc_2007_test", str(tmp_path))
    assert isinstance(voc, PascalVOCDetectionEvaluator)
    cfg.MODEL.KEYPOINT_ON = True
    assert not isinstance(build_evaluator(cfg, dataset, str(tmp_path)), FasterCOCOEvaluator)
    with pytest.raises(ValueError, match="lvis_v1_val is evaluated as 'lvis'"):
        build_evaluator(cfg, "lvis_v1_val", str(tmp_path))


def test_results_of_one_and_of_several_datasets_become_a_table():
    one = {"bbox": {"AP": 12.345, "AP50": 50.0}}
    assert "12.35" in format_results(one) and "bbox" in format_results(one)
    assert "val/bbox" in format_results({"val": one, "test": {}})
    assert "AP75" in format_results({})
