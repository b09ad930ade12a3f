"""Configuration keys of the 1-bit networks."""

from __future__ import annotations

from detectron2.config import CfgNode

from distill.utils.config_keys import defines_keys, limit
from distill.utils.key_limits import number, one_of

__all__ = ["add_binary_config"]


@defines_keys
def add_binary_config(cfg: CfgNode) -> None:
    """Adds the keys of the 1-bit networks to a Detectron2 config, in place.

    Args:
        cfg: a config made by ``detectron2.config.get_cfg()``.
    """
    binary = cfg.MODEL.BINARY = CfgNode()
    # False keeps the weights of the 1-bit layers real; with both False: the real-valued twin.
    binary.WEIGHTS = True
    # False keeps their inputs real.
    binary.ACTIVATIONS = True
    # The scale of the two values of a weight: mean (of |w|, a constant) or learned.
    binary.QUANTIZER = "mean"
    # Factor mu of the learned quantizer's reconstruction loss, mu/2 ||w - alpha sign(w)||^2.
    binary.RECONSTRUCTION_WEIGHT = 1e-4
    # Normalization of stem, blocks and shortcuts: any of Detectron2's, or FrozenStatsBN: frozen
    # statistics with a trained affine map.
    binary.NORM = "BN"
    limit(binary, QUANTIZER=one_of("mean", "learned"), RECONSTRUCTION_WEIGHT=number(at_least=0))
