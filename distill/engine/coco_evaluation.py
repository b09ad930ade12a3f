"""COCO's metrics over what the one reader makes of a file."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.evaluation import COCOEvaluator
from detectron2.utils.file_io import PathManager
from pycocotools.coco import COCO

from distill.data.coco_json import CocoFile, read_coco
from distill.data.coco_json.file import Entry
from distill.data.coco_json.keypoints import keypoint_metadata, keypoint_numbers
from distill.data.coco_json.masks import is_sound_rle, usable_mask

try:
    from faster_coco_eval import COCOeval_faster
except ImportError:
    COCOeval_faster = None

__all__ = ["FasterCOCOEvaluator", "NormalizedCOCOEvaluator", "coco_index"]

_logger = logging.getLogger(__name__)

Detection = dict[str, Any]


class NormalizedCOCOEvaluator(COCOEvaluator):
    """Detectron2's evaluator of a COCO file whose ids may be of any kind.

    pycocotools and its descendants take ids for numbers and 0 for no match. They are given numbers
    from 1 on; what is written to disk has the file's own ids.
    """

    def __init__(
        self, dataset_name: str, *args: Any, json_file: str | None = None, **options: Any
    ) -> None:
        """Reads the dataset's file.

        Args:
            dataset_name: a registered dataset.
            args: what Detectron2's evaluator takes.
            json_file: its labels; by default the "json_file" of its metadata.
            options: likewise what Detectron2's evaluator takes.

        Raises:
            FileNotFoundError, ValueError: one sentence, if the file is missing or damaged.
        """
        metadata = MetadataCatalog.get(dataset_name)
        self._file = file = read_coco(json_file or metadata.json_file, keep_unlisted=False)
        with _empty_dataset() as stand_in:
            super().__init__(stand_in, *args, **options)
        self._do_evaluation = file.has_annotations
        # Without a mapping of ids: the classes are given as the numbers that the index has.
        self._metadata = Metadata(name=dataset_name).set(thing_classes=list(file.class_names))
        numbers = metadata.get("thing_dataset_id_to_contiguous_id") or file.class_places()
        self._category_ids = {place: category_id for category_id, place in numbers.items()}
        self._category_numbers = {x["id"]: i for i, x in enumerate(file.categories, start=1)}
        self._image_numbers = {x["id"]: i for i, x in enumerate(file.images, start=1)}

    def _eval_predictions(self, predictions: list[dict], img_ids: list | None = None) -> None:
        detections = list(itertools.chain.from_iterable(p["instances"] for p in predictions))
        detections = [{**x, "category_id": self._category_id(x["category_id"])} for x in detections]
        if self._output_dir:
            path = os.path.join(self._output_dir, "coco_instances_results.json")
            with PathManager.open(path, "w") as stream:
                json.dump(detections, stream)
        if not self._do_evaluation:
            _logger.info("The dataset has no annotations to evaluate with.")
            return
        tasks = sorted(self._tasks or self._tasks_from_predictions(detections))
        numbered = [
            {
                **x,
                "category_id": self._category_numbers[x["category_id"]],
                "image_id": self._image_number(x["image_id"]),
            }
            for x in detections
            # A category without boxes that is no class.
            if x["category_id"] in self._category_numbers
        ]
        numbers = None if img_ids is None else [self._image_number(x) for x in img_ids]
        for task in tasks:
            self._coco_api = coco_index(self._file, task)
            # An evaluation adds keys to the detections that it is given.
            self._evaluate_task([dict(x) for x in numbered], task, numbers)

    def _evaluate_task(self, detections: list[Detection], task: str, img_ids: list | None) -> None:
        """Adds the metrics of one task to the results, as Detectron2 computes them."""
        before = self._tasks, self._output_dir
        self._tasks, self._output_dir = (task,), None
        try:
            super()._eval_predictions([{"instances": detections}], img_ids)
        finally:
            self._tasks, self._output_dir = before

    def _eval_box_proposals(self, predictions: list[dict]) -> None:
        evaluate, self._do_evaluation = self._do_evaluation, False
        super()._eval_box_proposals(predictions)  # writes them
        self._do_evaluation = evaluate
        if not evaluate:
            return
        self._coco_api = coco_index(self._file)
        folder, self._output_dir = self._output_dir, None
        numbered = [{**x, "image_id": self._image_number(x["image_id"])} for x in predictions]
        super()._eval_box_proposals(numbered)
        self._output_dir = folder

    def _category_id(self, contiguous: int) -> int | str:
        """The id in the dataset's JSON file of a class."""
        if contiguous not in self._category_ids:
            raise ValueError(
                f"The model predicts class {contiguous}, but the dataset has "
                f"{len(self._category_ids)} classes; set MODEL.ROI_HEADS.NUM_CLASSES or "
                "MODEL.RETINANET.NUM_CLASSES to that."
            )
        return self._category_ids[contiguous]

    def _image_number(self, image_id: int | str) -> int:
        if image_id not in self._image_numbers:
            raise ValueError(
                f"The image {image_id!r} of {self._metadata.name} is not in {self._file.path}: the "
                "dataset's records and its json_file must be of the same images."
            )
        return self._image_numbers[image_id]


