from __future__ import annotations

import random
from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog

from distill.config import add_distill_config
from distill.data.loader import TrainLoader, build_train_loader


def _records(number: int = 7) -> list[dict]:
    return [{"image_id": i, "width": 10 + i % 2, "height": 10} for i in range(number)]


def _augment(record: dict) -> dict:
    return {**record, "drawn": (random.random(), np.random.rand(), torch.rand(1).item())}


def _take(loader: TrainLoader, number: int) -> list:
    return list(islice(loader, number))


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(workers):
    expected = _take(TrainLoader(_records(), _augment, batch_size=3, seed=1), 6)
    loader = TrainLoader(_records(), _augment, batch_size=3, seed=1, num_workers=workers)
    assert _take(loader, 6) == expected


def test_augmentation_differs_between_samples_and_epochs():
    batches = _take(TrainLoader(_records(), _augment, batch_size=1, seed=1), 21)
    assert len({sample["drawn"] for batch in batches for sample in batch}) == 21


def test_a_loader_continues_from_any_iteration():
    loader = TrainLoader(_records(), _augment, batch_size=2, seed=1, group_by_aspect_ratio=True)
    expected = _take(loader, 9)[5:]
    other = TrainLoader(_records(), _augment, batch_size=2, seed=8, group_by_aspect_ratio=True)
    iterator = iter(other)  # made before the checkpoint is read, as Detectron2 0.6 does
    other.seek(seed=1, iteration=5)
    assert list(islice(iterator, 4)) == expected


def test_global_generators_are_left_as_they_were():
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    _take(TrainLoader(_records(), _augment, batch_size=2, seed=1), 1)
    after = random.getstate(), np.random.get_state()[1].tolist()
    assert states[:2] == after
    # Making a torch loader draws one number from torch's; mapping itself draws none.
    with_loader = torch.get_rng_state().tolist()
    torch.set_rng_state(torch.tensor(states[2], dtype=torch.uint8))
    torch.empty((), dtype=torch.int64).random_()
    assert torch.get_rng_state().tolist() == with_loader


def test_wide_and_tall_images_do_not_meet_in_a_batch():
    loader = TrainLoader(_records(), _augment, batch_size=2, seed=1, group_by_aspect_ratio=True)
    assert all(batch[0]["width"] == batch[1]["width"] for batch in _take(loader, 12))


def test_a_rejected_image_is_replaced_by_the_next_usable_one():
    def reject_odd(record: dict) -> dict | None:
        return None if record["image_id"] % 2 else record

    loader = TrainLoader(_records(6), reject_odd, batch_size=6, seed=1)
    (batch,) = _take(loader, 1)
    assert sorted(sample["image_id"] for sample in batch) == [0, 0, 2, 2, 4, 4]


def test_a_mapper_that_rejects_everything_is_an_error():
    loader = TrainLoader(_records(), lambda record: None, batch_size=1, seed=1)
    with pytest.raises(ValueError, match="mapper rejected"):
        next(iter(loader))


def test_records_without_size_are_refused_where_batches_are_grouped():
    with pytest.raises(ValueError, match="ASPECT_RATIO_GROUPING"):
        TrainLoader([{"image_id": 0}], _augment, batch_size=1, seed=0, group_by_aspect_ratio=True)


def _config(name: str, records: list[dict]):
    DatasetCatalog.register(name, lambda: records)
    cfg = get_cfg()
    add_distill_config(cfg)
    cfg.DATASETS.TRAIN = (name,)
    cfg.DATALOADER.NUM_WORKERS = 0
    return cfg


def _annotated(categories: list[int], image_id: int) -> dict:
    annotations = [{"category_id": category, "iscrowd": 0} for category in categories]
    return {"image_id": image_id, "width": 4, "height": 4, "annotations": annotations}


def test_images_without_boxes_are_left_out_as_the_config_says():
    cfg = _config("loader_half_empty", [_annotated([0], 0), _annotated([], 1)])
    assert len(build_train_loader(cfg, seed=0, mapper=_augment).records) == 1
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    assert len(build_train_loader(cfg, seed=0, mapper=_augment).records) == 2


def test_a_rare_class_comes_more_often_where_the_config_says():
    cfg = _config("loader_rare", [_annotated([int(i == 0)], i) for i in range(8)])
    cfg.DATALOADER.SAMPLER_TRAIN = "RepeatFactorTrainingSampler"
    cfg.DATALOADER.REPEAT_THRESHOLD = 0.5
    cfg.SOLVER.IMS_PER_BATCH = 1
    batches = _take(build_train_loader(cfg, seed=0, mapper=_augment), 90)
    assert sum(batch[0]["image_id"] == 0 for batch in batches) == 20  # sqrt(.5 / (1/8)) = 2


@pytest.mark.parametrize("records", [[], [_annotated([], 0)]])
def test_a_dataset_without_usable_images_is_refused(records):
    cfg = _config(f"loader_empty_{len(records)}", records)
    with pytest.raises(ValueError, match="DATASETS.TRAIN.*no usable image"):
        build_train_loader(cfg, seed=0)


def test_no_dataset_and_an_unknown_sampler_are_refused():
    cfg = _config("loader_one", [_annotated([0], 0)])
    cfg.DATALOADER.SAMPLER_TRAIN = "Roulette"
    with pytest.raises(ValueError, match="SAMPLER_TRAIN 'Roulette'"):
        build_train_loader(cfg, seed=0)
    cfg.DATASETS.TRAIN = ()
    with pytest.raises(ValueError, match="DATASETS.TRAIN and DATASETS.PSEUDO are empty"):
        build_train_loader(cfg, seed=0)
