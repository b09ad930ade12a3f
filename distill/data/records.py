"""The images that a config trains on, and how often each of them comes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.data import get_detection_dataset_dicts
from detectron2.data.samplers import RepeatFactorTrainingSampler

from distill.data.catalog import use_one_reader
from distill.data.coco_json import forget_large_files
from distill.data.mapper import Record
from distill.data.pseudo.records import load_pseudo_records
from distill.data.targets import fit_annotations
from distill.data.usable_records import usable_records
from distill.views.classes import dataset_class_names
from distill.views.detector_keys import classes_key, expected_classes

__all__ = ["repeat_factors", "evaluation_records", "training_records"]


def training_records(cfg: CfgNode) -> Sequence[Record]:
    """The images of DATASETS.TRAIN and of DATASETS.PSEUDO, without those the config filters out.

    With DATASETS.REPEAT_FACTORS each has a "repeat_factor".

    Args:
        cfg: the config; DATASETS, DATALOADER, MODEL and DISTILL.PSEUDO are read.

    Raises:
        ValueError: if no image is left, some can't be used and are not to be skipped, or labels are
            of classes that the student does not have.
        FileNotFoundError: if a file of pseudo labels or images are missing.
    """
    names, files = tuple(cfg.DATASETS.TRAIN), tuple(cfg.DATASETS.PSEUDO)
    factors = tuple(cfg.DATASETS.REPEAT_FACTORS)
    if not names and not files:
        raise ValueError(
            "DATASETS.TRAIN and DATASETS.PSEUDO are empty: name at least one training dataset."
        )
    try:
        return _records(cfg, names, files, factors)
    finally:
        # What a run evaluates on stays.
        forget_large_files()


def _records(
    cfg: CfgNode, names: tuple[str, ...], files: tuple[str, ...], factors: tuple[float, ...]
) -> Sequence[Record]:
    if factors:
        parts = [_labeled_records(cfg, (name,)) for name in names]
        parts += [load_pseudo_records(cfg, name) for name in files]
        return [
            {**record, "repeat_factor": factor}
            for part, factor in zip(parts, factors, strict=True)
            for record in part
        ]
    labeled = _labeled_records(cfg, names) if names else []
    if not files:
        return labeled
    return [*labeled, *(x for name in files for x in load_pseudo_records(cfg, name))]


def _labeled_records(cfg: CfgNode, names: tuple[str, ...]) -> Sequence[Record]:
    for name in names:
        use_one_reader(name)
    try:
        records = get_detection_dataset_dicts(
            names,
            # What an image has is known once its annotations fit the config.
            filter_empty=False,
            proposal_files=cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None,
        )
    except AssertionError as error:
        raise ValueError(_nothing_to_train_on(names, f" ({error})")) from error
    records = fit_annotations(cfg, names, records)
    if not len(records):
        raise ValueError(_nothing_to_train_on(names))
    if not all(dataset_class_names(name) for name in names):
        _check_labels(cfg, names, records)
    return usable_records(cfg, records, "TRAIN", *names)


def _nothing_to_train_on(names: Sequence[str], reason: str = "") -> str:
    return (
        f"DATASETS.TRAIN {names} holds no usable image{reason}: check its files, or set "
        "DATALOADER.FILTER_EMPTY_ANNOTATIONS to False if images without boxes are meant."
    )


def evaluation_records(cfg: CfgNode, name: str) -> Sequence[Record]:
    """The images of one of DATASETS.TEST; see `usable_records`.

    Args:
        cfg: the config; DATALOADER, DATASETS and MODEL are read.
        name: the dataset.

    Raises:
        ValueError, FileNotFoundError: one sentence, if images can't be used and are not to be
            skipped.
    """
    proposals = None
    if cfg.MODEL.LOAD_PROPOSALS:
        proposals = [cfg.DATASETS.PROPOSAL_FILES_TEST[list(cfg.DATASETS.TEST).index(name)]]
    use_one_reader(name)
    try:
        records = get_detection_dataset_dicts([name], filter_empty=False, proposal_files=proposals)
    except AssertionError as error:
        raise ValueError(f"DATASETS.TEST has {name}, which holds no image: correct it.") from error
    return usable_records(cfg, records, "TEST", name)


def _check_labels(cfg: CfgNode, names: tuple[str, ...], records: Sequence[Record]) -> None:
    """Refuses labels beyond the student's classes, which would be background without a word."""
    number = expected_classes(cfg)
    if number is None:
        return
    annotations = (x for i in range(len(records)) for x in records[i].get("annotations", ()))
    highest = max((x["category_id"] for x in annotations), default=-1)
    if highest >= number:
        raise ValueError(
            f"DATASETS.TRAIN {names} has labels of {highest + 1} classes, but {classes_key(cfg)} "
            f"is {number}: set it to {highest + 1}, or number the labels from 0 to {number - 1}"
        )


def repeat_factors(cfg: CfgNode, records: Sequence[Record]) -> torch.Tensor | None:
    """How often each image comes in an epoch; None for once.

    That is what DATALOADER.SAMPLER_TRAIN says, times the records' "repeat_factor".

    Args:
        cfg: the config; DATALOADER is read.
        records: the images.

    Raises:
        ValueError: if the sampler is unknown.
    """
    name = cfg.DATALOADER.SAMPLER_TRAIN
    if name not in ("TrainingSampler", "RepeatFactorTrainingSampler"):
        raise ValueError(
            f"DATALOADER.SAMPLER_TRAIN {name!r} is unknown: use TrainingSampler or "
            "RepeatFactorTrainingSampler."
        )
    own = None
    if "repeat_factor" in records[0]:
        own = torch.tensor([float(record["repeat_factor"]) for record in records])
    if name == "TrainingSampler":
        return own
    rare = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
        records, cfg.DATALOADER.REPEAT_THRESHOLD
    )
    return rare if own is None else rare * own
