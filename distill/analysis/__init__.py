"""What a detector costs: parameters, size and operations, 1-bit and real ones apart."""

from distill.analysis.costs import Cost, Costs, LayerCost
from distill.analysis.count import count_costs
from distill.analysis.report import format_costs

__all__ = ["Cost", "Costs", "LayerCost", "count_costs", "format_costs"]
