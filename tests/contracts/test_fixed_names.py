"""Names that configs, papers' folders and outside checks use: they stay, with their arguments."""

from __future__ import annotations

import inspect

import pytest
from detectron2.config import get_cfg
from detectron2.modeling import META_ARCH_REGISTRY

import distill
import distill.losses
import distill.methods.ida_det
import distill.modeling.binary
import distill.ops
from distill.methods import METHODS

LOSSES = {
    "adaptive_distillation": "student_logits teacher_logits valid gamma beta theta form",
    "binary_consistency": "student_logits teacher_logits valid num_positives",
    "iou_localization": "student_boxes teacher_boxes student_logits teacher_logits valid "
    "num_positives iou_type",
    "gaussian_box_mask": "boxes size stride",
    "masked_imitation": "student teacher mask",
    "foreground_classification": "student_scores teacher_scores",
    "entropy_imitation": "student teacher log_variance log_weight",
}
KEYS = (
    *("METHODS", "LEVELS", "LOG_PERIOD", "STUDENT.META_ARCHITECTURE"),
    *(f"TEACHER.{x}" for x in ("CONFIG_FILE", "WEIGHTS", "OPTS", "PRECISION", "CLASSES")),
)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_keeps_its_arguments(name: str) -> None:
    given = list(inspect.signature(getattr(distill.losses, name)).parameters)
    wanted = LOSSES[name].split()
    assert [x for x in given if x in wanted] == wanted


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (distill.methods.ida_det, ("proposal_discrepancy", "select_most_discrepant")),
        (distill.modeling.binary, ("binarize_activation", "binarize_weight")),
        (distill.ops, ("anchor_overlap_masks",)),
        (distill, ("add_distill_config", "Distiller")),
    ],
)
def test_a_name_stays_where_it_is(module: object, names: tuple[str, ...]) -> None:
    assert set(names) <= vars(module).keys()


def test_the_library_is_registered_by_its_import() -> None:
    assert {"TADF", "IDaDet", "ADL", "BCKD", "LD"} <= {name for name, _ in METHODS}
    wanted = ("Distiller", "GFL", "ATSS", "SSD", "ConfigurableFCOS")
    assert all(name in META_ARCH_REGISTRY for name in wanted)


def test_the_keys_of_a_pair_stay() -> None:
    cfg = get_cfg()
    distill.add_distill_config(cfg)
    flat = cfg.DISTILL.dump()
    for key in KEYS:
        node = cfg.DISTILL
        for part in key.split("."):
            node = node[part]
        assert key.split(".")[-1] in flat
    for name, _ in METHODS:
        assert {"NAME", "END_FACTOR", "MAX_ITER"} <= cfg.DISTILL[name].SCHEDULE.keys()
