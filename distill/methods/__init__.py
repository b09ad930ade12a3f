"""The distillation methods, one file each, in a registry."""

# ruff: noqa: F401 (names for others to import; a new method adds its line, which registers it)

from distill.methods.adl import ADL
from distill.methods.base import METHODS, Method, MethodOutput, build_methods
from distill.methods.bckd import BCKD
from distill.methods.ida_det import IDaDet
from distill.methods.ld import LD
from distill.methods.pkd import PKD
from distill.methods.tadf import TADF
