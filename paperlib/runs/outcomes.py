"""Whether a run can be a result: it is there, none of its quantizers has collapsed, and its network does not guess."""
from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from ..data.imagenet import IMAGENETTE
from ..recipes import Recipe
from ..training.history import HISTORY_COLUMNS

if TYPE_CHECKING:
    from .obtaining import Run

NOT_RECORDED, FAILED = "not recorded yet", "failed training"
COLLAPSED = "collapsed"     # the split of a history that names quantizers which have
CLASSES = {"imagenette": len(IMAGENETTE)}       # of the images, where the network tells more
FEW = 0.05      # of a network's quantizers
NOISE = 3       # standard errors within which an accuracy is that of guessing
TEST_IMAGES = 3925      # of data sets that are tested whole: the fewest


def unrecorded(recipe: Recipe) -> pd.DataFrame:
    """The history of a run that is not recorded yet: every epoch of every phase, without a number (NaN)."""
    rows = [(phase.name, epoch, epoch, split, metric, math.nan) for phase in recipe.phases
            for epoch in range(phase.epochs + 1) for split in ("train", "val", "val_ema")
            for metric in ("loss", "accuracy") if epoch or split == "val"]
    return pd.DataFrame(rows, columns=HISTORY_COLUMNS)


def chance(recipe: Recipe) -> float:
    """The accuracy of guessing (%)."""
    return 100 / CLASSES.get(recipe.data, recipe.num_classes)


def collapsed(run: Run) -> list[tuple[str, str]]:
    """List (phase, quantizer) of those that had collapsed at the end of a phase, by what the engine found there or by
    the intervals of QIL that the history tracks (c - d and c + d both at most 0: no weight gets a gradient)."""
    h = run.history
    if h.empty or not h.split.isin(["quantizer", COLLAPSED]).any():
        return []
    ends = h.groupby("phase", sort=False).epoch.transform("max") == h.epoch
    tracked = h[ends & (h.split == "quantizer")]
    named = tracked.metric.str.rpartition(" ")
    at = dict(zip(zip(tracked.phase, named[0], named[2]), tracked.value)) if len(tracked) else {}
    gone = [(phase, name) for phase, name, part in at if part == "c"
            and at[phase, name, "c"] + abs(at.get((phase, name, "d"), math.inf)) <= 0]
    gone += list(h[h.split == COLLAPSED][["phase", "metric"]].itertuples(index=False, name=None))
    return list(dict.fromkeys(gone))


def constant(run: Run) -> list[str]:
    """Name the collapsed quantizers of a run where they are so few, FEW of all, that they are no failure: a residual
    branch that carries a constant leaves the rest of the network at work."""
    names = list(dict.fromkeys(name for _, name in collapsed(run)))
    quantizers = 2 * len(run.layers)
    return names if len(names) <= FEW * quantizers else []


def failures(run: Run) -> list[str]:
    """Why a training has failed, in words: quantizers that had :func:`collapsed`, unless they are few
    (:func:`constant`); or a last network whose validation accuracy is no better than guessing, within its noise."""
    h = run.history
    if h.empty:
        return []
    gone = [] if constant(run) else collapsed(run)
    found = [f"the quantizer {name} collapsed in {phase!r}" for phase, name in gone]
    accuracy = h[(h.phase == run.recipe.phases[-1].name) & (h.split == "val") & (h.metric == "accuracy")].value
    if len(accuracy):
        guess, images = chance(run.recipe) / 100, run.recipe.test_images or TEST_IMAGES
        if accuracy.iloc[-1] <= 100 * (guess + NOISE * math.sqrt(guess * (1 - guess) / images)):
            found.append(f"the network guesses ({accuracy.iloc[-1]:.1f} %)")
    return found
