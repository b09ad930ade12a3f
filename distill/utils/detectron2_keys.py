"""What Detectron2's own keys may be, where a wrong value would end in a traceback or in nothing.

A value that Detectron2 really works with is allowed: -1 detections an image are all, a FREEZE_AT
below 1 freezes nothing, a size of 0 leaves images as they are. Keys that one of the two Detectron2s
does not have are left out there.
"""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode

from distill.utils.config_keys import limit
from distill.utils.key_limits import Limit, flag, list_of, number, one_of, optional, text, whole

__all__ = ["limit_detectron2_keys"]

_AT_LEAST_0, _ABOVE_0, _COUNT = number(at_least=0), number(above=0), whole(at_least=1)
_SHARE = number(at_least=0, at_most=1)
_LEVELS = list_of(text(), at_least=1, distinct=True)
_NAMES = list_of(text())
_NESTED = list_of(number(above=0), at_least=1, nested=True)
# Of a rotated box, five.
_BOX_WEIGHTS = list_of(_ABOVE_0, length=(4, 5))
_BOX_LOSS = one_of("smooth_l1", "giou", "diou", "ciou")
_POOLER = {
    "POOLER_TYPE": one_of("ROIPool", "ROIAlign", "ROIAlignV2", "ROIAlignRotated"),
    "POOLER_RESOLUTION": _COUNT,
    "POOLER_SAMPLING_RATIO": whole(at_least=0),
}
_BOXES = {"BBOX_REG_LOSS_TYPE": _BOX_LOSS, "BBOX_REG_WEIGHTS": _BOX_WEIGHTS}
# A negative weight of the positives switches it off in fvcore's focal loss.
_FOCAL = {"FOCAL_LOSS_ALPHA": number(at_least=0, at_most=1, also=(-1,))}
_MATCHING = {
    "IOU_THRESHOLDS": list_of(number(above=0, at_most=1), at_least=1),
    "IOU_LABELS": list_of(whole(at_least=-1, at_most=1), at_least=2),
}
_SAMPLES = {"BATCH_SIZE_PER_IMAGE": _COUNT, "POSITIVE_FRACTION": _SHARE, **_MATCHING}
_FORMATS = ("BGR", "RGB", "L", "YUV-BT.601", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F")

_LIMITS: dict[str, dict[str, Limit]] = {
    "": {"SEED": whole(at_most=2**31 - 1), "VIS_PERIOD": whole(at_least=0), "OUTPUT_DIR": text()},
    "MODEL": {
        "DEVICE": text(),
        "META_ARCHITECTURE": text(),
        "WEIGHTS": optional(text()),
        "PIXEL_MEAN": list_of(number(), at_least=1),
        "PIXEL_STD": list_of(_ABOVE_0, at_least=1),
        **dict.fromkeys(("MASK_ON", "KEYPOINT_ON", "LOAD_PROPOSALS"), flag()),
    },
    "MODEL.BACKBONE": {"NAME": text(), "FREEZE_AT": whole()},
    "MODEL.FPN": {
        "IN_FEATURES": list_of(text(), distinct=True),
        "OUT_CHANNELS": _COUNT,
        "FUSE_TYPE": one_of("sum", "avg"),
    },
    "MODEL.RESNETS": {
        "DEPTH": _COUNT,
        "OUT_FEATURES": _LEVELS,
        "NUM_GROUPS": _COUNT,
        "WIDTH_PER_GROUP": _COUNT,
        "STEM_OUT_CHANNELS": _COUNT,
        "RES2_OUT_CHANNELS": _COUNT,
        "RES5_DILATION": whole(at_least=1, at_most=2),
        "DEFORM_ON_PER_STAGE": list_of(flag(), length=4),
        "DEFORM_NUM_GROUPS": _COUNT,
    },
    "MODEL.PROPOSAL_GENERATOR": {"NAME": text(), "MIN_SIZE": _AT_LEAST_0},
    "MODEL.ANCHOR_GENERATOR": {
        "NAME": text(),
        "SIZES": _NESTED,
        "ASPECT_RATIOS": _NESTED,
        "ANGLES": list_of(number(), nested=True),
        "OFFSET": number(at_least=0, below=1),
    },
    "MODEL.RPN": {
        "IN_FEATURES": _LEVELS,
        "CONV_DIMS": list_of(whole(at_least=1, also=(-1,)), at_least=1),
        "BOUNDARY_THRESH": whole(at_least=-1),
        "NMS_THRESH": _SHARE,
        "LOSS_WEIGHT": _AT_LEAST_0,
        "BBOX_REG_LOSS_WEIGHT": _AT_LEAST_0,
        "SMOOTH_L1_BETA": _AT_LEAST_0,
        **{f"{when}_NMS_TOPK_{x}": _COUNT for when in ("PRE", "POST") for x in ("TRAIN", "TEST")},
        **_SAMPLES,
        **_BOXES,
    },
    "MODEL.ROI_HEADS": {
        "NAME": text(),
        "IN_FEATURES": _LEVELS,
        "NUM_CLASSES": _COUNT,
        "SCORE_THRESH_TEST": _SHARE,
        "NMS_THRESH_TEST": _SHARE,
        **_SAMPLES,
    },
    "MODEL.ROI_BOX_HEAD": {
        "NUM_FC": whole(at_least=0),
        "FC_DIM": _COUNT,
        "NUM_CONV": whole(at_least=0),
        "CONV_DIM": _COUNT,
        "BBOX_REG_LOSS_WEIGHT": _AT_LEAST_0,
        "SMOOTH_L1_BETA": _AT_LEAST_0,
        **_POOLER,
        **_BOXES,
    },
    "MODEL.ROI_BOX_CASCADE_HEAD": {
        "IOUS": list_of(_SHARE, at_least=1),
        "BBOX_REG_WEIGHTS": list_of(_BOX_WEIGHTS, at_least=1),
    },
    "MODEL.ROI_MASK_HEAD": {"NUM_CONV": whole(at_least=0), "CONV_DIM": _COUNT, **_POOLER},
    "MODEL.ROI_KEYPOINT_HEAD": {
        "NUM_KEYPOINTS": _COUNT,
        "CONV_DIMS": list_of(_COUNT),
        "MIN_KEYPOINTS_PER_IMAGE": whole(at_least=0),
        "LOSS_WEIGHT": _AT_LEAST_0,
        **_POOLER,
    },
    "MODEL.RETINANET": {
        "NUM_CLASSES": _COUNT,
        "IN_FEATURES": _LEVELS,
        "NUM_CONVS": _COUNT,
        **_MATCHING,
        "PRIOR_PROB": number(above=0, below=1),
        "SCORE_THRESH_TEST": _SHARE,
        "NMS_THRESH_TEST": _SHARE,
        "TOPK_CANDIDATES_TEST": _COUNT,
        "FOCAL_LOSS_GAMMA": _AT_LEAST_0,
        "SMOOTH_L1_LOSS_BETA": _AT_LEAST_0,
        **_FOCAL,
        **_BOXES,
    },
    "INPUT": {
        "MIN_SIZE_TRAIN": list_of(whole(at_least=0), at_least=1),
        "MAX_SIZE_TRAIN": _COUNT,
        "MIN_SIZE_TEST": whole(at_least=0),
        "MAX_SIZE_TEST": _COUNT,
        "MIN_SIZE_TRAIN_SAMPLING": one_of("choice", "range"),
        "RANDOM_FLIP": one_of("horizontal", "vertical", "none"),
        "FORMAT": one_of(*_FORMATS),
        "MASK_FORMAT": one_of("polygon", "bitmask"),
    },
    "INPUT.CROP": {
        "ENABLED": flag(),
        "TYPE": one_of("relative_range", "relative", "absolute", "absolute_range"),
        "SIZE": list_of(_ABOVE_0, length=2),
    },
    "DATASETS": dict.fromkeys(("TRAIN", "TEST"), _NAMES),
    "DATALOADER": {"NUM_WORKERS": whole(at_least=0), "REPEAT_THRESHOLD": _AT_LEAST_0},
    "SOLVER": {
        "IMS_PER_BATCH": _COUNT,
        "REFERENCE_WORLD_SIZE": whole(at_least=0),
        "MAX_ITER": _COUNT,
        "BASE_LR": _AT_LEAST_0,
        "BASE_LR_END": _AT_LEAST_0,
        "MOMENTUM": _AT_LEAST_0,
        "WEIGHT_DECAY": _AT_LEAST_0,
        "WEIGHT_DECAY_NORM": optional(_AT_LEAST_0),
        "WEIGHT_DECAY_BIAS": optional(_AT_LEAST_0),
        "BIAS_LR_FACTOR": optional(_AT_LEAST_0),
        "GAMMA": _AT_LEAST_0,
        "STEPS": list_of(_COUNT, rising=True),
        "WARMUP_FACTOR": _AT_LEAST_0,
        "WARMUP_ITERS": whole(at_least=0),
        "WARMUP_METHOD": one_of("linear", "constant"),
        # 0 or less saves after the last iteration only.
        "CHECKPOINT_PERIOD": whole(),
    },
    "SOLVER.CLIP_GRADIENTS": {
        "CLIP_TYPE": one_of("value", "norm", "full_model"),
        "CLIP_VALUE": _ABOVE_0,
        "NORM_TYPE": number(above=0, also=(float("inf"),)),
    },
    "SOLVER.AMP": {"ENABLED": flag()},
    "TEST": {
        "EVAL_PERIOD": whole(at_least=0),
        "DETECTIONS_PER_IMAGE": whole(at_least=1, also=(-1,)),
        "KEYPOINT_OKS_SIGMAS": list_of(_ABOVE_0),
    },
    "TEST.AUG": {"MIN_SIZES": list_of(_COUNT, at_least=1), "MAX_SIZE": _COUNT},
    "TEST.PRECISE_BN": {"NUM_ITER": _COUNT},
}


def limit_detectron2_keys(cfg: CfgNode) -> None:
    """Says what Detectron2's keys may be.

    Args:
        cfg: a config made by ``detectron2.config.get_cfg()``; changed in place.
    """
    for group, limits in _LIMITS.items():
        node: Any = cfg
        for part in filter(None, group.split(".")):
            node = node[part]
        limit(node, **{key: allowed for key, allowed in limits.items() if key in node})
