"""Beyond the papers: AIWQ and oscillating weights, layer by layer, and what stopping either is worth."""
from __future__ import annotations

import math

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..analysis.oscillations import AGAIN, AS_TRAINED, LAST_STAGE, correlations
from .aiwq import KINDS
from .style import BLUE, GREY, ORANGE, STYLE, blank, finish

COLUMNS = {"aiwq": "AIWQ (nats)", "oscillating": "oscillating weights (%)",
           "kl": "wrong statistics (nats)"}
PANELS = [("oscillating", "aiwq"), ("aiwq", "kl"), ("oscillating", "kl")]
TREATED = {AS_TRAINED: (ORANGE, "o"), AGAIN: (BLUE, "D"), LAST_STAGE: (GREY, "s")}


def draw_layers(layers: pd.DataFrame, *, footnote: str) -> Figure:
    """Draw a dot for each layer: AIWQ over oscillating weights, and how wrong the statistics of the batch norm after
    it are over either; log axes (from 0.01 % up), medians over seeds.

    ``layers``: :func:`paperlib.analysis.oscillations.by_layer`.
    """
    if layers.empty:
        return blank(footnote)
    agreement = correlations(layers).mean(axis=1)
    medians = layers.groupby(["layer", "kind"], sort=False)[list(COLUMNS)].median().reset_index()
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(11, 4.4))
        for ax, (x, y), (_, rank) in zip(axes, PANELS, agreement.items()):
            for kind, rows in medians.groupby("kind"):
                color, marker = KINDS[kind]
                ax.plot(rows[x], rows[y], marker, color=color, markersize=9 if marker == "*" else 6, label=kind)
            ax.set(yscale="log", xlabel=COLUMNS[x], ylabel=COLUMNS[y], title=f"rank correlation {rank:.2f}")
            if x == "oscillating":      # in some layers no weight does
                ax.set_xscale("symlog", linthresh=0.01)
                ax.set_xticks([0, 0.01, 0.1, 1, 10], ["0", "0.01", "0.1", "1", "10"])
                ax.set_xlim(-0.003, 100)
            else:
                ax.set_xscale("log")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
        told = "; ".join(f"{pair}: {value:.2f}" for pair, value in agreement.items())
        return finish(figure, "Three scatter plots on log axes with a dot for each layer, coloured by kind: AIWQ over "
                      "the share of oscillating weights, and how wrong the statistics of the next batch norm are over "
                      f"either. Rank correlations over layers, {told}.", footnote, _closer(*agreement.iloc[1:]))


def draw_methods(ends: pd.DataFrame, *, footnote: str) -> Figure:
    """Draw a row for each method: its accuracy after the last round, with statistics taken anew, and after a stage of
    batch norms alone; small marks are seeds, large ones their mean.

    ``ends``: :func:`paperlib.analysis.oscillations.ends`.
    """
    if ends.empty:
        return blank(footnote)
    methods, means = list(ends.method.unique()), ends.groupby(["method", "statistics"], sort=False).accuracy.mean()
    with mpl.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(9, 1.9 + 0.62 * len(methods)))
        for shift, (name, (color, marker)) in zip((-0.22, 0.0, 0.22), TREATED.items()):
            for y, method in enumerate(methods):
                mine = ends[(ends.method == method) & (ends.statistics == name)]
                ax.plot(mine.accuracy, [y + shift] * len(mine), marker, color=color, markersize=5, alpha=0.5)
                ax.plot(means[method, name], y + shift, marker, color=color, markersize=10, markeredgecolor="w",
                        label=name if not y else None)
        ax.set_yticks(range(len(methods)), methods)
        ax.set(ylim=(len(methods) - 0.5, -0.5), xlabel="validation accuracy (%)")
        ax.grid(axis="y", visible=False)
        figure.legend(loc="outside upper center", ncols=3)
        told = "; ".join(f"{method}: " + ", ".join(f"{means[method, name]:.1f} {name}" for name in TREATED)
                         for method in methods)
        return finish(figure, "A row for each method with its validation accuracy in percent, a small mark for each "
                      f"seed and a large one for their mean, for three ways with batch norms. {told}.", footnote,
                      "Statistics taken anew gain " + ", ".join(
                          f"{means[method, AGAIN] - means[method, AS_TRAINED]:.1f} points: {method}"
                          for method in methods[:2]))


def _closer(aiwq: float, oscillation: float) -> str:
    """Say in a sentence which of the two has the higher rank correlation with wrong statistics."""
    if math.isnan(aiwq + oscillation):
        return ""
    if aiwq > oscillation:
        return f"AIWQ goes with wrong statistics ({aiwq:.2f}) more closely than oscillation does ({oscillation:.2f})"
    return f"Oscillation goes with wrong statistics ({oscillation:.2f}) at least as closely as AIWQ does ({aiwq:.2f})"
