"""Records of images that can be used: the others are refused, or left out and counted."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from functools import partial

from detectron2.config import CfgNode
from torch.utils.data import Dataset, Subset

from distill.data.image_files.unusable import Unusable, find_unusable, has_local_file
from distill.data.registration import is_json_dataset, json_path
from distill.utils.config_keys import defines_keys, limit
from distill.utils.distributed import from_main_process
from distill.utils.key_limits import one_of
from distill.utils.trainer_keys import only_trainer_acts_on
from distill.utils.wording import some_of

__all__ = ["refuse_unusable", "usable_numbers", "usable_records"]

_logger = logging.getLogger(__name__)

# Datasets of which it was said that their images are at addresses.
_SAID: set[str] = set()


@defines_keys
def _add_image_keys(cfg: CfgNode) -> None:
    # How images are looked at before training: "header" (each is there, is an image, and has the
    # size that its record says), "decode" (each is read whole besides), or "none".
    cfg.DATALOADER.CHECK_IMAGES = "header"
    # Go on without images that are missing, damaged or of another size than their record says,
    # counted in the log. A training image that fails when it is drawn is replaced by the next one;
    # a test image counts as one in which nothing is found.
    cfg.DATALOADER.SKIP_UNREADABLE = False
    limit(cfg.DATALOADER, CHECK_IMAGES=one_of("header", "decode", "none"))
    only_trainer_acts_on({"DATALOADER.SKIP_UNREADABLE": False})


def usable_records(cfg: CfgNode, records: Sequence, key: str, *names: str) -> Sequence:
    """The records whose images can be used; to be called on all ranks, of which one looks.

    Args:
        cfg: the config; DATALOADER.CHECK_IMAGES and SKIP_UNREADABLE are read.
        records: in Detectron2's format, a list or a dataset of torch's.
        key: which of DATASETS they come from, such as TRAIN, for messages.
        names: the datasets.

    Raises:
        ValueError, FileNotFoundError: one sentence, if images can't be used and are not to be
            skipped, or none is left.
    """
    kept = usable_numbers(cfg, records, key, *names)
    if len(kept) == len(records):
        return records
    return Subset(records, kept) if isinstance(records, Dataset) else [records[i] for i in kept]


def usable_numbers(cfg: CfgNode, records: Sequence, key: str, *names: str) -> Sequence[int]:
    """The places of the records whose images can be used; see :func:`usable_records`."""
    every = range(len(records))
    if cfg.DATALOADER.CHECK_IMAGES == "none":
        return every
    _say_what_is_not_looked_at(records, _source(key, names))
    unusable = set(from_main_process(partial(_unusable, cfg, records, key, names)))
    return [number for number in every if number not in unusable] if unusable else every


def refuse_unusable(cfg: CfgNode, records: Sequence, key: str, *names: str) -> None:
    """Looks at images in this process alone, unless those that can't be used are to be skipped.

    Args:
        cfg: as :func:`usable_records` has it and the other arguments.
        records: the records.
        key: which of DATASETS they come from.
        names: the datasets.

    Raises:
        ValueError, FileNotFoundError: one sentence, if some can't be used.
    """
    if cfg.DATALOADER.CHECK_IMAGES != "none" and not cfg.DATALOADER.SKIP_UNREADABLE:
        _unusable(cfg, records, key, names)


def _unusable(cfg: CfgNode, records: Sequence, key: str, names: Sequence[str]) -> list[int]:
    """The places of images to leave out."""
    found = find_unusable(records, decode=cfg.DATALOADER.CHECK_IMAGES == "decode")
    if not found:
        return []
    what = _describe(found, len(records), _source(key, names))
    if cfg.DATALOADER.SKIP_UNREADABLE and len(found) < len(records):
        effect = ", which count as images in which nothing is found" if key == "TEST" else ""
        _logger.warning("%s; DATALOADER.SKIP_UNREADABLE goes on without them%s.", what, effect)
        return [x.number for x in found]
    missing = any(x.kind == "missing" for x in found)
    error = FileNotFoundError if missing else ValueError
    advice = f"put them there{_other_place(names)}" if missing else "replace or remove them"
    if len(found) < len(records):
        advice += ", or set DATALOADER.SKIP_UNREADABLE to True to go on without them"
    raise error(f"{what}: {advice}")


def _describe(found: Sequence[Unusable], total: int, source: str) -> str:
    """How many of a source's images can't be used, by kind, with the first of each."""
    images, parts = f" of {total} images of {source}", []
    for kind, count in Counter(x.kind for x in found).items():
        first = next(x for x in found if x.kind == kind)
        reason = "" if kind == "missing" else f" ({first.reason})"
        parts.append(f"{count}{images} are {kind}, {first.path}{reason} among them")
        images = ""
    return ", and ".join(parts)


def _source(key: str, names: Sequence[str]) -> str:
    shown = [str(json_path(name)) if is_json_dataset(name) else name for name in names]
    return f"DATASETS.{key} {some_of(shown)}"


def _other_place(names: Sequence[str]) -> str:
    files = [json_path(name) for name in names if is_json_dataset(name)]
    return f", write {files[0]}@FOLDER" if files else ""


def _say_what_is_not_looked_at(records: Sequence, source: str) -> None:
    """Says once that images at addresses are read when they are drawn."""
    if source in _SAID or not len(records):
        return
    first = records[0]
    if "file_name" in first and not has_local_file(first):
        _SAID.add(source)
        _logger.info(
            "The images of %s are at addresses, such as %s: they are not looked at before they are "
            "drawn.",
            *(source, first["file_name"]),
        )
