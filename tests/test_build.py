"""The teacher comes by reference, is verified, and is refused with one clear sentence."""

from __future__ import annotations

import logging
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny

from distill.build import build_teacher, build_teacher_config, said_of_keys
from distill.utils.checkpoint import CheckpointError
from distill.views.teacher import FrozenTeacher

CONFIG, WEIGHTS = "DISTILL__TEACHER__CONFIG_FILE", "DISTILL__TEACHER__WEIGHTS"


@pytest.fixture
def reference(tmp_path: Path) -> dict[str, Any]:
    return tiny.save_teacher(tmp_path, tiny.rcnn_cfg(MODEL__FPN__OUT_CHANNELS=12))


def teacher_of(reference: dict[str, Any], **changes: Any) -> FrozenTeacher:
    return build_teacher(tiny.rcnn_cfg(**{**reference, **changes}))


def one_sentence(text: str) -> bool:
    """Whether a message is one line without a full stop that begins another sentence."""
    return "\n" not in text and ". " not in text


def test_config_and_weights_come_from_paths(
    reference: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        teacher = teacher_of(reference)
    saved = torch.load(reference[WEIGHTS], weights_only=True)["model"]
    state = teacher.model.state_dict()
    assert all(torch.equal(state[key], saved[key]) for key in saved)
    assert "covers 100.0 % of the teacher's" in caplog.text


def test_the_config_may_come_from_the_model_zoo() -> None:
    cfg = tiny.rcnn_cfg(**{CONFIG: f"model_zoo://{tiny.ZOO_CONFIG}"})
    teacher = build_teacher_config(cfg)
    assert teacher.MODEL.META_ARCHITECTURE == "GeneralizedRCNN"
    assert teacher.MODEL.RESNETS.DEPTH == 50
    assert teacher.MODEL.DEVICE == "cpu"


def test_a_config_that_would_run_code_is_refused(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    config = tmp_path / "teacher.yaml"
    config.write_text(f"OUTPUT_DIR: !!python/object/apply:os.mkdir [{proof}]\n")
    with pytest.raises(ValueError, match="teacher.yaml is not plain YAML"):
        build_teacher_config(tiny.rcnn_cfg(**{CONFIG: str(config)}))
    assert not proof.exists()


def test_overrides_change_the_teachers_config_only(reference: dict[str, Any]) -> None:
    cfg = tiny.rcnn_cfg(
        **reference, DISTILL__TEACHER__OPTS=["MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 99]
    )
    assert build_teacher_config(cfg).MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE == 99
    assert cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE == 16


def test_a_distilled_student_can_be_the_next_teacher(tmp_path: Path) -> None:
    cfg = tiny.distilled(tiny.rcnn_cfg())
    (tmp_path / "teacher.yaml").write_text(cfg.dump())
    torch.save({"model": tiny.default_pair().state_dict()}, tmp_path / "model.pth")
    teacher = teacher_of(
        {CONFIG: str(tmp_path / "teacher.yaml"), WEIGHTS: str(tmp_path / "model.pth")}
    )
    assert type(teacher.model).__name__ == "GeneralizedRCNN"


@pytest.mark.parametrize(
    ("changes", "error", "parts"),
    [
        ({CONFIG: ""}, ValueError, ["CONFIG_FILE is empty", "model_zoo://"]),
        ({CONFIG: "no/such.yaml"}, FileNotFoundError, ["CONFIG_FILE", "no/such.yaml"]),
        ({CONFIG: "model_zoo://no.yaml"}, FileNotFoundError, ["CONFIG_FILE", '"no.yaml"']),
        ({WEIGHTS: ""}, ValueError, ["WEIGHTS is empty", "random"]),
        ({WEIGHTS: "no/such.pth"}, FileNotFoundError, ["WEIGHTS", "no/such.pth"]),
        ({WEIGHTS: "model_zoo://no.yaml"}, FileNotFoundError, ["WEIGHTS", '"no.yaml"']),
    ],
)
def test_a_missing_reference_is_refused(
    reference: dict[str, Any], changes: dict, error: type[Exception], parts: list[str]
) -> None:
    with pytest.raises(error) as caught:
        teacher_of(reference, **changes)
    message = str(caught.value)
    assert one_sentence(message) and all(part in message for part in parts), message


def test_a_download_that_fails_says_what_to_do(
    reference: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing listens on the discard port of this machine.
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(FileNotFoundError, match="could not be downloaded .*WEIGHTS to the file"):
        teacher_of(reference, **{WEIGHTS: "http://127.0.0.1:9/teacher.pth"})


def test_weights_that_lack_keys_are_refused_unless_allowed(
    reference: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    state = torch.load(reference[WEIGHTS], weights_only=True)["model"]
    del state["roi_heads.box_predictor.cls_score.weight"]
    torch.save({"model": state}, reference[WEIGHTS])
    with pytest.raises(ValueError, match=r"covers 9\d\.\d % .*cls_score.*ALLOW_PARTIAL") as e:
        teacher_of(reference)
    assert one_sentence(str(e.value))
    with caplog.at_level(logging.WARNING):
        teacher_of(reference, DISTILL__TEACHER__ALLOW_PARTIAL=True)
    assert "lacking: roi_heads.box_predictor.cls_score.weight" in caplog.text


def test_weights_of_other_shapes_are_refused(reference: dict[str, Any], tmp_path: Path) -> None:
    other = tiny.save_teacher(tmp_path / "other", tiny.rcnn_cfg(MODEL__FPN__OUT_CHANNELS=16))
    with pytest.raises(ValueError, match="lacking or of another shape: backbone.fpn_lateral"):
        teacher_of(reference, **{WEIGHTS: other[WEIGHTS]})


@pytest.mark.parametrize("allow", [False, True])
def test_weights_of_another_architecture_are_refused(
    reference: dict[str, Any], tmp_path: Path, allow: bool
) -> None:
    torch.save({"model": torch.nn.Linear(3, 4).state_dict()}, tmp_path / "linear.pth")
    with pytest.raises(ValueError, match=r"covers 0.0 % .*CONFIG_FILE belong together"):
        teacher_of(
            reference,
            **{WEIGHTS: str(tmp_path / "linear.pth"), "DISTILL__TEACHER__ALLOW_PARTIAL": allow},
        )


def test_the_weights_of_a_retinanet_do_not_make_a_faster_rcnn(
    reference: dict[str, Any], tmp_path: Path
) -> None:
    other = tiny.save_teacher(tmp_path / "other", tiny.retinanet_cfg(MODEL__FPN__OUT_CHANNELS=12))
    with pytest.raises(ValueError, match="belong together"):
        teacher_of(reference, **{WEIGHTS: other[WEIGHTS]})


def test_random_weights_are_a_teacher_only_when_asked_for(
    reference: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        teacher_of(reference, **{WEIGHTS: "", "DISTILL__TEACHER__ALLOW_RANDOM": True})
    assert "RANDOM" in caplog.text


def test_a_file_that_would_run_code_is_refused_and_not_run(
    reference: dict[str, Any], tmp_path: Path
) -> None:
    trace = tmp_path / "ran"

    class Malicious:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(trace),)

    torch.save({"model": Malicious()}, tmp_path / "bad.pth")
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps({"model": Malicious()}))
    for name in ("bad.pth", "bad.pkl"):
        with pytest.raises(CheckpointError, match="was refused because reading it would call"):
            teacher_of(reference, **{WEIGHTS: str(tmp_path / name)})
    assert not trace.exists()


def test_differing_pixel_statistics_are_reported_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = tiny.rcnn_cfg(MODEL__PIXEL_MEAN=[1.0, 2.0, 3.0])
    with caplog.at_level(logging.INFO):
        teacher = teacher_of(tiny.save_teacher(tmp_path, cfg))
    assert "MODEL.PIXEL_MEAN is [103.53, 116.28, 123.675] for the student" in caplog.text
    assert teacher.model.pixel_mean.flatten().tolist() == [1, 2, 3]


@pytest.mark.parametrize(("order", "swap"), [("BGR", False), ("RGB", True)])
def test_the_channel_order_follows_from_the_two_configs(
    tmp_path: Path, order: str, swap: bool
) -> None:
    reference = tiny.save_teacher(tmp_path, tiny.rcnn_cfg(INPUT__FORMAT=order))
    assert teacher_of(reference).swap_channels is swap


def test_counters_of_newer_releases_are_not_missed(reference: dict[str, Any]) -> None:
    state = torch.load(reference[WEIGHTS], weights_only=True)["model"]
    counters = [key for key in state if key.endswith("num_batches_tracked")]
    assert counters
    torch.save({"model": {k: state[k] for k in state if k not in counters}}, reference[WEIGHTS])
    cfg = tiny.rcnn_cfg(**reference)
    build_teacher(cfg)


def test_what_constructors_fail_at_is_said_of_the_keys():
    cfg = tiny.rcnn_cfg(MODEL__ANCHOR_GENERATOR__SIZES=[[16], [24]])
    with pytest.raises(ValueError, match="MODEL makes no detector .Got sizes"):
        with said_of_keys():
            tiny.build(cfg)
