"""Every configuration key of this library, with its default."""

from __future__ import annotations

from detectron2.config import CfgNode as CN

from distill.data.unlabeled_config import add_unlabeled_config
from distill.modeling.atss.config import add_atss_config
from distill.modeling.binary.config import add_binary_config
from distill.modeling.fcos import add_fcos_config
from distill.modeling.gfl.config import add_gfl_config
from distill.modeling.slim import add_slim_config
from distill.modeling.ssd.config import add_ssd_config
from pretraining.config import add_pretrain_config
from distill.data.pseudo.config import add_pseudo_config

__all__ = ["add_distill_config", "student_config"]


def _schedule(name: str) -> CN:
    """Keys of one schedule: the factor of a method's losses over training."""
    node = CN()
    # constant, linear, staircase or cosine; the last three fall from 1 to END_FACTOR.
    node.NAME = name
    # Factor reached at the end of training (ignored by constant).
    node.END_FACTOR = 0.0
    # Number of equal steps of the staircase (the papers' epochs).
    node.STAIRS = 12
    # Iterations over which the factor first rises linearly from 0.
    node.WARMUP_ITERS = 0
    # Iteration at which the decay is complete; 0 means SOLVER.MAX_ITER.
    node.MAX_ITER = 0
    return node


def _add_tadf(distill: CN) -> None:
    """Task-adaptive regularization, arXiv 2006.13108."""
    tadf = distill.TADF = CN()
    # Factors of the three terms; 0 switches a term, and what it needs of the teacher, off.
    tadf.NECK_WEIGHT = 3.0
    tadf.CLS_WEIGHT = 20.0
    tadf.REG_WEIGHT = 1.0
    # Whose proposals both ROI heads see: student, teacher or both.
    tadf.SHARE = "student"
    # Neck: a box is imitated on the one level its area assigns it to ("area"), or on "all" levels.
    tadf.LEVEL_ASSIGNMENT = "area"
    # Neck, "area": square root of the box area, in pixels, that belongs on the stride-16 level.
    tadf.CANONICAL_BOX_SIZE = 224
    # Neck: how the student's channels reach the teacher's: conv3x3, conv1x1 or none.
    tadf.ADAPTER = "conv3x3"
    # Classification: binary cross-entropy of the softmax scores ("bce"), or "kl".
    tadf.CLS_LOSS = "bce"
    # Classification is borrowed on foreground proposals ("fg"), where the teacher's arg max is
    # the label ("correct"), or where it gives the label more probability than the student
    # ("better").
    tadf.CLS_GATE = "fg"
    # Boxes are borrowed where the teacher's box has a higher IoU with the ground truth than the
    # proposal ("proposal"), than the student's own box ("student"), or always ("none").
    tadf.REG_GATE = "proposal"
    tadf.SCHEDULE = _schedule("linear")


def _add_ida_det(distill: CN) -> None:
    """Information-discrepancy-aware distillation, arXiv 2210.03477."""
    ida = distill.IDaDet = CN()
    # Factor of the loss.
    ida.WEIGHT = 0.1
    # Which regions are imitated: those of most "discrepancy" between the necks, of most
    # "objectness", at "random", or "all"; or which cells: those whose anchors fit the
    # "ground_truth" (as FGFI chooses them), or "everywhere" (a hint).
    ida.SELECTION = "discrepancy"
    # Share of each image's regions that is selected (gamma), in (0, 1].
    ida.FRACTION = 0.6
    # entropy, l2, cosine or inner_product.
    ida.LOSS = "entropy"
    # Entropy loss: factor of the logarithm of the variance.
    ida.LOG_WEIGHT = 1e-3
    # Imitated are the regions' "crops", or the cells under the "mask" of their union.
    ida.SUPPORT = "crops"
    # Regions are cropped from "every" level, from the one their area assigns them to ("assigned"),
    # or from the "finest", on which one-stage detectors are distilled.
    ida.POOL_LEVELS = "every"
    # The discrepancy is that of the "raw" student map, or of the "adapted" one; "auto" takes the
    # raw one where student and teacher have equal channels.
    ida.COMPARE = "auto"
    # Temperature of the softmax over a crop's positions.
    ida.TEMPERATURE = 1.0
    # Bins along each side of a crop.
    ida.RESOLUTION = 7
    # "assigned": square root of the box area, in pixels, that belongs on the stride-16 level.
    ida.CANONICAL_BOX_SIZE = 224
    # How the student's channels reach the teacher's: conv3x3, conv1x1 or none.
    ida.ADAPTER = "conv3x3"
    # Regions an image of each detector, the most probable ones.
    ida.TOPK = 300
    # Only regions above this objectness, but always the best few of each detector, as it has none
    # early in training; 0 for no threshold.
    ida.OBJECTNESS_THRESHOLD = 0.0
    ida.FALLBACK_TOPK = 20
    # IoU of non-maximum suppression within each detector's regions, then within both together; 0
    # for none.
    ida.NMS_THRESHOLD = 0.0
    ida.JOINT_NMS_THRESHOLD = 0.0
    ida.SCHEDULE = _schedule("constant")


