"""Keys that a training script of one's own would ignore are refused there, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers import tiny

from distill.utils.trainer_keys import acts_on_trainer_keys

CHANGES: dict[str, Any] = {
    "DATASETS.PSEUDO": ("p.json",),
    "DATASETS.UNLABELED": ("digits_unlabeled",),
    "DATASETS.REPEAT_FACTORS": (2.0,),
    "DISTILL.PSEUDO.IGNORE_THRESHOLD": 0.2,
    "DATALOADER.SKIP_UNREADABLE": True,
    "INPUT.AUGMENTATION": "ssd",
    "SOLVER.OPTIMIZER": "AdamW",
    "SOLVER.AMP.PRECISION": "bfloat16",
}


@pytest.mark.parametrize("key", CHANGES)
def test_a_distiller_in_anothers_program_refuses_what_that_would_ignore(key: str) -> None:
    changes = {key.replace(".", "__"): CHANGES[key]}
    cfg = tiny.distilled(tiny.rcnn_cfg(**changes), DISTILL__METHODS=())
    with pytest.raises(ValueError, match=f"^{key} is acted on by distill.engine.Trainer alone"):
        tiny.build(cfg)
    with acts_on_trainer_keys():
        tiny.build(cfg)


def test_all_such_keys_are_named_at_once(tmp_path: Path) -> None:
    changes = {key.replace(".", "__"): value for key, value in CHANGES.items()}
    reference = tiny.save_teacher(tmp_path, tiny.rcnn_cfg())
    with pytest.raises(ValueError) as caught:
        tiny.build(tiny.distilled(tiny.rcnn_cfg(**changes), **reference))
    assert all(key in str(caught.value) for key in CHANGES) and " are acted on" in str(caught.value)
