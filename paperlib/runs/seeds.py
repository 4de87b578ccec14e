"""Runs of the same seeds side by side, since seeds differ by more than what is compared."""
from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from ..errors import InputError
from .run import Run


def same_seeds(*groups: Sequence[Run]) -> list[tuple[Run, ...]]:
    """The runs of each seed side by side; InputError unless all groups have the same seeds in the same order."""
    seeds = [[run.recipe.seed for run in group] for group in groups]
    if not seeds[0] or any(s != seeds[0] for s in seeds):
        raise InputError("compare runs of the same seeds, at least one, in the same order")
    return list(zip(*groups))


def shared_seeds(*groups: Sequence[Run]) -> list[tuple[Run, ...]]:
    """:func:`same_seeds` of those seeds that all groups have."""
    return same_seeds(*on_shared_seeds(dict(enumerate(groups))).values())


def on_shared_seeds(found: Mapping[Hashable, Sequence[Run]]) -> dict[Hashable, list[Run]]:
    """Runs under several names without the seeds that not all names have."""
    shared = set.intersection(*({run.recipe.seed for run in runs} for runs in found.values()))
    return {name: [run for run in runs if run.recipe.seed in shared] for name, runs in found.items()}
