"""Pictures of masks, proposals and gates."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tiny
import torch

from distill.proposals import SharedProposals
from distill.signals import RoiOutputs
from distill.visualization import draw_regions


@pytest.fixture(autouse=True)
def _original_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures pixel by pixel; small images are otherwise enlarged."""
    monkeypatch.setattr("distill.visualization._LEGIBLE", 1)


def grey(size: tuple[int, int], boxes: list[list[float]]) -> dict:
    """An image of one dark grey, on which colours stand out."""
    example = tiny.example(boxes, size)
    example["image"] = torch.full((3, *size), 40, dtype=torch.uint8)
    return example


def regions_at(boxes: list[list[float]], images: list[int], classes: list[int]) -> SharedProposals:
    table, labels = torch.tensor(boxes), torch.tensor(classes)
    outputs = RoiOutputs(torch.zeros(len(boxes), 4), torch.zeros(len(boxes), 4), None)
    return SharedProposals(
        boxes=table,
        image_index=torch.tensor(images),
        classes=labels,
        gt_boxes=table,
        foreground=labels < 3,
        student=outputs,
        teacher=outputs,
    )


def dominant(patch: np.ndarray) -> str:
    """Which colour a frame has: the channels that rise clearly above the grey image."""
    peak = patch.reshape(-1, 3).max(0).astype(int)
    return "".join(name for name, value in zip("rgb", peak, strict=True) if value > 60)


def test_the_picture_is_twice_as_wide_as_the_image() -> None:
    picture = draw_regions(tiny.batch()[0], torch.rand(16, 16), 4, None, {})
    assert picture.shape == (64, 128, 3) and picture.dtype == np.uint8


def test_maps_that_do_not_cover_the_image_and_those_beyond_it_are_fitted() -> None:
    for cells in ((5, 5), (6, 8), (9, 12)):
        picture = draw_regions(grey((50, 62), []), torch.ones(cells), 8, None, {})
        assert picture.shape == (50, 124, 3)


def test_without_mask_regions_and_boxes_both_halves_are_the_image() -> None:
    picture = draw_regions(grey((48, 64), []), None, 4, None, {})
    assert (picture == 40).all()


def test_colours_are_turned_from_bgr_to_rgb() -> None:
    example = grey((32, 32), [])
    example["image"][0] = 200  # blue
    assert draw_regions(example, None, 4, None, {})[5, 5].tolist() == [40, 40, 200]


def test_the_mask_colours_its_own_cells_only() -> None:
    mask = torch.zeros(12, 16)
    mask[2, 3] = 1
    left = draw_regions(grey((48, 64), []), mask, 4, None, {})[:, :64]
    changed = (left != 40).any(2)
    expected = np.zeros((48, 64), dtype=bool)
    expected[8:12, 12:16] = True
    assert np.array_equal(changed, expected)


def test_frames_tell_which_gates_are_open() -> None:
    regions = regions_at(
        [[4.0, 4, 24, 24], [36.0, 4, 56, 24], [4.0, 36, 24, 56], [36.0, 36, 56, 56]],
        [0, 0, 0, 0],
        [0, 1, 2, 0],
    )
    gates = {
        "cls": torch.tensor([True, True, False, False]),
        "box": torch.tensor([True, False, True, False]),
    }
    right = draw_regions(grey((64, 64), []), None, 4, regions, gates)[:, 64:]
    corners = [right[:32, :32], right[:32, 32:], right[32:, :32], right[32:, 32:]]
    # Lime, orange, sky blue, grey.
    assert [dominant(x) for x in corners] == ["g", "rg", "gb", "rgb"]


def test_background_and_other_images_are_left_out() -> None:
    regions = regions_at([[4.0, 4, 24, 24], [30.0, 30, 50, 50]], [1, 0], [0, 3])
    picture = draw_regions(grey((64, 64), []), None, 4, regions, {})
    assert (picture == 40).all()


def test_the_library_imports_without_opencv() -> None:
    code = "import sys; sys.modules['cv2'] = None; import distill; print(distill.__version__)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_small_images_are_enlarged_by_a_whole_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.visualization._LEGIBLE", 200)
    assert draw_regions(grey((64, 90), []), None, 4, None, {}).shape == (192, 540, 3)
