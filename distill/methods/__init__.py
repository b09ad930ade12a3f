"""The distillation methods, one file each, in a registry."""

from distill.methods.adl import ADL
from distill.methods.base import METHODS, Method, MethodOutput, build_methods
from distill.methods.bckd import BCKD
from distill.methods.ida_det import IDaDet
from distill.methods.ld import LD
from distill.methods.tadf import TADF

__all__ = [
    "ADL",
    "BCKD",
    "LD",
    "METHODS",
    "TADF",
    "IDaDet",
    "Method",
    "MethodOutput",
    "build_methods",
]
