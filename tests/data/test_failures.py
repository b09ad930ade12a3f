"""An image that can't be read when it is drawn is named at its turn, or replaced and counted."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import inference_on_dataset
from detectron2.structures import Boxes, Instances
from helpers import tiny, tiny_labeling

from distill.data.image_files import UnreadableImage
from distill.data.loader import build_test_loader, build_train_loader
from distill.data.mixed_loader import build_mixed_loader
from distill.engine import build_evaluator

NAME = "dataset_of_failures"
WORKERS = pytest.mark.parametrize("workers", [0, 2])


@pytest.fixture
def images(tmp_path: Path) -> Iterator[list[Path]]:
    """Six images with one object each as a dataset; 2 and 3 are cut behind their headers."""
    paths = tiny_labeling.write_noise(tmp_path, 6)
    for path in paths[2:4]:
        path.write_bytes(path.read_bytes()[:3000])
    one = {"bbox": [4, 5, 30, 31], "bbox_mode": 0, "category_id": 0, "iscrowd": 0}
    records = [
        {"file_name": str(x), "image_id": i, "width": 60, "height": 40 + i, "annotations": [one]}
        for i, x in enumerate(paths)
    ]
    DatasetCatalog.register(NAME, lambda: records)
    MetadataCatalog.get(NAME).set(thing_classes=["ant", "bee", "cow"], evaluator_type="coco")
    yield paths
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def config(workers: int, skip: bool, **changes: object) -> CfgNode:
    return tiny.rcnn_cfg(
        DATASETS__TRAIN=(NAME,),
        DATASETS__TEST=(NAME,),
        DATALOADER__NUM_WORKERS=workers,
        DATALOADER__SKIP_UNREADABLE=skip,
        SOLVER__IMS_PER_BATCH=2,
        INPUT__MIN_SIZE_TRAIN=(32, 40),
        INPUT__MIN_SIZE_TEST=32,
        **changes,
    )


@WORKERS
def test_the_error_of_a_worker_comes_at_its_turn_as_one_sentence(
    images: list[Path], workers: int
) -> None:
    drawn = []
    with pytest.raises(UnreadableImage) as caught:
        for batch in build_train_loader(config(workers, skip=False), seed=1):
            drawn.append([x["image_id"] for x in batch])
    assert len(drawn) < 3 and not {2, 3} & {x for batch in drawn for x in batch}
    assert str(caught.value).startswith(f"The image {caught.value.path} can't be used (")
    assert caught.value.path in map(str, images[2:4]) and "\n" not in str(caught.value)
    # The log tells where, whichever process it was in.
    text = "".join(traceback.format_exception(caught.value))
    assert "in read_image" in text and "mapper.py" in text


def test_another_image_takes_the_place_whatever_the_workers_and_the_start(
    images: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    loaders = [build_train_loader(config(workers, skip=True), seed=1) for workers in (0, 2)]
    first, second = (list(islice(loader, 6)) for loader in loaders)
    for batch, other in zip(first, second, strict=True):
        assert [x["image_id"] for x in batch] == [x["image_id"] for x in other]
        assert all(torch.equal(x["image"], y["image"]) for x, y in zip(batch, other, strict=True))
    drawn = [x["image_id"] for batch in first for x in batch]
    # Two epochs; 4 is the next one that can be read after 2 and after 3.
    assert sorted(drawn) == sorted([0, 1, 4, 4, 4, 5] * 2)
    assert all("instead_of" not in x for batch in first for x in batch)
    loaders[0].seek(1, 4)
    assert [x["image_id"] for x in next(iter(loaders[0]))] == drawn[8:10]
    said = [x.getMessage() for x in caplog.records if "another one is in its place" in x.message]
    assert "2 image(s) so far" in said[1] and {str(x) for x in images[2:4]} == {
        x.split()[0] for x in said
    }


@WORKERS
def test_unlabeled_streams_do_the_same(images: list[Path], workers: int) -> None:
    unlabeled = DatasetCatalog.get(NAME)
    batches = build_mixed_loader(config(workers, skip=True), unlabeled, seed=1)
    assert not {2, 3} & {x["image_id"] for batch in islice(batches, 8) for x in batch}
    with pytest.raises(UnreadableImage):
        list(islice(build_mixed_loader(config(workers, skip=False), unlabeled, seed=1), 8))


@WORKERS
def test_a_test_image_is_refused_or_left_out(images: list[Path], workers: int) -> None:
    loader = build_test_loader(config(workers, skip=True), NAME)
    assert [x["image_id"] for (x,) in loader] == [0, 1, 4, 5]
    with pytest.raises(UnreadableImage, match="2.png can't be used"):
        list(build_test_loader(config(workers, skip=False), NAME))


class Perfect(torch.nn.Module):
    """Finds the one object of every image."""

    def forward(self, inputs: list[dict]) -> list[dict]:
        found = Instances((inputs[0]["height"], inputs[0]["width"]))
        found.pred_boxes = Boxes(torch.tensor([[4.0, 5.0, 30.0, 31.0]]))
        found.scores, found.pred_classes = torch.tensor([0.9]), torch.tensor([0])
        return [{"instances": found}]


def test_skipped_test_images_count_as_images_in_which_nothing_is_found(
    images: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images[5].unlink()
    cfg = config(0, skip=True)
    evaluator = build_evaluator(cfg, NAME, str(tmp_path))
    results = inference_on_dataset(Perfect(), build_test_loader(cfg, NAME), evaluator)
    # 3 of 6 objects at full precision: recall 0.5, of whose 101 points COCO counts 51.
    assert results["bbox"]["AP"] == pytest.approx(100 * 51 / 101)
    assert "1 of 6 images of DATASETS.TEST" in caplog.text
    assert "them, which count as images in which nothing is found." in caplog.text
    assert "it counts as an image in which nothing is found; 2 image(s) so far" in caplog.text


def test_a_dataset_that_can_not_be_read_at_all_ends(images: list[Path]) -> None:
    for path in images:
        path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match="rejected .* images in a row.*the files of its images"):
        next(iter(build_train_loader(config(0, skip=True), seed=1)))
