"""The configs of the repository build what they promise; those of COCO and VOC train."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from detectron2 import model_zoo
from detectron2.data import DatasetCatalog
from helpers import tiny
from helpers.recipes import ROOT, build, load, load_at_random_weights

from distill import Distiller

OVERLAYS = sorted((ROOT / "projects").glob("*/configs/*.yaml"))
CONFIGS = sorted((ROOT / "configs").glob("*/*.yaml")) + OVERLAYS
# Those of the pre-training describe no detectors; tests/pretraining builds their backbones.
MODELS = [
    path for path in CONFIGS if not path.name.startswith("Base-") and path.parent.name != "pretrain"
]
TADF = ROOT / "projects" / "TADF" / "configs"
ZOO = {
    "coco/faster_rcnn_R_50_FPN_1x": "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml",
    "coco/retinanet_R_50_FPN_1x": "COCO-Detection/retinanet_R_50_FPN_1x.yaml",
    "voc/faster_rcnn_R_50_FPN": "PascalVOC-Detection/faster_rcnn_R_50_FPN.yaml",
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODELS, ids=name_of)
def test_a_config_builds_its_detectors_and_names_known_datasets(path: Path) -> None:
    cfg = load_at_random_weights(path)
    model = build(cfg)
    assert isinstance(model, Distiller) == bool(cfg.DISTILL.METHODS)
    if cfg.DISTILL.METHODS:
        assert [method.name for method in model.methods] == list(cfg.DISTILL.METHODS)
    assert set(cfg.DATASETS.TRAIN + cfg.DATASETS.TEST) <= set(DatasetCatalog.list())


def test_no_two_configs_share_an_output_folder() -> None:
    folders = [load(path).OUTPUT_DIR for path in MODELS]
    assert len(set(folders)) == len(folders)


@pytest.mark.parametrize("path", OVERLAYS, ids=name_of)
def test_an_overlay_is_at_most_12_lines_over_a_student_of_configs(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    lines = [line for line in lines if not line.lstrip().startswith("#")]
    assert len(lines) <= 12
    assert lines[0].startswith("_BASE_")
    student = (path.parent / lines[0].split('"')[1]).resolve()
    assert student.is_relative_to(ROOT / "configs") and student in MODELS


@pytest.mark.parametrize(("own", "zoo"), ZOO.items())
def test_a_student_has_the_settings_of_the_model_zoo(own: str, zoo: str) -> None:
    cfg = load(ROOT / "configs" / f"{own}.yaml")
    expected = load(Path(model_zoo.get_config_file(zoo)))
    expected.OUTPUT_DIR = cfg.OUTPUT_DIR
    assert cfg == expected


def test_the_voc_teacher_differs_from_its_student_in_depth_alone() -> None:
    teacher, student = (load(ROOT / f"configs/voc/faster_rcnn_R_{d}_FPN.yaml") for d in (101, 50))
    assert teacher.MODEL.RESNETS.DEPTH == 101
    teacher.MODEL.RESNETS.DEPTH = student.MODEL.RESNETS.DEPTH
    teacher.MODEL.WEIGHTS, teacher.OUTPUT_DIR = student.MODEL.WEIGHTS, student.OUTPUT_DIR
    assert teacher == student


def test_the_voc_overlay_takes_the_weights_that_training_its_teacher_leaves() -> None:
    node = load(TADF / "voc_faster_rcnn_R_50_FPN.yaml").DISTILL.TEACHER
    assert node.WEIGHTS == f"{load(ROOT / node.CONFIG_FILE).OUTPUT_DIR}/model_final.pth"


@pytest.mark.parametrize("name", ["coco_faster_rcnn_R_50_FPN_1x", "voc_faster_rcnn_R_50_FPN"])
def test_a_large_pair_trains_one_step_on_random_images(name: str) -> None:
    model = build(load_at_random_weights(TADF / f"{name}.yaml"))
    inputs = [
        tiny.example([[16, 16, 80, 100]], size=(128, 160), seed=0),
        tiny.example([[4, 20, 30, 60], [30, 4, 150, 110]], size=(128, 160), seed=1),
    ]
    losses = tiny.step(model, inputs)
    assert {"loss_cls", "loss_tadf_neck", "loss_tadf_cls", "loss_tadf_box"} <= losses.keys()
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert tiny.without_gradient(model) == []
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, p in trained.items() if not p.grad.isfinite().all()] == []
    assert any(name.startswith("distill.") for name in trained)


def refusal(*arguments: str, **environment: str) -> str:
    """What train_net.py writes to standard error when it refuses to start."""
    paths = os.pathsep.join(path for path in (str(ROOT), *sys.path) if path)
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "scripts/train_net.py", "--num-gpus", "0", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert finished.returncode == 2, finished.stderr
    assert "Traceback" not in finished.stderr
    sentences = [x for x in finished.stderr.splitlines() if x.startswith("error: ")]
    assert len(sentences) == 1
    return sentences[0]


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("coco_faster_rcnn_R_50_FPN_1x", "coco/annotations/instances_train2017.json"),
        ("voc_faster_rcnn_R_50_FPN", "VOC2007/ImageSets/Main/trainval.txt"),
    ],
)
def test_without_its_images_training_says_where_to_put_them(
    name: str, inside: str, tmp_path: Path
) -> None:
    config = ("--config-file", str(TADF / f"{name}.yaml"), "OUTPUT_DIR", str(tmp_path / "run"))
    message = refusal(*config, DETECTRON2_DATASETS=str(tmp_path))
    assert f"set DETECTRON2_DATASETS to the folder that holds, for example, {inside}" in message
    assert str(tmp_path) in message


def offline_refusal(tiny_coco: Path, tmp_path: Path, flags: list[str], opts: list[str]) -> str:
    # Nothing listens on the discard port, so a download fails at once.
    offline = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    config = ("--config-file", str(TADF / "coco_faster_rcnn_R_50_FPN_1x.yaml"))
    data = ("DATASETS.TEST", "('coco_2017_val_100',)", "OUTPUT_DIR", str(tmp_path / "run"))
    folders = {"FVCORE_CACHE": str(tmp_path / "cache"), "DETECTRON2_DATASETS": str(tiny_coco)}
    direct = {"no_proxy": "", "NO_PROXY": ""}
    return refusal(*config, *flags, *data, *opts, **offline, **direct, **folders)


def test_without_a_network_training_says_that_it_lacks_the_teachers_weights(
    tiny_coco: Path, tmp_path: Path
) -> None:
    message = offline_refusal(tiny_coco, tmp_path, [], ["SOLVER.IMS_PER_BATCH", "2"])
    assert "DISTILL.TEACHER.WEIGHTS: https://" in message
    assert "could not be downloaded" in message and "set DISTILL.TEACHER.WEIGHTS to" in message


def test_without_a_network_evaluation_says_that_it_lacks_the_students_weights(
    tiny_coco: Path, tmp_path: Path
) -> None:
    weights = "detectron2://nowhere/R-50.pkl"
    message = offline_refusal(tiny_coco, tmp_path, ["--eval-only"], ["MODEL.WEIGHTS", weights])
    assert weights in message
