"""PROFIT, Fig. 2 and 4: AIWQ and batch-norm statistics over iterations, and AIWQ by layer."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..errors import InputError
from ..models.scheme import FLOAT
from ..runs import Run
from ..training.freezing import choose
from ..training.phases import Freeze

ROUNDS = {2: 1 / 3, 3: 2 / 3}       # PROFIT's round: the share of layers that no longer trains
DECAY = 0.999                       # of the moving average, as in the authors' code
AIWQ, MEAN, VARIANCE = "AIWQ", "running_mean", "running_var"
DRIFTS = {"mean_drift": "jumps of the running mean", "var_drift": "jumps of the running variance"}


def norm_behind(run: Run) -> str:
    """Name the batch norm after the layer of largest AIWQ among those with one: features.4.conv.0.1 follows
    features.4.conv.0.0.  InputError if the run keeps no statistics of batch norms."""
    norms = set(run.steps[run.steps.metric == MEAN].layer)
    for layer in run.instability.sort_values("aiwq", ascending=False, kind="stable").layer:
        stem, _, index = layer.rpartition(".")
        if index.isdigit() and f"{stem}.{int(index) + 1}" in norms:
            return f"{stem}.{int(index) + 1}"
    raise InputError("this run keeps no batch-norm statistics of every step: use weights_alone(..., measure=True)")


def steps(runs: Mapping[int, Run], norm: str) -> pd.DataFrame:
    """Tabulate Fig. 2 of one run for each bit-width: columns bits, iteration, quantity, value.

    Quantities: AIWQ, the median over layers of the moving average so far, as :class:`paperlib.training.aiwq.Aiwq` has
    it; running_mean and running_var of the batch norm of this name, means over its channels.
    """
    tables = []
    for bits, run in runs.items():
        by_layer = run.steps[run.steps.metric == "aiwq"].pivot(index="iteration", columns="layer", values="value")
        average = by_layer.ewm(alpha=1 - DECAY, ignore_na=True).mean()      # weights add up to 1 from the start
        median = average.median(axis=1).rename("value").reset_index()
        of_norm = run.steps[(run.steps.layer == norm) & run.steps.metric.isin([MEAN, VARIANCE])]
        tables += [median.assign(bits=bits, quantity=AIWQ),
                   of_norm.rename(columns={"metric": "quantity"}).assign(bits=bits)]
    return pd.concat(tables, ignore_index=True)[["bits", "iteration", "quantity", "value"]]


def by_layer(runs: Sequence[Run]) -> pd.DataFrame:
    """Tabulate Fig. 4, a row for each layer in the network's order: layer; kind; aiwq and trimmed (nats), means over
    the runs' seeds, trimmed NaN where it was not measured; frozen, the PROFIT round from which on the layer would no
    longer train (2, 3, or 4: with all others)."""
    measured = pd.concat([run.instability for run in runs]).reindex(columns=["layer", "aiwq", "trimmed"])
    all_seeds = measured.groupby("layer").mean()
    table = runs[0].instability[["layer", "kind"]].assign(frozen=4).join(all_seeds, on="layer")
    for number, share in sorted(ROUNDS.items(), reverse=True):
        chosen = choose(Freeze(share, "aiwq", measured_in="weights"), list(table.layer), table)
        table.loc[table.layer.isin(chosen), "frozen"] = number
    return table[["layer", "kind", "aiwq", "trimmed", "frozen"]]


def by_kind(layers: pd.DataFrame) -> pd.DataFrame:
    """Sum up :func:`by_layer` by kind, largest median first: how many layers, median and maximum (nats), frozen in
    round 2."""
    table = layers.groupby("kind").agg(layers=("layer", "size"), median=("aiwq", "median"), max=("aiwq", "max"),
                                       frozen_in_round_2=("frozen", lambda rounds: (rounds == 2).sum()))
    return table.sort_values("median", ascending=False).reset_index()


def limits(layers: pd.DataFrame) -> dict[int, float]:
    """Return {round: an AIWQ between the last layer that it freezes and the first that it does not}."""
    found = {}
    for number in ROUNDS:
        frozen, trains = layers.aiwq[layers.frozen <= number], layers.aiwq[layers.frozen > number]
        if frozen.min() > 0 and trains.max() > 0:
            found[number] = float(np.sqrt(frozen.min() * trains.max()))
    return found


def typical(run: Run) -> float:
    """Take the median over layers of AIWQ (nats).

    Not the mean: where nearly all weights of a channel are rounded to 0, its divergence has no bound, and the mean over
    layers would speak of that one channel."""
    return run.instability.aiwq.median()


def first_third_without_extremes(run: Run) -> float:
    """Count how many of the layers that PROFIT freezes in its second round (%) it would freeze as well if it went by
    the trimmed mean over channels."""
    if run.absent:
        return math.nan
    table = run.instability
    first = Freeze(ROUNDS[2], "aiwq", measured_in="weights")
    chosen, trimmed = (set(choose(first, list(table.layer), t)) for t in (table, table.assign(aiwq=table.trimmed)))
    return 100 * len(chosen & trimmed) / len(chosen)


def restlessness(run: Run, metric: str) -> float:
    """Measure how far batch-norm statistics go in one iteration: the median over batch norms of the mean over the
    second half of the iterations.  ``metric``: "mean_drift" (in running standard deviations) or "var_drift" (of ln
    variance).

    The first half is left out because there the statistics still move from what float weights give to what
    rounded weights give, which is one shift and no instability."""
    if run.absent:
        return math.nan
    rows = run.steps[(run.steps.metric == metric) & (run.steps.iteration > run.steps.iteration.max() / 2)]
    if rows.empty:
        raise InputError(f"this run keeps no {metric} of every step: make it with weights_alone(..., measure=True)")
    return rows.groupby("layer").value.mean().median()


def by_bits(runs: Mapping[int, Sequence[Run]]) -> pd.DataFrame:
    """Tabulate by bit-width, mean over seeds, what the claims look at: median, mean and maximum over layers of AIWQ
    (nats), the jumps of batch-norm statistics, the validation accuracy (%), and :func:`first_third_without_extremes`
    (%)."""
    rows = [{"bits": bits, "AIWQ, median layer": typical(run), "mean layer": run.instability.aiwq.mean(),
             "largest": run.instability.aiwq.max(), **{text: restlessness(run, m) for m, text in DRIFTS.items()},
             "validation accuracy (%)": run.accuracy("weights"),
             "same third without extreme channels (%)": first_third_without_extremes(run)}
            for bits, group in runs.items() for run in group]
    return pd.DataFrame(rows).groupby("bits", sort=False).mean().reset_index()


def in_words(runs: Mapping[int, Sequence[Run]], bits: int) -> str:
    """Say what the verdicts rest on: which layers and kinds lead at ``bits`` bits, what the claim of growth would
    say if the mean over layers were judged, and how many channels are constant at the fewest bits."""
    pictured = by_layer(runs[bits])
    layers, kinds = pictured.set_index("layer").aiwq, by_kind(pictured).kind
    table = by_bits(runs).sort_values("bits", ascending=False)
    same_third = table.set_index("bits")["same third without extreme channels (%)"][bits]
    means, median, low = table["mean layer"].to_numpy(), table["AIWQ, median layer"].iloc[-1], table.bits.iloc[-1]
    dead = np.mean([run.instability.dead.sum() for run in runs[low]])
    return (f"At {name(bits)} the largest AIWQ is that of `{layers.idxmax()}`, "
            f"{_beside(layers.max(), layers.median(), '.3g')}; the kinds of layers in the order of their medians are "
            f"{', '.join(kinds)}. Judged by the mean over layers, AIWQ grows at "
            f"{(means[1:] > means[:-1]).sum()} of {len(means) - 1} steps to fewer bits, and at {name(low)} that mean "
            f"is {_beside(means[-1], median, '.2g')}; {dead:.0f} channels are constant there at the end, and so are "
            "left out. Ranked without the tenth of each layer's channels that have the largest divergence and the "
            f"tenth that have the smallest, {same_third:.0f} % of the layers that PROFIT freezes in its second round "
            "are the same ones, where chance would give "
            f"{100 * ROUNDS[2]:.0f} %.")


def _beside(value: float, median: float, form: str) -> str:
    """Write how many times the median a value is; the median is 0 where few layers or steps made any difference."""
    return f"{value / median:{form}} times the median" if median else f"{value:{form}} nats, where the median is 0"


def name(bits: int) -> str:
    """Name the runs of a bit-width."""
    return "float" if bits == FLOAT else f"{bits} bits"
