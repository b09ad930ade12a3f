"""Everybody reads the same pixels of a file."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data.detection_utils import read_image as detectron2_read_image
from PIL import Image

from distill import add_distill_config
from distill.data.image_files import UnreadableImage, read_image, read_record
from distill.data.image_files.header import size_in_header
from distill.data.loader import build_mapper
from distill.labeling.images import ImageListing, MappedImages


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "LA", "CMYK", "1"])
@pytest.mark.parametrize("format", ["RGB", "BGR", "L"])
def test_ordinary_images_are_read_as_detectron2_reads_them(
    tmp_path: Path, mode: str, format: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    path = str(tmp_path / "x.tiff")
    Image.fromarray(pixels).convert(mode).save(path)
    found = read_image(path, format)
    assert found.shape == (7, 5, 1 if format == "L" else 3)
    assert np.array_equal(found, detectron2_read_image(path, format))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_exif_says(tmp_path: Path, orientation: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    image, path = Image.fromarray(pixels), str(tmp_path / "x.png")
    exif = image.getexif()
    exif[274] = orientation
    image.save(path, exif=exif)
    found = read_image(path, "RGB")
    assert found.shape == ((8, 16, 3) if orientation < 5 else (16, 8, 3))
    assert np.array_equal(found, detectron2_read_image(path, "RGB"))


def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path) -> None:
    deep = np.array([[0, 257, 1000], [25_700, 65_278, 65_535]], dtype=np.uint16)
    path = str(tmp_path / "x.png")
    Image.fromarray(deep).save(path)
    found = read_image(path, "BGR")
    # Divided by 257: 1000 / 257 = 3.9.
    assert found[..., 0].tolist() == [[0, 1, 4], [100, 254, 255]]
    assert (found == found[..., :1]).all() and found.dtype == np.uint8


def test_a_turned_tiff_is_turned_once(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    exif, path = Image.Exif(), str(tmp_path / "x.tiff")
    exif[274] = 6
    Image.fromarray(pixels).save(path, exif=exif)
    assert np.array_equal(read_image(path, "RGB"), np.rot90(pixels, 3))


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_cfg()
    add_distill_config(cfg)
    cfg.MODEL.MASK_ON = False
    # Nothing changes a pixel.
    cfg.INPUT.RANDOM_FLIP = "none"
    cfg.INPUT.MIN_SIZE_TRAIN = cfg.INPUT.MIN_SIZE_TEST = 40
    cfg.INPUT.MIN_SIZE_TRAIN = (40,)
    return cfg


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_student_teacher_and_evaluation_see_the_same_sixteen_bits(
    tmp_path: Path, cfg: CfgNode, suffix: str
) -> None:
    deep = np.random.default_rng(0).integers(0, 65_536, (40, 60), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / f"x.{suffix}")
    record = {"file_name": str(tmp_path / f"x.{suffix}"), "width": 60, "height": 40}
    expected = torch.from_numpy((deep / 257).round().astype(np.uint8)).expand(3, 40, 60)
    test_mapper = build_mapper(cfg, is_train=False)
    labeled = MappedImages(ImageListing.from_folder(tmp_path), test_mapper)[0]
    seen = [mapper(record) for mapper in (build_mapper(cfg, is_train=True), test_mapper)]
    for sample in (labeled, *seen):
        assert torch.equal(sample["image"], expected)


@pytest.mark.parametrize("augmentation", ["default", "ssd"])
@pytest.mark.parametrize("is_train", [True, False])
def test_all_mappers_read_sixteen_bits_alike(
    tmp_path: Path, cfg: CfgNode, augmentation: str, is_train: bool
) -> None:
    # Both shades are alike all over, so that no crop and no distortion of colors hides them.
    cfg.INPUT.AUGMENTATION = augmentation
    cfg.MODEL.SSD.IMAGE_SIZE = 40
    means = []
    for name, shade in (("deep.png", np.uint16(25_700)), ("plain.png", np.uint8(100))):
        Image.fromarray(np.full((40, 60), shade)).save(tmp_path / name)
        mapper = build_mapper(cfg, is_train=is_train)
        torch.manual_seed(0)
        means.append(mapper({"file_name": str(tmp_path / name)})["image"].float().mean().item())
    assert means[0] == means[1]


@pytest.mark.parametrize("augmentation", ["default", "ssd"])
@pytest.mark.parametrize("is_train", [True, False])
def test_what_a_mapper_can_not_read_is_named_in_one_sentence(
    tmp_path: Path, cfg: CfgNode, augmentation: str, is_train: bool
) -> None:
    cfg.INPUT.AUGMENTATION = augmentation
    mapper, path = build_mapper(cfg, is_train=is_train), tmp_path / "x.png"
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    assert mapper({"file_name": str(path)})["width"] == 60
    with pytest.raises(UnreadableImage, match="60x40 pixels, but its record says 40x60"):
        mapper({"file_name": str(path), "width": 40, "height": 60})
    path.write_bytes(path.read_bytes()[:3000])
    sentence = (
        rf"The image {path} can't be used \(.*truncated.*\): replace .*SKIP_UNREADABLE to True"
    )
    with pytest.raises(UnreadableImage, match=sentence):
        mapper({"file_name": str(path)})
    path.unlink()
    with pytest.raises(UnreadableImage, match=r"x.png can't be used \(No such file"):
        mapper({"file_name": str(path)})
    with pytest.raises(ValueError, match="The record of image 7 has no file_name"):
        mapper({"image_id": 7})


def test_damaged_exif_data_turn_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "x.jpg")
    Image.new("RGB", (16, 8), (9, 9, 9)).save(path, exif=b"Exif\x00\x00MM\x00*\xff\xff\xff")
    assert np.array_equal(read_image(path, "RGB"), detectron2_read_image(path, "RGB"))


def test_a_size_that_a_record_lacks_is_added(tmp_path: Path) -> None:
    Image.new("RGB", (16, 8)).save(tmp_path / "x.png")
    record = {"file_name": str(tmp_path / "x.png")}
    assert read_record(record, "RGB").shape == (8, 16, 3)
    assert (record["width"], record["height"]) == (16, 8)


def test_the_error_passes_between_processes() -> None:
    error = pickle.loads(pickle.dumps(UnreadableImage("a.png", "it is empty")))
    assert (error.path, error.reason) == ("a.png", "it is empty")
    # As torch's loader makes an error of a worker anew.
    assert str(UnreadableImage(str(error))) == str(error)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp", "gif", "bmp"])
def test_any_damage_is_named_or_harmless(tmp_path: Path, suffix: str) -> None:
    rng, path = random.Random(suffix), tmp_path / f"x.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(noise).save(path, exif=exif)
    whole, refused = path.read_bytes(), 0
    for number in range(40):
        content = bytearray(whole)
        if number % 2:
            del content[rng.randrange(len(content)) :]
        else:
            for _ in range(4):
                content[rng.randrange(min(len(content), 200))] = rng.randrange(256)
        path.write_bytes(content)
        try:
            height, width, _ = read_image(str(path), "BGR").shape
        except UnreadableImage as error:
            refused += 1
            assert error.reason and "\n" not in str(error)
        else:
            # What the look at the header passes is what is read.
            assert size_in_header(str(path)) == (width, height)
    assert 0 < refused < 40
