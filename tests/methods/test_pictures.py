"""Pictures of masks, proposals, gates, and of where detectors disagree."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from helpers import tiny, tiny_dense
from torch import Tensor

from distill.methods import pictures
from distill.methods.pictures import draw_discrepancy, draw_proposals
from distill.views.roi import RoiOutputs
from distill.views.sharing import SharedProposals


@pytest.fixture(autouse=True)
def _original_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures pixel by pixel; small images are otherwise enlarged."""
    monkeypatch.setattr("distill.methods.pictures._LEGIBLE", 1)


def gray(size: tuple[int, int], boxes: list[list[float]]) -> dict:
    """An image of one dark gray, on which colors stand out."""
    example = tiny.example(boxes, size)
    example["image"] = torch.full((3, *size), 40, dtype=torch.uint8)
    return example


def proposals_at(
    boxes: list[list[float]], images: list[int], classes: list[int]
) -> SharedProposals:
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
    """Which color a frame has: the channels that rise clearly above the gray image."""
    peak = patch.reshape(-1, 3).max(0).astype(int)
    return "".join(name for name, value in zip("rgb", peak, strict=True) if value > 60)


def test_the_picture_is_twice_as_wide_as_the_image() -> None:
    picture = draw_proposals(tiny.batch()[0], torch.rand(16, 16), 4, None, {})
    assert picture.shape == (64, 128, 3) and picture.dtype == np.uint8


def test_maps_that_do_not_cover_the_image_and_those_beyond_it_are_fitted() -> None:
    for cells in ((5, 5), (6, 8), (9, 12)):
        picture = draw_proposals(gray((50, 62), []), torch.ones(cells), 8, None, {})
        assert picture.shape == (50, 124, 3)


def test_without_mask_proposals_and_boxes_both_halves_are_the_image() -> None:
    picture = draw_proposals(gray((48, 64), []), None, 4, None, {})
    assert (picture == 40).all()


def test_colors_are_turned_from_bgr_to_rgb() -> None:
    example = gray((32, 32), [])
    example["image"][0] = 200  # blue
    assert draw_proposals(example, None, 4, None, {})[5, 5].tolist() == [40, 40, 200]


def test_the_mask_colors_its_own_cells_only() -> None:
    mask = torch.zeros(12, 16)
    mask[2, 3] = 1
    left = draw_proposals(gray((48, 64), []), mask, 4, None, {})[:, :64]
    changed = (left != 40).any(2)
    expected = np.zeros((48, 64), dtype=bool)
    expected[8:12, 12:16] = True
    assert np.array_equal(changed, expected)


def test_frames_tell_which_gates_are_open() -> None:
    proposals = proposals_at(
        [[4.0, 4, 24, 24], [36.0, 4, 56, 24], [4.0, 36, 24, 56], [36.0, 36, 56, 56]],
        [0, 0, 0, 0],
        [0, 1, 2, 0],
    )
    gates = {
        "cls": torch.tensor([True, True, False, False]),
        "box": torch.tensor([True, False, True, False]),
    }
    right = draw_proposals(gray((64, 64), []), None, 4, proposals, gates)[:, 64:]
    corners = [right[:32, :32], right[:32, 32:], right[32:, :32], right[32:, 32:]]
    # Lime, orange, sky blue, gray.
    assert [dominant(x) for x in corners] == ["g", "rg", "gb", "rgb"]


def test_background_and_other_images_are_left_out() -> None:
    proposals = proposals_at([[4.0, 4, 24, 24], [30.0, 30, 50, 50]], [1, 0], [0, 3])
    picture = draw_proposals(gray((64, 64), []), None, 4, proposals, {})
    assert (picture == 40).all()


def test_the_library_imports_without_opencv_and_matplotlib() -> None:
    code = "import sys; sys.modules.update(cv2=None, matplotlib=None); import distill"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_small_images_are_enlarged_by_a_whole_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.methods.pictures._LEGIBLE", 200)
    assert draw_proposals(gray((64, 90), []), None, 4, None, {}).shape == (192, 540, 3)


# ------------------------------------------------------------- discrepancy


def detections(boxes: list[list[float]], scores: list[float], size: tuple[int, int]) -> Instances:
    found = Instances(size)
    found.pred_boxes = Boxes(torch.tensor(boxes).view(-1, 4).float())
    found.scores = torch.tensor(scores)
    found.pred_classes = torch.zeros(len(scores), dtype=torch.long)
    return found


