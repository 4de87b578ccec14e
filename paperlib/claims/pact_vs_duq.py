"""PROFIT, supplement section 2: DuQ with negative padding against PACT."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..runs import Run
from ..runs.outcomes import NOT_RECORDED
from ..runs.seeds import same_seeds, shared_seeds
from .verdict import BEYOND, CLAIM, Verdict, at_scale

WHERE, EXTENSION = "PROFIT, supplement, section 2 and Fig. 2", "an extension, not in the paper"


def verdicts(found: Mapping[str, Sequence[Run]], profile: str) -> list[Verdict]:
    """Judge the runs {method: runs} of :func:`paperlib.claims.experiments.pact_vs_duq`."""
    return at_scale(profile, [duq_ends_lower(found["duq"], found["pact"]),
                              duq_starts_higher(found["duq"], found["pact"])])


def verdicts_on_scales(found: Mapping[str, Sequence[Run]], profile: str) -> list[Verdict]:
    """Judge the runs of :func:`paperlib.claims.experiments.duq_scales`.

    Supplement section 2: "additional parameters in post transformation eventually helps increase the accuracy of
    network as the validation loss shows at the end of training".  Read as: DuQ with both scales ends with a lower
    validation loss than with one.  ``difference`` is the former minus the latter."""
    rows = [("validation loss, two scales minus one, 4 bits", pair,
             pair[0].values("weights", "val").iloc[-1] - pair[1].values("weights", "val").iloc[-1])
            for pair in shared_seeds(found["duq"], found["duq_one_scale"])]
    return at_scale(profile, [Verdict.of(
        "DuQ's scale after the rounding, a parameter of its own, leads to a lower validation loss at the end",
        "PROFIT, supplement, section 2", rows, below=0, unit="nats")])


def verdicts_on_others(duq: Sequence[Run], others: Mapping[str, Sequence[Run]], profile: str) -> list[Verdict]:
    """Judge the same against other methods, {method: runs}: an extension, which the scoreboard leaves out."""
    return at_scale(profile, [duq_ends_lower(*zip(*shared_seeds(duq, runs)), runs[0].recipe.label, EXTENSION)
                              for runs in others.values()])


def duq_ends_lower(duq: Sequence[Run], other: Sequence[Run], name: str = "PACT", where: str = WHERE) -> Verdict:
    """Supplement section 2: at the end, DuQ with negative padding has lower loss than PACT, for activation and for
    weight quantization, in training and validation alike.  ``difference`` is DuQ minus PACT after the last epoch."""
    rows = [(f"{split} loss, {phase}", (d, o), d.values(phase, split).iloc[-1] - o.values(phase, split).iloc[-1])
            for phase in ("activations", "weights") for split in ("train", "val") for d, o in same_seeds(duq, other)]
    return Verdict.of(f"DuQ with negative padding ends with lower training and validation loss than {name}, for "
                      "activations and for weights", where, rows, below=0, unit="nats",
                      kind=CLAIM if where == WHERE else BEYOND)


def duq_starts_higher(duq: Sequence[Run], pact: Sequence[Run]) -> Verdict:
    """Supplement section 2: in the early epochs of weight quantization DuQ's validation loss is above PACT's.

    "Early" is read as the first tenth of the stage, at least its first epoch; ``difference`` is DuQ minus PACT, the
    mean over those epochs."""
    rows = []
    for d, p in same_seeds(duq, pact):
        gap = (d.values("weights", "val") - p.values("weights", "val")).drop(0)     # epoch 0: nothing trained yet
        rows.append(("val loss, early epochs of weights", (d, p), gap.iloc[: max(1, len(gap) // 10)].mean()))
    return Verdict.of("In the early epochs of weight quantization DuQ's validation loss is higher than PACT's",
                      WHERE, rows, above=0, unit="nats")


def beside_guessing(runs: Sequence[Run]) -> str:
    """Tell what a method's validation loss is at the end, mean over seeds, as a share of the loss of guessing."""
    if runs[0].absent:
        return f"{runs[0].recipe.label}: {NOT_RECORDED}."
    recipe, loss = runs[0].recipe, sum(run.values("weights", "val").iloc[-1] for run in runs) / len(runs)
    guess = math.log(recipe.num_classes)
    return (f"{recipe.label}: the validation loss ends at {loss:.2f}, {loss / guess:.0%} of what guessing among "
            f"{recipe.num_classes} classes gives ({guess:.2f}). Its quantizers learn at "
            f"{recipe.phases[-1].quantizer_lr:g} times the weights' rate.")