def _add_dense(distill: CN) -> None:
    """Methods that compare the predictions of dense heads."""
    distill.DENSE = CN()
    # Leave out anchors whose center lies outside the image's true size, in the padding.
    distill.DENSE.MASK_PADDING = True

    # Adaptive distillation (ADL, SAD), arXiv 1901.00366.
    adl = distill.ADL = CN()
    adl.WEIGHT = 1.0
    # What the adaptive weight multiplies: half of the cross-entropy ("code"), or the divergence
    # ("paper").
    adl.FORM = "code"
    # Weight (1 - exp(-(KL + BETA * H(q)))) ** GAMMA; the normalizer is the sum of q ** THETA.
    adl.GAMMA = 2.0
    adl.BETA = 1.0
    adl.THETA = 1.8
    # "teacher" for that normalizer, or the number of the student's "positives".
    adl.NORMALIZER = "teacher"
    # "dense" for the head of a one-stage detector, "rpn" for the RPN of a two-stage one.
    adl.HEAD = "dense"
    adl.SCHEDULE = _schedule("constant")

    # Cross-task-consistent distillation, arXiv 2308.14286.
    bckd = distill.BCKD = CN()
    # Factors of classification and localization; 0 switches a term off.
    bckd.CLS_WEIGHT = 1.0
    bckd.LOC_WEIGHT = 4.0
    # Overlap of the boxes: giou, or iou.
    bckd.IOU_TYPE = "giou"
    # Exponent of the difference of probabilities that weighs both terms.
    bckd.WEIGHT_EXPONENT = 1.0
    # Leave out the levels on which a batch has no positive anchor, as the published code does.
    bckd.SKIP_EMPTY_LEVELS = False
    # "dense" for the head of a one-stage detector, "roi" for the ROI head of a two-stage one.
    bckd.HEAD = "dense"
    bckd.SCHEDULE = _schedule("constant")

    # Localization distillation, arXiv 2102.12252; GFL only.
    ld = distill.LD = CN()
    # Factors on positive anchors and in the valuable region around them; 0 switches the latter off.
    ld.WEIGHT = 0.25
    ld.VALUABLE_WEIGHT = 0.25
    ld.TEMPERATURE = 10.0
    ld.SCHEDULE = _schedule("constant")


def add_distill_config(cfg: CN) -> None:
    """Adds the keys of this library to a Detectron2 config, in place.

    Args:
        cfg: a config made by ``detectron2.config.get_cfg()``.
    """
    distill = cfg.DISTILL = CN()
    # Names of the distillation methods; () trains the student as plain Detectron2 does.
    distill.METHODS = ()
    # Iterations between two writes of the methods' diagnostics to the event storage.
    distill.LOG_PERIOD = 20
    # Names of the student's feature levels to distill; () takes all that the teacher shares.
    distill.LEVELS = ()

    distill.STUDENT = CN()
    # The student's own meta-architecture, which Distiller wraps.
    distill.STUDENT.META_ARCHITECTURE = "GeneralizedRCNN"

    distill.TEACHER = CN()
    # The teacher's config: a path, or model_zoo://<path in Detectron2's model zoo>.
    distill.TEACHER.CONFIG_FILE = ""
    # Its weights: a path, a URL, or model_zoo://<config path>.
    distill.TEACHER.WEIGHTS = ""
    # KEY VALUE overrides of the teacher's config.
    distill.TEACHER.OPTS = []
    # Precision of the teacher's forward: float32, float16, bfloat16, or auto: the student's.
    distill.TEACHER.PRECISION = "auto"
    # Accept weights that do not cover every parameter of the teacher.
    distill.TEACHER.ALLOW_PARTIAL = False
    # Accept a teacher without weights, left at its random initialization (a control).
    distill.TEACHER.ALLOW_RANDOM = False
    # The teacher's class names in its own order; () takes them from its dataset's metadata.
    distill.TEACHER.CLASSES = ()

    _add_tadf(distill)
    _add_ida_det(distill)
    _add_dense(distill)
    add_unlabeled_config(cfg)
    add_pseudo_config(cfg)
    add_slim_config(cfg)
    add_fcos_config(cfg)
    add_ssd_config(cfg)
    add_atss_config(cfg)
    add_gfl_config(cfg)
    add_binary_config(cfg)
    add_pretrain_config(cfg)

    # Precision under SOLVER.AMP.ENABLED: float16 (GPU only) or bfloat16; "" takes float16 on a
    # GPU and bfloat16 on a CPU.
    cfg.SOLVER.AMP.PRECISION = ""
    # SGD, Adam, or AdamW (whose weight decay is the decoupled one).
    cfg.SOLVER.OPTIMIZER = "SGD"


def student_config(cfg: CN) -> CN:
    """A copy of a config whose meta-architecture is the student's own.

    Args:
        cfg: any config; one whose meta-architecture is not Distiller is only copied.
    """
    own = cfg.clone()
    if own.MODEL.META_ARCHITECTURE == "Distiller":
        own.defrost()
        own.MODEL.META_ARCHITECTURE = own.DISTILL.STUDENT.META_ARCHITECTURE
    return own
