from __future__ import annotations

import pytest
from helpers import tiny

from distill.config import check_keys
from distill.data.unlabeled_config import check_unlabeled_config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"DISTILL__UNLABELED__MIX": "blend"}, 'UNLABELED.MIX is "blend"; choose one of alternate'),
        ({"DISTILL__UNLABELED__LABELED_FRACTION": 1.0}, "LABELED_FRACTION is 1.0"),
        ({"DISTILL__UNLABELED__SCORE_THRESHOLD": 0.01}, "SCORE_THRESHOLD is 0.01.*at least 0.05"),
        ({"DISTILL__UNLABELED__SCORE_THRESHOLD": 1.0}, "SCORE_THRESHOLD is 1.0.*below 1"),
        ({"MODEL__MASK_ON": True}, "set MODEL.MASK_ON to False"),
    ],
)
def test_values_that_make_no_sense_are_refused_in_one_sentence(changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        check_keys(tiny.rcnn_cfg(**changes))
        check_unlabeled_config(tiny.rcnn_cfg(**changes))
    assert "\n" not in str(raised.value)


def test_the_defaults_pass():
    check_unlabeled_config(tiny.rcnn_cfg())
