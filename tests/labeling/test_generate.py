"""Labeling: the same file however it is interrupted, and as little memory for many images."""

from __future__ import annotations

import dataclasses
import gc
import json
import logging
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.structures import BoxMode
from helpers import tiny_labeling
from helpers.tiny_labeling import plan
from PIL import Image

from distill.data.pseudo.file import PseudoFile
from distill.labeling.generate import generate, label_images
from distill.labeling.images import ImageListing
from distill.labeling.job import LabelingJob
from distill.labeling.result import describe_quality, describe_result, write_result
from distill.labeling.shards import FolderLock

NAME = "images_to_label"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_labeling.teacher(tmp_path / "teacher")
    tiny_labeling.write_noise(tmp_path / "images", 5)
    return tmp_path


@pytest.fixture
def dataset(folder: Path) -> Iterator[list[dict]]:
    """A dataset of the images, without labels."""
    paths = sorted((folder / "images").iterdir(), reverse=True)
    records = [{"file_name": str(path), "image_id": 10 * i} for i, path in enumerate(paths)]
    DatasetCatalog.register(NAME, lambda: records)
    MetadataCatalog.get(NAME).thing_classes = ["cow", "ant"]
    yield records
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def stub_mapper() -> DatasetMapper:
    return DatasetMapper(is_train=False, augmentations=[], image_format="BGR")


def test_a_run_leaves_a_file_of_pseudo_labels_and_its_note(folder: Path) -> None:
    (sentence,) = generate(plan(folder, batch_size=2))
    out = folder / "out"
    assert {path.name for path in out.iterdir()} == {"pseudo.json", "generate.json", ".lock"}
    file = PseudoFile.load(out / "pseudo.json")
    assert [x["file_name"] for x in file.images] == [f"{i}.png" for i in range(5)]
    assert [(x["id"], x["height"]) for x in file.images] == [(i + 1, 40 + i) for i in range(5)]
    assert file.class_names == tiny_labeling.CLASSES
    assert file.info["counts"] == {"images": 5, "boxes": len(file.labels), "skipped": 0}
    assert file.info["skipped"] == [] and file.info["batch_size"] == 2
    above = int((file.labels.scores > 0.5).sum())
    assert file.info["boxes_above_0.5"] == above
    assert (file.labels.scores >= 0.05).all() and file.labels.counts(5).min() > 0
    assert sentence == describe_result(out / "pseudo.json")
    assert f"5 images, {len(file.labels)} boxes ({above / 5:.2f} an image above 0.5)" in sentence


def test_what_another_run_finished_meanwhile_is_left_alone(folder: Path) -> None:
    job = plan(folder)
    sentences = generate(job)
    before = job.result.stat().st_mtime_ns
    assert generate(job) == sentences
    assert job.result.stat().st_mtime_ns == before and not job.shards.exists()


def test_a_folder_into_which_another_run_labels_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FolderLock, "take", lambda _: False)
    with pytest.raises(ValueError, match="Another process labels into .*choose another --output"):
        generate(plan(folder))


