"""PROFIT, Fig. 2 to 4: AIWQ and batch-norm statistics over iterations, one weight at a threshold, AIWQ by layer."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..claims.aiwq import name
from ..errors import InputError
from ..runs import Run
from ..training.freezing import choose
from ..training.phases import Freeze
from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, STYLE, YELLOW

LINES = {32: (GREY, ":"), 8: (SKY, (0, (4, 1, 1, 1, 1, 1))), 5: (GREEN, "-."), 4: (BLUE, "--"),
         3: (YELLOW, (0, (5, 1))), 2: (ORANGE, "-")}
KINDS = {"first": ("black", "*"), "conv": ("black", "o"), "depthwise": (ORANGE, "D"), "expand": (BLUE, "^"),
         "project": (SKY, "v"), "se": (GREEN, "s"), "linear": (PURPLE, "o")}
ROUNDS = {2: 1 / 3, 3: 2 / 3}       # PROFIT's round: the share of layers that no longer trains
DECAY = 0.999                       # of the moving average, as in the authors' code
AIWQ, MEAN, VARIANCE = "AIWQ", "running_mean", "running_var"


def norm_behind(run: Run) -> str:
    """The batch norm behind the layer of largest AIWQ among those with one, by name: features.4.conv.0.1 follows
    features.4.conv.0.0."""
    norms = set(run.steps[run.steps.metric == MEAN].layer)
    for layer in run.instability.sort_values("aiwq", ascending=False, kind="stable").layer:
        stem, _, index = layer.rpartition(".")
        if index.isdigit() and f"{stem}.{int(index) + 1}" in norms:
            return f"{stem}.{int(index) + 1}"
    raise InputError("this run keeps no batch-norm statistics of every step: use weights_alone(..., measure=True)")


def aiwq_steps(runs: Mapping[int, Run], norm: str) -> pd.DataFrame:
    """What Fig. 2 shows, of one run for each bit-width: columns bits, iteration, quantity, value.

    Quantities: AIWQ, the median over layers of the moving average so far, as :class:`paperlib.training.aiwq.Aiwq` has it;
    running_mean and running_var of the batch norm of this name, means over its channels."""
    tables = []
    for bits, run in runs.items():
        steps = run.steps
        by_layer = steps[steps.metric == "aiwq"].pivot(index="iteration", columns="layer", values="value")
        average = by_layer.ewm(alpha=1 - DECAY, ignore_na=True).mean()      # weights add up to 1 from the start
        median = average.median(axis=1).rename("value").reset_index()
        of_norm = steps[(steps.layer == norm) & steps.metric.isin([MEAN, VARIANCE])]
        tables += [median.assign(bits=bits, quantity=AIWQ),
                   of_norm.rename(columns={"metric": "quantity"}).assign(bits=bits)]
    return pd.concat(tables, ignore_index=True)[["bits", "iteration", "quantity", "value"]]


def aiwq_layers(runs: Sequence[Run]) -> pd.DataFrame:
    """What Fig. 4 shows, a row for each layer in the network's order: layer; kind; aiwq, mean over the runs' seeds;
    frozen, the PROFIT round from which on the layer would no longer train (2, 3, or 4: with all others)."""
    all_seeds = pd.concat([run.instability for run in runs]).groupby("layer").aiwq.mean()
    table = runs[0].instability[["layer", "kind"]].assign(frozen=4)
    table["aiwq"] = table.layer.map(all_seeds)
    for number, share in sorted(ROUNDS.items(), reverse=True):
        chosen = choose(Freeze(share, "aiwq", measured_in="weights"), list(table.layer), table)
        table.loc[table.layer.isin(chosen), "frozen"] = number
    return table[["layer", "kind", "aiwq", "frozen"]]


def aiwq_by_kind(layers: pd.DataFrame) -> pd.DataFrame:
    """AIWQ by kind of layer, largest median first: how many layers, median and maximum (nats), frozen in round 2."""
    table = layers.groupby("kind").agg(layers=("layer", "size"), median=("aiwq", "median"), max=("aiwq", "max"),
                                       frozen_in_round_2=("frozen", lambda rounds: (rounds == 2).sum()))
    return table.sort_values("median", ascending=False).reset_index()


def one_weight(stairs: pd.DataFrame, jumps: pd.DataFrame) -> Figure:
    """PROFIT, Fig. 3: the staircase of a weight quantizer at several bit-widths, and one small update at a threshold.

    ``stairs`` and ``jumps`` as :func:`paperlib.analysis.one_weight.staircases` and :func:`paperlib.analysis.one_weight.one_weight` give them."""
    jumps = jumps.set_index("bits")
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, stairs.bits.nunique(), figsize=(8.4, 2.7), sharey=True)
        for ax, (bits, stair) in zip(np.atleast_1d(axes), stairs.groupby("bits", sort=False)):
            row, color = jumps.loc[bits], LINES.get(bits, (BLUE, "-"))[0]
            ax.plot(stair.weight, stair.quantized, color=color, drawstyle="steps-mid")
            ax.annotate("", (0.5, row.after), (0.5, row.before), arrowprops={"arrowstyle": "->", "lw": 1.8})
            ax.plot([0.5, 0.5], [row.before, row.after], "o", color="black", markersize=6)
            ax.annotate(f"+{row.after - row.before:.2g}", (0.5, (row.before + row.after) / 2), (9, -4), va="top",
                        textcoords="offset points")
            ax.set(title=f"{bits} bits: {row.levels:.0f} levels", xlabel="weight")
        np.atleast_1d(axes)[0].set_ylabel("quantized weight")
    return figure


def describe_one_weight(stairs: pd.DataFrame, jumps: pd.DataFrame) -> str:
    """Alternative text for :func:`one_weight`, with the lengths of the jumps."""
    rows = jumps.set_index("bits").loc[list(dict.fromkeys(stairs.bits))]
    steps = "; ".join(f"{bits} bits, {row.levels:.0f} levels: from {row.before:.3g} to {row.after:.3g}"
                      for bits, row in rows.iterrows())
    return ("Staircases of a quantized weight over the weight, a panel for each bit-width, with an arrow up the step "
            f"at 0.5 that one small update takes: {steps}.")


def aiwq_over_iterations(steps: pd.DataFrame, norm: str, *, footnote: str) -> Figure:
    """PROFIT, Fig. 2: AIWQ, running mean and running variance over iterations, a line for each bit-width.

    ``steps`` as :func:`aiwq_steps` gives it for the batch norm ``norm``."""
    panels = {AIWQ: ("AIWQ", "nats, median layer (log axis)"), MEAN: ("running mean", "mean over channels"),
              VARIANCE: ("running variance", "mean over channels")}
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(10.4, 3.9))
        for ax, (quantity, (title, label)) in zip(axes, panels.items()):
            for bits, rows in steps[steps.quantity == quantity].groupby("bits", sort=False):
                color, dashes = LINES.get(bits, (PURPLE, "-"))
                ax.plot(rows.iteration, rows.value, color=color, linestyle=dashes, label=name(bits))
            ax.set(title=title, xlabel="iteration", ylabel=label)
            ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5, integer=True))
        axes[0].set_yscale("log", nonpositive="mask")
        ends = steps[steps.quantity == AIWQ].groupby("bits").value.last()
        axes[0].set_ylim(bottom=ends[ends > 0].min() / 10)     # at 2 bits it may begin at next to nothing
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=6, handlelength=3)
        figure.supxlabel(f"running statistics of the batch norm {norm}\n{footnote}", fontsize=10, color=GREY)
    return figure


def describe_aiwq_over_iterations(steps: pd.DataFrame, norm: str) -> str:
    """Alternative text for :func:`aiwq_over_iterations`, with the ends or the ranges of the lines."""
    def lines(quantity, how):
        rows = steps[steps.quantity == quantity]
        return "; ".join(f"{name(bits)} {how(values)}" for bits, values in rows.groupby("bits", sort=False).value)

    def span(values):
        return f"{values.min():.3g} to {values.max():.3g}"

    return ("Three panels over iterations with a line for each bit-width of the weights. Left, AIWQ in nats on a log "
            f"axis, at the end: {lines(AIWQ, lambda v: f'{v.iloc[-1]:.2g}')}. Middle, the running mean of "
            f"{norm}, which goes through: {lines(MEAN, span)}. Right, its running variance: {lines(VARIANCE, span)}.")


def aiwq_by_layer(tables: Mapping[str, pd.DataFrame], *, footnote: str) -> Figure:
    """PROFIT, Fig. 4: AIWQ of each layer, a panel for each title and table; coloured by kind, with the limits above
    which PROFIT's rounds 2 and 3 freeze.  Tables as :func:`aiwq_layers` gives them."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(len(tables), 1, figsize=(10, 1.3 + 2.5 * len(tables)), squeeze=False)
        for ax, (title, table) in zip(axes[:, 0], tables.items()):
            ax.set_yscale("log", nonpositive="mask")
            for kind, rows in table.groupby("kind"):
                color, marker = KINDS[kind]
                ax.plot(rows.index, rows.aiwq, marker, color=color, markersize=10 if marker == "*" else 7, label=kind)
            for number, limit in limits(table).items():
                ax.axhline(limit, color="black", linewidth=1.4, linestyle="--" if number == 2 else ":",
                           label=f"above: frozen in round {number}")
            ax.set(title=title, ylabel="AIWQ (nats, log axis)", xlim=(-1, len(table)))
        axes[-1, 0].set_xlabel("layer, in the network's order")
        entries = {text: handle for ax in axes[:, 0] for handle, text in zip(*ax.get_legend_handles_labels())}
        order = [kind for kind in KINDS if kind in entries] + [text for text in entries if text not in KINDS]
        figure.legend([entries[text] for text in order], order, loc="outside upper center", ncols=4)
        figure.supxlabel(footnote, fontsize=10, color=GREY)
    return figure


