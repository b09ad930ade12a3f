"""What a teacher is to label and how, checked before any process starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from detectron2.config import CfgNode

from distill.data.pseudo.thresholds import Thresholds
from distill.data.pseudo.writing import file_header
from distill.labeling.box_finder import BoxFinder, build_labeling_teacher, read_labeling_config
from distill.labeling.evaluation_sets import refuse_evaluation_images
from distill.labeling.images import ImageListing, refuse_images_in
from distill.labeling.teacher_names import check_teacher_count, teacher_classes
from distill.utils.files import file_digest, json_digest, load_json, write_json
from distill.views.teacher import FrozenTeacher
from distill.views.teacher_weights import local_weights

__all__ = ["LabelingJob", "plan_job"]

# The settings that a folder's boxes depend on, and where each comes from.
_SOURCES = {
    "teacher": "--config-file or --weights",
    "config_sha256": "--config-file or --opts",
    "weights_sha256": "--weights",
    "classes": "--classes",
    "dataset": "--dataset",
    "image_root": "--images or --dataset",
    "images": "list of images",
    "images_sha256": "list of images",
    "batch_size": "--batch-size",
    "score_floor": "--score-floor",
    "thresholds": "--thresholds",
    "precision": "--precision",
    "tta": "--tta",
}


@dataclass(frozen=True)
class LabelingJob:
    """A teacher, images, and the folder that gets the boxes.

    Attributes:
        output: the folder of what is labeled so far, and of a note of what it is.
        cfg: the teacher's config.
        config_file: where it comes from.
        weights: a local file, or "" for a teacher at random weights.
        weights_sha256: its digest, or "".
        class_names: names of the teacher's classes.
        listing: the images.
        batch_size: images of a batch, which is what a run that was killed may lose.
        score_floor: lowest score of a box.
        thresholds: scores that boxes have to exceed besides, or None.
        precision: see `FrozenTeacher`.
        tta: whether Detectron2's test-time augmentation is used.
        num_workers: processes that read images, for each process that labels.
        waits_for_others: whether it waits while another run labels into the folder, instead of
            giving up.
        elsewhere: what to do where the folder holds something else, for messages.
    """

    waits_for_others: ClassVar[bool] = False
    elsewhere: ClassVar[str] = "choose another --output"

    output: Path
    cfg: CfgNode
    config_file: str
    weights: str
    weights_sha256: str
    class_names: tuple[str, ...]
    listing: ImageListing
    batch_size: int
    score_floor: float
    thresholds: Thresholds | None
    precision: str
    tta: bool
    num_workers: int

    @property
    def result(self) -> Path:
        """The file of pseudo labels."""
        return self.output / "pseudo.json"

    @property
    def shards(self) -> Path:
        """The folder of what is labeled so far."""
        return self.output / "shards"

    @property
    def teacher(self) -> str:
        """Its name in the file: unlike others of the same config."""
        return f"{Path(self.config_file).stem}-{self.weights_sha256[:8] or 'random'}"

    def settings(self) -> dict[str, Any]:
        """All that the boxes depend on; not the number of processes."""
        return {
            "teacher": self.teacher,
            "config_sha256": _config_digest(self.cfg),
            "weights_sha256": self.weights_sha256,
            "classes": list(self.class_names),
            "dataset": self.listing.dataset,
            "image_root": self.listing.root,
            "images": len(self.listing),
            "images_sha256": self.listing.digest(),
            "batch_size": self.batch_size,
            "score_floor": self.score_floor,
            "thresholds": self.thresholds.as_dict() if self.thresholds else {},
            "precision": self.precision,
            "tta": self.tta,
        }

    def header(self) -> dict[str, Any]:
        """The header of the file, without what is known at the end only."""
        config = self.config_file
        origin = {
            # A place on this machine means nothing on others.
            "config": Path(config).name if os.path.isabs(config) else config,
            "weights": Path(self.weights).name,
            "weights_sha256": self.weights_sha256,
        }
        thresholds = {self.teacher: self.thresholds.as_dict()} if self.thresholds else {}
        return file_header(
            f"Boxes that {self.teacher} found",
            dataset=self.listing.dataset,
            image_root=self.listing.root,
            teachers={self.teacher: origin},
            score_floor=self.score_floor,
            thresholds=thresholds,
            batch_size=self.batch_size,
            precision=self.precision,
            tta=self.tta,
        )

    def build_teacher(self) -> FrozenTeacher:
        """Builds the teacher; see :func:`distill.labeling.box_finder.build_labeling_teacher`."""
        return build_labeling_teacher(
            self.cfg, self.weights, self.class_names, precision=self.precision
        )

    def build_box_finder(self) -> BoxFinder:
        """Builds the teacher and what asks it for boxes; see :meth:`build_teacher`."""
        limits = None if self.thresholds is None else self.thresholds.of(self.class_names)
        return BoxFinder(
            self.build_teacher(), score_floor=self.score_floor, limits=limits, tta=self.tta
        )

    def is_finished(self) -> bool:
        """Whether the same job has been done.

        Raises:
            ValueError: if the folder holds something else.
        """
        self._compare()
        return self.result.exists()

    def claim(self) -> None:
        """Notes in the folder whose it is.

        Raises:
            ValueError: if it holds something else.
            OSError: if it can't be written.
        """
        if not self._compare():
            write_json(self.note, self.settings())

    @property
    def note(self) -> Path:
        """The file that says whose the folder is."""
        return self.output / "generate.json"

    def _compare(self) -> bool:
        """Whether the folder is this job's; False if it is nobody's."""
        if not self.note.exists():
            if self.result.exists() or self.shards.exists():
                raise ValueError(f"{self.output} holds boxes of unknown origin: {self.elsewhere}.")
            return False
        try:
            found = load_json(self.note.read_bytes())
            found = {key: found[key] for key in _SOURCES}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.note} is damaged: {self.elsewhere}, or delete {self.output}."
            ) from error
        for key, value in self.settings().items():
            if found[key] != value:
                raise ValueError(
                    f"{self.output} holds boxes made with another {_SOURCES[key]}"
                    f"{_difference(found[key], value)}: {self.elsewhere}, or delete it."
                )
        return True


def plan_job(
    *,
    output: str,
    config_file: str,
    weights: str,
    dataset: str | None,
    images: str | None,
    classes: Sequence[str] | None = None,
    thresholds: str | None = None,
    score_floor: float = 0.05,
    batch_size: int = 1,
    precision: str = "auto",
    tta: bool = False,
    num_workers: int | None = None,
    opts: Sequence[str] = (),
    use_gpu: bool = False,
    force: bool = False,
) -> LabelingJob:
    """Checks what a user asks for.

    Args:
        output: folder of the result; it is made.
        config_file: the teacher's config, a path or model_zoo://<config path>.
        weights: a path, a URL, or model_zoo://<config path>.
        dataset: a registered dataset, or None.
        images: a folder, or None; one of the two is needed.
        classes: names of the teacher's classes; by default those of its training dataset.
        thresholds: a thresholds file.
        score_floor: lowest score of a box.
        batch_size: images of a batch.
        precision: "auto", float32, float16 or bfloat16.
        tta: use test-time augmentation.
        num_workers: processes that read images; by default DATALOADER.NUM_WORKERS of the teacher.
        opts: KEY VALUE overrides of the teacher's config.
        use_gpu: False moves the teacher to the CPU.
        force: label even images that evaluations use.

    Raises:
        ValueError, FileNotFoundError: one sentence that names what is wrong.
    """
    cfg = read_labeling_config(config_file, opts, use_gpu=use_gpu)
    names = teacher_classes(cfg, classes, "give them with --classes")
    check_teacher_count(cfg, names)
    limits = Thresholds.load(thresholds) if thresholds else None
    if limits is not None:
        limits.check_classes(names, f"--thresholds {thresholds}")
    if not force:
        refuse_evaluation_images(dataset, images, cfg.DATASETS.TEST)
    file = local_weights(weights, "--weights")
    listing = ImageListing.from_dataset(dataset) if dataset else ImageListing.from_folder(images)
    job = LabelingJob(
        output=Path(output),
        cfg=cfg,
        config_file=config_file,
        weights=file,
        weights_sha256=file_digest(file),
        class_names=names,
        listing=listing,
        batch_size=batch_size,
        score_floor=score_floor,
        thresholds=limits,
        precision=precision,
        tta=tta,
        num_workers=cfg.DATALOADER.NUM_WORKERS if num_workers is None else num_workers,
    )
    if not job.note.exists():
        refuse_images_in(job.output)
    job.output.mkdir(parents=True, exist_ok=True)
    return job


def _config_digest(cfg: CfgNode) -> str:
    """Digest of what the boxes depend on; where the teacher runs is no part of it."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = cfg.MODEL.WEIGHTS = ""
    parts = [cfg.MODEL.dump(), cfg.INPUT.dump(), cfg.TEST.AUG.dump(), cfg.TEST.DETECTIONS_PER_IMAGE]
    return json_digest(parts)


def _difference(there: Any, here: Any) -> str:
    """Both values, where they are short enough to tell something."""
    both = f" ({there} there, {here} here)"
    return both if len(both) < 100 and not isinstance(here, dict) else ""
