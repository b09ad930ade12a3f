from __future__ import annotations

import random
from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog

from distill import add_distill_config
from distill.data.loader import TrainLoader, build_mapper
from distill.data.mixed_loader import MixedTrainLoader, build_mixed_loader


def _records(number: int, **fields) -> list[dict]:
    return [{"image_id": i, "width": 10 + i % 2, "height": 10, **fields} for i in range(number)]


def _augment(record: dict) -> dict:
    return {**record, "drawn": (random.random(), np.random.rand(), torch.rand(1).item())}


def _loader(*, alternate: bool, shares: tuple[int, int] = (2, 2), **options) -> MixedTrainLoader:
    labeled = TrainLoader(_records(6), _augment, batch_size=shares[0], seed=1)
    other = TrainLoader(_records(6, pseudo=True), _augment, batch_size=shares[1], seed=1)
    return MixedTrainLoader(labeled, other, alternate=alternate, seed=1, **options)


def _take(loader: MixedTrainLoader, number: int) -> list:
    return list(islice(loader, number))


def _ids(batches: list[list[dict]], *, pseudo: bool) -> list[int]:
    return [x["image_id"] for batch in batches for x in batch if x.get("pseudo", False) == pseudo]


def _config(name: str, mix: str, records: list[dict] | None = None, **unlabeled):
    if name not in DatasetCatalog.list():
        DatasetCatalog.register(name, lambda: records or _annotated(4))
    cfg = get_cfg()
    add_distill_config(cfg)
    cfg.DATASETS.TRAIN = (name,)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH = 4
    cfg.DISTILL.UNLABELED.MIX = mix
    for key, value in unlabeled.items():
        cfg.DISTILL.UNLABELED[key] = value
    return cfg


def _annotated(number: int) -> list[dict]:
    return _records(number, annotations=[{"category_id": 0, "iscrowd": 0}])


def test_batches_alternate_strictly():
    batches = _take(_loader(alternate=True), 8)
    assert [[x.get("pseudo", False) for x in batch] for batch in batches] == [
        [False] * 2,
        [True] * 2,
    ] * 4


def test_every_batch_of_a_ratio_holds_both_kinds():
    batches = _take(_loader(alternate=False, shares=(1, 3)), 4)
    assert all([x.get("pseudo", False) for x in b] == [False, True, True, True] for b in batches)


@pytest.mark.parametrize("alternate", [True, False])
@pytest.mark.parametrize("pseudo", [True, False])
def test_every_image_of_a_stream_comes_once_an_epoch(alternate, pseudo):
    ids = _ids(_take(_loader(alternate=alternate), 12 if alternate else 6), pseudo=pseudo)
    assert [sorted(ids[i : i + 6]) for i in (0, 6)] == [list(range(6))] * 2
    assert ids[:6] != ids[6:]


def test_equally_large_streams_have_orders_and_augmentations_of_their_own():
    batches = _take(_loader(alternate=False), 9)
    assert _ids(batches, pseudo=True) != _ids(batches, pseudo=False)
    drawn = [x["drawn"] for batch in batches for x in batch]
    assert len(set(drawn)) == len(drawn) == 36


@pytest.mark.parametrize("alternate", [True, False])
def test_two_ranks_share_the_images_of_one(alternate, monkeypatch):
    shares = (4, 4) if alternate else (3, 1)
    expected = _take(_loader(alternate=alternate, shares=shares), 6)
    ranks = []
    for rank in (0, 1):
        monkeypatch.setattr("detectron2.utils.comm.get_rank", lambda rank=rank: rank)
        monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
        ranks.append(_take(_loader(alternate=alternate, shares=shares), 6))
    for whole, first, second in zip(expected, *ranks, strict=True):
        assert whole[0::2] == first and whole[1::2] == second


@pytest.mark.parametrize("alternate", [True, False])
@pytest.mark.parametrize("iteration", [4, 5])
def test_a_loader_continues_from_any_iteration(alternate, iteration):
    expected = _take(_loader(alternate=alternate), 9)[iteration:]
    other = _loader(alternate=alternate)
    iterator = iter(other)  # made before the checkpoint is read, as Detectron2 0.6 does
    other.seek(seed=1, iteration=iteration)
    assert list(islice(iterator, 9 - iteration)) == expected
    other.seek(seed=2, iteration=iteration)
    assert _take(other, 9 - iteration) != expected


def test_batches_do_not_depend_on_the_number_of_workers():
    expected = _take(_loader(alternate=True), 5)
    assert _take(_loader(alternate=True, num_workers=2), 5) == expected


def test_the_second_of_the_alternating_batches_holds_both_kinds_of_images():
    cfg = _config("mixed_alternate", "alternate")
    loader = build_mixed_loader(cfg, _records(4, pseudo=True), seed=3, mapper=_augment)
    batches = _take(loader, 4)
    assert not _ids(batches[0::2], pseudo=True)
    union = batches[1::2]
    assert sorted(_ids(union, pseudo=True)) == sorted(_ids(union, pseudo=False)) == [0, 1, 2, 3]


def test_wide_and_tall_images_do_not_meet_in_alternating_batches():
    cfg = _config("mixed_grouped", "alternate")
    cfg.SOLVER.IMS_PER_BATCH = 2
    loader = build_mixed_loader(cfg, _records(4, pseudo=True), seed=3, mapper=_augment)
    assert all(batch[0]["width"] == batch[1]["width"] for batch in _take(loader, 12))


def test_a_rare_class_comes_more_often_in_the_labeled_stream():
    rare = [{**x, "annotations": [{"category_id": int(x["image_id"] == 0)}]} for x in _records(8)]
    cfg = _config("mixed_rare", "ratio", rare)
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.DATALOADER.SAMPLER_TRAIN = "RepeatFactorTrainingSampler"
    cfg.DATALOADER.REPEAT_THRESHOLD = 0.5
    loader = build_mixed_loader(cfg, _records(3, pseudo=True), seed=3, mapper=_augment)
    assert _ids(_take(loader, 90), pseudo=False).count(0) == 20  # sqrt(.5 / (1/8)) = 2


def test_a_fraction_is_rounded_to_whole_images():
    cfg = _config("mixed_ratio", "ratio", LABELED_FRACTION=0.3)
    loader = build_mixed_loader(cfg, _records(5, pseudo=True), seed=3, mapper=_augment)
    assert len(_ids(_take(loader, 1), pseudo=False)) == 1


@pytest.mark.parametrize("fraction", [0.1, 0.9])
def test_a_fraction_that_leaves_no_image_of_a_kind_is_refused(fraction):
    cfg = _config("mixed_ratio", "ratio", LABELED_FRACTION=fraction)
    with pytest.raises(ValueError, match="LABELED_FRACTION.*SOLVER.IMS_PER_BATCH"):
        build_mixed_loader(cfg, _records(5, pseudo=True), seed=3, mapper=_augment)


def test_images_without_boxes_pass_the_mappers(tiny_coco):
    cfg = _config("mixed_mapped", "ratio")
    record = {**DatasetCatalog.get("tiny_train")[0], "annotations": [], "pseudo": True}
    for augmentation in ("default", "ssd"):
        cfg.INPUT.AUGMENTATION = augmentation
        sample = build_mapper(cfg, is_train=True)(record)
        assert sample["pseudo"] and len(sample["instances"]) == 0
        assert sample["instances"].gt_boxes.tensor.shape == (0, 4)
