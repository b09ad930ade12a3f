from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pretraining import digit_crops
from pretraining.digit_crops import CROP_SPLITS, CropSplit, default_crop_root, prepare_digit_crops
from torchvision.datasets import ImageFolder

from distill.data.digits import SPLITS, Split, default_root

# load_digits begins with a 0 and a 1.
_SOURCE = Split(seed=7, num_images=0, digits=(0, 2), photos=("skimage:cat",))
_SMALL = {"train": CropSplit(5, 12, _SOURCE), "val": CropSplit(6, 4, _SOURCE)}


def _contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*.png")}


def test_crops_lie_in_folders_by_digit(tmp_path):
    root = prepare_digit_crops(tmp_path / "crops", _SMALL)
    for name, split in _SMALL.items():
        folder = ImageFolder(root / name, allow_empty=True)
        assert folder.classes == list("0123456789")
        assert len(folder) == split.num_crops
        assert set(folder.targets) == {0, 1}
        assert all(image.size == (48, 48) for image, _ in folder)


def test_crops_depend_on_their_seeds_alone(tmp_path):
    first = _contents(prepare_digit_crops(tmp_path / "first", _SMALL))
    assert _contents(prepare_digit_crops(tmp_path / "second", _SMALL)) == first
    assert len(set(first.values())) == 16


def test_the_splits_have_the_sources_of_the_built_in_dataset():
    assert CROP_SPLITS["train"].source is SPLITS["digits_train"]
    assert CROP_SPLITS["val"].source is SPLITS["digits_val"]
    crop_seeds = [split.seed for split in CROP_SPLITS.values()]
    assert len(set(crop_seeds)) == len(crop_seeds)
    assert not set(crop_seeds) & {split.seed for split in SPLITS.values()}


def test_existing_crops_are_kept_and_unfinished_ones_made_anew(tmp_path):
    (tmp_path / "train" / "0").mkdir(parents=True)
    (tmp_path / ".val.partial" / "0").mkdir(parents=True)
    (tmp_path / ".val.partial" / "0" / "999999.png").write_bytes(b"half an image")
    prepare_digit_crops(tmp_path, _SMALL)
    names = _contents(tmp_path)
    assert len(names) == 4 and all(name.startswith("val") for name in names)


@pytest.mark.parametrize("side", [(0, 20), (30, 50), (80, 96), (10, 58), (20, 75), (41, 96)])
def test_the_window_covers_the_digit_or_lies_within_it(side):
    rng = np.random.default_rng(0)
    start, end = side
    for _ in range(50):
        window = digit_crops._window_start(rng, start, end)
        assert 0 <= window <= 48
        assert window <= start and end <= window + 48 or start <= window and window + 48 <= end


def test_a_crop_shows_no_part_of_another_digit(tmp_path, monkeypatch):
    """Images without noise or photograph: beside the one digit all is the color of the paper."""
    white = Image.new("RGB", (100, 100), (255, 255, 255))
    monkeypatch.setattr("distill.data.digits_render._NOISE_SIGMA", 0.0)
    sources = digit_crops.load_sources((0, 50), ())._replace(photos=[white])
    for seed in range(30):
        pixels, _ = digit_crops._draw_crop(np.random.default_rng(seed), sources)
        ink = pixels[(pixels < 200).any(axis=2)]
        # A digit has one color, blended with white.
        directions = (255.0 - ink) / np.linalg.norm(255.0 - ink, axis=1, keepdims=True)
        assert (directions @ directions.mean(axis=0) > 0.99).all()


def test_the_crops_lie_beside_the_dataset():
    assert default_crop_root().parent == default_root().parent


def test_a_folder_that_cannot_be_written_is_named_with_the_way_out(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="cannot be written to .*file.*DETECTRON2_DATASETS"):
        prepare_digit_crops(tmp_path / "file", _SMALL)
