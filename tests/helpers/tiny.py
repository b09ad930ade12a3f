"""Detectors of a few channels, batches of noise, and pairs of teacher and student."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.meta_arch.fcos import FCOS, FCOSHead
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from distill import Distiller, add_distill_config
from distill.methods import TADF
from distill.methods.schedule import Schedule
from distill.views.levels import match_levels
from distill.views.teacher import FrozenTeacher

NUM_CLASSES = 3
ZOO_CONFIG = "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"

# Changes that leave a detector two levels, and so a divisor of 8 instead of 16 pixels.
TWO_LEVELS = {
    "MODEL__FPN__IN_FEATURES": ["res2", "res3"],
    "MODEL__RPN__IN_FEATURES": ["p2", "p3"],
    "MODEL__ANCHOR_GENERATOR__SIZES": [[16], [24]],
}

for _name, _classes in {
    "tiny_abc": ("ant", "bee", "cow"),
    "tiny_cab": ("cow", "ant", "bee"),
    "tiny_zcab": ("zebra", "cow", "ant", "bee"),
    "tiny_abd": ("ant", "bee", "dog"),
    "tiny_unnamed": (),
}.items():
    MetadataCatalog.get(_name).set(thing_classes=list(_classes))


def rcnn_cfg(**changes: Any) -> CfgNode:
    """A Faster R-CNN with three pyramid levels; changes as MODEL__MASK_ON=True."""
    cfg = get_cfg()
    add_distill_config(cfg)
    model = cfg.MODEL
    model.DEVICE = "cpu"
    model.WEIGHTS = ""
    model.META_ARCHITECTURE = "GeneralizedRCNN"
    model.MASK_ON = False
    model.PIXEL_STD = [60.0, 60.0, 60.0]
    model.BACKBONE.NAME = "build_slim_fpn_backbone"
    model.BACKBONE.FREEZE_AT = 0
    model.SLIM.STEM_CHANNELS = 4
    model.SLIM.STAGE_CHANNELS = (6, 8, 10)
    model.FPN.IN_FEATURES = ["res2", "res3", "res4"]
    model.FPN.OUT_CHANNELS = 8
    model.FPN.NORM = "BN"
    model.ANCHOR_GENERATOR.SIZES = [[16], [24], [40]]
    model.RPN.IN_FEATURES = ["p2", "p3", "p4"]
    model.RPN.BATCH_SIZE_PER_IMAGE = 16
    model.RPN.PRE_NMS_TOPK_TRAIN = model.RPN.PRE_NMS_TOPK_TEST = 30
    model.RPN.POST_NMS_TOPK_TRAIN = model.RPN.POST_NMS_TOPK_TEST = 20
    model.ROI_HEADS.NAME = "StandardROIHeads"
    model.ROI_HEADS.IN_FEATURES = ["p2", "p3"]
    model.ROI_HEADS.NUM_CLASSES = NUM_CLASSES
    model.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16
    model.ROI_HEADS.POSITIVE_FRACTION = 0.5
    # So low that proposals of an untrained network are foreground too.
    model.ROI_HEADS.IOU_THRESHOLDS = [0.2]
    model.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    model.ROI_BOX_HEAD.NUM_FC = 1
    model.ROI_BOX_HEAD.FC_DIM = 16
    model.ROI_BOX_HEAD.POOLER_RESOLUTION = 3
    model.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO = 1
    model.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    model.ROI_MASK_HEAD.NUM_CONV = 1
    model.ROI_MASK_HEAD.CONV_DIM = 4
    model.ROI_MASK_HEAD.POOLER_RESOLUTION = 3
    cfg.DATASETS.TRAIN = ("tiny_abc",)
    cfg.SOLVER.MAX_ITER = 100
    cfg.SOLVER.STEPS = ()
    cfg.VIS_PERIOD = 0
    return changed(cfg, **changes)


def c4_cfg(**changes: Any) -> CfgNode:
    """A Faster R-CNN without pyramid, whose ROI head is the last stage of a ResNet."""
    cfg = rcnn_cfg()
    model = cfg.MODEL
    model.BACKBONE.NAME = "build_slim_backbone"
    model.SLIM.STAGE_CHANNELS = (6, 8, 16)
    model.SLIM.OUT_FEATURES = ("res4",)
    model.ANCHOR_GENERATOR.SIZES = [[16, 32]]
    model.RPN.IN_FEATURES = ["res4"]
    model.ROI_HEADS.NAME = "Res5ROIHeads"
    model.ROI_HEADS.IN_FEATURES = ["res4"]
    model.RESNETS.RES2_OUT_CHANNELS = 4
    model.RESNETS.WIDTH_PER_GROUP = 1
    return changed(cfg, **changes)


def retinanet_cfg(**changes: Any) -> CfgNode:
    cfg = rcnn_cfg()
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.RETINANET.IN_FEATURES = ["p2", "p3", "p4"]
    cfg.MODEL.RETINANET.NUM_CLASSES = NUM_CLASSES
    cfg.MODEL.RETINANET.NUM_CONVS = 1
    return changed(cfg, **changes)


def changed(cfg: CfgNode, **changes: Any) -> CfgNode:
    cfg = cfg.clone()
    cfg.merge_from_list([x for k, v in changes.items() for x in (k.replace("__", "."), v)])
    return cfg


def build(cfg: CfgNode, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)


def build_fcos(channels: int = 8, seed: int = 0) -> FCOS:
    """Detectron2's FCOS, which has no YAML config."""
    torch.manual_seed(seed)
    backbone = build_backbone(rcnn_cfg(MODEL__FPN__OUT_CHANNELS=channels))
    shapes = list(backbone.output_shape().values())
    return FCOS(
        backbone=backbone,
        head=FCOSHead(input_shape=shapes, num_classes=NUM_CLASSES, conv_dims=[channels]),
        num_classes=NUM_CLASSES,
        pixel_mean=[110.0] * 3,
        pixel_std=[60.0] * 3,
    )


