"""PROFIT, supplement section 2: DuQ with negative padding against PACT."""
from __future__ import annotations

from collections.abc import Sequence

from ..runs import Run
from .verdict import Verdict, same_seeds

WHERE = "PROFIT, supplement, section 2 and Fig. 2"


def duq_ends_lower(duq: Sequence[Run], pact: Sequence[Run], *, testable: bool = True) -> Verdict:
    """Supplement section 2: at the end, DuQ with negative padding has lower loss than PACT, for activation and for
    weight quantization, in training and validation alike.  ``difference`` is DuQ minus PACT after the last epoch."""
    rows = [(f"{split} loss, {phase}", d.recipe.seed,
             d.values(phase, split).iloc[-1] - p.values(phase, split).iloc[-1])
            for phase in ("activations", "weights") for split in ("train", "val") for d, p in same_seeds(duq, pact)]
    return Verdict.of("DuQ with negative padding ends with lower training and validation loss than PACT, for "
                      "activations and for weights", WHERE, rows, lambda difference: difference < 0, testable)


def duq_starts_higher(duq: Sequence[Run], pact: Sequence[Run], *, testable: bool = True) -> Verdict:
    """Supplement section 2: in the early epochs of weight quantization DuQ's validation loss is above PACT's.

    "Early" is read as the first tenth of the stage, at least its first epoch; ``difference`` is DuQ minus PACT, the
    mean over those epochs."""
    rows = []
    for d, p in same_seeds(duq, pact):
        gap = (d.values("weights", "val") - p.values("weights", "val")).drop(0)     # epoch 0: nothing trained yet
        rows.append(("val loss, early epochs of weights", d.recipe.seed, gap.iloc[: max(1, len(gap) // 10)].mean()))
    return Verdict.of("In the early epochs of weight quantization DuQ's validation loss is higher than PACT's",
                      WHERE, rows, lambda difference: difference > 0, testable)
