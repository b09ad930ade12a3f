"""README and guide: what a reader types on own data, as it is written there, on a few images.

What differs is what a test can't wait for: a narrow detector stands where the page's base config
does, no weights are downloaded, and a training has two iterations.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import export_student
import pseudo_label
import pytest
import torch
import train_net
from helpers.pages import ROOT, blocks, commands, files
from PIL import Image, ImageDraw

from distill.engine import training_parser

GUIDE = ROOT / "docs" / "guide"
CLASSES = ("car", "person", "bike")
_NARROW = """
MODEL:
  DEVICE: "cpu"
  BACKBONE: {FREEZE_AT: 0}
  RESNETS: {STEM_OUT_CHANNELS: 4, RES2_OUT_CHANNELS: 8, WIDTH_PER_GROUP: 2, NORM: "BN"}
  FPN: {OUT_CHANNELS: 8, NORM: "BN"}
  ROI_BOX_HEAD: {FC_DIM: 16}
  RPN: {POST_NMS_TOPK_TRAIN: 20, POST_NMS_TOPK_TEST: 20}
INPUT: {MIN_SIZE_TRAIN: [64], MIN_SIZE_TEST: 64}
DATALOADER: {NUM_WORKERS: 0}
"""
_SHORTER = (
    (r'WEIGHTS: "detectron2://[^"]*"', 'WEIGHTS: ""'),
    (r"STEPS: \[[^]]*\], MAX_ITER: \d+", "STEPS: [], MAX_ITER: 2"),
    (r"IMS_PER_BATCH: \d+", "IMS_PER_BATCH: 2"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the page's commands have been typed."""
    here = tmp_path_factory.mktemp("guide")
    before = os.getcwd()
    os.chdir(here)
    try:
        _write_configs(here)
        (here / "mine" / "images").mkdir()
        for number, name in enumerate(("train", "val")):
            (here / "mine" / f"{name}.json").write_text(json.dumps(_draw(here, 4 * number)))
        for words in commands(GUIDE / "own_data.md"):
            _type(words)
        yield here
    finally:
        os.chdir(before)


def _write_configs(here: Path) -> None:
    base = "configs/coco/faster_rcnn_R_50_FPN_1x.yaml"
    (here / base).parent.mkdir(parents=True)
    (here / base).write_text(f'_BASE_: "{ROOT / base}"\n{_NARROW}')
    (here / "mine").mkdir()
    for file, text in files(GUIDE / "own_data.md").items():
        for pattern, short in _SHORTER:
            text = re.sub(pattern, short, text)
        (here / file).write_text(text)


def _draw(here: Path, first: int) -> dict:
    """Four images of a rectangle each, and the JSON that describes them."""
    images, boxes = [], []
    for number in range(first, first + 4):
        image = Image.new("RGB", (96, 80), (90, 120, 90))
        x, y, width, height = 10 + 5 * number, 12, 30, 40
        color = [(250, 40, 40), (40, 40, 250), (250, 250, 40)][number % 3]
        ImageDraw.Draw(image).rectangle((x, y, x + width, y + height), fill=color)
        name = f"street_{number}.jpg"
        image.save(here / "mine" / "images" / name)
        images.append({"id": number, "file_name": name, "width": 96, "height": 80})
        box = {"id": number + 1, "image_id": number, "category_id": number % 3 + 1, "iscrowd": 0}
        boxes.append({**box, "bbox": [x, y, width, height], "area": width * height})
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)]
    return {"images": images, "annotations": boxes, "categories": categories}


def _type(words: list[str]) -> None:
    """Runs a command of the page in this process."""
    script, *arguments = words
    if script == "scripts/train_net.py":
        train_net.main(training_parser().parse_args(arguments))
    elif script == "scripts/export_student.py":
        export_student.main(export_student.parser().parse_args(arguments))
    else:
        assert script == "scripts/pseudo_label.py"
        pseudo_label.main(arguments)


def test_the_commands_lead_from_a_json_to_a_distilled_student(folder: Path) -> None:
    for name in ("teacher", "student", "distilled"):
        results = json.loads((folder / "output" / "mine" / name / "results.json").read_text())
        assert results["iterations"] == 2
    assert (folder / "output" / "mine" / "labels.html").exists()
    lines = (folder / "output" / "mine" / "distilled" / "metrics.json").read_text().splitlines()
    logged = {key for line in lines for key in json.loads(line)}
    assert {"loss_tadf_neck", "loss_tadf_cls", "loss_tadf_box"} <= logged


def test_the_student_is_used_with_detectron2_alone(folder: Path) -> None:
    (code,) = blocks(GUIDE / "own_data.md", "python")
    assert "distill." not in code and "import distill" not in code
    names: dict = {}
    exec(code, names)
    student = names["predictor"].model
    saved = torch.load(folder / "output/mine/distilled/model_final.pth", weights_only=True)
    assert saved["model"].keys() == student.state_dict().keys()


def test_the_overlay_of_the_readme_trains_resumes_and_builds(folder: Path) -> None:
    readme = ROOT / "README.md"
    (overlay,) = blocks(readme, "yaml")
    teacher = '"model_zoo://COCO-Detection/faster_rcnn_R_101_FPN_3x.yaml"'
    for ours in ('"mine/teacher.yaml"', '"output/mine/teacher/model_final.pth"'):
        overlay = overlay.replace(teacher, ours, 1)
    (folder / "my_student.yaml").write_text('_BASE_: "mine/student.yaml"\n')
    (folder / "my_overlay.yaml").write_text(overlay)
    for words in commands(readme):
        _type(words)
    results = json.loads((folder / "output" / "mine" / "results.json").read_text())
    assert results["iterations"] == 2
    names: dict = {}
    (code,) = blocks(readme, "python")
    exec(code, names)
    assert [method.name for method in names["model"].methods] == ["TADF"]


def test_the_training_script_of_ones_own_runs(folder: Path) -> None:
    script, trainer = blocks(GUIDE / "own_code.md", "python")
    names: dict = {}
    exec(script, names)
    assert {"loss_cls", "loss_tadf_neck"} <= names["losses"].keys()
    assert names["storage"].iter == 2
    # The file is a plain checkpoint, from which the next run starts.
    start = torch.load(folder / "student.pth", weights_only=True)["model"]
    names["cfg"].MODEL.WEIGHTS = "student.pth"
    exec(trainer, names)
    assert start.keys() == names["trainer"].student.state_dict().keys()
    assert "bbox" in names["results"]