def save_teacher(folder: Path, cfg: CfgNode, seed: int = 1) -> dict[str, Any]:
    """Writes a randomly initialized teacher's config and weights; returns the keys to refer to."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "teacher.yaml").write_text(cfg.dump())
    torch.save({"model": build(cfg, seed).state_dict()}, folder / "teacher.pth")
    return {
        "DISTILL__TEACHER__CONFIG_FILE": str(folder / "teacher.yaml"),
        "DISTILL__TEACHER__WEIGHTS": str(folder / "teacher.pth"),
    }


def distilled(cfg: CfgNode, **changes: Any) -> CfgNode:
    """The config of the same student as the student of a Distiller with TADF."""
    own = cfg.MODEL.META_ARCHITECTURE
    return changed(
        cfg,
        MODEL__META_ARCHITECTURE="Distiller",
        **{
            "DISTILL__STUDENT__META_ARCHITECTURE": own,
            "DISTILL__METHODS": ("TADF",),
            **changes,
        },
    )


def pair(
    student: nn.Module,
    teacher: nn.Module,
    *,
    schedule: Schedule | None = None,
    log_period: int = 20,
    vis_period: int = 0,
    class_map: Tensor | None = None,
    **tadf: Any,
) -> Distiller:
    """A Distiller of two detectors with TADF, without any config."""
    levels = match_levels(student.backbone.output_shape(), teacher.backbone.output_shape())
    method = TADF.with_defaults(levels, schedule=schedule or Schedule(), **tadf)
    return Distiller(
        student=student,
        teacher=FrozenTeacher(teacher, class_map=class_map),
        methods=[method],
        log_period=log_period,
        vis_period=vis_period,
    )


def default_pair(**arguments: Any) -> Distiller:
    """A Faster R-CNN under a wider one."""
    student = build(rcnn_cfg(), 0)
    teacher = build(rcnn_cfg(MODEL__FPN__OUT_CHANNELS=12), 1)
    return pair(student, teacher, **arguments).train()


def example(
    boxes: Sequence[Sequence[float]], size: tuple[int, int] = (64, 64), *, seed: int = 0
) -> dict[str, Any]:
    """An image of noise with boxes, whose labels go round and whose masks fill the boxes."""
    height, width = size
    noise = np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8)
    table = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    instances = Instances(size)
    instances.gt_boxes = Boxes(table)
    instances.gt_classes = torch.arange(len(table)) % NUM_CLASSES
    masks = torch.zeros(len(table), height, width, dtype=torch.bool)
    corners = table.clamp(min=0).round().int().tolist()
    for mask, (x0, y0, x1, y1) in zip(masks, corners, strict=True):
        mask[y0:y1, x0:x1] = True
    instances.gt_masks = BitMasks(masks)
    return {
        "image": torch.from_numpy(noise),
        "instances": instances,
        "height": height,
        "width": width,
        "file_name": f"{seed}.png",
    }


def batch(seed: int = 0) -> list[dict[str, Any]]:
    """Two images of one and of two objects."""
    return [
        example([[8, 8, 40, 48]], seed=2 * seed),
        example([[4, 20, 30, 60], [30, 4, 62, 34]], seed=2 * seed + 1),
    ]


def empty_batch() -> list[dict[str, Any]]:
    return [example([], seed=5), example([], seed=6)]


def step(model: nn.Module, inputs: list[dict[str, Any]], seed: int = 0) -> dict[str, Tensor]:
    """The losses of one training forward, with the sampling seeded."""
    torch.manual_seed(seed)
    with EventStorage():
        return model(inputs)


def without_gradient(model: nn.Module) -> list[str]:
    return [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]


def neck_gradients(rank: int, world: int, folder: str) -> None:
    """One process of a run over gloo: the gradients of the neck term on its share of the batch."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world
    )
    wrapped = nn.parallel.DistributedDataParallel(neck_pair(), broadcast_buffers=False)
    torch.save(gradients_of_neck(wrapped, same_boxes()[rank::world]), f"{folder}/{rank}.pth")
    torch.distributed.destroy_process_group()


def gradients_of_neck(model: nn.Module, inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
    losses = step(model, inputs)
    # The sampling of the detection losses differs between processes.
    total = losses.pop("loss_tadf_neck") + 0 * sum(losses.values())
    total.backward()
    return {name.removeprefix("module."): p.grad for name, p in model.named_parameters()}


def neck_pair() -> Distiller:
    """A pair with the neck term alone, live adapters and frozen batch statistics."""
    model = default_pair(cls_weight=0, reg_weight=0, canonical_box_size=64)
    torch.manual_seed(7)
    for p in model.distill.parameters():
        nn.init.normal_(p, std=0.3)
    for module in model.student.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return model


def same_boxes() -> list[dict[str, Any]]:
    """Two images with the same boxes, so that their masks have the same sum."""
    boxes = [[8, 8, 40, 48], [30, 4, 62, 34]]
    return [example(boxes, seed=0), example(boxes, seed=1)]


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def config_pair(folder: Path, student: CfgNode, teacher: CfgNode, **changes: Any) -> Distiller:
    """A Distiller from configs, its teacher saved below a folder."""
    reference = save_teacher(folder, teacher)
    return build(distilled(student, **reference, **changes)).train()
