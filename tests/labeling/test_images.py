"""Which images are labeled, and how they are read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.data import transforms as T
from helpers import tiny_labeling
from PIL import Image

from distill.labeling.images import ImageListing, MappedImages, printable

NAME = "listed_by_test"


@pytest.fixture
def registered() -> Iterator[list[dict]]:
    """The records of a dataset, to be filled."""
    records: list[dict] = []
    DatasetCatalog.register(NAME, lambda: records)
    yield records
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def mapper(format: str = "BGR") -> DatasetMapper:
    return DatasetMapper(is_train=False, augmentations=[T.Resize((20, 30))], image_format=format)


def test_a_folder_is_listed_by_path_with_ids_from_1(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/z.png", "a.png", "ünï/蜂.tiff", "note.txt", "paper.pdf", "plain"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    listing = ImageListing.from_folder(tmp_path)
    names = ["a.png", "a/z.png", "b.JPG", "ünï/蜂.tiff"]
    assert list(listing) == [(name, number) for number, name in enumerate(names, start=1)]
    assert (listing.root, listing.dataset) == (str(tmp_path), None)
    assert listing.digest() == ImageListing.from_folder(tmp_path).digest()
    (tmp_path / "c.png").write_bytes(b"")
    assert listing.digest() != ImageListing.from_folder(tmp_path).digest()


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no image")
    with pytest.raises(ValueError, match="holds no image .*correct its path"):
        ImageListing.from_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere is no folder"):
        ImageListing.from_folder(tmp_path / "nowhere")


def test_links_to_folders_are_not_followed_and_this_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "itself.png").symlink_to(tmp_path / "itself.png")
    listing = ImageListing.from_folder(tmp_path)
    assert [name for name, _ in listing] == ["a.png", "itself.png"]
    assert f"1 links to folders below {tmp_path} are not followed" in caplog.text
    # What can't be opened is left out with a reason, as any other file.
    assert "symbolic links" in MappedImages(listing, mapper())[1]["reason"]


def test_a_dataset_keeps_its_order_and_ids(registered: list[dict], tmp_path: Path) -> None:
    MetadataCatalog.get(NAME).image_root = str(tmp_path)
    for name, image_id in (("sub/b.png", 9), ("sub/a.png", np.int64(4)), ("sub/c.png", "x")):
        registered.append({"file_name": str(tmp_path / name), "image_id": image_id})
    listing = ImageListing.from_dataset(NAME)
    assert list(listing) == [("sub/b.png", 9), ("sub/a.png", 4), ("sub/c.png", "x")]
    assert (listing.root, listing.dataset) == (str(tmp_path), NAME)


@pytest.mark.parametrize("given", [None, "elsewhere"])
def test_without_a_folder_of_all_its_images_it_is_the_deepest_they_share(
    registered: list[dict], tmp_path: Path, given: str | None
) -> None:
    if given:
        (tmp_path / given).mkdir()
        MetadataCatalog.get(NAME).image_root = str(tmp_path / given)
    registered += [{"file_name": str(tmp_path / "x" / name)} for name in ("1/a.png", "2/b.png")]
    listing = ImageListing.from_dataset(NAME)
    assert listing.root == str(tmp_path / "x")
    assert list(listing) == [("1/a.png", 1), ("2/b.png", 2)]


def test_ids_that_are_there_twice_are_refused(registered: list[dict]) -> None:
    registered += [{"file_name": f"/x/{name}.png", "image_id": 3} for name in "ab"]
    with pytest.raises(ValueError, match="share an image_id"):
        ImageListing.from_dataset(NAME)
    registered.clear()
    with pytest.raises(ValueError, match="holds no image"):
        ImageListing.from_dataset(NAME)


def test_a_listing_takes_little_more_than_its_names() -> None:
    items = [(f"{number:012d}.jpg", number) for number in range(10_000)]
    listing = ImageListing.pack("/x", items)
    assert listing[0] == items[0] and listing[9_999] == items[9_999] and len(listing) == 10_000
    assert len(listing.packed) + listing.ends.nbytes < 40 * len(items)


def test_a_readable_image_is_mapped_as_by_the_mapper(tmp_path: Path) -> None:
    (path,) = tiny_labeling.write_noise(tmp_path, 1)
    found = MappedImages(ImageListing.from_folder(tmp_path), mapper())[0]
    expected = mapper()({"file_name": str(path), "image_id": 1})
    assert found.keys() == expected.keys()
    assert (found["height"], found["width"]) == (40, 60)
    assert found["image"].equal(expected["image"]) and found["image"].shape == (3, 20, 30)


def test_what_is_no_image_has_a_reason_without_the_folder(tmp_path: Path) -> None:
    (path,) = tiny_labeling.write_noise(tmp_path, 1)
    (tmp_path / "cut.png").write_bytes(path.read_bytes()[:3000])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.png").mkdir()
    with open(os.fsencode(tmp_path) + b"/\xff.png", "wb"):
        pass
    listing = ImageListing.from_folder(tmp_path)
    images = MappedImages(listing, mapper())
    reasons = {printable(listing[i][0]): images[i].get("reason") for i in range(len(listing))}
    assert reasons.pop("0.png") is None
    assert reasons.keys() == {"cut.png", "empty.png", "text.jpg", "gone.png", "\\udcff.png"}
    assert reasons["text.jpg"].startswith("it is no image")
    assert reasons["gone.png"] == "No such file or directory"
    assert reasons["\\udcff.png"] == "its name is no valid UTF-8"
    assert all(reason and str(tmp_path) not in reason for reason in reasons.values())


def test_an_image_of_one_pixel_is_an_image(tmp_path: Path) -> None:
    Image.new("L", (1, 1), 7).save(tmp_path / "x.png")
    found = MappedImages(ImageListing.from_folder(tmp_path), mapper("RGB"))[0]
    assert (found["width"], found["height"]) == (1, 1) and (found["image"] == 7).all()
