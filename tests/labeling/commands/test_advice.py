"""What a command advises is something that it has: options, and no keys of a training."""

from __future__ import annotations

import re
from pathlib import Path

import pseudo_label
import pytest
import torch
from helpers import tiny, tiny_labeling

from distill.data.pseudo.thresholds import Thresholds

# Keys that only a training has, and its options.
_FOREIGN = re.compile(
    r"DISTILL\.|OUTPUT_DIR|--resume|--eval-only|DATASETS\.(PSEUDO|UNLABELED|TEST)"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, images, and whatever may be mistaken for weights or a config."""
    root = tmp_path_factory.mktemp("advice")
    tiny_labeling.teacher(root / "teacher")
    tiny_labeling.teacher(root / "dense", tiny.retinanet_cfg())
    tiny_labeling.write_noise(root / "images", 1)
    (root / "text").write_text("<html>not here</html>")
    torch.save({"model": {"a": torch.ones(3)}}, root / "other.pth")
    Thresholds(0.5, {"emu": 0.5}).save(root / "cows.json")
    tiny_labeling.write_noise(root / "pictures", 1)
    done = tiny_labeling.plan(root, output=str(root / "done"), classes=tiny_labeling.CLASSES)
    done.claim()
    done.result.write_text("{")
    torch.save({"model": {"a": torch.full((3,), torch.nan)}}, root / "nan.pth")
    return root


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("--weights no.pth", "--weights"),
        ("--weights images", "--weights"),
        ("--weights text", "text"),
        ("--weights other.pth", "--weights"),
        ("--weights nan.pth", "nan.pth"),
        ("--weights https://localhost:1/w.pth", "--weights"),
        ("--weights model_zoo://no.yaml", "--weights"),
        ("--config-file no.yaml", "--config-file"),
        ("--config-file text", "text"),
        ("--config-file model_zoo://no.yaml", "--config-file"),
        ("--config-file dense/teacher.yaml", "--weights"),
        ("--config-file dense/teacher.yaml --weights dense/teacher.pth --tta", "--tta"),
        ("--opts MODEL.META_ARCHITECTURE RetinaNat", "RetinaNat"),
        ("--opts MODEL.BACKBONE.NAME build_slim_fpn_backbones", "did you mean"),
        ("--opts MODEL.FPN.NORM BM", "MODEL.FPN.NORM"),
        ("--opts MODEL.LOAD_PROPOSALS True", "MODEL.LOAD_PROPOSALS"),
        ("--classes ant", "--classes"),
        ("--images no", "--images"),
        ("--thresholds text", "text"),
        ("--thresholds cows.json", "cows.json has thresholds of emu, none of which"),
        ("--output pictures", "--output pictures holds images, 0.png for one"),
        ("--output done", "pseudo.json is damaged: delete it"),
    ],
)
def test_advice_to_label_is_of_the_options(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    named: str,
) -> None:
    monkeypatch.chdir(folder)
    command = "generate --config-file teacher/teacher.yaml --weights teacher/teacher.pth"
    command += f" --images {folder}/images --output out --num-gpus 0 --classes ant bee cow"
    with pytest.raises(SystemExit) as left:
        pseudo_label.main([*command.split(), *change.split()])
    assert left.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ") and named in said
    assert not _FOREIGN.search(said), said
