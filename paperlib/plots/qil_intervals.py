"""QIL, Fig. 4 and 5: where trained intervals lie, epoch by epoch and among the values, and what they prune."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from .. import published
from ..bounds import bounds, interval_histograms, interval_pruning
from ..errors import InputError
from ..outcomes import NOT_RECORDED
from ..recipes.qil import PAPER as SCHEDULES
from ..recipes.qil import QIL_LR
from ..runs import Run
from .missing import unless_missing
from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, STYLE, YELLOW, mean_and_spread

LAYERS = [(BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PURPLE, "D"), (YELLOW, "v"), (SKY, "P"), (GREY, "X")]
PARTS = {"weight": "weights", "activation": "activations"}
PAPER = {("weight", 5): "weight pruning ratio 5 bit", ("weight", 3): "weight pruning ratio 3 bit",
         **{("activation", bits): "activation pruning ratio (about)" for bits in (5, 4, 3)}}
STILL = 5           # % of its width: an interval that moves less has learned nothing worth the word


def last_bounds(run: Run) -> pd.DataFrame:
    """``bounds`` of the last phase, with M before training (``begin``) and the width of the interval then, M - m."""
    table = bounds(run)
    table = table[table.phase == run.recipe.phases[-1].name]
    start = table[table.epoch == 0].set_index(["layer", "role"])[["m", "M"]]
    start = pd.DataFrame({"begin": start.M, "width": start.M - start.m}).reset_index()
    return table.merge(start, on=["layer", "role"], sort=False)


@unless_missing("M")
def interval_bounds(table: pd.DataFrame, *, footnote: str) -> Figure:
    """QIL, Fig. 4: bounds by epoch, left of activations, right of weights, a line for each layer; above M, below m.

    ``table`` as :func:`last_bounds` gives it.  Weights differ in scale from layer to layer, so their bounds are divided
    by the layer's M before training.
    """
    styles = _styles(table.layer)
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(2, 2, figsize=(11, 7), sharex=True)
        for column, role in zip(axes.T, ("activation", "weight")):
            for ax, bound, name in zip(column, ("M", "m"), ("upper bound M", "lower bound m")):
                for layer, (colour, marker) in styles.items():
                    mine = table[(table.role == role) & (table.layer == layer)]
                    ax.plot(mine.epoch, mine[bound] / (mine.begin if role == "weight" else 1), color=colour,
                            marker=marker, markersize=7, markeredgecolor="w", label=layer)
                ax.set(ylabel=name)
                ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
                least = (0, 0.01) if bound == "m" else (0.95, 1.05) if role == "weight" else (1, 1)
                low, high = ax.get_ylim()
                ax.set_ylim(min(low, least[0]), max(high, least[1]))        # no magnifying glass on what stands still
                ax.axhline(0, color=GREY, linewidth=1.4, linestyle=":", zorder=0) if low < 0 < high else None
            column[0].set_title("(a) activations" if role == "activation" else "(b) weights, over M before training")
            column[1].set_xlabel("epoch (0: before training)")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(styles))
        figure.supxlabel(footnote, fontsize=10, color=GREY)
    return figure


@unless_missing("M")
def describe_interval_bounds(table: pd.DataFrame) -> str:
    """Alternative text for :func:`interval_bounds`, with the ends of the lines."""
    ends = table[table.epoch == table.epoch.max()]
    weights, activations = (ends[ends.role == role] for role in PARTS)
    return (f"Four panels of lines by epoch, one line for each of {table.layer.nunique()} layers: upper bounds M above "
            f"lower bounds m, of activations on the left and of weights on the right. After {table.epoch.max()} epochs "
            f"M of activations lies between {activations.M.min():.2f} and {activations.M.max():.2f}, their m between "
            f"{activations.m.min():.3f} and {activations.m.max():.3f}; M of weights between "
            f"{(weights.M / weights.begin).min():.2f} and {(weights.M / weights.begin).max():.2f} of where it began, "
            f"their m between {(weights.m / weights.begin).min():.3f} and {(weights.m / weights.begin).max():.3f} of "
            "that.")


def interval_motion(runs: Sequence[Run]) -> pd.DataFrame:
    """How far the bounds go in training, in % of the interval's width before it: one row per role and bound.

    Median layer and farthest layer from before training to its end; the longest way that any layer's bound goes within
    the last quarter of the epochs.  Means over the runs.
    """
    rows = []
    for run in runs:
        table = last_bounds(run)
        for role, bound in ((role, bound) for role in PARTS for bound in ("m", "M")):
            mine = table[table.role == role]
            mine = mine.assign(at=100 * mine[bound] / mine.width)
            way, late = mine.groupby("layer").at, mine[mine.epoch >= 0.75 * mine.epoch.max() // 1].groupby("layer").at
            moved = (way.last() - way.first()).abs()
            rows.append((PARTS[role], bound, moved.median(), moved.max(), (late.max() - late.min()).max()))
    columns = ["intervals of", "bound", "median layer (%)", "farthest layer (%)", "in the last quarter, at most (%)"]
    return pd.DataFrame(rows, columns=columns).groupby(columns[:2], sort=False).mean().reset_index()


@unless_missing()
def interval_distributions(runs: Mapping[int, Run], layer: str, *, footnote: str) -> Figure:
    """QIL, Fig. 5: the values of one layer, above weights and below activations, float and then at fewer and fewer
    bits, with the bounds of the interval (dashed) and its centre (dotted).  ``runs``: {bits: run}."""
    runs = {bits: run for bits, run in runs.items() if not run.absent}
    panels = [(None, next(iter(runs.values()))), *runs.items()]
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(2, len(panels), figsize=(11, 6), sharex="row", sharey="row")
        for row, (role, name) in zip(axes, PARTS.items()):
            for ax, (bits, run) in zip(row, panels):
                bars = run.find(interval_histograms).set_index(["network", "layer", "role"])
                mine, bars = _end(run, layer, role), bars.loc["quantized" if bits else "float", layer, role]
                ax.bar(bars.left, bars.share / bars.width, bars.width, align="edge", color="#B5B5B5")
                for sign in (1, -1)[:bool(bits) * (1 + (role == "weight"))]:
                    for x in (mine.m, mine.M):
                        bound = ax.axvline(sign * x, color=ORANGE, linestyle=(0, (4, 2)), linewidth=1.8)
                    centre = ax.axvline(sign * mine.c, color=GREEN, linestyle=(0, (1, 1.2)), linewidth=2.2)
                if bits and role == "activation":
                    ax.text(0.96, 0.95, f"by ReLU: {100 * mine.zero:.1f} %", transform=ax.transAxes, ha="right",
                            va="top", bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8})
                ax.set(title=f"{bits} bits: {100 * mine.pruned_of_all:.1f} % pruned" if bits else "float",
                       yscale="linear" if role == "weight" else "log")
                ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
                ax.yaxis.set_minor_locator(mpl.ticker.NullLocator())
            row[0].set_ylabel(f"{name}\ndensity" if role == "weight" else f"{name}\ndensity of those > 0 (log)")
        figure.legend([bound, centre], ["bounds m and M of the interval", "its centre c"],
                      loc="outside upper center", ncols=2, handlelength=2.6)
        figure.supxlabel(f"value, in the layer {layer}\n{footnote}", fontsize=10, color=GREY)
    return figure


def _end(run: Run, layer: str, role: str) -> pd.Series:
    """The row of ``interval_pruning`` for a layer and a role, with m and M.  InputError if there is no such layer."""
    table = run.find(interval_pruning)
    rows = table[(table.layer == layer) & (table.role == role)]
    if rows.empty:
        raise InputError(f"no quantized layer {layer!r}: choose from {', '.join(dict.fromkeys(table.layer))}")
    row = rows.iloc[0].copy()
    side = row.d - row.d / (2 ** (row.bits - (role == "weight")) - 1)
    row["m"], row["M"] = row.c - side, row.c + side
    return row


@unless_missing()
def describe_interval_distributions(runs: Mapping[int, Run], layer: str) -> str:
    """Alternative text for :func:`interval_distributions`, with bounds and shares."""
    said, runs = [], {bits: run for bits, run in runs.items() if not run.absent}
    for role, name in PARTS.items():
        for bits, run in runs.items():
            mine = _end(run, layer, role)
            said.append(f"{name} at {bits} bits from {mine.m:.3g} to {mine.M:.3g}, "
                        f"{100 * mine.pruned_of_all:.1f} % pruned")
    return (f"Histograms in two rows, weights and activations of {layer}, in float and at "
            f"{', '.join(map(str, runs))} bits, with dashed vermilion lines at the bounds of the interval and dotted "
            f"green ones at its centre, for weights on both sides of 0. Intervals: {'; '.join(said)}.")


def interval_values(runs: Mapping[int, Run]) -> pd.DataFrame:
    """What :func:`interval_distributions` draws of these runs, as far as they are there: ``interval_histograms`` with a
    column bits."""
    tables = [run.find(interval_histograms).assign(bits=bits) for bits, run in runs.items() if not run.absent]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def pruned_shares(found: Mapping[int, Sequence[Run]]) -> pd.DataFrame:
    """What intervals prune, in % of all values, after training (``end``) and before it (``start``): one row for each
    role, bit-width, seed and layer, and one for all layers together (layer "all")."""
    columns = ["role", "bits", "seed", "layer", "end", "start"]
    tables = [run.find(interval_pruning).assign(bits=bits, seed=run.recipe.seed)
              for bits, runs in found.items() for run in runs if not run.absent]
    if not tables:
        return pd.DataFrame(columns=columns)
    table = pd.concat(tables, ignore_index=True)
    table = table.assign(end=100 * table.pruned_of_all, start=100 * table.at_start)
    sums = table.assign(end=table.end * table["values"], start=table.start * table["values"])
    sums = sums.groupby(["role", "bits", "seed"], sort=False)[["values", "end", "start"]].sum(min_count=1)
    whole = sums[["end", "start"]].div(sums["values"], axis=0).reset_index().assign(layer="all")
    return pd.concat([table[columns], whole[columns]], ignore_index=True)


def pruned_table(shares: pd.DataFrame) -> pd.DataFrame:
    """The paper's pruning ratios beside ours (%), a row for each role and bit-width; means ± s.d. over seeds."""
    rows = []
    for (role, bits), mine in shares.groupby(["role", "bits"], sort=False):
        layers, whole = mine[mine.layer != "all"], mine[mine.layer == "all"]
        each = layers.groupby("layer").end.mean()
        rows.append({"what": PARTS[role], "bits": bits, "paper": _printed(role, bits),
                     "ours, all layers": mean_and_spread(whole.end), "before training": mean_and_spread(whole.start),
                     "mean of layers": f"{each.mean():.1f}", "layers": f"{each.min():.1f} to {each.max():.1f}"})
    if not rows:
        return pd.DataFrame({"ours": [NOT_RECORDED]})
    return pd.DataFrame(rows).sort_values(["what", "bits"], ascending=False, ignore_index=True)


