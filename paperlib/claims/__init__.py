"""The papers' testable sentences: each a function of runs that returns a verdict with its numbers.

A file for each figure or table, whose ``verdicts`` gives all of its claims; ``claims.ablation`` and so on are loaded
when they are first asked for.  contents.py says which runs judge them.
"""
from ..system.submodules import on_demand
from .verdict import (
    CONTRADICTED,
    FAILED,
    NOT_APPLICABLE,
    NOT_ENOUGH,
    NOT_RECORDED,
    NOT_TESTABLE,
    SUPPORTED,
    Verdict,
    comparisons,
    listed,
    overview,
)

__getattr__ = on_demand(__name__)
__all__ = ["CONTRADICTED", "FAILED", "NOT_APPLICABLE", "NOT_ENOUGH", "NOT_RECORDED", "NOT_TESTABLE", "SUPPORTED",
           "Verdict", "comparisons", "listed", "overview"]
