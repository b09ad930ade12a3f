"""Configuration keys of SSD; the defaults are those of SSD300-VGG16, arXiv 1512.02325."""

from __future__ import annotations

from detectron2.config import CfgNode

from distill.utils.config_keys import defines_keys, limit
from distill.utils.key_limits import list_of, number, whole

__all__ = ["add_ssd_config"]


@defines_keys
def add_ssd_config(cfg: CfgNode) -> None:
    """Adds the keys of SSD to a Detectron2 config, in place.

    Args:
        cfg: a config made by ``detectron2.config.get_cfg()``.
    """
    ssd = cfg.MODEL.SSD = CfgNode()
    # Classes without the background.
    ssd.NUM_CLASSES = 80
    # Height and width of the images, in pixels, for which maps and anchors are laid out.
    ssd.IMAGE_SIZE = 300
    # Channels and number of 3x3 convolutions of VGG's five stages; conv4_3 is the end of the 4th.
    ssd.VGG_CHANNELS = (64, 128, 256, 512, 512)
    ssd.VGG_CONVS = (2, 2, 3, 3, 3)
    # Channels of conv6 and conv7 (the level fc7), and the dilation of conv6.
    ssd.FC_CHANNELS = 1024
    ssd.FC_DILATION = 6
    # Normalization of the real-valued convolutions up to conv7; "" gives them a bias instead.
    ssd.NORM = ""
    # The levels extra1, extra2, ...: channels, stride and padding of the 3x3 convolution that makes
    # each, after a 1x1 convolution to half its channels.
    ssd.EXTRA_CHANNELS = (512, 256, 256, 256)
    ssd.EXTRA_CONV_STRIDES = (2, 2, 1, 1)
    ssd.EXTRA_PADDINGS = (1, 1, 0, 0)
    # Pixels between neighboring anchors on them.
    ssd.EXTRA_STRIDES = (32, 64, 100, 300)
    # Weights of (dx, dy, dw, dh) in the box transform: the inverse of the paper's variances.
    ssd.BBOX_REG_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
    # Anchors with a higher IoU than this are positive, and so is the best of every object.
    ssd.IOU_THRESHOLD = 0.5
    # Negatives for each positive, the hardest of each image.
    ssd.NEGATIVE_RATIO = 3.0
    # Detections below this score are dropped; so many of each class are left to NMS.
    ssd.SCORE_THRESH_TEST = 0.01
    ssd.TOPK_CANDIDATES_TEST = 400
    ssd.NMS_THRESH_TEST = 0.45
    limit(
        ssd,
        NUM_CLASSES=whole(at_least=1),
        IMAGE_SIZE=whole(at_least=1),
        VGG_CHANNELS=list_of(whole(at_least=1), length=5),
        VGG_CONVS=list_of(whole(at_least=1), length=5),
        FC_CHANNELS=whole(at_least=1),
        FC_DILATION=whole(at_least=1),
        EXTRA_CHANNELS=list_of(whole(at_least=2)),
        EXTRA_CONV_STRIDES=list_of(whole(at_least=1)),
        EXTRA_PADDINGS=list_of(whole(at_least=0)),
        EXTRA_STRIDES=list_of(whole(at_least=1)),
        BBOX_REG_WEIGHTS=list_of(number(above=0), length=4),
        IOU_THRESHOLD=number(at_least=0, below=1),
        NEGATIVE_RATIO=number(at_least=0),
        SCORE_THRESH_TEST=number(at_least=0, at_most=1),
        TOPK_CANDIDATES_TEST=whole(at_least=1),
        NMS_THRESH_TEST=number(at_least=0, at_most=1),
    )
