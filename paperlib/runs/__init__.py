"""Runs: ``obtain(recipe)`` returns the run of a recipe and trains only what has not been trained before."""
from .inventory import listing
from .obtaining import is_recorded, obtain, obtain_all, obtain_each, prepare, repeat, trained
from .recorded import PACKED, recorded_at
from .run import Run

__all__ = ["PACKED", "Run", "is_recorded", "listing", "obtain", "obtain_all", "obtain_each", "prepare", "recorded_at",
           "repeat", "trained"]
