"""Subsets of a dataset's images with their labels, for training with few labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import PseudoLabels
from distill.data.pseudo.writing import file_header
from distill.labeling.provenance import with_header

__all__ = ["check_share", "draw_images", "labeled_subset", "unlabeled_rest"]


def check_share(percent: float, seed: int) -> None:
    """Verifies the options of :func:`draw_images`.

    Raises:
        ValueError: one sentence that names the option that is out of range.
    """
    if not 0 < percent <= 100:
        raise ValueError(f"--percent is {percent:g}: it must be above 0 and at most 100.")
    if seed < 0:
        raise ValueError(f"--seed is {seed}: it must not be negative.")


def draw_images(labels: PseudoFile, percent: float, seed: int) -> np.ndarray:
    """Draws images at random; the seed and the images' names alone decide.

    For one seed a smaller share is inside a larger one.

    Args:
        labels: N images; those without boxes are drawn as well.
        percent: share of the images, above 0 and up to 100; rounded to whole images, at least one.
        seed: not negative.

    Returns:
        Their numbers, ascending.

    Raises:
        ValueError: one sentence, if an argument is out of range or there is no image.
    """
    check_share(percent, seed)
    if not labels.images:
        raise ValueError("The labels list no image: give a dataset with images as --labels.")
    # By name: another order of the same list draws the same images.
    by_name = np.argsort(np.array([image["file_name"] for image in labels.images]), kind="stable")
    order = by_name[np.random.default_rng(seed).permutation(len(by_name))]
    count = max(1, int(len(order) * percent / 100 + 0.5))
    return np.sort(order[:count])


def labeled_subset(labels: PseudoFile, drawn: np.ndarray, **header: Any) -> PseudoFile:
    """Some of the images with all of their boxes, crowds, masks and whatever else is known.

    Args:
        labels: N images with boxes.
        drawn: numbers of images, ascending.
        header: what else the header says; plain values.
    """
    return _file(labels.select_images(drawn), "Labels of some images", header)


def unlabeled_rest(labels: PseudoFile, drawn: np.ndarray, **header: Any) -> PseudoFile:
    """The other images, without any box.

    Args:
        labels: N images.
        drawn: numbers of the images to leave out.
        header: what else the header says; plain values.

    Raises:
        ValueError: one sentence, if no image is left.
    """
    rest = np.setdiff1d(np.arange(len(labels.images)), drawn)
    if not len(rest):
        raise ValueError("--rest has no image, as all were drawn: lower --percent.")
    none = PseudoLabels.none()
    rest_file = replace(labels.select_images(rest), labels=none, crowds=none)
    return _file(rest_file, "Images without labels", header)


def _file(file: PseudoFile, description: str, header: dict[str, Any]) -> PseudoFile:
    place = {key: file.info[key] for key in ("dataset", "image_root")}
    counts = {"images": len(file.images), "boxes": len(file.labels)}
    own = file_header(description, **place, **header, counts=counts)
    return replace(file, info=with_header(file, own))
