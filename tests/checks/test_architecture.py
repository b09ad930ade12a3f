"""Unknown names are said before anything is built, with the name that was meant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog
from helpers import tiny

from distill.checks import check_config

ROI = "MODEL__ROI_HEADS__"


@pytest.fixture
def registered() -> Iterator[None]:
    """The dataset that the tiny detectors name."""
    DatasetCatalog.register("tiny_abc", list)
    yield
    DatasetCatalog.remove("tiny_abc")


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("MODEL.META_ARCHITECTURE", "RetinaNett", "RetinaNet"),
        ("MODEL.META_ARCHITECTURE", "gfl", "GFL"),
        ("MODEL.BACKBONE.NAME", "build_slim_fpn_backbon", "build_slim_fpn_backbone"),
        ("MODEL.PROPOSAL_GENERATOR.NAME", "RPNN", "RPN"),
        ("MODEL.RPN.HEAD_NAME", "StandardRpnHead", "StandardRPNHead"),
        ("MODEL.ANCHOR_GENERATOR.NAME", "DefaultAnchors", "DefaultAnchorGenerator"),
        ("MODEL.ROI_HEADS.NAME", "StandardRoiHeads", "StandardROIHeads"),
        ("MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFC", "FastRCNNConvFCHead"),
        ("MODEL.FPN.NORM", "bn", "BN"),
        ("MODEL.SLIM.NORM", "FrozenBatchNorm", "FrozenBN"),
        ("MODEL.RPN.IN_FEATURES", ["p2", "p3", "P4"], "p4"),
        ("MODEL.ROI_HEADS.IN_FEATURES", ["p22"], "p2"),
        ("DISTILL.METHODS", ["TAFD"], "TADF"),
    ],
)
def test_an_unknown_name_is_one_sentence_with_the_one_that_was_meant(
    key: str, value: str | list[str], meant: str
) -> None:
    cfg = tiny.changed(tiny.rcnn_cfg(), **{key.replace(".", "__"): value})
    if key == "DISTILL.METHODS":
        cfg = tiny.distilled(cfg, DISTILL__METHODS=value)
    with pytest.raises(ValueError) as caught:
        check_config(cfg)
    message = str(caught.value)
    assert key in message and f'did you mean "{meant}"?' in message and "\n" not in message


def test_a_level_or_a_stage_that_is_not_there_is_named() -> None:
    cfg = tiny.rcnn_cfg(MODEL__FPN__IN_FEATURES=["res2", "res9"])
    with pytest.raises(ValueError, match="cannot be built .*: correct .* MODEL.FPN.IN_FEATURES"):
        check_config(cfg)
    cfg = tiny.retinanet_cfg(MODEL__RETINANET__IN_FEATURES=["p3", "p7"])
    with pytest.raises(ValueError, match='RETINANET.IN_FEATURES names the level "p7".*p2, p3, p4'):
        check_config(cfg)


@pytest.mark.usefixtures("registered")
def test_parts_that_a_detector_does_not_read_may_have_any_name() -> None:
    changes = {f"{ROI}NAME": "Unknown", f"{ROI}IN_FEATURES": ["x"]}
    check_config(tiny.retinanet_cfg(**changes))
    check_config(tiny.c4_cfg(MODEL__ROI_BOX_HEAD__NAME=""))


def test_methods_without_distiller_are_refused_in_training() -> None:
    cfg = tiny.retinanet_cfg(DISTILL__METHODS=("TADF",))
    with pytest.raises(ValueError, match=r"TADF, but .* is RetinaNet.*Distiller and .* RetinaNet"):
        check_config(cfg)
    check_config(cfg, training=False)


@pytest.mark.parametrize("name", ["Distiller", "RetinaNt"])
def test_the_students_own_architecture_is_a_detector(name: str) -> None:
    cfg = tiny.distilled(tiny.rcnn_cfg(), DISTILL__STUDENT__META_ARCHITECTURE=name)
    with pytest.raises(ValueError, match=f'DISTILL.STUDENT.META_ARCHITECTURE is "{name}"'):
        check_config(cfg)


def teacher(folder: Path, **changes: object) -> dict[str, object]:
    (folder / "teacher.yaml").write_text(tiny.rcnn_cfg(**changes).dump())
    key = "DISTILL__TEACHER__"
    return {f"{key}CONFIG_FILE": str(folder / "teacher.yaml"), f"{key}ALLOW_RANDOM": True}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"MODEL__BACKBONE__NAME": "build_slim_fpn_backbon"},
            'teacher.yaml: MODEL.BACKBONE.NAME .* did you mean "build_slim_fpn_backbone"',
        ),
        ({"MODEL__ROI_HEADS__IN_FEATURES": ["p9"]}, 'teacher.yaml: .* names the level "p9"'),
    ],
)
def test_a_teachers_names_are_checked_with_its_file(
    tmp_path: Path, changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_config(tiny.distilled(tiny.rcnn_cfg(), **teacher(tmp_path, **changes)))


@pytest.mark.usefixtures("registered")
def test_weights_of_a_teacher_that_are_not_there_are_said_before_it_is_built(
    tmp_path: Path,
) -> None:
    cfg = tiny.distilled(tiny.rcnn_cfg(), **teacher(tmp_path))
    cfg.DISTILL.TEACHER.ALLOW_RANDOM = False
    with pytest.raises(ValueError, match="DISTILL.TEACHER.WEIGHTS is empty"):
        check_config(cfg)
    cfg.DISTILL.TEACHER.WEIGHTS = str(tmp_path / "gone.pth")
    with pytest.raises(FileNotFoundError, match="DISTILL.TEACHER.WEIGHTS.*gone.pth"):
        check_config(cfg)
    cfg.DISTILL.TEACHER.CONFIG_FILE = str(tmp_path / "gone.yaml")
    cfg.DATASETS.TRAIN = ("nowhere",)
    with pytest.raises(FileNotFoundError, match="gone.yaml"):
        check_config(cfg)


def test_levels_that_a_pair_does_not_share_are_said_before_it_is_built(tmp_path: Path) -> None:
    reference = teacher(tmp_path)
    cfg = tiny.distilled(tiny.rcnn_cfg(), **reference, DISTILL__LEVELS=("P2",))
    with pytest.raises(ValueError, match='DISTILL.LEVELS names P2.*did you mean "p2"'):
        check_config(cfg)
    cfg = tiny.distilled(tiny.c4_cfg(), **teacher(tmp_path, **tiny.TWO_LEVELS))
    with pytest.raises(ValueError, match="no stride is common"):
        check_config(cfg)


@pytest.mark.usefixtures("registered")
def test_a_teacher_that_nothing_uses_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    check_config(tiny.distilled(tiny.rcnn_cfg(), **teacher(tmp_path), DISTILL__METHODS=()))
    assert "the student trains without it" in caplog.text
