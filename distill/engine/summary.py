"""What a run is going to do, on a screen; the log file has everything."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

import detectron2
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils import comm
from tabulate import tabulate

from distill.data.coco_json import read_coco
from distill.utils.version import VERSION
from distill.utils.wording import some_of
from distill.views.classes import dataset_class_names
from distill.views.detector_keys import WRAPPER, expected_classes, own_architecture

__all__ = ["file_handlers", "kept_for_later", "only_in_files", "run_summary"]


def run_summary(cfg: CfgNode, *, training: bool = True) -> str:
    """Student, teacher, methods, datasets, schedule, output, devices and versions, a line each.

    Args:
        cfg: the config of the run, which has been checked; its datasets are registered.
        training: whether it trains, or only evaluates.
    """
    model, solver = cfg.MODEL, cfg.SOLVER
    classes = expected_classes(cfg)
    own = f"{own_architecture(cfg)}, {model.BACKBONE.NAME}"
    rows = [("student", own + (f", {classes} classes" if classes else ""))]
    rows.append(("weights", model.WEIGHTS or "none"))
    if training:
        rows += _teaching(cfg)
    for key in ("TRAIN", "PSEUDO", "UNLABELED", "TEST") if training else ("TEST",):
        rows += [(key.lower(), _dataset(name)) for name in list(cfg.DATASETS[key])[:_MOST]]
        if len(cfg.DATASETS[key]) > _MOST:
            rows.append((key.lower(), f"and {len(cfg.DATASETS[key]) - _MOST} more"))
    if training:
        steps = f", steps at {', '.join(map(str, solver.STEPS))}" if solver.STEPS else ""
        rows += [
            ("batch", f"{solver.IMS_PER_BATCH} images, {solver.MAX_ITER} iterations"),
            ("rate", f"{solver.BASE_LR:g}, {solver.OPTIMIZER}, {solver.LR_SCHEDULER_NAME}{steps}"),
        ]
    rows += [("output", cfg.OUTPUT_DIR), ("device", _devices(cfg)), ("versions", _versions())]
    return tabulate(rows, tablefmt="plain")


# Datasets of a kind that are shown.
_MOST = 3
# Bytes of a COCO file that is not read again to count its images; the log has the count later.
_LARGE = 100_000_000


def _teaching(cfg: CfgNode) -> list[tuple[str, str]]:
    """The teacher, and every method with its schedule and weights."""
    node = cfg.DISTILL.TEACHER
    if not (node.CONFIG_FILE and (cfg.DISTILL.METHODS or cfg.DATASETS.UNLABELED)):
        return [("teacher", "none")]
    rows = [("teacher", f"{node.CONFIG_FILE}, {node.WEIGHTS or 'random weights'}")]
    for name in cfg.DISTILL.METHODS if cfg.MODEL.META_ARCHITECTURE == WRAPPER else ():
        keys = cfg.DISTILL[name]
        weights = [f"{key} {value}" for key, value in keys.items() if key.endswith("WEIGHT")]
        rows.append(("method", ", ".join([name, f"{keys.SCHEDULE.NAME} schedule", *weights])))
    return rows


def _dataset(name: str) -> str:
    """A dataset's name, images and classes, as far as they are known without loading it."""
    metadata, parts = MetadataCatalog.get(name), []
    file = metadata.get("json_file")
    if file and os.path.isfile(file) and os.path.getsize(file) < _LARGE:
        parts.append(f"{len(read_coco(file, keep_unlisted=False).images)} images")
    if names := dataset_class_names(name):
        parts.append(f"{len(names)} classes ({some_of(names, 5)})")
    return f"{name}: {', '.join(parts)}" if parts else name


def _devices(cfg: CfgNode) -> str:
    device, number = cfg.MODEL.DEVICE, comm.get_world_size()
    if device.startswith("cuda") and torch.cuda.is_available():
        device = torch.cuda.get_device_name(0)
    return f"{device}, {number} process{'es' if number > 1 else ''}"


def _versions() -> str:
    return f"distill {VERSION}, Detectron2 {detectron2.__version__}, PyTorch {torch.__version__}"


def file_handlers(logger: logging.Logger) -> Iterator[logging.Handler]:
    """The handlers of a logger, and of those above it, that write to a file."""
    at: logging.Logger | None = logger
    while at is not None:
        for handler in at.handlers:
            # The console's handler has a stream too, but not one of a file's name.
            if os.path.isfile(str(getattr(getattr(handler, "stream", None), "name", ""))):
                yield handler
        at = at.parent if at.propagate else None


@contextlib.contextmanager
def only_in_files(name: str) -> Iterator[None]:
    """Lets a logger write what is less than a warning to files alone, not to the console.

    Args:
        name: the logger's; those below it have their own way.
    """
    logger = logging.getLogger(name)

    def divert(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            return True
        for handler in file_handlers(logger):
            handler.handle(record)
        return False

    logger.addFilter(divert)
    try:
        yield
    finally:
        logger.removeFilter(divert)


@contextlib.contextmanager
def kept_for_later(name: str) -> Iterator[list[logging.LogRecord]]:
    """Keeps what a logger and those below it say in a list, until there is a log to write it to.

    Args:
        name: the logger's.
    """
    logger = logging.getLogger(name)
    records: list[logging.LogRecord] = []
    keeper = logging.Handler()
    keeper.emit = records.append  # type: ignore[method-assign]
    before = logger.handlers, logger.propagate, logger.level
    logger.handlers, logger.propagate = [keeper], False
    logger.setLevel(logging.INFO)
    try:
        yield records
    finally:
        logger.handlers, logger.propagate = before[:2]
        logger.setLevel(before[2])