def test_thresholds_drop_boxes_at_once(folder: Path) -> None:
    generate(plan(folder))
    labels = PseudoFile.load(folder / "out" / "pseudo.json").labels
    limit = float(np.sort(labels.scores)[len(labels) // 2])
    content = {"info": {}, "default": limit, "classes": {"bee": 1.0}}
    (folder / "t.json").write_text(json.dumps(content))
    generate(plan(folder, output=str(folder / "less"), thresholds=str(folder / "t.json")))
    less = PseudoFile.load(folder / "less" / "pseudo.json")
    assert list(less.info["thresholds"].values()) == [{"default": limit, "classes": {"bee": 1.0}}]
    kept = labels.select((labels.scores > limit) & (labels.classes != 1))
    assert 0 < len(kept) < len(labels)
    assert np.array_equal(less.labels.boxes, kept.boxes)
    assert np.array_equal(less.labels.scores, kept.scores)


def test_what_cannot_be_read_is_left_out_logged_and_counted(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "images" / "1.png").write_text("no image")
    Image.new("RGB", (1, 1)).save(folder / "images" / "ünï.png")
    with caplog.at_level(logging.WARNING):
        (sentence,) = generate(plan(folder, batch_size=2))
    file = PseudoFile.load(folder / "out" / "pseudo.json")
    assert [x["id"] for x in file.images] == [1, 3, 4, 5, 6]
    assert file.images[-1] == {"id": 6, "file_name": "ünï.png", "width": 1, "height": 1}
    reason = "it is no image, or of a format that Pillow does not read"
    assert file.info["skipped"] == [{"file_name": "1.png", "reason": reason}]
    assert file.info["counts"]["images"] == 5 and file.info["counts"]["skipped"] == 1
    assert f"{folder}/images/1.png is left out: {reason}." in caplog.text
    assert "1 images left out" in sentence


def test_nothing_but_unreadable_images_makes_an_empty_file(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.write_text("no image")
    generate(plan(folder, batch_size=3))
    file = PseudoFile.load(folder / "out" / "pseudo.json")
    assert (len(file.images), len(file.labels), file.info["counts"]["skipped"]) == (0, 0, 5)


def test_a_folder_that_vanishes_is_not_taken_for_unreadable_images(folder: Path) -> None:
    job = plan(folder)
    os.rename(folder / "images", folder / "elsewhere")
    with pytest.raises(FileNotFoundError, match="no longer there"):
        generate(job)
    os.rename(folder / "elsewhere", folder / "images")
    generate(job)
    assert PseudoFile.load(job.result).info["counts"]["skipped"] == 0


def test_the_images_of_a_dataset_keep_their_ids(folder: Path, dataset: list[dict]) -> None:
    (folder / "images" / "3.png").unlink()
    sentences = generate(plan(folder, images=None, dataset=NAME))
    file = PseudoFile.load(folder / "out" / "pseudo.json")
    names = {0: "4.png", 20: "2.png", 30: "1.png", 40: "0.png"}
    assert {x["id"]: x["file_name"] for x in file.images} == names
    assert file.info["dataset"] == NAME
    skipped = [{"file_name": "3.png", "reason": "No such file or directory"}]
    assert file.info["skipped"] == skipped
    assert len(sentences) == 1


def test_where_labels_are_known_boxes_are_compared_with_them(
    folder: Path, dataset: list[dict]
) -> None:
    job = plan(folder, images=None, dataset=NAME, opts=["MODEL.ROI_HEADS.NUM_CLASSES", "3"])
    rows = np.array([[5.0, 5, 25, 25, 0.9, 0], [30, 5, 50, 25, 0.8, 0], [5, 5, 25, 25, 0.4, 2]])
    box = {"bbox": [5, 5, 20, 20], "bbox_mode": BoxMode.XYWH_ABS}
    # An ant and a cow; the dataset has its classes in another order than the teacher.
    dataset[2]["annotations"] = [{**box, "category_id": 1}, {**box, "category_id": 0}]
    index = label_images(
        job.listing,
        stub_mapper(),
        lambda batch: [rows if x["image_id"] == 20 else rows[:0] for x in batch],
        job.shards,
        batch_size=1,
        num_workers=0,
    )
    assert index is not None
    # Of the boxes above 0.5 one finds the ant, and nothing the cow.
    assert describe_quality(job, index) == (
        "Boxes above 0.5: precision 50.0 %, recall 50.0 % at IoU 0.5."
    )


def test_an_image_in_a_shard_is_never_labeled_again(folder: Path) -> None:
    listing = ImageListing.from_folder(folder / "images")
    seen: list[int] = []

    def detect(batch: list[dict]) -> list[np.ndarray]:
        if len(seen) >= 4:
            raise RuntimeError("interrupted")
        seen.extend(x["image_id"] for x in batch)
        return [np.full((1, 6), float(x["image_id"])) for x in batch]

    sizes = {"batch_size": 2, "num_workers": 0}
    with pytest.raises(RuntimeError, match="interrupted"):
        label_images(listing, stub_mapper(), detect, folder / "shards", **sizes)
    assert seen == [1, 2, 3, 4]
    seen.clear()
    index = label_images(listing, stub_mapper(), detect, folder / "shards", **sizes)
    assert index is not None and seen == [5]
    rows = [found.tolist() for _, chunk in index.boxes() for found in chunk]
    assert rows == [[[float(i)] * 6] for i in range(1, 6)]


def test_the_file_does_not_depend_on_the_number_of_workers(folder: Path) -> None:
    generate(plan(folder, batch_size=2))
    whole = (folder / "out" / "pseudo.json").read_bytes()
    job = plan(folder, batch_size=2, output=str(folder / "again"), num_workers=2)
    job.claim()
    generate(job)
    assert job.result.read_bytes() == whole


def test_memory_does_not_grow_with_the_number_of_images(folder: Path) -> None:
    rows = np.array([[1.0, 1, 5, 5, 0.9, 0], [2, 2, 6, 6, 0.3, 1]])
    peaks = []
    # The first time shows what is loaded and kept once.
    for time, number in enumerate((100, 100, 2000)):
        job = plan(folder, output=str(folder / f"out{time}"))
        items = (("0.png", i) for i in range(1, number + 1))
        listing = ImageListing.pack(str(folder / "images"), items)
        Image.new("L", (4, 4)).save(folder / "images" / "0.png")
        peaks.append(_peak(job, listing, rows))
        file = PseudoFile.load(job.result)
        assert (len(file.images), len(file.labels)) == (number, 2 * number)
    # An image costs 12 bytes in the index and 8 in the list of what is to be done, and what arrays
    # that grow keep in reserve; any object kept for it would cost 60 more.
    assert peaks[2] - peaks[1] < 40 * 1900


def _peak(job: LabelingJob, listing: ImageListing, rows: np.ndarray) -> int:
    """Most memory, in bytes, that labeling and writing takes beyond the listing."""
    job = dataclasses.replace(job, listing=listing)
    gc.collect()
    tracemalloc.start()
    try:
        index = label_images(
            listing,
            stub_mapper(),
            lambda batch: [rows for _ in batch],
            job.shards,
            batch_size=1,
            num_workers=0,
        )
        assert index is not None
        write_result(job, index)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
