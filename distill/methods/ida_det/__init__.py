"""IDa-Det: information-discrepancy-aware distillation of 1-bit detectors, arXiv 2210.03477."""

from distill.methods.ida_det.discrepancy import proposal_discrepancy
from distill.methods.ida_det.method import IDaDet
from distill.methods.ida_det.selection import select_most_discrepant

__all__ = ["IDaDet", "proposal_discrepancy", "select_most_discrepant"]
