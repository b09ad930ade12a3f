"""The distillation methods, one file each, in a registry."""

from distill.methods.base import METHODS, Method, MethodOutput, build_methods
from distill.methods.ida_det import IDaDet
from distill.methods.tadf import TADF

__all__ = ["METHODS", "TADF", "IDaDet", "Method", "MethodOutput", "build_methods"]
