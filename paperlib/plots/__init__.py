"""Pictures: a file for each figure, whose ``draw`` turns tidy tables into a matplotlib Figure.

``figure.alt`` says in words what it shows.  Tables of runs come from :mod:`paperlib.analysis`; this file hands on what
all pictures share, and loads ``plots.ablation`` and so on when they are first asked for, so that drawing one figure
waits for no other's imports.
"""
from ..system.submodules import on_demand
from .style import caption, save, show

__getattr__ = on_demand(__name__)
__all__ = ["caption", "save", "show"]
