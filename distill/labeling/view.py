"""An HTML page to look through images with the boxes that teachers found, and the true labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.data.coco_json.folders import ImageFolder
from distill.data.pseudo.file import PseudoFile
from distill.labeling.view_images import image_source, page_images, path_below
from distill.labeling.view_summary import summary
from distill.utils.files import atomic_write
from distill.utils.page import render_page

__all__ = ["View", "write_view"]

_TEMPLATE = Path(__file__).with_name("view_page") / "page.html"


@dataclass(frozen=True)
class View:
    """What a written page shows.

    Attributes:
        page: the HTML file.
        images: how many images it shows.
        missing: how many of these have no file.
        boxes: how many boxes it shows.
        labels: how many true labels it shows.
    """

    page: Path
    images: int
    missing: int
    boxes: int
    labels: int


def write_view(
    pseudo: PseudoFile,
    page: Path,
    *,
    title: str,
    labels: PseudoFile | None = None,
    image_root: str | Path | None = None,
    num_images: int = 200,
    seed: int | None = 0,
    threshold: float = 0.5,
    embed: bool = False,
) -> View:
    """Writes one HTML file that needs no server and loads nothing but the images.

    Equal arguments make equal bytes. Images are referred to where they are, relative to the page,
    which has to stay where it is then. Formats that browsers don't show are put into the page.

    Args:
        pseudo: what the teachers found.
        page: the file to write; its folder is made.
        title: heads the page.
        labels: true labels, matched by the ids of the images and the names of the classes.
        image_root: folder of the images, instead of the one that `pseudo` names.
        num_images: how many images are shown, at most.
        seed: draws them; None takes the first ones.
        threshold: boxes of higher scores are shown at first; the page has a slider.
        embed: put all images into the page.

    Returns:
        What the page shows.

    Raises:
        ValueError: there is no image, one lies elsewhere than below its folder, or the labels are
            of other images.
        FileNotFoundError: none of the images has a file.
        OSError: the page can't be written.
    """
    if not pseudo.images:
        raise ValueError(f"{title} lists no images, so there is nothing to see: make it anew.")
    classes = list(dict.fromkeys((*pseudo.class_names, *(labels.class_names if labels else ()))))
    chosen = _choose(len(pseudo.images), num_images, seed)
    images = page_images(pseudo, chosen, classes, labels)
    root = Path(image_root or pseudo.info["image_root"] or "")
    missing, folder = 0, ImageFolder(root)
    for image in images:
        path = path_below(folder, image["name"])
        image["source"] = image_source(path, page.parent, embed) if path.is_file() else None
        missing += not path.is_file()
    if missing == len(images):
        raise FileNotFoundError(
            f"Of {title} none of the {missing} images to show is in {root}, such as "
            f"{images[0]['name']}: give the folder of the images with --image-root."
        )
    values = {
        "title": title,
        "threshold": threshold,
        "has_labels": labels is not None,
        "missing": missing,
        "data": {"classes": classes, "teachers": list(pseudo.teachers), "images": images},
        **summary(pseudo, labels, classes, threshold),
    }
    # What is no valid Unicode can't be in a file.
    html = render_page(_TEMPLATE, values).encode(errors="backslashreplace")
    page.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(page, lambda stream: stream.write(html))
    boxes, true_boxes = (sum(len(x[key] or ()) for x in images) for key in ("boxes", "labels"))
    return View(page, len(images), missing, boxes, true_boxes)


def _choose(total: int, number: int, seed: int | None) -> list[int]:
    """Numbers of images, ascending; a larger choice contains the smaller one."""
    order = np.arange(total) if seed is None else np.random.default_rng(seed).permutation(total)
    return np.sort(order[:number]).tolist()
