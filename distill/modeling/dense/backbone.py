"""The backbone that ATSS and GFL are published with: a ResNet with the levels P3 to P7."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN
from detectron2.modeling.backbone import build_resnet_backbone
from detectron2.modeling.backbone.fpn import LastLevelP6P7

__all__ = ["build_resnet_fpn_p5_backbone"]


@BACKBONE_REGISTRY.register()
def build_resnet_fpn_p5_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Builds a ResNet with a feature pyramid whose P6 and P7 are made of P5.

    Detectron2's ``build_retinanet_resnet_fpn_backbone`` makes them of the ResNet's own last stage.

    Args:
        cfg: a Detectron2 config; reads MODEL.RESNETS and MODEL.FPN, whose IN_FEATURES end with
            res5.
        input_shape: of the image.

    Returns:
        A backbone with the outputs p3, p4, p5, p6 and p7 where the pyramid has res3 to res5.
    """
    fpn = cfg.MODEL.FPN
    return FPN(
        bottom_up=build_resnet_backbone(cfg, input_shape),
        in_features=fpn.IN_FEATURES,
        out_channels=fpn.OUT_CHANNELS,
        norm=fpn.NORM,
        top_block=LastLevelP6P7(fpn.OUT_CHANNELS, fpn.OUT_CHANNELS, in_feature="p5"),
        fuse_type=fpn.FUSE_TYPE,
    )
