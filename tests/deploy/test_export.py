from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from helpers.tiny import ZOO_CONFIG, build, changed, distilled, equal, rcnn_cfg

from distill import add_distill_config
from distill.deploy import build_student, export_packed, export_plain
from distill.deploy.analysis import count_costs
from distill.deploy.export import stored_state
from distill.deploy.packed_file import read_packed


def _save(model: torch.nn.Module, path: Path, **extra: torch.Tensor) -> str:
    torch.save({"model": {**model.state_dict(), **extra}}, path)
    return str(path)


def test_the_student_of_a_distillation_is_built_without_its_teacher(tmp_path, exported):
    path = _save(exported.model, tmp_path / "w.pth", **{"distill.TADF.adapter": torch.ones(2)})
    # There is no teacher to be found at this place.
    cfg = distilled(exported.cfg, DISTILL__TEACHER__CONFIG_FILE="nowhere.yaml")
    student = build_student(cfg, path)
    assert type(student) is type(exported.model) and not student.training
    assert equal(student.state_dict(), exported.model.state_dict())


def test_weights_that_do_not_cover_the_student_are_refused(tmp_path, exported, binary_cfg):
    path = _save(exported.model, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth covers .* of the student's .*res2\.1"):
        build_student(binary_cfg(MODEL__SLIM__BLOCKS=(2, 1, 1)), path)
    with pytest.raises(ValueError, match=r"w\.pth covers .*\(4 lacking .*cls_score"):
        build_student(binary_cfg(MODEL__ROI_HEADS__NUM_CLASSES=5), path)


def test_counters_of_batches_need_not_be_covered(tmp_path, exported):
    weights = exported.model.state_dict()
    kept = {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}
    assert len(kept) < len(weights)
    torch.save({"model": kept}, tmp_path / "w.pth")
    build_student(exported.cfg, str(tmp_path / "w.pth"))


def test_plain_detectron2_loads_the_plain_export(tmp_path, exported):
    export_plain(exported.model, tmp_path / "plain.pth")
    other = build(exported.cfg, seed=9)
    DetectionCheckpointer(other).load(str(tmp_path / "plain.pth"))
    assert equal(other.state_dict(), exported.model.state_dict())
    assert torch.load(tmp_path / "plain.pth", weights_only=True).keys() == {"model"}


def test_the_report_counts_layers_weights_and_bytes(tmp_path, exported):
    report = export_packed(exported.model, exported.cfg, tmp_path / "x.safetensors")
    # Three blocks, three laterals and outputs of 8 channels, the head of the RPN.
    assert report.layers == 3 + 3 + 3 + 1
    blocks = 4 * 6 + 6 * 8 + 8 * 10
    laterals = (6 + 8 + 10) * 8
    assert report.binary_weights == 9 * (blocks + laterals + 3 * 64 + 64)
    assert report.file_bytes == (tmp_path / "x.safetensors").stat().st_size
    counted = count_costs(exported.model, (64, 64), 1).total
    assert report.counted_bytes == pytest.approx(counted.size_mb * 1e6)
    assert str(report).splitlines()[0].startswith("Verified: all 10 1-bit layers (5,400 weights)")
    line = str(dataclasses.replace(report, file_bytes=58_970_000, counted_bytes=58_790_000))
    assert "File: 58.97 MB; counted: 58.79 MB" in line


def test_the_header_names_classes_and_nothing_of_this_machine(tmp_path, exported):
    cfg = distilled(
        changed(exported.cfg, MODEL__WEIGHTS="/secret/w.pth", OUTPUT_DIR="/secret"),
        DISTILL__TEACHER__CONFIG_FILE="/secret/teacher.yaml",
    )
    export_packed(exported.model, cfg, tmp_path / "x.safetensors")
    header, _ = read_packed(tmp_path / "x.safetensors")
    assert (header.num_classes, header.class_names) == (3, ("ant", "bee", "cow"))
    assert "GeneralizedRCNN" in header.config
    assert not any(word in header.config for word in ("secret", "DISTILL", "Distiller"))


def test_classes_without_names_are_counted(tmp_path, exported):
    cfg = changed(exported.cfg, DATASETS__TRAIN=("tiny_unnamed",))
    export_packed(exported.model, cfg, tmp_path / "x.safetensors")
    header, _ = read_packed(tmp_path / "x.safetensors")
    assert (header.num_classes, header.class_names) == (3, ())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MODEL__BINARY__WEIGHTS": False}, r"^backbone\..*conv has real weights"),
        ({"DATASETS__TRAIN": ("tiny_zcab",)}, "predicts 3 classes, but DATASETS.TRAIN names 4"),
    ],
)
def test_what_is_not_fit_to_be_packed_is_refused(tmp_path, binary_cfg, changes, message):
    cfg = binary_cfg(**changes)
    with pytest.raises(ValueError, match=message):
        export_packed(build(cfg), cfg, tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_real_network_and_another_suffix_are_refused(tmp_path, exported):
    with pytest.raises(ValueError, match="has no 1-bit layer to pack: export with --format plain"):
        export_packed(build(rcnn_cfg()), rcnn_cfg(), tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"x\.pth would not be found .* end in \.safetensors"):
        export_packed(exported.model, exported.cfg, tmp_path / "x.pth")


def test_tensors_with_several_names_are_stored_once():
    model = torch.nn.ModuleList([torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)])
    model.append(model[0])
    names = {"0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"}
    assert stored_state(model).keys() == names


def test_a_bit_a_weight_makes_a_resnet_18_as_small_as_counted(tmp_path):
    cfg = get_cfg()
    add_distill_config(cfg)
    cfg.merge_from_file(model_zoo.get_config_file(ZOO_CONFIG))
    cfg = changed(
        cfg,
        MODEL__DEVICE="cpu",
        MODEL__BACKBONE__NAME="build_binary_resnet_fpn_backbone",
        MODEL__RESNETS__DEPTH=18,
        MODEL__RPN__HEAD_NAME="BinaryRPNHead",
        MODEL__ROI_HEADS__NUM_CLASSES=20,
        DATASETS__TRAIN=("voc_2007_trainval",),
    )
    report = export_packed(build(cfg), cfg, tmp_path / "r18.safetensors")
    assert report.binary_weights / 1e6 == pytest.approx(16.15, abs=0.005)
    assert report.counted_bytes / 1e6 == pytest.approx(58.9, rel=0.01)
    assert report.file_bytes == pytest.approx(report.counted_bytes, rel=0.05)
