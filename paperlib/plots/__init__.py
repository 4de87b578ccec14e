"""Pictures: for each figure a function from a tidy DataFrame to a matplotlib Figure, and one for its alternative text."""
from .pact_vs_duq import describe_pact_vs_duq, end_values, pact_vs_duq
from .style import caption, histories, save

__all__ = ["caption", "describe_pact_vs_duq", "end_values", "histories", "pact_vs_duq", "save"]
