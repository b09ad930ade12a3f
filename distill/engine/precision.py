"""Which precision a config asks for, and what runs in it."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode

from distill.utils.config_keys import defines_keys, limit
from distill.utils.key_limits import one_of
from distill.utils.trainer_keys import only_trainer_acts_on

__all__ = ["autocast_dtype"]


@defines_keys
def _add_precision_keys(cfg: CfgNode) -> None:
    # Precision under SOLVER.AMP.ENABLED: float16 (GPU only) or bfloat16; "" takes float16 on a
    # GPU and bfloat16 on a CPU.
    cfg.SOLVER.AMP.PRECISION = ""
    limit(cfg.SOLVER.AMP, PRECISION=one_of("float16", "bfloat16", ""))
    only_trainer_acts_on({"SOLVER.AMP.PRECISION": ""})


_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def autocast_dtype(cfg: CfgNode) -> torch.dtype | None:
    """Returns the type of autocast in training, or None for plain float32.

    Args:
        cfg: the config; SOLVER.AMP and MODEL.DEVICE are read.

    Raises:
        ValueError: if the precision is unknown, or is float16 on a CPU.
    """
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    on_gpu = torch.device(cfg.MODEL.DEVICE).type != "cpu"
    name = cfg.SOLVER.AMP.PRECISION or ("float16" if on_gpu else "bfloat16")
    if name not in _DTYPES:
        raise ValueError(
            f"SOLVER.AMP.PRECISION {name!r} is unknown: use float16, bfloat16, or '' for the "
            "device's default."
        )
    if name == "float16" and not on_gpu:
        raise ValueError(
            "SOLVER.AMP.PRECISION float16 needs a GPU: use bfloat16 where MODEL.DEVICE is cpu."
        )
    return _DTYPES[name]
