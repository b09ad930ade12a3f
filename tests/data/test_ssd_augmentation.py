from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetMapper
from detectron2.structures import Boxes, BoxMode, pairwise_iou
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from distill import add_distill_config
from distill.data.loader import TrainLoader, build_mapper
from distill.data.ssd_augmentation import BoxMapper, MinIoUCrop, Step, color_distortion
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


def moved(step: Step, seed: int) -> tuple[np.ndarray, list[float]]:
    """The picture (H, W, 3) and its box after a step."""
    torch.manual_seed(seed)
    image = tv_tensors.Image(torch.from_numpy(picture().transpose(2, 0, 1).copy()))
    boxes, none = (
        tv_tensors.BoundingBoxes(
            torch.tensor(x, dtype=torch.float32).reshape(-1, 4), format="XYXY", canvas_size=(60, 80)
        )
        for x in (BOX, [])
    )
    image, boxes, _ = step(image, boxes, none)
    return image.numpy().transpose(1, 2, 0), boxes[0].tolist()


def test_distortion_changes_colors_but_no_places() -> None:
    distort = color_distortion()
    gray = np.full((6, 8, 3), 100, dtype=np.uint8)
    gray[:, 4:] = 150
    brightness, contrast = [], []
    for seed in range(60):
        torch.manual_seed(seed)
        pixels = np.asarray(distort(Image.fromarray(gray))).astype(int)
        # Gray has neither hue nor saturation.
        assert np.ptp(pixels, axis=2).max() == 0
        left, right = pixels[:, :4], pixels[:, 4:]
        assert np.ptp(left) == np.ptp(right) == 0
        brightness.append((left.max() + right.max()) / 250)
        contrast.append((right.max() - left.max()) / 50 / brightness[-1])
    # 7/8 to 9/8, and 1/2 to 3/2, and half of the time neither.
    assert 0.86 < min(brightness) < 0.93 and 1.07 < max(brightness) < 1.14
    assert 0.45 < min(contrast) < 0.65 and 1.35 < max(contrast) < 1.55
    assert 20 <= sum(abs(x - 1) < 0.005 for x in brightness) <= 40
    assert 20 <= sum(abs(x - 1) < 0.03 for x in contrast) <= 42


def test_distortion_turns_the_hue_and_scales_the_saturation_but_shuffles_no_channel() -> None:
    distort = color_distortion()
    red = Image.fromarray(np.full((2, 2, 3), [200, 50, 50], dtype=np.uint8))
    seen = []
    for seed in range(60):
        torch.manual_seed(seed)
        seen.append(np.asarray(distort(red)).astype(int)[0, 0])
    assert all(x[0] == x.max() for x in seen)
    greener = [(x[1] - x[2]) / np.ptp(x) for x in seen if np.ptp(x)]
    # A twentieth of a turn is 18 of the 60 degrees from red to yellow, or to magenta.
    assert -0.35 < min(greener) < -0.2 and 0.2 < max(greener) < 0.35
    assert 15 <= sum(abs(x) < 0.02 for x in greener) <= 45
    spread = [np.ptp(x) / x.max() for x in seen]
    assert min(spread) < 0.5 and max(spread) > 0.85


def test_expansion_moves_image_and_boxes_alike_on_a_canvas_of_the_color(cfg: CfgNode) -> None:
    expand = build_mapper(cfg, is_train=True).steps[0]
    ratios = []
    for seed in range(40):
        image, box = moved(expand, seed)
        assert white_box(image).tolist() == box
        height, width = image.shape[:2]
        ratios.append(width / 80)
        assert abs(ratios[-1] - height / 60) < 1 / 60
        known = (image == 0).all(2) | (image == 255).all(2)
        assert known.sum() == 60 * 80
        assert (image[~known] == [10, 20, 30]).all()
    assert 10 <= ratios.count(1) <= 30 and 3 < max(ratios) <= 4


def test_a_cropped_patch_has_the_iou_and_contains_the_center() -> None:
    crop = MinIoUCrop()
    crop.ious = (0.5,)
    sides = []
    for seed in range(30):
        torch.manual_seed(seed)
        patch = crop.draw(torch.tensor([BOX], dtype=torch.float32), 60, 80)
        image, box = moved(crop, seed)
        if patch is None:
            assert image.shape[:2] == (60, 80) and box == BOX
            continue
        left, top, right, bottom = patch.tolist()
        assert 0 <= left < right <= 80 and 0 <= top < bottom <= 60
        assert pairwise_iou(Boxes(patch[None]), Boxes([BOX])).item() >= 0.5
        assert left <= 35 <= right and top <= 25 <= bottom
        assert image.shape[:2] == (bottom - top, right - left)
        assert white_box(image).tolist() == box
        sides.append(((right - left) / 80, (bottom - top) / 60))
    # The image stays whole half of the time, there being one threshold.
    assert 8 <= len(sides) <= 22
    for w, h in sides:
        # Rounded to pixels.
        assert w * h > 0.08 and 0.45 < w / h < 2.2


