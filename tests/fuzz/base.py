"""What all tries stand on: a folder of images, configs and weights that are as they should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import META_ARCH_REGISTRY
from PIL import Image

from distill import add_distill_config
from fuzz.forks import run_script

CLASSES = ("ant", "bee")
SIZE = (64, 48)

_DETECTOR = """
MODEL:
  DEVICE: "cpu"
  META_ARCHITECTURE: "GeneralizedRCNN"
  WEIGHTS: ""
  MASK_ON: False
  PIXEL_STD: [60.0, 60.0, 60.0]
  BACKBONE: {NAME: "build_slim_fpn_backbone", FREEZE_AT: 0}
  SLIM: {STEM_CHANNELS: 4, STAGE_CHANNELS: [8, 12, 16]}
  FPN: {IN_FEATURES: ["res2", "res3", "res4"], OUT_CHANNELS: 8, NORM: "BN"}
  ANCHOR_GENERATOR: {SIZES: [[20], [30], [42]]}
  RPN:
    {IN_FEATURES: ["p2", "p3", "p4"], BATCH_SIZE_PER_IMAGE: 16, PRE_NMS_TOPK_TRAIN: 20,
     PRE_NMS_TOPK_TEST: 20, POST_NMS_TOPK_TRAIN: 10, POST_NMS_TOPK_TEST: 10}
  ROI_HEADS:
    {NAME: "StandardROIHeads", IN_FEATURES: ["p2", "p3"], BATCH_SIZE_PER_IMAGE: 8,
     SCORE_THRESH_TEST: 0.0, NUM_CLASSES: 2}
  ROI_BOX_HEAD: {NAME: "FastRCNNConvFCHead", NUM_FC: 1, FC_DIM: 16, POOLER_RESOLUTION: 3}
DATALOADER: {NUM_WORKERS: 0}
INPUT: {MIN_SIZE_TRAIN: [48], MAX_SIZE_TRAIN: 96, MIN_SIZE_TEST: 48, MAX_SIZE_TEST: 96}
SOLVER: {IMS_PER_BATCH: 2, BASE_LR: 0.002, MAX_ITER: 1, STEPS: [], WARMUP_ITERS: 0}
SEED: 3
VERSION: 2
"""
_DENSE = """
MODEL:
  META_ARCHITECTURE: "{name}"
  ANCHOR_GENERATOR: {{SIZES: [[20], [30], [42]], ASPECT_RATIOS: [[1.0]], OFFSET: 0.5}}
  {name}: {{IN_FEATURES: ["p2", "p3", "p4"], NUM_CLASSES: 2, NUM_CONVS: 1}}
"""
_ONE_BIT = """
MODEL:
  BACKBONE: {NAME: "build_binary_slim_fpn_backbone"}
  RPN: {HEAD_NAME: "BinaryRPNHead"}
"""
_PLAN = """
output: output/plan
seeds: [0]
runs:
  - name: alone
    config: student.yaml
