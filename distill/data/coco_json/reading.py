"""Reads COCO files, each once as long as it does not change."""

from __future__ import annotations

import contextlib
import gc
import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from detectron2.utils.file_io import PathManager

from distill.data.coco_json.boxes import BoxCleaner
from distill.data.coco_json.entries import clean_categories, clean_images, entries, unused_roots
from distill.data.coco_json.file import CocoFile
from distill.data.coco_json.geometry import boxes_outside, refuse_shares
from distill.data.coco_json.text import parse_json
from distill.data.coco_json.values import Ids
from distill.utils.wording import some_of

__all__ = ["forget_large_files", "read_coco", "without_collector"]

# What is kept of files, in bytes of their text: all together, and of one for the whole run.
_CACHE_SIZE = 1 << 30
_LARGE = 1 << 25

_cache: OrderedDict[tuple, tuple[int, CocoFile]] = OrderedDict()


def read_coco(path: str | Path, *, keep_unlisted: bool = True) -> CocoFile:
    """Reads a COCO file of boxes in one form.

    Ids and numbers may be text, ids may be of any kind, categories in any order; see
    :class:`CocoFile` for what comes of it. A file that did not change is not read again.

    Args:
        path: the file; also a remote one that Detectron2 fetches.
        keep_unlisted: refuse annotations of images that are not listed; else they are left out,
            as Detectron2 does.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: one sentence that names the file, the entry and what to do.
    """
    path = Path(PathManager.get_local_path(os.fspath(path)))
    state = path.stat() if path.is_file() else None
    key = (path.absolute(), state and state.st_mtime_ns, state and state.st_size)
    if key in _cache and not (keep_unlisted and _cache[key][1].left_out):
        _cache.move_to_end(key)
        return _cache[key][1]
    with without_collector():
        content = parse_json(path)
        try:
            file = _clean(path, content, keep_unlisted)
        except ValueError as error:
            raise ValueError(f"{path}: {error}.") from error
    _cache[key] = (state.st_size, file)
    while len(_cache) > 1 and sum(size for size, _ in _cache.values()) > _CACHE_SIZE:
        _cache.popitem(last=False)
    return file


def forget_large_files() -> None:
    """Lets the memory of large files go, once all that a run needs was made of them."""
    for key in [key for key, (size, _) in _cache.items() if size > _LARGE]:
        del _cache[key]


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Keeps the garbage collector from going through millions of new objects again and again."""
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


def _clean(path: Path, content: dict, keep_unlisted: bool) -> CocoFile:
    images = clean_images(entries(content, "images"))
    has_annotations = "annotations" in content
    annotations = entries(content, "annotations") if has_annotations else []
    if annotations and "segments_info" in annotations[0]:
        raise ValueError(
            "it is a panoptic file, whose annotations have segments for boxes: name COCO's file of "
            "instances"
        )
    categories = clean_categories(entries(content, "categories"))
    ids = Ids(image["id"] for image in images), Ids(category["id"] for category in categories)
    cleaner = BoxCleaner(*ids, keep_unlisted=keep_unlisted)
    annotations = cleaner.clean(annotations)
    refuse_shares(annotations)
    notes = [f"{count} {text}" if count else text for text, count in cleaner.counts.items()]
    notes += boxes_outside(images, annotations)
    roots = unused_roots(categories, {x["category_id"] for x in annotations})
    if roots:
        names = some_of([repr(category["name"]) for category in roots])
        notes.append(f"{names}, without boxes and the parent of other categories, is no class")
    info = content.get("info")
    known = ("info", "images", "annotations", "categories")
    rest = {key: value for key, value in content.items() if key not in known}
    return CocoFile(
        path,
        info if isinstance(info, dict) else {},
        images,
        annotations,
        [category for category in categories if category not in roots],
        rest,
        has_annotations,
        cleaner.left_out,
        tuple(roots),
        tuple(f"{note}." for note in notes),
    )
