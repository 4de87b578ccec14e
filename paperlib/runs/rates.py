"""How long a training takes on this machine: learned from those that it has done, so that none begins that would not
end in time."""
from __future__ import annotations

import functools
import statistics
from collections import defaultdict
from typing import NamedTuple

from .. import models
from ..models import cost
from ..recipes import Recipe
from ..training.phases import Phase
from .phase_store import StoredPhase


class Kind(NamedTuple):
    """What decides how long an image takes."""

    model: str
    width: float
    input_size: int
    quantized: bool
    taught: bool
    measured: bool


def kind(recipe: Recipe, phase: Phase) -> Kind:
    return Kind(recipe.model, recipe.width, recipe.input_size, phase.scheme is not None, phase.teacher is not None,
                phase.measure)


class Rates:
    """Seconds per image of each kind of training, with as many trainings side by side as there are.

    ``first``: a guess to begin with, (kind, images per second); it counts until something has been learned.
    """

    def __init__(self, first: tuple[Kind, float]):
        self.first, self.learned = first, defaultdict(list)

    def learn(self, stored: StoredPhase) -> None:
        """Take over what a trained phase took."""
        if stored.phase.epochs and stored.info.images_per_s:
            self.learned[kind(stored.recipe, stored.phase)].append(1 / stored.info.images_per_s)

    def seconds(self, recipe: Recipe, phase: Phase, images: int) -> float:
        """How long this phase will take: as its kind has taken, or as the kind that computes most nearly as much, in
        proportion to multiply-accumulates."""
        wanted = kind(recipe, phase)
        known = {k: statistics.median(v) for k, v in self.learned.items()} or {self.first[0]: 1 / self.first[1]}
        if wanted in known:
            return phase.epochs * images * known[wanted]
        near = min(known, key=lambda k: abs(_work(k) / _work(wanted) - 1))
        return phase.epochs * images * known[near] * max(1.0, _work(wanted) / _work(near))


@functools.cache
def _work(kind: Kind) -> float:
    """Multiply-accumulates of a step for one image, in passes forward: a step has three, a teacher adds one."""
    net = models.build(kind.model, width=kind.width, input_size=kind.input_size)
    return cost.table(net, kind.input_size).macs.sum() * (3 + kind.taught + kind.measured)
