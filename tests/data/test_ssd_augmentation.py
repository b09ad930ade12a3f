from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import Boxes, BoxMode, pairwise_iou
from PIL import Image

from distill import add_distill_config
from distill.data.loader import TrainLoader, build_mapper
from distill.data.ssd_augmentation import (
    BoxMapper,
    MinIoURandomCrop,
    PhotometricDistortion,
    RandomExpand,
    _shift_hsv,
)
from distill.engine.trainer import Trainer

BOX = [20, 10, 50, 40]
SIZE = 48


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_cfg()
    add_distill_config(cfg)
    cfg.INPUT.AUGMENTATION = "ssd"
    cfg.MODEL.SSD.IMAGE_SIZE = SIZE
    cfg.MODEL.PIXEL_MEAN = [10.0, 20.0, 30.0]
    return cfg


def picture() -> np.ndarray:
    """80x60 pixels, black with one white box."""
    image = np.zeros((60, 80, 3), dtype=np.uint8)
    x0, y0, x1, y1 = BOX
    image[y0:y1, x0:x1] = 255
    return image


def annotation(box: list[float], label: int = 0, **more: int) -> dict:
    return {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": label, **more}


@pytest.fixture
def record(tmp_path: Path) -> dict:
    Image.fromarray(picture()).save(tmp_path / "0.png")
    return {
        "file_name": str(tmp_path / "0.png"),
        "image_id": 0,
        "height": 60,
        "width": 80,
        "annotations": [annotation(BOX, 2)],
    }


def white_box(image: np.ndarray) -> np.ndarray:
    """The box around what is white in an (H, W, 3) image."""
    rows, columns = (image.min(axis=2) > 127).nonzero()
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def augmented(augmentation: T.Augmentation, seed: int) -> tuple[T.AugInput, T.Transform]:
    np.random.seed(seed)
    aug_input = T.AugInput(picture(), boxes=np.array([BOX], dtype=np.float64))
    return aug_input, augmentation(aug_input)


def test_the_hue_turns_and_the_saturation_is_scaled_in_either_order_of_channels() -> None:
    red = np.zeros((1, 1, 3), dtype=np.uint8)
    red[..., 0] = 200
    green = _shift_hsv(red, hue=120, saturation=1, image_format="RGB")
    assert np.abs(green.astype(int) - [0, 200, 0]).max() <= 5
    green = _shift_hsv(red[..., ::-1], hue=120, saturation=1, image_format="BGR")
    assert np.abs(green.astype(int) - [0, 200, 0]).max() <= 5
    pale = _shift_hsv(red, hue=0, saturation=0.5, image_format="RGB")
    assert np.abs(pale.astype(int) - [200, 100, 100]).max() <= 2
    same = _shift_hsv(red, hue=-360, saturation=2, image_format="RGB")
    assert np.abs(same.astype(int) - [200, 0, 0]).max() <= 1


def test_distortion_changes_colors_but_no_places() -> None:
    gray = np.full((6, 8, 3), 100, dtype=np.uint8)
    seen = []
    for seed in range(40):
        np.random.seed(seed)
        aug_input = T.AugInput(gray, boxes=np.array([BOX], dtype=np.float64))
        PhotometricDistortion()(aug_input)
        assert aug_input.image.dtype == np.uint8 and aug_input.boxes.tolist() == [BOX]
        # Gray has neither hue nor saturation.
        assert np.ptp(aug_input.image) == 0
        seen.append(int(aug_input.image[0, 0, 0]))
    # (100 +- 32) * (0.5 to 1.5), and half of the time nothing of either.
    assert 34 <= min(seen) < 70 and 130 < max(seen) <= 198
    assert 4 <= seen.count(100) <= 16


def test_expansion_moves_image_and_boxes_alike_on_a_canvas_of_the_color() -> None:
    ratios = []
    for seed in range(20):
        aug_input, _ = augmented(RandomExpand([10, 20, 30], probability=1.0), seed)
        assert white_box(aug_input.image).tolist() == aug_input.boxes[0].tolist()
        height, width = aug_input.image.shape[:2]
        ratios.append(width / 80)
        assert abs(ratios[-1] - height / 60) < 1 / 60
        known = (aug_input.image == 0).all(2) | (aug_input.image == 255).all(2)
        assert known.sum() == 60 * 80
        assert (aug_input.image[~known] == [10, 20, 30]).all()
    assert 1 <= min(ratios) < 2 and 3 < max(ratios) <= 4


def test_a_cropped_patch_has_the_iou_and_contains_the_center() -> None:
    crop = MinIoURandomCrop()
    crop.ious = (0.5,)
    sides = []
    for seed in range(30):
        aug_input, transform = augmented(crop, seed)
        if isinstance(transform, T.NoOpTransform):
            continue
        patch = [transform.x0, transform.y0, transform.x0 + transform.w, transform.y0 + transform.h]
        assert 0 <= patch[0] < patch[2] <= 80 and 0 <= patch[1] < patch[3] <= 60
        assert pairwise_iou(Boxes([patch]), Boxes([BOX])).item() >= 0.5
        height, width = aug_input.image.shape[:2]
        x0, y0, x1, y1 = aug_input.boxes[0]
        assert 0 <= (x0 + x1) / 2 <= width and 0 <= (y0 + y1) / 2 <= height
        clipped = aug_input.boxes[0].clip(0, [width, height, width, height])
        assert white_box(aug_input.image).tolist() == clipped.tolist()
        sides.append((transform.w / 80, transform.h / 60))
    # The image stays whole half of the time, there being one threshold.
    assert 8 <= len(sides) <= 22
    for w, h in sides:
        # Rounded to pixels.
        assert w * h > 0.08 and 0.45 < w / h < 2.2


def test_without_boxes_or_a_fitting_patch_the_image_stays_whole() -> None:
    crop = MinIoURandomCrop()
    crop.ious = (0.99,)
    kinds = {type(augmented(crop, seed)[1]) for seed in range(10)}
    assert kinds == {T.NoOpTransform}
    transform = MinIoURandomCrop().get_transform(picture(), np.zeros((0, 4)))
    assert isinstance(transform, T.NoOpTransform)


def test_training_samples_are_squares_whose_boxes_fit(cfg: CfgNode, record: dict) -> None:
    mapper = build_mapper(cfg, is_train=True)
    before = repr(record)
    for seed in range(20):
        np.random.seed(seed)
        sample = mapper(record)
        assert sample["image"].shape == (3, SIZE, SIZE) and sample["image"].dtype == torch.uint8
        assert (sample["height"], sample["width"]) == (60, 80) and "annotations" not in sample
        instances = sample["instances"]
        assert instances.gt_classes.tolist() == [2] and instances.image_size == (SIZE, SIZE)
        (box,) = instances.gt_boxes.tensor.numpy()
        assert box.min() >= 0 and box.max() <= SIZE and (box[2:] > box[:2]).all()
        # What is white may have become gray, and its edges soft.
        image = sample["image"].float().amin(0).numpy()
        rows, columns = (image > image.max() * 0.6).nonzero()
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(np.array(found) - box).max() <= 1.5
    assert repr(record) == before


def test_samples_repeat_from_any_iteration(cfg: CfgNode, record: dict) -> None:
    records = [{**record, "image_id": i} for i in range(5)]
    mapper = build_mapper(cfg, is_train=True)
    expected = list(islice(TrainLoader(records, mapper, batch_size=2, seed=1), 4))
    loader = TrainLoader(records, mapper, batch_size=2, seed=7)
    loader.seek(seed=1, iteration=2)
    np.random.seed(99)
    for batch, other in zip(expected[2:], islice(loader, 2), strict=True):
        for sample, repeated in zip(batch, other, strict=True):
            assert torch.equal(sample["image"], repeated["image"])
            boxes = sample["instances"].gt_boxes, repeated["instances"].gt_boxes
            assert torch.equal(boxes[0].tensor, boxes[1].tensor)
    assert not torch.equal(expected[0][0]["image"], expected[0][1]["image"])


def test_objects_whose_center_leaves_and_crowds_are_dropped(record: dict) -> None:
    boxes = [annotation(BOX, 0), annotation([0, 0, 24, 20], 1), annotation(BOX, 2, iscrowd=1)]
    mapper = BoxMapper([T.CropTransform(20, 10, 60, 50)], "BGR")
    instances = mapper({**record, "annotations": boxes})["instances"]
    assert instances.gt_classes.tolist() == [0]
    assert instances.gt_boxes.tensor.tolist() == [[0, 0, 30, 30]]


def test_objects_are_cut_at_the_borders(record: dict) -> None:
    mapper = BoxMapper([T.CropTransform(30, 20, 50, 40)], "BGR")
    assert mapper(record)["instances"].gt_boxes.tensor.tolist() == [[0, 0, 20, 20]]


def test_images_without_objects_or_without_annotations_pass(cfg: CfgNode, record: dict) -> None:
    mapper = build_mapper(cfg, is_train=True)
    assert len(mapper({**record, "annotations": []})["instances"]) == 0
    record.pop("annotations")
    assert "instances" not in mapper(record)


def test_test_images_are_resized_only(cfg: CfgNode, record: dict) -> None:
    sample = build_mapper(cfg, is_train=False)(record)
    assert sample["image"].shape == (3, SIZE, SIZE)
    assert (sample["height"], sample["width"]) == (60, 80)
    expected = np.asarray(Image.fromarray(picture()).resize((SIZE, SIZE), Image.BILINEAR))
    assert torch.equal(sample["image"], torch.from_numpy(expected.transpose(2, 0, 1).copy()))


def test_the_trainer_tests_on_images_of_the_size(cfg: CfgNode, tiny_coco: Path) -> None:
    cfg.DATALOADER.NUM_WORKERS = 0
    sizes = {x["image"].shape for (x,) in Trainer.build_test_loader(cfg, "tiny_test")}
    assert sizes == {(3, SIZE, SIZE)}
    cfg.INPUT.AUGMENTATION = "default"
    cfg.INPUT.MIN_SIZE_TEST = 64
    sizes = {x["image"].shape for (x,) in Trainer.build_test_loader(cfg, "tiny_test")}
    assert sizes == {(3, 64, 85), (3, 85, 64)}


def test_flips_follow_the_config(cfg: CfgNode) -> None:
    for flip, number in (("none", 4), ("horizontal", 5), ("vertical", 5)):
        cfg.INPUT.RANDOM_FLIP = flip
        assert len(build_mapper(cfg, is_train=True).augmentations.augs) == number


def test_bad_keys_are_refused_in_one_sentence(cfg: CfgNode) -> None:
    cfg.MODEL.MASK_ON = True
    with pytest.raises(ValueError, match="boxes only: set MODEL.MASK_ON to False"):
        build_mapper(cfg, is_train=True)
    cfg.INPUT.AUGMENTATION = "default"
    assert isinstance(build_mapper(cfg, is_train=True), DatasetMapper)
    cfg.INPUT.AUGMENTATION = "SSD"
    with pytest.raises(ValueError, match="INPUT.AUGMENTATION 'SSD' is unknown"):
        build_mapper(cfg, is_train=True)