def describe_aiwq_by_layer(tables: Mapping[str, pd.DataFrame]) -> str:
    """Alternative text for :func:`aiwq_by_layer`: largest, median and smallest, and what is frozen first."""
    parts = []
    for title, table in tables.items():
        top, first = table.loc[table.aiwq.idxmax()], table[table.frozen == 2].kind.value_counts()
        parts.append(f"{title}: {len(table)} layers, the largest {top.layer} ({top.kind}) with {top.aiwq:.2g}, the "
                     f"median {table.aiwq.median():.2g}, the smallest {table.aiwq.min():.2g}; round 2 would freeze "
                     + ", ".join(f"{count} {kind}" for kind, count in first.items()))
    return ("AIWQ in nats on a log axis for each layer in the network's order, a marker for each, coloured by kind; "
            f"two horizontal lines show above which value PROFIT freezes. {'. '.join(parts)}.")


def limits(table: pd.DataFrame) -> dict[int, float]:
    """{round: an AIWQ between that of the last layer it freezes and that of the first it does not}."""
    found = {}
    for number in ROUNDS:
        frozen, trains = table.aiwq[table.frozen <= number], table.aiwq[table.frozen > number]
        if frozen.min() > 0 and trains.max() > 0:
            found[number] = float(np.sqrt(frozen.min() * trains.max()))
    return found
