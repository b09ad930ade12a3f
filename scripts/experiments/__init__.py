"""Experiments of several runs: what to run, running it, and the tables that come of it."""

from experiments.export import export_runs
from experiments.plan import Plan, Run, load_plan
from experiments.runner import RunFailed, run_plan
from experiments.table import format_tables

__all__ = ["Run", "Plan", "RunFailed", "export_runs", "format_tables", "load_plan", "run_plan"]