"""
# Teacher and student of a pair differ in their width.
_WIDE = "MODEL: {FPN: {OUT_CHANNELS: 12}}\n"


def build(folder: Path) -> None:
    """Fills a folder; nothing in it may change from then on."""
    _write_images(folder / "images")
    (folder / "train.json").write_text(json.dumps(coco()))
    (folder / "detector.yaml").write_text(_DETECTOR)
    data = f'"{folder}/train.json@{folder}/images"'
    write_yaml(folder, "student", f"DATASETS: {{TRAIN: [{data}], TEST: []}}\n", "detector")
    whole = f"{_DETECTOR}DATASETS: {{TRAIN: [{data}], TEST: []}}\n"
    (folder / "whole.yaml").write_text(whole)
    (folder / "whole_teacher.yaml").write_text(whole.replace("OUT_CHANNELS: 8", "OUT_CHANNELS: 12"))
    for name, text in {
        "retinanet": _DENSE.format(name="RETINANET").replace('"RETINANET"', '"RetinaNet"'),
        "gfl": _DENSE.format(name="GFL"),
        "one_bit": _ONE_BIT,
        "teacher": _WIDE,
    }.items():
        write_yaml(folder, name, text)
        save_weights(folder / f"{name}.yaml", folder / f"{name}.pth")
    save_weights(folder / "student.yaml", folder / "student.pth")
    for student, teacher, method in (
        ("student", "teacher", "TADF"),
        ("retinanet", "retinanet", "BCKD"),
        ("gfl", "gfl", "LD"),
    ):
        write_yaml(folder, f"{method}_pair", _distilled(folder, student, teacher, method), student)
    for method in ("PKD", "IDaDet"):
        write_yaml(folder, f"{method}_pair", f'DISTILL: {{METHODS: ["{method}"]}}\n', "TADF_pair")
    write_yaml(folder, "ADL_pair", 'DISTILL: {METHODS: ["ADL"]}\n', "BCKD_pair")
    (folder / "pseudo.json").write_text(json.dumps(pseudo(folder)))
    other = json.dumps(pseudo(folder, "other")).replace("0" * 64, "1" * 64)
    (folder / "other.json").write_text(other)
    (folder / "aliases.yaml").write_text("{}\n")
    (folder / "plan.yaml").write_text(_PLAN)
    thresholds = {"info": {}, "default": 0.5, "classes": {"ant": 0.4, "bee": 0.6}}
    (folder / "thresholds.json").write_text(json.dumps(thresholds))
    _run_the_scripts(folder)


def coco() -> dict[str, Any]:
    """Six images with two boxes each."""
    width, height = SIZE
    numbers = range(1, 7)
    boxes = [
        {
            "id": 2 * i + j,
            "image_id": i,
            "category_id": 1 + j,
            "bbox": [4 + 3 * i % 9, 5 + j, 24, 22],
            "area": 528,
            "iscrowd": 0,
        }
        for i in numbers
        for j in range(2)
    ]
    return {
        "info": {"description": "noise"},
        "licenses": [],
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": width, "height": height} for i in numbers
        ],
        "annotations": boxes,
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)],
    }


def pseudo(folder: Path, teacher: str = "teacher") -> dict[str, Any]:
    """The same as a teacher's pseudo labels; every third box is doubtful."""
    content = coco()
    for box in content["annotations"]:
        box["bbox"] = [x + 0.5 for x in box["bbox"]]
        box["score"] = 0.3 if box["id"] % 3 == 0 else 0.9
        box["teacher"] = teacher
    header = {
        "description": "pseudo labels",
        "format": 1,
        "dataset": None,
        "image_root": str(folder / "images"),
        "score_floor": 0.05,
        "teachers": {teacher: {"weights_sha256": "0" * 64}},
    }
    return {**content, "info": header}


def write_yaml(folder: Path, name: str, text: str, base: str = "student") -> Path:
    """A config over another one of the folder."""
    path = folder / f"{name}.yaml"
    path.write_text(f'_BASE_: "{base}.yaml"\n{text}')
    return path


def read(path: Path) -> CfgNode:
    """A config file as Detectron2 reads it."""
    cfg = get_cfg()
    add_distill_config(cfg)
    cfg.merge_from_file(str(path))
    return cfg


def save_weights(config: Path, path: Path) -> None:
    """Random weights for the detector of a config."""
    cfg = read(config)
    torch.manual_seed(1)
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    torch.save({"model": model.state_dict()}, path)


def _distilled(folder: Path, student: str, teacher: str, method: str) -> str:
    own = read(folder / f"{student}.yaml").MODEL.META_ARCHITECTURE
    return (
        'MODEL: {META_ARCHITECTURE: "Distiller"}\n'
        "DISTILL:\n"
        f'  METHODS: ["{method}"]\n'
        f'  STUDENT: {{META_ARCHITECTURE: "{own}"}}\n'
        f'  TEACHER: {{CONFIG_FILE: "{folder}/{teacher}.yaml", '
        f'WEIGHTS: "{folder}/{teacher}.pth", CLASSES: ["ant", "bee"]}}\n'
    )


def _write_images(folder: Path) -> None:
    folder.mkdir()
    for i in range(1, 7):
        pixels = np.random.default_rng(i).integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")


def _run_the_scripts(folder: Path) -> None:
    """A packed student, and a run to resume."""
    config = ("--config-file", str(folder / "one_bit.yaml"))
    weights = ("--weights", str(folder / "one_bit.pth"))
    output = ("--output", str(folder / "packed.safetensors"))
    config_of_run = ("--config-file", str(folder / "student.yaml"))
    for script, arguments in (
        ("export_student", (*config, *weights, *output)),
        ("train_net", (*config_of_run, "OUTPUT_DIR", str(folder / "run"))),
    ):
        status = run_script(script, arguments)
        if status:
            raise RuntimeError(f"{script} ended with {status}")
