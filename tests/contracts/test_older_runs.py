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
from detectron2.config import get_cfg

import distill
from distill.config import check_retired_keys

ROOT = Path(__file__).parents[2]
ARCHIVE = Path(__file__).with_name("run_of_revision_cea3320.tar.xz")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def train_net(folder: Path, datasets: Path, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "scripts" / "train_net.py"), *arguments]
    environment = {**os.environ, "DETECTRON2_DATASETS": str(datasets), "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert not result.returncode, result.stderr
    return result.stdout


@pytest.mark.parametrize("config", ["overlay.yaml", "run/config.yaml"])
def test_an_interrupted_run_goes_on_to_the_same_weights(
    folder: Path, tiny_coco: Path, config: str
) -> None:
    expected = torch.load(folder / "run/model_final.pth", weights_only=True)["model"]
    (folder / "run/model_final.pth").unlink()
    train_net(folder, tiny_coco, "--config-file", config, "--resume")
    resumed = torch.load(folder / "run/model_final.pth", weights_only=True)["model"]
    assert resumed.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(resumed[name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_a_final_checkpoint_is_evaluated(folder: Path, tiny_coco: Path) -> None:
    weights = ("MODEL.WEIGHTS", "run/model_final.pth")
    output = train_net(folder, tiny_coco, "--config-file", "overlay.yaml", "--eval-only", *weights)
    assert "AP50" in output


def test_keys_that_are_gone_are_refused_only_where_they_ask_for_something(folder: Path) -> None:
    cfg = get_cfg()
    distill.add_distill_config(cfg)
    text = (folder / "run/config.yaml").read_text()
    assert "PRETRAIN:" in text and "BOXES: cached" in text and "SCORE_WEIGHTS: false" in text
    cfg.merge_from_file(str(folder / "run/config.yaml"))
    check_retired_keys(cfg)
    cfg.DISTILL.UNLABELED.BOXES = "online"
    with pytest.raises(ValueError, match=r"^DISTILL.UNLABELED.BOXES is online, which is gone: "):
        check_retired_keys(cfg)
