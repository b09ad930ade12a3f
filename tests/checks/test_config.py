"""What is wrong with a config is said before anything is trained."""

from __future__ import annotations

import pytest
from helpers import tiny
from torch import nn

from distill.checks import check_config, check_student_classes


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"DATASETS__TRAIN": ("nowhere",)},
            "DATASETS.TRAIN has nowhere, which is not a registered",
        ),
        (
            {"DATASETS__PSEUDO": ("digits_train",)},
            'DATASETS.PSEUDO has "digits_train", which is no',
        ),
        ({"DISTILL__PSEUDO__CLASSES_OF": "nowhere"}, "DISTILL.PSEUDO.CLASSES_OF has nowhere"),
        (
            {"DATASETS__UNLABELED": ("digits_unlabeled",), "DISTILL__UNLABELED__MIX": "both"},
            'DISTILL.UNLABELED.MIX is "both"; choose one of alternate, ratio',
        ),
        (
            {"SOLVER__LR_SCHEDULER_NAME": "WarmupCosine"},
            'SOLVER.LR_SCHEDULER_NAME is "WarmupCosine"; choose one of WarmupMultiStepLR',
        ),
        ({"OUTPUT_DIR": "/dev/null/run"}, "OUTPUT_DIR: /dev/null is no folder"),
        ({"DISTILL__PSEUDO__SCORE_WEIGHTS": True}, "DISTILL.PSEUDO.SCORE_WEIGHTS is True, which"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_key(
    changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValueError) as caught:
        check_config(tiny.rcnn_cfg(**{"DATASETS__TRAIN": (), "DATASETS__TEST": (), **changes}))
    assert str(caught.value).startswith(sentence)


def test_an_evaluation_does_not_ask_for_what_is_trained_on() -> None:
    check_config(tiny.rcnn_cfg(DATASETS__TRAIN=("nowhere",), DATASETS__TEST=()), training=False)


def test_the_classes_of_any_detector_are_counted_when_it_is_built() -> None:
    class Unknown(nn.Module):
        num_classes = 7

    cfg = tiny.rcnn_cfg(MODEL__META_ARCHITECTURE="Unknown")
    with pytest.raises(ValueError, match=r"predicts 7 classes, but .* tiny_abc has 3 .* to 3"):
        check_student_classes(cfg, Unknown())
    check_student_classes(tiny.rcnn_cfg(DATASETS__TRAIN=("tiny_unnamed",)), Unknown())
    # One that tells no classes apart.
    check_student_classes(cfg, nn.Linear(1, 1))