def test_without_boxes_or_a_fitting_patch_the_image_stays_whole() -> None:
    crop = MinIoUCrop()
    crop.ious = (0.99,)
    boxes = torch.tensor([BOX], dtype=torch.float32)
    assert all(crop.draw(boxes, 60, 80) is None for _ in range(10))
    assert all(MinIoUCrop().draw(boxes[:0], 60, 80) is None for _ in range(10))


def test_training_samples_are_squares_whose_boxes_fit(cfg: CfgNode, record: dict) -> None:
    mapper = build_mapper(cfg, is_train=True)
    before = repr(record)
    for seed in range(20):
        torch.manual_seed(seed)
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
    torch.manual_seed(99)
    for batch, other in zip(expected[2:], islice(loader, 2), strict=True):
        for sample, repeated in zip(batch, other, strict=True):
            assert torch.equal(sample["image"], repeated["image"])
            boxes = sample["instances"].gt_boxes, repeated["instances"].gt_boxes
            assert torch.equal(boxes[0].tensor, boxes[1].tensor)
    assert not torch.equal(expected[0][0]["image"], expected[0][1]["image"])


class Patch(MinIoUCrop):
    """Always the same patch."""

    def __init__(self, *corners: int) -> None:
        super().__init__()
        self.corners = torch.tensor(corners)

    def draw(self, boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
        return self.corners


def test_objects_whose_center_leaves_and_crowds_are_dropped(record: dict) -> None:
    boxes = [annotation([0, 0, 30, 20], 1), annotation(BOX, 0), annotation(BOX, 2, iscrowd=1)]
    mapper = BoxMapper([Patch(20, 10, 80, 60)], "BGR")
    instances = mapper({**record, "annotations": boxes})["instances"]
    assert instances.gt_classes.tolist() == [0]
    assert instances.gt_boxes.tensor.tolist() == [[0, 0, 30, 30]]


def test_an_ignored_box_stays_as_far_as_it_is_seen(record: dict) -> None:
    boxes = [annotation(BOX, 0), annotation([0, 0, 30, 20], 1, ignore=1)]
    sample = BoxMapper([Patch(20, 10, 80, 60)], "BGR")({**record, "annotations": boxes})
    assert sample["ignore_boxes"].tolist() == [[0, 0, 10, 10]]
    assert len(sample["instances"]) == 1


def test_objects_are_cut_at_the_borders(record: dict) -> None:
    mapper = BoxMapper([Patch(30, 20, 80, 60)], "BGR")
    assert mapper(record)["instances"].gt_boxes.tensor.tolist() == [[0, 0, 20, 20]]


@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_channels_are_in_the_order_of_the_config(record: dict, order: str) -> None:
    Image.fromarray(np.full((60, 80, 3), [1, 2, 3], dtype=np.uint8)).save(record["file_name"])
    image = BoxMapper([], order)(record)["image"]
    assert image[:, 0, 0].tolist() == ([1, 2, 3] if order == "RGB" else [3, 2, 1])
    assert type(image) is torch.Tensor


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
    flips = {
        "none": [],
        "horizontal": [v2.RandomHorizontalFlip],
        "vertical": [v2.RandomVerticalFlip],
    }
    for flip, expected in flips.items():
        cfg.INPUT.RANDOM_FLIP = flip
        assert [type(x) for x in build_mapper(cfg, is_train=True).steps[3:]] == expected


def test_bad_keys_are_refused_in_one_sentence(cfg: CfgNode) -> None:
    cfg.MODEL.MASK_ON = True
    with pytest.raises(ValueError, match="boxes only: set MODEL.MASK_ON to False"):
        build_mapper(cfg, is_train=True)
    cfg.INPUT.AUGMENTATION = "default"
    assert isinstance(build_mapper(cfg, is_train=True), DatasetMapper)
    cfg.INPUT.AUGMENTATION = "SSD"
    with pytest.raises(ValueError, match="INPUT.AUGMENTATION 'SSD' is unknown"):
        build_mapper(cfg, is_train=True)
