"""Beyond the papers: is it AIWQ, or do single weights oscillate (Nagel et al., ICML 2022)?"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..analysis.oscillations import AGAIN, AS_TRAINED, by_layer, last_round, norms_taken_anew, rank_correlation
from ..runs import Run
from ..runs.seeds import shared_seeds
from .verdict import BEYOND, OURS, Verdict, at_scale, measured

WHERE = "beyond PROFIT: Nagel et al. 2022"
NONE, PROFIT, FROZEN, DAMPENED = "nothing frozen", "PROFIT", "oscillating weights frozen", "oscillations dampened"
ALMOST = 0.5    # points that "as good as" may be less
ALIKE = 0.5     # a rank correlation from which on two measures count as naming the same layers


def verdicts(found: Mapping[str, Sequence[Run]], profile: str) -> list[Verdict]:
    """Judge the runs {method: runs} of :func:`paperlib.claims.experiments.oscillations`."""
    free = found[NONE]
    return at_scale(profile, [same_layers(free), aiwq_predicts_better(free), weights_beat_layers(found),
                              statistics_are_enough(found)])


def verdicts_on_the_obstacle(found: Mapping[str, Sequence[Run]], profile: str) -> list[Verdict]:
    """Judge the runs of :func:`paperlib.claims.experiments.obstacle`.

    PROFIT, abstract: AIWQ "is the key obstacle to sub-4-bit quantization of mobile networks", since it makes the
    running statistics of batch norms wrong.  Read as: statistics taken anew after the last round give back at least
    half of the points that 3 bits have lost against a float network trained as long.  ``difference`` is the share that
    they give back."""
    def given_back(free: Run, longer: Run) -> list[float]:
        anew = _anew(free)
        return [(anew[AGAIN] - anew[AS_TRAINED]) / (longer.accuracy() - anew[AS_TRAINED])]

    rows = measured(shared_seeds(*found.values()), ["share of the lost points that statistics taken anew give back"],
                    given_back)
    return at_scale(profile, [Verdict.of(
        "AIWQ is the key obstacle: the batch-norm statistics that it makes wrong cost half of the lost accuracy at "
        "least", "PROFIT, abstract", rows, above=0.5, margin=OURS, unit="share of the loss")])


def same_layers(runs: Sequence[Run]) -> Verdict:
    """AIWQ and oscillation are largest in the same layers.

    Read as: over all layers of the last round with nothing frozen, the rank correlation of AIWQ and of the share of
    oscillating weights is above 0.5; ``difference`` is the correlation."""
    rows = measured(shared_seeds(runs), ["rank correlation over layers"],
                    lambda run: [rank_correlation(by_layer([run]), "aiwq", "oscillating")])
    return Verdict.of("AIWQ is largest in the layers in which most weights oscillate", WHERE, rows, above=ALIKE,
                      margin=OURS, unit="correlation", kind=BEYOND)


def aiwq_predicts_better(runs: Sequence[Run]) -> Verdict:
    """AIWQ tells better than oscillation which batch norms have wrong statistics.

    Read as: over the layers before a batch norm, its rank correlation with the divergence of running statistics from
    such as are taken anew is higher; ``difference`` is AIWQ's correlation minus the correlation of the share of
    oscillating weights."""
    def look(run):
        layers = by_layer([run])
        return [rank_correlation(layers, "aiwq", "kl") - rank_correlation(layers, "oscillating", "kl")]
    rows = measured(shared_seeds(runs), ["AIWQ's rank correlation minus that of oscillation"], look)
    return Verdict.of("AIWQ tells better than oscillation which batch norms have wrong statistics", WHERE, rows,
                      above=0, unit="correlation", kind=BEYOND)


def weights_beat_layers(found: Mapping[str, Sequence[Run]]) -> Verdict:
    """Keeping single weights from oscillating is worth more than freezing layers.

    Read as: after the last round, before a stage of batch norms alone could repair anything, both methods of Nagel et
    al. are more accurate than PROFIT; ``difference`` is theirs minus PROFIT's."""
    rows = [(f"{method} minus PROFIT, after the rounds", pair, _accuracy(pair[0]) - _accuracy(pair[1]))
            for method in (FROZEN, DAMPENED) for pair in shared_seeds(found[method], found[PROFIT])]
    return Verdict.of("Single weights kept from oscillating end more accurate than PROFIT's frozen layers", WHERE, rows,
                      above=0, kind=BEYOND)


def statistics_are_enough(found: Mapping[str, Sequence[Run]]) -> Verdict:
    """It is enough to take the statistics of batch norms anew.

    Read as: with nothing frozen, but statistics taken anew after the last round, the network is at most half a point
    less accurate than PROFIT's with the statistics of its training; ``difference`` is the former minus the latter."""
    rows = measured(shared_seeds(found[NONE], found[PROFIT]), ["nothing frozen, taken anew, minus PROFIT as trained"],
                    lambda none, profit: [_anew(none)[AGAIN] - _anew(profit)[AS_TRAINED]])
    return Verdict.of(f"With nothing frozen, statistics taken anew are as good as PROFIT's freezing, to {ALMOST:g} "
                      "points", WHERE, rows, above=-ALMOST, margin=OURS, kind=BEYOND)


def _accuracy(run: Run) -> float:
    return run.accuracy(last_round(run))


def _anew(run: Run) -> Mapping[str, float]:
    return run.find(norms_taken_anew).set_index("statistics").accuracy
