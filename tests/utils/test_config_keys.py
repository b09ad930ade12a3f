"""What keys may be stands beside them, for every key of the library, and is checked."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import detectron2.model_zoo
import pytest
from detectron2.config import CfgNode, get_cfg
from pretraining import add_pretrain_config  # noqa: F401

from distill import add_distill_config
from distill.config import check_keys
from distill.utils.config_files import merge_file, merge_overrides
from distill.utils.config_keys import check_limits, key_limits, limit
from distill.utils.key_limits import number, one_of, whole

ROOT = Path(__file__).parents[2]
ZOO = Path(detectron2.model_zoo.__file__).parent / "configs"


def new_config() -> CfgNode:
    cfg = get_cfg()
    add_distill_config(cfg)
    return cfg


def names(node: CfgNode, path: str = "") -> list[str]:
    return [
        name
        for key, value in node.items()
        for name in (
            names(value, f"{path}{key}.") if isinstance(value, CfgNode) else [f"{path}{key}"]
        )
    ]


def put(cfg: CfgNode, name: str, value: Any) -> None:
    """Sets a key as code may, without the checks of a merge."""
    *groups, key = name.split(".")
    for group in groups:
        cfg = cfg[group]
    cfg[key] = value


def test_every_key_of_ours_has_a_limit():
    retired = {"DISTILL.UNLABELED.BOXES", "DISTILL.PSEUDO.SCORE_WEIGHTS"}
    cfg = new_config()
    assert set(names(cfg)) - set(names(get_cfg())) - retired <= set(key_limits(cfg))


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e9, -7, [], None, "odd", {"a": 1}])
def test_no_number_of_ours_may_be_just_anything(value):
    cfg = new_config()
    ours = set(names(cfg)) - set(names(get_cfg()))
    for name, allowed in key_limits(cfg).items():
        *groups, key = name.split(".")
        node = cfg
        for group in groups:
            node = node[group]
        if name in ours and type(node[key]) in (int, float):
            assert allowed.remedy(value), name


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("DISTILL.LOG_PERIOD", 0, "DISTILL.LOG_PERIOD is 0; it must be at least 1"),
        ("DISTILL.LOG_PERIOD", 2.0, "DISTILL.LOG_PERIOD is 2.0; it must be a whole number"),
        ("DISTILL.LEVELS", ("p3", "p3"), "it may have 'p3' only once"),
        ("DISTILL.METHODS", "TADF", 'DISTILL.METHODS is "TADF"; it must be a list'),
        ("DISTILL.TADF.CLS_WEIGHT", -1.0, "DISTILL.TADF.CLS_WEIGHT is -1.0; it must be at least 0"),
        ("DISTILL.ADL.GAMMA", math.inf, "DISTILL.ADL.GAMMA is inf; it must be at least 0"),
        ("DISTILL.ADL.FORM", "papre", 'choose one of code, paper; did you mean "paper"?'),
        ("DISTILL.LD.SCHEDULE.STAIRS", 0, "DISTILL.LD.SCHEDULE.STAIRS is 0; it must be at least 1"),
        ("DISTILL.TEACHER.PRECISION", "fp16", "choose one of auto, float32, float16, bfloat16"),
        ("DISTILL.DENSE.MASK_PADDING", "no", "it must be True or False"),
        ("DISTILL.UNLABELED.MIX", "both", "choose one of alternate, ratio"),
        ("DISTILL.PSEUDO.SCORE_THRESHOLD", 7.0, "it must be at least 0 and below 1"),
        ("DISTILL.FINETUNE.LR_FACTOR", 0.0, "it must be above 0"),
        ("DATASETS.REPEAT_FACTORS", (1, 0), "of its entry 0: it must be above 0"),
        ("MODEL.SSD.IMAGE_SIZE", 0, "it must be at least 1"),
        ("MODEL.GFL.IN_FEATURES", (), "it must have at least 1 entries"),
        ("MODEL.SLIM.NORM", None, "MODEL.SLIM.NORM is None; it must be text"),
        ("SOLVER.OPTIMIZER", "Adamw", 'did you mean "AdamW"?'),
        ("PRETRAIN.CROP_SCALE", (0.0, 1.0), "of its entry 0.0: it must be above 0"),
        ("SOLVER.STEPS", (200, 100), "SOLVER.STEPS is (200, 100); its entries must rise"),
        ("SOLVER.STEPS", (100, 40000), "names SOLVER.MAX_ITER, where training ends"),
        ("SOLVER.BASE_LR", math.nan, "SOLVER.BASE_LR is nan; it must be at least 0"),
        ("SOLVER.IMS_PER_BATCH", 0, "it must be at least 1"),
        ("SOLVER.WARMUP_METHOD", "cosine", "choose one of linear, constant"),
        ("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.0, "it must be above 0"),
        ("DATALOADER.NUM_WORKERS", -1, "it must be at least 0"),
        ("INPUT.MIN_SIZE_TRAIN", (), "it must have at least 1 entries"),
        ("INPUT.MIN_SIZE_TRAIN_SAMPLING", "range", "give the least and the largest size"),
        ("INPUT.FORMAT", "GBR", "choose one of BGR, RGB"),
        ("INPUT.FORMAT", "L", "have 1 channels"),
        ("TEST.EVAL_PERIOD", -1, "it must be at least 0"),
        ("TEST.DETECTIONS_PER_IMAGE", 0, "it must be at least 1 or -1"),
        ("MODEL.DEVICE", "gpu", 'MODEL.DEVICE is "gpu", which is no device'),
        ("MODEL.PIXEL_STD", [1.0, 0.0, 1.0], "of its entry 0.0: it must be above 0"),
        ("MODEL.PIXEL_MEAN", [1.0, 2.0], "MODEL.PIXEL_MEAN has 2 numbers"),
        ("MODEL.ANCHOR_GENERATOR.SIZES", [[32, -1]], "of its entry -1: it must be above 0"),
        ("MODEL.RPN.NMS_THRESH", 7.0, "it must be at least 0 and at most 1"),
        ("MODEL.RPN.IN_FEATURES", ["p2", "p2"], "it may have 'p2' only once"),
        ("MODEL.RETINANET.TOPK_CANDIDATES_TEST", 0, "it must be at least 1"),
        ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", -0.5, "it must be at least 0 and at most 1"),
        ("MODEL.SEM_SEG_HEAD.LOSS_WEIGHT", math.inf, "LOSS_WEIGHT is inf; it must be finite"),
        ("MODEL.RPN.IOU_LABELS", [0, 1], "RPN.IOU_LABELS has 2 labels for 2 IOU_THRESHOLDS"),
        ("MODEL.RPN.IOU_LABELS", [0, 7, 1], "of its entry 7: it must be at least -1"),
        ("MODEL.ROI_HEADS.IOU_THRESHOLDS", [0], "of its entry 0: it must be above 0"),
        ("MODEL.RETINANET.IOU_THRESHOLDS", [0.5, 0.4], "IOU_THRESHOLDS (0.5, 0.4) must rise"),
        ("MODEL.RETINANET.NUM_CONVS", 0, "it must be at least 1"),
        ("SEED", 2**40, "SEED is 1099511627776; it must be at most"),
    ],
)
def test_a_value_out_of_its_limits_is_one_sentence_with_its_key(name, value, sentence):
    cfg = new_config()
    put(cfg, name, value)
    with pytest.raises(ValueError) as caught:
        check_keys(cfg)
    message = str(caught.value)
    assert sentence in message and name.split(".")[-1] in message and "\n" not in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TEST.DETECTIONS_PER_IMAGE", -1),
        ("MODEL.BACKBONE.FREEZE_AT", -1),
        ("SOLVER.CLIP_GRADIENTS.NORM_TYPE", math.inf),
        ("SOLVER.STEPS", (100, 90000)),
        ("SOLVER.STEPS", ()),
        ("INPUT.MIN_SIZE_TEST", 0),
        ("MODEL.ANCHOR_GENERATOR.SIZES", [32, 64]),
        ("MODEL.RETINANET.FOCAL_LOSS_ALPHA", -1),
        ("MODEL.RPN.CONV_DIMS", [-1, 64]),
        ("MODEL.DEVICE", "cuda:1"),
        ("SEED", -5),
    ],
)
def test_what_detectron2_works_with_is_allowed(name, value):
    cfg = new_config()
    put(cfg, name, value)
    check_keys(cfg)


def test_every_config_of_the_repository_and_of_the_zoo_is_allowed():
    shipped = [*(ROOT / "configs").rglob("*.yaml"), *ROOT.glob("projects/*/configs/*.yaml")]
    paths = [*shipped, *ZOO.rglob("*.yaml")]
    assert len(shipped) > 60 and len(paths) > 100
    for path in paths:
        cfg = new_config()
        merge_file(cfg, path, key=str(path))
        check_keys(cfg)


def test_one_name_where_a_list_belongs_is_a_list_of_one():
    cfg = new_config()
    merge_overrides(
        cfg, ["DISTILL.METHODS", "TADF", "DATASETS.TRAIN", "a", "SOLVER.STEPS", "9"], key=""
    )
    check_keys(cfg)
    assert (cfg.DISTILL.METHODS, cfg.DATASETS.TRAIN, cfg.SOLVER.STEPS) == (("TADF",), ("a",), (9,))


def test_copies_of_a_config_have_the_limits_too():
    for copy in (new_config().clone(), pickle.loads(pickle.dumps(new_config()))):
        copy.SOLVER.MAX_ITER = 0
        with pytest.raises(ValueError, match="SOLVER.MAX_ITER is 0"):
            check_keys(copy)


def test_a_box_head_needs_a_layer():
    cfg = new_config()
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    with pytest.raises(ValueError, match="ROI_BOX_HEAD.NUM_FC and NUM_CONV are 0"):
        check_keys(cfg)


def test_of_a_part_of_a_config_only_that_is_checked():
    cfg = new_config()
    cfg.SOLVER.MAX_ITER = 0
    check_limits(cfg, groups=("MODEL", "INPUT"))
    with pytest.raises(ValueError, match="^here: SOLVER.MAX_ITER"):
        check_limits(cfg, groups=("SOLVER",), source="here: ")


def test_a_limit_that_its_own_default_breaks_is_an_error():
    node = CfgNode({"SIZE": 0, "FORM": "code"})
    limit(node, SIZE=number(at_least=0), FORM=one_of("code"))
    with pytest.raises(ValueError, match="the limit of SIZE: it must be at least 1"):
        limit(node, SIZE=whole(at_least=1))
    with pytest.raises(ValueError, match="the limit of SIEZ: there is no such key"):
        limit(node, SIEZ=whole(at_least=1))
