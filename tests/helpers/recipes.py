"""The repository's config files, loaded as the scripts load them."""

from __future__ import annotations

from pathlib import Path

from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from torch import nn

from distill import add_distill_config
from distill.utils.config_files import merge_file
from distill.utils.trainer_keys import acts_on_trainer_keys

ROOT = Path(__file__).parents[2]


def load(path: Path) -> CfgNode:
    cfg = get_cfg()
    add_distill_config(cfg)
    merge_file(cfg, path, key="the file")
    return cfg


def load_at_random_weights(path: Path) -> CfgNode:
    """On the CPU, and without the weights that are not in the repository."""
    cfg = load(path)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = cfg.DISTILL.TEACHER.WEIGHTS = ""
    cfg.DISTILL.TEACHER.ALLOW_RANDOM = True
    return cfg


def build(cfg: CfgNode) -> nn.Module:
    """The model as the Trainer builds it, which acts on all keys of a recipe."""
    with acts_on_trainer_keys():
        return build_model(cfg)
