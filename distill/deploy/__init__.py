"""Leaving the library: the plain student, and 1-bit students packed to one bit a weight."""

from distill.deploy.loading import is_packed, load_packed
from distill.deploy.packed_layers import PackedBinaryConv2d
from distill.deploy.student import PackedReport, build_student, export_packed, export_plain

__all__ = [
    "PackedBinaryConv2d",
    "PackedReport",
    "build_student",
    "export_packed",
    "export_plain",
    "is_packed",
    "load_packed",
]
