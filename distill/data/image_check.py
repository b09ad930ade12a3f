"""All images that a config trains and tests on are looked at before anything is built."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from distill.data.mapper import Record
from distill.data.pseudo.records import image_records
from distill.data.registration import register_json_dataset
from distill.data.usable_records import refuse_unusable
from distill.utils.distributed import from_main_process

__all__ = ["check_images"]


def check_images(cfg: CfgNode, *, training: bool = True) -> None:
    """Refuses images that are missing, damaged or of another size than their record says.

    The main process looks for all; the datasets are registered.

    Args:
        cfg: the config; DATALOADER.CHECK_IMAGES and SKIP_UNREADABLE are read.
        training: look at what is trained on too.

    Raises:
        ValueError, FileNotFoundError: one sentence that counts them and names the first.
    """
    if cfg.DATALOADER.CHECK_IMAGES == "none" or cfg.DATALOADER.SKIP_UNREADABLE:
        return
    from_main_process(lambda: _check(cfg, training))


def _check(cfg: CfgNode, training: bool) -> None:
    for key in ("TRAIN", "UNLABELED", "PSEUDO", "TEST") if training else ("TEST",):
        # A dataset that is there twice is loaded once.
        for name in dict.fromkeys(cfg.DATASETS[key]):
            records = _records(cfg, key, name)
            # Detectron2 finds out after the training.
            if key == "TEST" and not len(records):
                raise ValueError(f"DATASETS.TEST has {name}, which holds no image: correct it.")
            refuse_unusable(cfg, records, key, name)


def _records(cfg: CfgNode, key: str, name: str) -> Sequence[Record]:
    if key == "PSEUDO":
        return image_records(name, register_json_dataset(name))
    records = DatasetCatalog.get(name)
    if key == "TRAIN" and cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        return list(_with_objects(records))
    return records


def _with_objects(records: Sequence[Record]) -> Iterator[Record]:
    """Those that Detectron2 trains on: images without annotations, or of crowds alone, are not."""
    for number in range(len(records)):
        found = records[number].get("annotations")
        if found is None or any(not x.get("iscrowd", 0) for x in found):
            yield records[number]
