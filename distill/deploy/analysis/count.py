"""Counts parameters and products of a detector's layers, by tracing it with fvcore."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping
from functools import partial

import torch
from detectron2.evaluation import inference_context
from detectron2.export import TracingAdapter
from fvcore.nn import FlopCountAnalysis
from torch import nn

from distill.deploy.analysis.costs import Cost, Costs, LayerCost
from distill.deploy.analysis.forward import run_layers
from distill.modeling.binary import BinaryConv2d

__all__ = ["count_costs", "layer_cost"]

# Of fvcore's operators, those that multiply by weights (or, in attention, by one another).
# Normalization, which can be folded into them, interpolation and the like are left out.
_PRODUCTS = frozenset({"conv", "linear", "addmm", "mm", "matmul", "bmm", "einsum"})

_GROUPS = {"proposal_generator": "RPN", "roi_heads": "ROI head"}
# What a backbone with a neck calls the part below it, and a network its first layers.
_BOTTOM_UP = ("bottom_up", "vgg")
_STEMS = ("stem", "conv1_1")
_ORDER = ("stem", "backbone", "neck")


def count_costs(
    detector: nn.Module, input_size: tuple[int, int], num_proposals: int = 1000
) -> Costs:
    """Counts a detector's convolutions and fully connected layers on one image.

    The image is not padded, as in the numbers of papers: a level of stride s has ceil(H / s) times
    ceil(W / s) cells. Detectron2 pads it to a multiple of ``backbone.size_divisibility``; to count
    that, give the padded size.

    Parameters are weights and biases. A binarized weight counts as 1-bit, and each of its output
    channels then has one real parameter more, alpha. A product counts as 1-bit where the weight
    and the activation both are; where only one of them is, it counts as real. Normalization,
    activation functions, pooling and NMS are not counted, nor are mask and keypoint heads.

    Args:
        detector: a Detectron2 detector; its weights don't matter, and it stays as it is.
        input_size: height and width of the image, in pixels.
        num_proposals: boxes that the ROI head sees; without meaning to one-stage detectors.

    Raises:
        ValueError: the detector has no known structure, or does not run at this size.
    """
    height, width = input_size
    if min(height, width, num_proposals) < 1:
        raise ValueError(
            f"The input size {height}x{width} and the number of proposals {num_proposals} must be "
            "positive."
        )
    products = _trace(detector, height, width, num_proposals)
    layers, uncounted = [], []
    for name, module in detector.named_modules():
        own = products[name]
        if own:
            cost = layer_cost(module, sum(own.values()))
            layers.append(LayerCost(name, _group(name, detector), _kind(module, own), cost))
        elif any(x.dim() > 1 for x in module.parameters(recurse=False)):
            uncounted.append(name)
    # A pyramid comes before its own bottom-up path in the order of the modules.
    layers.sort(key=lambda x: _ORDER.index(x.group) if x.group in _ORDER else len(_ORDER))
    return Costs(tuple(layers), tuple(uncounted))


def _trace(
    detector: nn.Module, height: int, width: int, num_proposals: int
) -> dict[str, Counter[str]]:
    """Number of products of each module itself, without its children, by operator."""
    image = torch.zeros(1, 3, height, width, device=next(detector.parameters()).device)
    run = partial(run_layers, num_proposals=num_proposals)
    adapter = TracingAdapter(detector, image, run, allow_non_tensor=True)
    analysis = FlopCountAnalysis(adapter, adapter.flattened_inputs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with inference_context(detector), warnings.catch_warnings():
        # torch.jit is deprecated, and fvcore is built on it.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        try:
            traced = analysis.by_module_and_operator()
        except RuntimeError as error:
            raise ValueError(
                f"The detector does not run at {height}x{width} pixels: "
                f"{str(error).splitlines()[0]}"
            ) from error
    return _without_children(traced)


def _without_children(traced: Mapping[str, Counter[str]]) -> dict[str, Counter[str]]:
    """Turns counts of fvcore, where a module contains its children, into those of it alone.

    Args:
        traced: counts of a TracingAdapter's modules, the detector being its ``model``.
    """
    counts = {
        name.removeprefix("model").removeprefix("."): Counter(
            {operator: count for operator, count in ops.items() if operator in _PRODUCTS}
        )
        for name, ops in traced.items()
    }
    own = {name: Counter(ops) for name, ops in counts.items()}
    for name, ops in counts.items():
        if name:
            own[name.rpartition(".")[0]] -= ops
    return own


def layer_cost(module: nn.Module, products: int = 0) -> Cost:
    """What a module costs without its children.

    Args:
        module: any module; a packed 1-bit layer costs what it does unpacked.
        products: multiplications that it does for one image.
    """
    if not _has_binary_weights(module):
        parameters = sum(x.numel() for x in module.parameters(recurse=False))
        return Cost(params_real=parameters, macs_real=products)
    weights = module.out_channels * module.in_channels * math.prod(module.kernel_size)
    real = module.out_channels * (1 if module.bias is None else 2)
    if module.binarize_activations:
        return Cost(params_1bit=weights, params_real=real, macs_1bit=products)
    return Cost(params_1bit=weights, params_real=real, macs_real=products)


def _kind(module: nn.Module, operators: Counter[str]) -> str:
    if _has_binary_weights(module):
        return "1-bit convolutions"
    if "conv" in operators:
        return "real convolutions"
    if "linear" in operators or "addmm" in operators:
        return "real fully connected layers"
    return "other products"


def _has_binary_weights(module: nn.Module) -> bool:
    return isinstance(module, BinaryConv2d) and module.binarize_weights


def _group(name: str, detector: nn.Module) -> str:
    """The part of the detector that a module belongs to."""
    part, *inner = name.split(".")
    if part != "backbone":
        return _GROUPS.get(part, part)
    bottom_up = [x for x in _BOTTOM_UP if hasattr(detector.backbone, x)]
    if bottom_up:
        if inner[:1] != bottom_up:
            return "neck"
        inner = inner[1:]
    return "stem" if inner and inner[0] in _STEMS else "backbone"
