"""What revision cea3320 wrote, before every file went into its room, works as it did.

The archive holds a run of two methods (its overlay, its config as dumped, the checkpoint of the
second of four iterations, the final weights) and its teacher, trained on the `tiny_coco` images.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model

import distill
from distill.config import check_retired_keys, student_config
from distill.utils.checkpoint import SafeCheckpointer

ROOT = Path(__file__).parents[2]
ARCHIVE = Path(__file__).with_name("run_of_revision_cea3320.tar.xz")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def read(path: Path) -> CfgNode:
    cfg = get_cfg()
    distill.add_distill_config(cfg)
    cfg.merge_from_file(str(path))
    return cfg


def train_net(folder: Path, datasets: Path, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "scripts" / "train_net.py"), *arguments]
    environment = {**os.environ, "DETECTRON2_DATASETS": str(datasets), "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert not result.returncode, result.stderr
    return result.stdout


def test_an_interrupted_run_goes_on_to_the_same_weights(folder: Path, tiny_coco: Path) -> None:
    expected = torch.load(folder / "run/model_final.pth", weights_only=True)["model"]
    (folder / "run/model_final.pth").unlink()
    output = train_net(folder, tiny_coco, "--config-file", "run/config.yaml", "--resume")
    assert "AP50" in output
    resumed = torch.load(folder / "run/model_final.pth", weights_only=True)["model"]
    assert resumed.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(resumed[name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_an_overlay_makes_the_config_that_it_made(folder: Path) -> None:
    overlaid, dumped = read(folder / "overlay.yaml"), read(folder / "run/config.yaml")
    assert yaml.safe_load(overlaid.dump()) == yaml.safe_load(dumped.dump())


def test_a_final_checkpoint_is_the_students(folder: Path) -> None:
    cfg = student_config(read(folder / "overlay.yaml"))
    checkpointer = SafeCheckpointer(build_model(cfg))
    checkpointer.load(str(folder / "run/model_final.pth"))
    found = checkpointer.incompatible
    assert found.missing_keys == found.unexpected_keys == found.incorrect_shapes == []


def test_keys_that_are_gone_are_refused_only_where_they_ask_for_something(folder: Path) -> None:
    text = (folder / "run/config.yaml").read_text()
    assert "PRETRAIN:" in text and "BOXES: cached" in text and "SCORE_WEIGHTS: false" in text
    cfg = read(folder / "run/config.yaml")
    check_retired_keys(cfg)
    cfg.DISTILL.UNLABELED.BOXES = "online"
    with pytest.raises(ValueError, match=r"^DISTILL.UNLABELED.BOXES is online, which is gone: "):
        check_retired_keys(cfg)
