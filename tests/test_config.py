"""Configs of older run directories load, with and without the rooms outside of the library."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from detectron2.config import CfgNode, get_cfg

from distill import add_distill_config
from distill.config import check_retired_keys
from distill.utils import config_keys

# What a run directory written before pre-training left the library holds of it, and what the
# library still reads.
OLD = """
DISTILL:
  METHODS: ("TADF",)
  UNLABELED: {BOXES: "cached"}
MODEL: {META_ARCHITECTURE: "Distiller"}
PRETRAIN:
  DATA: ""
  STEP: "both"
  TEACHER: {NAME: "", CONFIG_FILE: ""}
VERSION: 2
"""


@pytest.fixture
def old(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(OLD)
    return str(path)


def new_config(monkeypatch: pytest.MonkeyPatch, *, pretraining: bool) -> CfgNode:
    """A config as in a process that has imported the pre-training, or has not."""
    from pretraining import add_pretrain_config

    own = [add for add in config_keys._ADDERS if add is not add_pretrain_config]
    adders = [*own, add_pretrain_config] if pretraining else own
    monkeypatch.setattr(config_keys, "_ADDERS", adders)
    cfg = get_cfg()
    add_distill_config(cfg)
    return cfg


def test_the_pretraining_of_an_old_run_is_left_out_with_a_warning(old, monkeypatch, caplog):
    cfg = new_config(monkeypatch, pretraining=False)
    with caplog.at_level(logging.WARNING):
        cfg.merge_from_file(old)
    assert "PRETRAIN" not in cfg and cfg.DISTILL.METHODS == ("TADF",)
    assert "PRETRAIN" in caplog.text
    check_retired_keys(cfg)


def test_the_pretraining_of_an_old_run_is_read_where_it_is_imported(old, monkeypatch):
    cfg = new_config(monkeypatch, pretraining=True)
    cfg.merge_from_file(old)
    assert cfg.PRETRAIN.STEP == "both" and cfg.DISTILL.METHODS == ("TADF",)


def test_an_option_of_the_pretraining_is_unknown_to_the_library_alone(monkeypatch):
    cfg = new_config(monkeypatch, pretraining=False)
    with pytest.raises(AssertionError, match="Non-existent key: PRETRAIN.STEP"):
        cfg.merge_from_list(["PRETRAIN.STEP", "weights"])
