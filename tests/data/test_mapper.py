"""What pseudo labels say of their boxes goes through the augmentation with them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image
from torchvision.transforms import v2

from distill import add_distill_config
from distill.data.mapper import PseudoMapper
from distill.data.ssd_augmentation import BoxMapper, MinIoUCrop, build_ssd_mapper
from distill.utils.seeding import seeded

WIDTH, HEIGHT = 80, 60


class Fixed(T.Augmentation):
    """Always one and the same transform."""

    def __init__(self, transform: T.Transform) -> None:
        super().__init__()
        self.transform = transform

    def get_transform(self, image: np.ndarray) -> T.Transform:
        return self.transform


class LeftHalf(MinIoUCrop):
    def draw(self, boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
        return torch.tensor([0, 0, 40, HEIGHT])


MIRROR = Fixed(T.HFlipTransform(WIDTH)), v2.RandomHorizontalFlip(p=1.0)
LEFT_HALF = Fixed(T.CropTransform(0, 0, 40, HEIGHT, WIDTH, HEIGHT)), LeftHalf()


def pseudo_mapper(step: tuple) -> PseudoMapper:
    return PseudoMapper(is_train=True, augmentations=[step[0]], image_format="BGR")


def box_mapper(step: tuple) -> BoxMapper:
    return BoxMapper([step[1]], "BGR")


MAPPERS = pytest.mark.parametrize("make", [pseudo_mapper, box_mapper])


def annotation(box: list[float], label: int = 0, **more: Any) -> dict[str, Any]:
    return {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": label, **more}


@pytest.fixture
def image(tmp_path: Path) -> dict[str, Any]:
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "0.png")
    return {"file_name": str(tmp_path / "0.png"), "height": HEIGHT, "width": WIDTH}


@MAPPERS
def test_ignored_boxes_move_with_the_image_and_are_no_objects(make, image) -> None:
    record = {
        **image,
        "annotations": [
            annotation([0, 10, 20, 30], 1, ignore=True),
            annotation([10, 0, 30, 60], 2),
            annotation([70, 50, 90, 70], 2, ignore=True),
        ],
    }
    sample = make(MIRROR)(record)
    assert sample["ignore_boxes"].tolist() == [[60, 10, 80, 30], [0, 50, 10, 60]]
    assert sample["ignore_boxes"].dtype == torch.float32
    assert sample["instances"].gt_boxes.tensor.tolist() == [[50, 0, 70, 60]]
    assert sample["instances"].gt_classes.tolist() == [2]


@MAPPERS
def test_classes_stay_with_their_boxes_when_others_go(make, image) -> None:
    record = {
        **image,
        "annotations": [
            annotation([50, 5, 70, 50], 4),
            annotation([5, 5, 20, 50], 3, iscrowd=1),
            annotation([0, 0, 9, 9], 1, ignore=True),
            annotation([10, 10, 30, 40], 2),
            annotation([5, 20, 20, 50], 1),
            annotation([60, 10, 75, 50], 0, ignore=True),
        ],
    }
    before = copy.deepcopy(record)
    sample = make(LEFT_HALF)(record)
    instances = sample["instances"]
    assert instances.gt_boxes.tensor.tolist() == [[10, 10, 30, 40], [5, 20, 20, 50]]
    assert instances.gt_classes.tolist() == [2, 1] and instances.gt_classes.dtype == torch.int64
    assert sample["ignore_boxes"].tolist() == [[0, 0, 9, 9]]
    assert set(instances.get_fields()) == {"gt_boxes", "gt_classes"}
    assert record == before


@MAPPERS
def test_nothing_may_be_left(make, image) -> None:
    record = {
        **image,
        "annotations": [
            annotation([60, 10, 75, 50], 0),
            annotation([60, 10, 75, 50], 0, ignore=True),
        ],
    }
    sample = make(LEFT_HALF)(record)
    assert sample["ignore_boxes"].shape == (0, 4)
    assert len(sample["instances"]) == 0
    sample = make(LEFT_HALF)({**image, "annotations": record["annotations"][1:]})
    assert len(sample["instances"]) == 0


@MAPPERS
def test_boxes_given_by_their_sizes_are_understood(make, image) -> None:
    box = {**annotation([10, 20, 30, 10], ignore=True), "bbox_mode": BoxMode.XYWH_ABS}
    sample = make(MIRROR)({**image, "annotations": [box]})
    assert sample["ignore_boxes"].tolist() == [[40, 20, 70, 30]]


def config(**changes: Any) -> CfgNode:
    cfg = get_cfg()
    add_distill_config(cfg)
    cfg.INPUT.MIN_SIZE_TRAIN = (48, 56, 64)
    cfg.INPUT.CROP.ENABLED = True
    cfg.MODEL.SSD.IMAGE_SIZE = 48
    return cfg


@pytest.mark.parametrize("masks", [False, True])
def test_other_records_are_mapped_as_by_detectron2(image, masks: bool) -> None:
    cfg = config()
    cfg.MODEL.MASK_ON = masks
    # Detectron2 crops polygons with a library that is optional.
    cfg.INPUT.CROP.ENABLED = not masks
    outline = [[10, 10, 30, 10, 30, 40, 10, 40]]
    record = {
        **image,
        "annotations": [
            annotation([10, 10, 30, 40], 2, segmentation=outline),
            annotation([50, 5, 70, 50], 4, segmentation=[[50, 5, 70, 5, 70, 50]]),
        ],
    }
    for seed in range(5):
        samples = []
        for mapper in (DatasetMapper(cfg, is_train=True), PseudoMapper(cfg, is_train=True)):
            with seeded(seed):
                samples.append(mapper(record))
        plain, own = samples
        assert plain.keys() == own.keys()
        assert torch.equal(plain["image"], own["image"])
        mine, theirs = own["instances"].get_fields(), plain["instances"].get_fields()
        assert mine.keys() == theirs.keys()
        assert torch.equal(mine["gt_boxes"].tensor, theirs["gt_boxes"].tensor)
        assert torch.equal(mine["gt_classes"], theirs["gt_classes"])


@pytest.mark.parametrize("is_train", [True, False])
def test_all_else_that_detectron2_maps_is_mapped_likewise(
    image, tmp_path: Path, is_train: bool
) -> None:
    # Of 16 bits, which are no shades.
    areas = np.random.default_rng(1).integers(0, 9, (HEIGHT, WIDTH), dtype=np.uint16)
    Image.fromarray(areas).save(tmp_path / "areas.png")
    joints = [20.0, 20.0, 2.0, 25.0, 30.0, 1.0]
    record = {
        **image,
        "sem_seg_file_name": str(tmp_path / "areas.png"),
        "proposal_boxes": np.array([[1.0, 2, 30, 40], [5, 5, 70, 50]]),
        "proposal_objectness_logits": np.array([2.0, 1.0]),
        "proposal_bbox_mode": BoxMode.XYXY_ABS,
        "annotations": [annotation([10, 10, 30, 40], 2, keypoints=joints)],
    }
    augmentations = [MIRROR[0], T.Resize((30, 40))]
    given = {"image_format": "BGR", "use_keypoint": True, "precomputed_proposal_topk": 1}
    given |= {"augmentations": augmentations, "keypoint_hflip_indices": np.array([1, 0])}
    before = copy.deepcopy(record)
    plain, own = (kind(is_train, **given)(record) for kind in (DatasetMapper, PseudoMapper))
    assert plain.keys() == own.keys() and record.keys() == before.keys()
    for key in ("image", "sem_seg"):
        assert torch.equal(plain[key], own[key]) and plain[key].dtype == own[key].dtype
    assert torch.equal(*(x["proposals"].proposal_boxes.tensor for x in (plain, own)))
    if is_train:
        assert torch.equal(*(x["instances"].gt_keypoints.tensor for x in (plain, own)))


@pytest.mark.parametrize(
    "build",
    [
        lambda cfg: PseudoMapper(cfg, is_train=True),
        lambda cfg: build_ssd_mapper(cfg, is_train=True),
    ],
)
def test_ignored_boxes_change_no_draw(image, build) -> None:
    cfg = config()
    plain = [annotation([10, 10, 30, 40], 2), annotation([50, 5, 70, 50], 4)]
    marked = [*plain, annotation([0, 0, 60, 60], 1, ignore=True)]
    seen = 0
    for seed in range(8):
        samples = []
        for boxes in (plain, marked):
            with seeded(seed):
                samples.append(build(cfg)({**image, "annotations": boxes}))
        first, second = samples
        assert torch.equal(first["image"], second["image"])
        tables = [x["instances"].gt_boxes.tensor for x in samples]
        assert torch.equal(*tables)
        assert torch.equal(first["instances"].gt_classes, second["instances"].gt_classes)
        seen += len(second["ignore_boxes"])
    assert seen >= 4


def test_evaluation_gets_nothing_of_it(image) -> None:
    record = {**image, "annotations": [annotation([0, 0, 9, 9], 1, ignore=True)]}
    sample = PseudoMapper(config(), is_train=False)(record)
    assert not {"instances", "annotations", "ignore_boxes"} & sample.keys()
