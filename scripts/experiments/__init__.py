"""Experiments of several runs: what to run, running it, and the tables that come of it."""

from experiments.plan import Plan, Run, load_plan
from experiments.records import record_runs
from experiments.runner import RunFailed, run_plan
from experiments.table import format_tables, tables_in, update_tables

__all__ = [
    "Plan",
    "Run",
    "RunFailed",
    "format_tables",
    "load_plan",
    "record_runs",
    "run_plan",
    "tables_in",
    "update_tables",
]
