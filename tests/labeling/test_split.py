from __future__ import annotations

import numpy as np
import pytest

import distill
from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import HUMAN, PseudoLabels
from distill.labeling.split import draw_images, labeled_subset, unlabeled_rest


def _labels(num_images: int, order: np.ndarray | None = None) -> PseudoFile:
    """Images, of which every second has a box, its left edge the number in the image's name."""
    order = np.arange(num_images) if order is None else order
    names = [
        {"id": int(i) + 1, "file_name": f"{i:04d}.png", "width": 9, "height": 9} for i in order
    ]
    image = np.flatnonzero(order % 2 == 0)
    boxes = np.tile([0.0, 0, 2000, 1], (len(image), 1))
    boxes[:, 0] = order[image]
    ones, zeros = np.ones(len(image)), np.zeros(len(image), int)
    labels = PseudoLabels(image, boxes, ones, zeros, zeros)
    info = {"dataset": "some", "image_root": "/images", "contributor": "somebody"}
    return PseudoFile(info, names, ("ant",), (HUMAN,), labels)


def _names(file: PseudoFile) -> list[str]:
    return [image["file_name"] for image in file.images]


@pytest.mark.parametrize(
    ("images", "percent", "drawn"),
    [(200, 1, 2), (200, 20, 40), (50, 5, 3), (49, 5, 2), (10, 1, 1), (10, 100, 10), (1000, 0.1, 1)],
)
def test_a_share_is_rounded_to_whole_images(images, percent, drawn):
    numbers = draw_images(_labels(images), percent, 0)
    assert len(numbers) == drawn
    assert (np.diff(numbers) > 0).all()


def test_a_smaller_share_is_inside_a_larger_one():
    shares = [set(draw_images(_labels(300), percent, 4)) for percent in (1, 2, 5, 10, 20)]
    assert all(small < large for small, large in zip(shares, shares[1:], strict=False))


def test_the_seed_alone_decides():
    labels = _labels(100)
    first = draw_images(labels, 20, 0).tolist()
    np.random.seed(9)
    assert draw_images(labels, 20, 0).tolist() == first
    assert draw_images(labels, 20, 1).tolist() != first


def test_the_order_of_the_images_does_not_matter():
    order = np.random.default_rng(0).permutation(60)
    sets = [
        sorted(_names(labeled_subset(labels, draw_images(labels, 20, 3))))
        for labels in (_labels(60), _labels(60, order))
    ]
    assert sets[0] == sets[1]


def test_a_subset_has_its_images_and_their_boxes():
    labels = _labels(100)
    drawn = np.array([4, 5, 9, 96])
    file = labeled_subset(labels, drawn, percent=4.0, seed=0)
    assert _names(file) == ["0004.png", "0005.png", "0009.png", "0096.png"]
    assert file.labels.image.tolist() == [0, 3]
    assert file.labels.boxes[:, 0].tolist() == [4, 96]
    assert file.info == {
        "description": "Labels of some images",
        "format": 1,
        "library": distill.__version__,
        "dataset": "some",
        "image_root": "/images",
        "percent": 4.0,
        "seed": 0,
        "counts": {"images": 4, "boxes": 2},
        "contributor": "somebody",
    }


def test_the_rest_are_the_other_images_without_boxes():
    labels = _labels(100)
    drawn = draw_images(labels, 20, 0)
    rest = unlabeled_rest(labels, drawn)
    assert len(rest.images) == 80 and len(rest.labels) == 0
    assert sorted(_names(rest) + _names(labeled_subset(labels, drawn))) == _names(labels)
    assert rest.class_names == ("ant",) and rest.info["counts"] == {"images": 80, "boxes": 0}


def test_subsets_survive_a_file(tmp_path):
    labels = _labels(50)
    for number, make in enumerate((labeled_subset, unlabeled_rest)):
        file = make(labels, draw_images(labels, 20, 0), seed=0)
        file.save(tmp_path / f"{number}.json")
        again = PseudoFile.load(tmp_path / f"{number}.json")
        assert again.images == file.images and again.info == file.info
        assert np.array_equal(again.labels.boxes, file.labels.boxes)
        assert np.array_equal(again.labels.image, file.labels.image)


@pytest.mark.parametrize(
    ("images", "percent", "seed", "message"),
    [
        (5, 0, 0, "--percent is 0: "),
        (5, 101, 0, "--percent is 101: "),
        (5, float("nan"), 0, "--percent is nan: "),
        (5, 1, -1, "--seed is -1: "),
        (0, 1, 0, "no image"),
    ],
)
def test_a_draw_that_is_none_is_refused(images, percent, seed, message):
    with pytest.raises(ValueError, match=message):
        draw_images(_labels(images), percent, seed)


def test_a_rest_without_images_is_refused():
    labels = _labels(5)
    with pytest.raises(ValueError, match="all were drawn"):
        unlabeled_rest(labels, draw_images(labels, 100, 0))
