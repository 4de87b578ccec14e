"""PROFIT, supplement section 1: loss curves with and without PROFIT, and with layers frozen in other orders.

All claims look at the rounds in which PROFIT freezes layers, which are all but the first: in that one nothing is frozen
yet, and the runs of one seed are the same.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..analysis.loss_curves import calmer, freezing_curve, pairs, val_fluctuation
from ..recipes import profiles
from ..runs import Run
from ..runs.seeds import shared_seeds
from .verdict import Verdict, at_scale

WHERE = "PROFIT, supplement, section 1 and Fig. 1"
CONTROLS = {"reverse": "smallest AIWQ first", "random": "random order"}


def verdicts(found: Mapping[str, Sequence[Run]], profile: str) -> list[Verdict]:
    """Judge the runs {order: runs} of :func:`paperlib.claims.experiments.loss_curves`, or the runs of 2-bit weights."""
    pair = found["aiwq"], found["none"]
    return at_scale(profile, [profit_lies_lower(*pair), profit_ends_lower(*pair), profit_calms(*pair),
                              aiwq_order_calms(found)])


def profit_lies_lower(profit: Sequence[Run], without: Sequence[Run]) -> Verdict:
    """Supplement section 1: under PROFIT training and validation loss curves are lower than without.

    Read as the mean over all epochs of the rounds in which PROFIT freezes layers; ``difference`` is PROFIT minus
    without."""
    rows = [(f"{split} loss, mean over epochs", (p, w), _mean(p, split) - _mean(w, split))
            for split in ("train", "val") for p, w in shared_seeds(profit, without)]
    return Verdict.of("With PROFIT the training and validation loss curves lie lower than without", WHERE, rows,
                      below=0, unit="nats")


def profit_ends_lower(profit: Sequence[Run], without: Sequence[Run]) -> Verdict:
    """Supplement section 1: with PROFIT training converges better, to lower training and validation loss.

    Read at the last epoch of the last round; ``difference`` is PROFIT minus without."""
    rows = [(f"{split} loss, last epoch", (p, w),
             freezing_curve(p, split).iloc[-1] - freezing_curve(w, split).iloc[-1])
            for split in ("train", "val") for p, w in shared_seeds(profit, without)]
    return Verdict.of("With PROFIT training and validation loss end lower than without", WHERE, rows,
                      below=0, unit="nats")


def profit_calms(profit: Sequence[Run], without: Sequence[Run]) -> Verdict:
    """Supplement section 1: without PROFIT the validation loss heavily fluctuates, with it far less.

    Read as a smaller :func:`val_fluctuation`; ``difference`` is PROFIT minus without."""
    rows = [("fluctuation, against nothing frozen", (p, w), val_fluctuation(p) - val_fluctuation(w))
            for p, w in shared_seeds(profit, without)]
    return Verdict.of("With PROFIT the validation loss fluctuates less than without", WHERE, rows,
                      below=0, unit="nats")


def aiwq_order_calms(found: Mapping[str, Sequence[Run]]) -> Verdict:
    """Supplement section 1: PROFIT stabilizes because it removes the layers that are sensitive to AIWQ from training.

    Then freezing those with the largest AIWQ first must calm the validation loss more than freezing as many in reverse
    or in random order.  ``found``: {order: runs}; ``difference`` is the :func:`val_fluctuation` of PROFIT's order
    minus the control's."""
    rows = [(f"fluctuation, against {words}", (p, c), val_fluctuation(p) - val_fluctuation(c))
            for order, words in CONTROLS.items() for p, c in shared_seeds(found["aiwq"], found[order])]
    return Verdict.of("It is the layers with the largest AIWQ: frozen first, they calm the validation loss more than "
                      "other layers do", WHERE, rows, below=0, unit="nats")


def orders_in_words(found: Mapping[str, Sequence[Run]], profile: str) -> str:
    """Tell in how many seeds which order of ``found`` fluctuates less than which, and what follows for the order."""
    def count(one: str, other: str) -> str:
        n = len(pairs(found, one, other))
        return f"{calmer(found, one, other)} of {n} seeds" if n else "no seed, since it is not recorded yet"

    counts = (f"The validation loss fluctuates less than with nothing frozen in {count('aiwq', 'none')} under PROFIT, "
              f"in {count('reverse', 'none')} in reverse order and in {count('random', 'none')} in random order; under "
              f"PROFIT less than in reverse order in {count('aiwq', 'reverse')}, and less than in random order in "
              f"{count('aiwq', 'random')}. ")
    if not profiles.get(profile).conclusive:
        return counts + "At this scale nothing follows."
    if not all(pairs(found, "aiwq", control) for control in CONTROLS):
        return counts + "Without the controls nothing follows for the order."
    which, better = ("" if calmer(found, "aiwq", other) == len(pairs(found, "aiwq", other)) else "do not "
                     for other in ("reverse", "random"))
    return counts + (f"So these runs {which}show that it matters which layers are frozen, and they {better}show that "
                     "AIWQ chooses them better than chance.")


def _mean(run: Run, split: str) -> float:
    """Average the loss over the epochs of the rounds in which PROFIT freezes layers, without the value before them."""
    return freezing_curve(run, split).iloc[int(split == "val"):].mean()
