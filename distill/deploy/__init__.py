"""Leaving the library: plain students, 1-bit students packed to one bit a weight, and costs."""

from distill.deploy.analysis import Cost, Costs, LayerCost, count_costs, format_costs
from distill.deploy.export import PackedReport, build_student, export_packed, export_plain
from distill.deploy.loading import is_packed, load_packed
from distill.deploy.packed_layers import PackedBinaryConv2d

__all__ = [
    "Cost",
    "Costs",
    "LayerCost",
    "PackedBinaryConv2d",
    "PackedReport",
    "build_student",
    "count_costs",
    "export_packed",
    "export_plain",
    "format_costs",
    "is_packed",
    "load_packed",
]
