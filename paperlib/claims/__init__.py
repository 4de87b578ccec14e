"""The papers' testable sentences: each a function of runs that returns a verdict with its numbers."""
from .pact_vs_duq import duq_ends_lower, duq_starts_higher
from .verdict import NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED, Verdict, same_seeds

__all__ = ["NOT_REPRODUCED", "NOT_TESTABLE", "REPRODUCED", "Verdict", "duq_ends_lower", "duq_starts_higher",
           "same_seeds"]
