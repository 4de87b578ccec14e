"""The papers' testable sentences: each a function of runs that returns a verdict with its numbers.

A file for each figure or table, whose ``verdicts`` gives all of its claims; contents.py says which runs judge them.
"""
from . import (
    ablation,
    accuracy,
    aiwq,
    cost,
    folding,
    hswish,
    loss_curves,
    pact_vs_duq,
    qil_intervals,
    qil_photographs,
    qil_tables,
)
from .verdict import FAILED, NOT_RECORDED, NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED, Verdict, comparisons, listed

__all__ = ["FAILED", "NOT_RECORDED", "NOT_REPRODUCED", "NOT_TESTABLE", "REPRODUCED", "Verdict", "ablation", "accuracy",
           "aiwq", "comparisons", "cost", "folding", "hswish", "listed", "loss_curves", "pact_vs_duq", "qil_intervals",
           "qil_photographs", "qil_tables"]