def panels_of(
    size: tuple[int, int],
    boxes: list[list[float]] | None = None,
    scores: list[float] | None = None,
    selected: list[list[float]] | None = None,
    student: Instances | None = None,
    teacher: Instances | None = None,
) -> list[np.ndarray]:
    """The four panels of a picture of a gray image."""
    none = detections([], [], size)
    tables = [torch.tensor(x or []).view(-1, 4).float() for x in (boxes, selected)]
    picture = draw_discrepancy(
        gray(size, []),
        tables[0],
        torch.tensor(scores or []),
        tables[1],
        none if student is None else student,
        none if teacher is None else teacher,
    )
    assert picture.shape == (size[0], 4 * size[1], 3) and picture.dtype == np.uint8
    return np.split(picture, 4, axis=1)


def test_without_proposals_and_detections_all_panels_are_the_image_and_one_is_dark() -> None:
    scored, chosen, student, teacher = panels_of((48, 72))
    assert (chosen == 10).all()
    assert all((panel == 40).all() for panel in (scored, student, teacher))


def test_frames_of_low_scores_are_blue_and_those_of_high_scores_red() -> None:
    boxes = [[4.0, 4, 20, 20], [40.0, 4, 56, 20], [4.0, 40, 20, 56]]
    scored, *_ = panels_of((64, 64), boxes, [3.0, -1.0, 0.5])
    patches = {"high": scored[:30, :30], "low": scored[:30, 34:], "middle": scored[34:, :30]}
    assert dominant(patches["high"]) == "r"
    assert dominant(patches["low"]) == "b"
    assert "g" in dominant(patches["middle"])
    assert (scored[34:, 34:] == 40).all()


def test_what_is_selected_is_bright_and_the_rest_dark() -> None:
    _, chosen, *_ = panels_of((48, 72), selected=[[60.0, 8, 70, 16], [4.2, 30.4, 20, 99]])
    expected = np.full((48, 72, 3), 10)
    expected[8:16, 60:70] = 40
    expected[30:48, 4:20] = 40
    assert np.array_equal(chosen, expected)


def test_both_detectors_sure_finds_have_their_own_panels() -> None:
    size = (160, 160)
    student = detections([[10, 10, 70, 70], [90, 90, 150, 150]], [0.9, 0.4], size)
    teacher = detections([[90, 10, 150, 70]], [0.8], size)
    *_, mine, other = panels_of(size, student=student, teacher=teacher)
    # Around the box and its caption at the upper left corner.
    assert (mine[66:74, 8:72] != 40).any() and (mine[80:] == 40).all()
    assert (mine[:, 80:] == 40).all()
    assert (other[66:74, 88:152] != 40).any() and (other[80:] == 40).all()
    assert (other[:, :80] == 40).all()


def test_small_pictures_of_proposals_are_enlarged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.methods.pictures._LEGIBLE", 130)
    empty = detections([], [], (48, 64))
    picture = draw_discrepancy(
        gray((48, 64), []), torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, 4), empty, empty
    )
    assert picture.shape == (2 * 48, 4 * 2 * 64, 3)


# ------------------------------------------------------------- dense


@pytest.mark.parametrize(
    ("offset", "rows", "columns"),
    # Cell (2, 3) of stride 8: the center of its anchors is in its middle, or in its corner.
    [(0.5, (16, 24), (24, 32)), (0.0, (12, 20), (20, 28))],
)
def test_a_cell_is_hot_around_the_center_of_its_anchors(
    offset: float, rows: tuple, columns: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"MODEL__ANCHOR_GENERATOR__OFFSET": offset}
    student, teacher = tiny_dense.signals(
        tiny_dense.one_anchor(**changes), tiny_dense.one_anchor(1, **changes), tiny.batch()
    )
    student.head_outputs = [[torch.zeros_like(x) for x in y] for y in student.head_outputs]
    outputs = [[torch.zeros_like(x) for x in y] for y in teacher.head_outputs]
    outputs[0][1][0, 2, 2, 3] = 20.0
    teacher.head_outputs = outputs
    student.anchor_labels.fill_(tiny.NUM_CLASSES)
    heats: list[Tensor] = []
    monkeypatch.setattr(pictures, "draw_heat", lambda example, heat, *found: heats.append(heat))
    pictures.draw_dense_discrepancy(student, teacher)
    expected = torch.zeros(64, 64)
    expected[slice(*rows), slice(*columns)] = 0.5
    torch.testing.assert_close(heats[0], expected)
