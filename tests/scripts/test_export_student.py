from __future__ import annotations

import logging
from pathlib import Path

import export_student
import pytest
import torch
import train_net
from detectron2.config import get_cfg
from detectron2.modeling import build_model

from distill import add_distill_config
from distill.deploy import load_packed
from distill.engine import training_parser

_DATA = ("DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_test',)")
_OVERLAY = """
MODEL:
  META_ARCHITECTURE: "Distiller"
  BACKBONE: {NAME: "build_binary_slim_fpn_backbone"}
  RPN: {HEAD_NAME: "BinaryRPNHead"}
DISTILL: {METHODS: ["TADF"], TEACHER: {CONFIG_FILE: "nowhere.yaml"}}
"""


@pytest.fixture(scope="module")
def run(tiny_coco: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the overlay of a 1-bit student, its weights and its two exports."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "1bit.yaml").write_text(f"_BASE_: {tiny_coco / 'tiny.yaml'}\n{_OVERLAY}")
    cfg = get_cfg()
    add_distill_config(cfg)
    cfg.merge_from_file(str(folder / "1bit.yaml"))
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    torch.manual_seed(0)
    state = build_model(cfg).state_dict()
    torch.save({"model": {**state, "distill.x": torch.ones(1)}}, folder / "w.pth")
    return folder


def _export(run: Path, output: str, *options: str) -> None:
    # argparse takes everything after the first override for overrides, as on the command line.
    command = ["--config-file", str(run / "1bit.yaml"), "--weights", str(run / "w.pth")]
    flags = ["--output", str(run / output), *options]
    export_student.main(export_student.parser().parse_args([*command, *flags]))


def _evaluate(run: Path, weights: str, *options: str) -> None:
    command = ["--config-file", str(run / "1bit.yaml"), "--eval-only", *_DATA]
    options = ("MODEL.WEIGHTS", str(run / weights), *options)
    args = training_parser().parse_args([*command, "OUTPUT_DIR", str(run / "out"), *options])
    train_net.main(args)


def test_a_packed_student_is_evaluated_as_the_checkpoint_is(run, capsys):
    _export(run, "new/packed.safetensors", "--format", "packed", *_DATA)
    printed = capsys.readouterr().out
    assert "Verified: all 10 1-bit layers" in printed
    assert "MB; counted: " in printed
    assert f"Wrote {run}/new/packed.safetensors" in printed
    results = []
    for weights in ("w.pth", "new/packed.safetensors"):
        _evaluate(run, weights)
        results.append(capsys.readouterr().out.partition("Results")[2])
    assert "bbox" in results[0] and results[1] == results[0]
    assert not load_packed(run / "new" / "packed.safetensors").training


def test_the_plain_student_is_a_checkpoint_without_adapters(run, capsys):
    _export(run, "plain.pth", "--format", "plain")
    assert "Verified" not in capsys.readouterr().out
    plain = torch.load(run / "plain.pth", weights_only=True)
    weights = torch.load(run / "w.pth", weights_only=True)["model"]
    assert plain.keys() == {"model"}
    assert plain["model"].keys() == weights.keys() - {"distill.x"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x.safetensors", "--weights", "nowhere.pth"), "nowhere.pth does not exist"),
        (("x.safetensors", "--config-file", "nowhere.yaml"), "nowhere.yaml does not exist"),
        (("x.safetensors", "MODEL.GHOST", "1"), "MODEL.GHOST"),
        (("x.safetensors", "MODEL.BACKBONE.NAME", "nothing"), "MODEL.BACKBONE.NAME"),
        (("x.safetensors", "MODEL.BINARY.WEIGHTS", "False"), "conv has real weights"),
        (("x.pth",), "let its name end in .safetensors"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(run, capsys, monkeypatch, arguments, message):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    with pytest.raises(SystemExit) as left:
        _export(run, *arguments)
    assert left.value.code == 2
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("error: ") and message in errors
    assert not (run / arguments[0]).exists()


def test_a_packed_file_of_other_classes_is_not_evaluated(run, capsys, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    _export(run, "packed.safetensors", *_DATA)
    other = ("MODEL.ROI_HEADS.NUM_CLASSES", "7", "DATASETS.TRAIN", "()", "DATASETS.TEST", "()")
    with pytest.raises(SystemExit):
        _evaluate(run, "packed.safetensors", *other)
    assert "has 80 classes and the config 7: evaluate it with" in capsys.readouterr().err


def test_the_script_is_short():
    assert len(Path(export_student.__file__).read_text().splitlines()) < 120
