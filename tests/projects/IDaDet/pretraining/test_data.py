from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from pretraining.data import (
    ImageMapper,
    build_test_loader,
    build_train_loader,
    list_images,
)


def test_classes_are_numbered_in_the_order_of_their_names(image_folder):
    classes, records = list_images(str(image_folder), "train")
    assert classes == ["a", "b", "c"]
    assert [x["label"] for x in records] == [0] * 4 + [1] * 4 + [2] * 4
    assert records[5]["file_name"] == str(image_folder / "train" / "b" / "1.png")


def test_an_epoch_shows_every_image_once(make_config):
    loader = build_train_loader(make_config(), seed=1)
    batches = list(itertools.islice(loader, 3))
    names = [x["file_name"] for batch in batches for x in batch]
    assert len(set(names)) == len(names) == 12
    image = batches[0][0]["image"]
    assert image.shape == (3, 16, 16) and image.dtype == np.uint8


def test_the_evaluation_shows_every_image_once_and_in_full_color(make_config, image_folder):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[..., 0] = 200
    Image.fromarray(pixels).save(image_folder / "val" / "a" / "0.png")
    batches = list(build_test_loader(make_config(INPUT__FORMAT="BGR")))
    assert [len(batch) for batch in batches] == [4, 2]
    samples = [x for batch in batches for x in batch]
    assert [x["label"] for x in samples] == [0, 0, 1, 1, 2, 2]
    assert samples[0]["image"].reshape(3, -1).mean(axis=1).tolist() == [0, 0, 200]
    rgb = next(iter(build_test_loader(make_config(INPUT__FORMAT="RGB"))))[0]
    assert rgb["image"][0].mean() == 200


def test_the_central_crop_is_taken_of_the_shorter_side(make_config, image_folder):
    # Columns 0..23 at a height of 20, which the resize keeps.
    pixels = np.broadcast_to(np.arange(24, dtype=np.uint8)[None, :, None], (20, 24, 3))
    name = str(image_folder / "columns.png")
    Image.fromarray(np.ascontiguousarray(pixels)).save(name)
    mapper = ImageMapper(make_config(PRETRAIN__RESIZE=20), is_train=False)
    image = mapper({"file_name": name, "label": 0})["image"]
    assert image[0, 0].tolist() == list(range(4, 20))


def test_gray_and_transparent_images_get_three_channels(make_config, image_folder):
    for mode in ("L", "RGBA"):
        name = str(image_folder / f"{mode}.png")
        Image.new(mode, (20, 20)).save(name)
        sample = ImageMapper(make_config(), is_train=True)({"file_name": name, "label": 0})
        assert sample["image"].shape == (3, 16, 16)


def test_flips_follow_the_config(make_config, image_folder):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, 8:] = 255
    name = str(image_folder / "right.png")
    Image.fromarray(pixels).save(name)

    def flips(kind: str) -> int:
        whole = {"PRETRAIN__CROP_SCALE": (1.0, 1.0), "INPUT__RANDOM_FLIP": kind}
        mapper = ImageMapper(make_config(**whole), is_train=True)
        images = [mapper({"file_name": name, "label": 0})["image"] for _ in range(20)]
        return sum(bool(image[0, 8, 0] > 128) for image in images)

    torch.manual_seed(0)
    assert flips("none") == 0
    assert 0 < flips("horizontal") < 20


@pytest.mark.parametrize("damage", [b"", b"no image", None])
def test_a_damaged_image_is_left_out_of_training_with_one_warning(
    make_config, image_folder, caplog, damage
):
    path = image_folder / "train" / "b" / "1.png"
    path.write_bytes(path.read_bytes()[:200] if damage is None else damage)
    batches = list(itertools.islice(build_train_loader(make_config(), seed=1), 9))
    names = [x["file_name"] for batch in batches for x in batch]
    assert str(path) not in names and len(names) == 36
    warnings = [record.getMessage() for record in caplog.records if "read" in record.getMessage()]
    assert len(warnings) == 1
    assert str(path) in warnings[0] and "left out" in warnings[0]


def test_a_damaged_image_counts_as_misclassified_in_an_evaluation(
    make_config, image_folder, caplog
):
    (image_folder / "val" / "b" / "1.png").write_bytes(b"no image")
    samples = [x for batch in build_test_loader(make_config()) for x in batch]
    assert [x["label"] for x in samples] == [0, 0, 1, -1, 2, 2]
    assert samples[3]["image"].shape == (3, 16, 16)
    assert "counted as misclassified" in caplog.text


def test_a_missing_folder_is_named(make_config, image_folder):
    (image_folder / "train").rename(image_folder / "training")
    with pytest.raises(FileNotFoundError, match=r"--data\) needs the folder .*images/train "):
        build_train_loader(make_config(), seed=1)


def test_a_class_without_images_is_named(make_config, image_folder):
    for path in (image_folder / "val" / "b").iterdir():
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(FileNotFoundError, match="images/val is not .* for the classes b"):
        build_train_loader(make_config(), seed=1)


def test_classes_of_one_split_only_are_named(make_config, image_folder):
    (image_folder / "val" / "c").rename(image_folder / "val" / "d")
    with pytest.raises(ValueError, match=r"differ \(c, d in one only\)"):
        build_train_loader(make_config(), seed=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PRETRAIN__NUM_CLASSES": 4}, "PRETRAIN.NUM_CLASSES is 4, but .* has 3 class folders"),
        ({"INPUT__RANDOM_FLIP": "vertical"}, "INPUT.RANDOM_FLIP 'vertical'"),
        ({"PRETRAIN__CROP_SIZE": 17}, "PRETRAIN.RESIZE 16 is less than PRETRAIN.CROP_SIZE 17"),
        ({"SOLVER__IMS_PER_BATCH": 0}, "SOLVER.IMS_PER_BATCH is 0"),
    ],
)
def test_wrong_keys_are_named_before_training(make_config, changes, message):
    with pytest.raises(ValueError, match=message):
        build_train_loader(make_config(**changes), seed=1)