@unless_missing("end")
def pruned_by_bits(shares: pd.DataFrame, *, footnote: str) -> Figure:
    """What is pruned by bit-width, left of weights and right of activations: lines for all layers together, after and
    before training, thin ones for single layers (means over seeds), and the paper's numbers."""
    bits, styles = sorted(shares.bits.unique(), reverse=True), _styles(shares.layer[shares.layer != "all"])
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(11, 5.2), sharey=True)
        for ax, (role, title) in zip(axes, PARTS.items()):
            means = shares[shares.role == role].groupby(["layer", "bits"])[["end", "start"]].mean()
            for layer, (colour, marker) in styles.items():
                ax.plot(range(len(bits)), means.end[layer].reindex(bits), color=colour, marker=marker, linewidth=1,
                        markersize=6, alpha=0.9, label=layer)
            ax.plot(range(len(bits)), means.end["all"].reindex(bits), color="black", linewidth=3,
                    label="all layers together")
            ax.plot(range(len(bits)), means.start["all"].reindex(bits), color="black", linewidth=2,
                    linestyle=(0, (1, 1.2)), label="the same before training")
            printed = {b: _value(role, b) for b in bits if (role, b) in PAPER}
            ax.plot([bits.index(b) for b in printed], list(printed.values()), "*", color="black", markersize=15,
                    markerfacecolor="white", label="paper")
            ax.set(title=title, xlabel="bits", ylim=(-2, 100), xlim=(-0.3, len(bits) - 0.7))
            ax.set_xticks(range(len(bits)), bits)
        axes[0].set_ylabel("pruned (% of all values)")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
        figure.supxlabel(footnote, fontsize=10, color=GREY)
    return figure


