"""Configuration keys of the pre-training of backbones."""

from __future__ import annotations

from detectron2.config import CfgNode

from distill.utils.config_keys import defines_keys, limit
from distill.utils.key_limits import anything, list_of, number, one_of, whole

__all__ = ["add_pretrain_config"]


@defines_keys
def add_pretrain_config(cfg: CfgNode) -> None:
    """Adds the keys of the pre-training to a Detectron2 config, in place.

    Args:
        cfg: a config made by ``detectron2.config.get_cfg()``.
    """
    pretrain = cfg.PRETRAIN = CfgNode()
    # Folder with train/<class>/ and val/<class>/ full of images; "digits" makes the built-in crops.
    pretrain.DATA = ""
    # activations: with real weights; weights: as MODEL.BINARY says, from MODEL.WEIGHTS; both: one
    # after the other.
    pretrain.STEP = "both"
    # KEY VALUE overrides of the config in each of the steps.
    pretrain.ACTIVATIONS_OPTS = []
    pretrain.WEIGHTS_OPTS = []
    # Number of class folders.
    pretrain.NUM_CLASSES = 1000
    # Side of the images in pixels, and the range of the random crops' area relative to the image.
    pretrain.CROP_SIZE = 224
    pretrain.CROP_SCALE = (0.08, 1.0)
    # Shorter side, in pixels, of what the central crop of an evaluation is taken from.
    pretrain.RESIZE = 256
    # Smoothing of the labels where there is no teacher.
    pretrain.LABEL_SMOOTHING = 0.1
    limit(
        pretrain,
        STEP=one_of("activations", "weights", "both"),
        ACTIVATIONS_OPTS=list_of(anything()),
        WEIGHTS_OPTS=list_of(anything()),
        NUM_CLASSES=whole(at_least=1),
        CROP_SIZE=whole(at_least=1),
        CROP_SCALE=list_of(number(above=0, at_most=1), length=2),
        RESIZE=whole(at_least=1),
        LABEL_SMOOTHING=number(at_least=0, below=1),
    )

    teacher = pretrain.TEACHER = CfgNode()
    # Gives the soft labels: a classification model of torchvision by name, or the config file of
    # a backbone that was pre-trained here; both empty for the labels of the folders.
    teacher.NAME = ""
    teacher.CONFIG_FILE = ""
    # Its weights, a local file.
    teacher.WEIGHTS = ""
    # Accept a teacher without weights, left at its random initialization (a control).
    teacher.ALLOW_RANDOM = False
