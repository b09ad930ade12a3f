"""What a detector costs: parameters, size and operations, 1-bit and real ones apart."""

from distill.deploy.analysis.costs import Cost, Costs, LayerCost
from distill.deploy.analysis.count import count_costs, layer_cost
from distill.deploy.analysis.report import format_costs

__all__ = ["Cost", "Costs", "LayerCost", "count_costs", "format_costs", "layer_cost"]
