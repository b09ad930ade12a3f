"""The runs that kill_runs.py kills: every detector, and every way to train."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from detectron2.data import DatasetCatalog

__all__ = ["KINDS", "Kind", "write_data"]

_IMAGES = 24
_COMMON = {
    "SEED": "5",
    "SOLVER.IMS_PER_BATCH": "4",
    "SOLVER.MAX_ITER": "10",
    "SOLVER.CHECKPOINT_PERIOD": "2",
    "SOLVER.WARMUP_ITERS": "4",
    # Random augmentation must be repeated too.
    "INPUT.RANDOM_FLIP": "horizontal",
    "INPUT.MIN_SIZE_TRAIN": "(64, 96)",
    "DATASETS.TEST": "()",
}
_TEACHER = {"DISTILL.TEACHER.WEIGHTS": "", "DISTILL.TEACHER.ALLOW_RANDOM": "True"}


@dataclass(frozen=True)
class Kind:
    """One kind of run.

    Attributes:
        config: a config file of the repository.
        own: keys and values; {data} in a value is the folder of :func:`write_data`.
        flags: options of train_net.py.
        processes: that train together.
        folders: of the run directory that hold checkpoints.
    """

    config: str
    own: dict[str, str]
    flags: tuple[str, ...] = ()
    processes: int = 1
    folders: tuple[str, ...] = (".",)

    def arguments(self, data: Path) -> list[str]:
        """The options of train_net.py."""
        processes = ("--num-gpus", "0", "--num-processes", str(self.processes))
        return ["--config-file", self.config, *processes, *self.flags]

    def options(self, data: Path) -> list[str]:
        """KEY VALUE pairs."""
        train = {"DATASETS.TRAIN": "('{data}/labeled.json@{data}/images',)"}
        pairs = {**_COMMON, **train, **self.own}.items()
        return [x.replace("{data}", str(data)) for pair in pairs for x in pair]


KINDS = {
    "faster_rcnn": Kind("configs/digits/faster_rcnn_student.yaml", {}),
    "faster_rcnn, PKD": Kind("projects/PKD/configs/digits_faster_rcnn.yaml", _TEACHER),
    "retinanet": Kind("configs/digits/retinanet_student.yaml", {}),
    "retinanet, ADL": Kind("projects/ADL/configs/digits_retinanet.yaml", _TEACHER),
    "fcos": Kind("configs/digits/fcos_student.yaml", {"DATALOADER.NUM_WORKERS": "1"}),
    "fcos, ADL, bfloat16": Kind(
        "projects/ADL/configs/digits_fcos.yaml", {**_TEACHER, "SOLVER.AMP.ENABLED": "True"}
    ),
    "atss": Kind("configs/digits/atss_student.yaml", {}),
    "gfl, ADL": Kind("projects/ADL/configs/digits_gfl.yaml", _TEACHER),
    "ssd": Kind("configs/digits/ssd_student.yaml", {"INPUT.AUGMENTATION": "ssd"}),
    "ssd 1-bit, IDaDet": Kind(
        "projects/IDaDet/configs/digits_ssd_1bit.yaml", {**_TEACHER, "INPUT.AUGMENTATION": "ssd"}
    ),
    "faster_rcnn 1-bit, IDaDet": Kind(
        "projects/IDaDet/configs/digits_faster_rcnn_bir18.yaml", _TEACHER
    ),
    "retinanet, precise statistics": Kind(
        "configs/digits/retinanet_student.yaml",
        {
            "TEST.PRECISE_BN.ENABLED": "True",
            "TEST.PRECISE_BN.NUM_ITER": "2",
            "TEST.EVAL_PERIOD": "4",
        },
    ),
    "semi-supervised (DATASETS.UNLABELED)": Kind(
        "projects/ADL/configs/digits_retinanet_semi.yaml",
        {
            **_TEACHER,
            "DATASETS.UNLABELED": "('{data}/unlabeled.json@{data}/images',)",
            # A teacher of random weights that finds something.
            "DISTILL.TEACHER.OPTS": "('MODEL.RETINANET.PRIOR_PROB', '0.3')",
            "DISTILL.UNLABELED.SCORE_THRESHOLD": "0.05",
        },
    ),
    "staged (--stages)": Kind(
        "projects/RevisitingKD/configs/digits_faster_rcnn.yaml",
        {
            "DATASETS.PSEUDO": "('{data}/pseudo.json',)",
            "SOLVER.MAX_ITER": "8",
            "DISTILL.FINETUNE.MAX_ITER": "6",
        },
        ("--stages",),
        folders=("stage1_pseudo", "stage2_finetune"),
    ),
    "two processes": Kind("configs/digits/faster_rcnn_student.yaml", {}, processes=2),
    "two processes, FCOS, ADL": Kind(
        "projects/ADL/configs/digits_fcos.yaml", _TEACHER, processes=2
    ),
}


def write_data(folder: Path) -> Path:
    """Writes a few digits as labels, as images without labels, and as a teacher's labels."""
    records = DatasetCatalog.get("digits_val")[: 2 * _IMAGES]
    (folder / "images").mkdir(parents=True)
    images, boxes = [], []
    for number, record in enumerate(records, start=1):
        source = Path(record["file_name"])
        (folder / "images" / source.name).symlink_to(source.resolve())
        size = {key: record[key] for key in ("width", "height")}
        images.append({"id": number, "file_name": source.name, **size})
        for box in record["annotations"]:
            kept = {"image_id": number, "category_id": box["category_id"] + 1, "iscrowd": 0}
            x, y, width, height = box["bbox"]
            kept |= {"bbox": [x, y, width, height], "area": width * height, "score": 0.9}
            boxes.append({"id": len(boxes) + 1, "teacher": "t", **kept})
    categories = [{"id": k + 1, "name": str(k)} for k in range(10)]
    for name, first, last in (
        ("labeled", 1, _IMAGES),
        ("unlabeled", _IMAGES + 1, 2 * _IMAGES),
        ("pseudo", _IMAGES + 1, 2 * _IMAGES),
    ):
        content = {
            "info": {"image_root": str(folder / "images")},
            "images": [x for x in images if first <= x["id"] <= last],
            "annotations": [x for x in boxes if first <= x["image_id"] <= last],
            "categories": categories,
        }
        if name == "unlabeled":
            content["annotations"] = []
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder
