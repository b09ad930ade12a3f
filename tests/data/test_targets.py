"""Masks and keypoints of training images, as the config needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from detectron2.config import CfgNode, get_cfg
from helpers.coco_files import coco, write_coco
from PIL import Image

from distill.config import add_distill_config
from distill.data.loader import build_train_loader
from distill.data.records import training_records

_SQUARE = [[4, 4, 24, 4, 24, 24, 4, 24]]
_RLE = {"size": [48, 64], "counts": [200, 20, *([28, 20] * 19), 48 * 64 - 220 - 48 * 19]}


def _config(folder: Path, content: dict[str, Any], **model: Any) -> CfgNode:
    for image in content["images"]:
        Image.new("RGB", (64, 48)).save(folder / image["file_name"])
    cfg = get_cfg()
    add_distill_config(cfg)
    cfg.DATASETS.TRAIN = (str(write_coco(folder / "labels.json", content)),)
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.DATALOADER.NUM_WORKERS = (48,), 0
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.MODEL.merge_from_list([x for pair in model.items() for x in pair])
    return cfg


def _with_masks(*masks: Any) -> dict[str, Any]:
    content = coco()
    for box, mask in zip(content["annotations"], masks, strict=True):
        box["segmentation"] = mask
    return content


def _batch(cfg: CfgNode) -> list[dict[str, Any]]:
    return next(iter(build_train_loader(cfg, seed=0)))


def test_a_box_with_a_polygon_of_two_points_counts_where_boxes_are_trained_on(tmp_path):
    content = _with_masks([[1, 2, 3, 4]], [], None, _SQUARE)
    batch = _batch(_config(tmp_path, content))
    assert [len(x["instances"]) for x in batch] == [2, 2]


def test_boxes_without_a_mask_are_left_out_where_masks_are_trained_on(tmp_path, caplog):
    content = _with_masks([[1, 2, 3, 4]], None, _SQUARE, [_SQUARE[0], [1, 2, 3, 4]])
    cfg = _config(tmp_path, content, MASK_ON=True)
    (record,) = training_records(cfg)
    assert [x["segmentation"] for x in record["annotations"]] == [_SQUARE, _SQUARE]
    assert "2 of the 4 boxes of DATASETS.TRAIN" in caplog.text
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    assert [len(x["annotations"]) for x in training_records(cfg)] == [0, 2]


@pytest.mark.parametrize("counts", [_RLE["counts"], [str(x) for x in _RLE["counts"]]])
def test_masks_as_rle_name_the_key_and_train_as_bitmasks(tmp_path, counts):
    cfg = _config(tmp_path, _with_masks(*[{**_RLE, "counts": counts}] * 4), MASK_ON=True)
    with pytest.raises(ValueError, match="INPUT.MASK_FORMAT is polygon, but .*: set it to bitmask"):
        training_records(cfg)
    cfg.INPUT.MASK_FORMAT = "bitmask"
    masks = _batch(cfg)[0]["instances"].gt_masks.tensor
    assert masks.shape == (2, 48, 64) and masks[0].sum() == 400


def test_a_mask_whose_runs_do_not_add_up_is_left_out(tmp_path, caplog):
    broken = {"size": [48, 64], "counts": "zz"}
    cfg = _config(tmp_path, _with_masks(_RLE, broken, _RLE, _RLE), MASK_ON=True)
    cfg.INPUT.MASK_FORMAT = "bitmask"
    assert [len(x["annotations"]) for x in training_records(cfg)] == [1, 2]
    assert "1 of the 4 boxes" in caplog.text


def test_crowds_may_be_rle_as_those_of_coco_are(tmp_path):
    content = _with_masks(_SQUARE, _RLE, _SQUARE, _SQUARE)
    content["annotations"][1]["iscrowd"] = 1
    assert len(training_records(_config(tmp_path, content, MASK_ON=True))) == 2


def test_polygons_in_other_forms_are_read(tmp_path):
    points = [[4, 4], [24, 4], [24, 24], [4, 24]]
    content = _with_masks(_SQUARE[0], [points], [[str(x) for x in _SQUARE[0]]], _SQUARE)
    records = training_records(_config(tmp_path, content, MASK_ON=True))
    boxes = [box for record in records for box in record["annotations"]]
    assert [box["segmentation"] for box in boxes] == [_SQUARE] * 4


def test_masks_that_nobody_drew_are_missed_before_training(tmp_path):
    with pytest.raises(ValueError, match="MODEL.MASK_ON is True, but none of the 4 boxes"):
        training_records(_config(tmp_path, coco(), MASK_ON=True))


def _with_keypoints() -> dict[str, Any]:
    content = coco()
    content["categories"][0]["keypoints"] = ["left_end", "right_end"]
    for box in content["annotations"][::3]:
        box["keypoints"] = [10, 10, 2, 20, 12, 1]
    return content


def _keypoint_config(folder: Path, content: dict[str, Any], number: int = 2) -> CfgNode:
    options = {"KEYPOINT_ON": True, "ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": number}
    return _config(folder, content, **options)


def test_keypoints_are_trained_on_from_a_json_path_alone(tmp_path):
    cfg = _keypoint_config(tmp_path, _with_keypoints())
    batch = _batch(cfg)
    keypoints = [x["instances"].gt_keypoints.tensor for x in batch]
    assert [x.shape for x in keypoints] == [(2, 2, 3)] * 2
    # A box of the class without keypoints has invisible ones.
    visible = sorted(int((points[:, 2] > 0).sum()) for x in keypoints for points in x)
    assert visible == [0, 0, 2, 2]


def test_keypoints_that_do_not_fit_are_named_before_training(tmp_path):
    with pytest.raises(ValueError, match="NUM_KEYPOINTS is 17, but .* has 2 keypoints: set it"):
        training_records(_keypoint_config(tmp_path, _with_keypoints(), 17))
    content = _with_keypoints()
    content["annotations"][0]["keypoints"] = [1, 2, 2]
    with pytest.raises(ValueError, match="a box of .*a.png has 1 keypoints, but its dataset 2"):
        training_records(_keypoint_config(tmp_path, content))
    with pytest.raises(ValueError, match="has no names of keypoints: add the list `keypoints`"):
        (tmp_path / "bare").mkdir()
        training_records(_keypoint_config(tmp_path / "bare", coco()))


def test_images_without_a_box_are_left_out_and_counted(tmp_path, caplog):
    caplog.set_level("INFO", "distill")
    content = coco()
    for box in content["annotations"][:2]:
        box["iscrowd"] = 1
    assert len(training_records(_config(tmp_path, content))) == 1
    assert "1 of the 2 images of DATASETS.TRAIN" in caplog.text
    content = coco(annotations=[])
    with pytest.raises(ValueError, match="holds no usable image: check its files"):
        training_records(_config(tmp_path, content))