class FasterCOCOEvaluator(NormalizedCOCOEvaluator):
    """COCO's box and mask metrics, computed by faster-coco-eval; pycocotools gives the same."""

    def _evaluate_task(self, detections: list[Detection], task: str, img_ids: list | None) -> None:
        evaluation = self._evaluation(detections, task, img_ids) if detections else None
        names = self._metadata.thing_classes
        self._results[task] = self._derive_coco_results(evaluation, task, class_names=names)

    def _evaluation(self, detections: list[Detection], task: str, img_ids: list | None) -> Any:
        if task == "segm":
            # With a box present COCO would sort masks into sizes by the box's area.
            for detection in detections:
                detection.pop("bbox", None)
        with contextlib.redirect_stdout(io.StringIO()):
            loaded = self._coco_api.loadRes(detections)
        evaluation = COCOeval_faster(
            self._coco_api,
            loaded,
            task,
            print_function=_logger.info,
            separate_eval=True,
        )
        evaluation.params.maxDets = self._max_dets_per_image
        if img_ids is not None:
            evaluation.params.imgIds = img_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return evaluation


def coco_index(file: CocoFile, task: str = "bbox") -> COCO:
    """A file's content as pycocotools has it, with numbers from 1 on for all ids.

    Args:
        file: the file.
        task: what is evaluated: "bbox", "segm" (boxes without a sound mask are left out) or
            "keypoints" (those of boxes without any are invisible).

    Raises:
        ValueError: one sentence, if keypoints are wrong.
    """
    index = COCO()
    images, classes = file.image_places(), file.class_places()
    keypoints = len(keypoint_metadata(file).get("keypoint_names", ())) or None
    index.dataset = {
        "info": {},
        "images": [{**x, "id": number} for number, x in enumerate(file.images, start=1)],
        "categories": [{**x, "id": number} for number, x in enumerate(file.categories, start=1)],
        "annotations": [],
    }
    for number, x in enumerate(file.annotations, start=1):
        image = images[x["image_id"]]
        places = {"image_id": image + 1, "category_id": classes[x["category_id"]] + 1}
        box = {**x, **places, "id": number}
        if task == "segm" and not _has_mask(box, file.images[image]):
            continue
        if task == "keypoints":
            points = keypoint_numbers(file, x, keypoints) if x.get("keypoints") else []
            points = points or [0, 0, 0] * (keypoints or 0)
            box |= {"keypoints": points, "num_keypoints": sum(v > 0 for v in points[2::3])}
        index.dataset["annotations"].append(box)
    with contextlib.redirect_stdout(io.StringIO()):
        index.createIndex()
    return index


def _has_mask(box: Entry, image: Entry) -> bool:
    """Whether a box has a sound mask, which is brought into the one form."""
    mask = box["segmentation"] = usable_mask(box.get("segmentation"), image)
    return mask is not None and (isinstance(mask, list) or is_sound_rle(mask))


@contextlib.contextmanager
def _empty_dataset() -> Iterator[str]:
    """A dataset without images: Detectron2's evaluator would have pycocotools read the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "empty.json")
        with open(path, "w", encoding="utf-8") as stream:
            json.dump({"images": [], "annotations": [], "categories": []}, stream)
        MetadataCatalog.get(path).json_file = path
        try:
            yield path
        finally:
            MetadataCatalog.remove(path)