@unless_missing("end")
def describe_pruned_by_bits(shares: pd.DataFrame) -> str:
    """Alternative text for :func:`pruned_by_bits`, with the values of the thick lines."""
    means = shares[shares.layer == "all"].groupby(["role", "bits"])[["start", "end"]].mean()
    said = "; ".join(f"{PARTS[role]} " + ", ".join(
        f"{row.end:.1f} at {b} bits ({row.start:.1f} before training)"
        for b, row in means.loc[role].sort_index(ascending=False).iterrows()) for role in PARTS)
    return (f"Two panels of lines, the share of values that is pruned by bit-width, of weights and of activations, for "
            f"{shares.layer.nunique() - 1} layers and for all together, with the paper's numbers as stars. All layers "
            f"together, in percent: {said}.")


def intervals_in_words(found: Mapping[int, Sequence[Run]], bits: int = 4) -> str:
    """What the runs say beyond the verdicts, in Markdown: how far intervals moved at ``bits`` bits, how much was pruned
    before training, where m fell below 0, and what ReLU's share is.  Means over seeds; needs all runs.
    """
    if any(run.absent for runs in found.values() for run in runs):
        return f"* {NOT_RECORDED.capitalize()}."
    way = interval_motion(found[bits]).groupby("intervals of", sort=False)["farthest layer (%)"].max()
    phase, paper = found[bits][0].recipe.phases[-1], SCHEDULES["vgg7"]["epochs"]
    steps = found[bits][0].history.query("phase == @phase.name").step.max()
    lines = [f"Quantized networks train for {phase.epochs} epochs, {steps} steps, where the paper's train for {paper} "
             f"epochs. Intervals learn at {phase.quantizer_lr:g} of the weights' rate, "
             + ("as in the paper." if phase.quantizer_lr == QIL_LR else f"the paper's at {QIL_LR:g}."),
             f"At {bits} bits, of all bounds in all layers, the one that moves farthest from where data set it goes "
             f"{way['weights']:.2g} % of its interval's width among the weights, and {way['activations']:.2g} % among "
             "the activations."]
    if still := [part for part in way.index if way[part] < STILL]:
        lines[1] += (f" Below {STILL} %, as for the {' and the '.join(still)}, the curves of Fig. 4 are flat because "
                     "there was hardly any learning: they cannot show that intervals converge.")
    shares = pruned_shares(found)
    whole = shares[shares.layer == "all"].groupby(["role", "bits"])[["start", "end"]].mean().loc["weight"].iloc[::-1]
    rise = whole.iloc[-1] - whole.iloc[0]
    added = ", ".join(f"{points:+.1f} points at {b} bits" for b, points in (whole.end - whole.start).items())
    lines.append(f"From {whole.index[0]} to {whole.index[-1]} bits the share of all weights that is pruned changes by "
                 f"{rise.end:+.1f} points. Before the first step of training it was {rise.start:+.1f} already: that "
                 f"is the doing of the starting values, which are ours. Training changes it by {added}.")
    ends = pd.concat([last_bounds(run) for runs in found.values() for run in runs])
    ends = ends[(ends.epoch == ends.groupby("phase").epoch.transform("max")) & (ends.role == "weight")]
    below = ends[ends.m <= 0].groupby("bits").layer.nunique().iloc[::-1]
    if len(below):
        lines.append(f"The lower bound of the weights can fall below 0. It ends there, for at least one seed, in "
                     f"{', '.join(f'{n} of {ends.layer.nunique()} layers at {b} bits' for b, n in below.items())}. "
                     "Then nothing is pruned, and the level 0 has no weight.")
    relu = pd.concat([run.find(interval_pruning) for runs in found.values() for run in runs])
    relu = 100 * relu[relu.role == "activation"].groupby("bits")[["zero", "pruned_of_all"]].mean().iloc[::-1]
    lines.append("Of the activations, in the mean over layers, " + ", ".join(
        f"{row.pruned_of_all:.0f} % are 0 at {b} bits ({row.zero:.0f} % by ReLU alone)" for b, row in relu.iterrows())
        + ".")
    return "\n".join(f"* {line}" for line in lines)


def _styles(layers: pd.Series) -> dict[str, tuple[str, str]]:
    names = list(dict.fromkeys(layers))
    return {name: LAYERS[i % len(LAYERS)] for i, name in enumerate(names)}


def _where(role: str, bits: int) -> dict[str, str]:
    return {"paper_id": published.QIL, "metric": PAPER[role, bits]}


def _value(role: str, bits: int) -> float:
    return published.value(**_where(role, bits))


def _printed(role: str, bits: int) -> str:
    if (role, bits) not in PAPER:
        return ""
    return ("about " if "about" in PAPER[role, bits] else "") + published.text(**_where(role, bits))
