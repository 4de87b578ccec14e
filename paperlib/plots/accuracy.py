"""PROFIT, Table 1: accuracy by bit-width."""
from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ..analysis.accuracy import AS_LONG, FULL, precisions
from ..analysis.bit_operations import NAMES
from .style import BLUE, GREEN, ORANGE, STYLE, finish

COLORS = {"MobileNet-v1": BLUE, "MobileNet-v2": ORANGE, "MobileNet-v3-Large": GREEN}
MARKERS = {"MobileNet-v1": "o", "MobileNet-v2": "s", "MobileNet-v3-Large": "^"}


def draw(table: pd.DataFrame, *, allowance: float, footnote: str) -> Figure:
    """Draw PROFIT's Table 1: a panel for each network, accuracy by precision.

    Lines are means over seeds, labelled with their values; points are single seeds.  The grey band extends from the
    mean of the float network trained as long as 4 bits, or of "Full" where there is none, down by ``allowance`` points.
    ``table``: :func:`paperlib.analysis.accuracy.accuracies`.
    """
    shown, networks = precisions(table), [name for name in NAMES.values() if name in set(table.network)]
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(networks), figsize=(11, 5.2), sharey=True, squeeze=False)
        for ax, network in zip(axes[0], networks):
            rows = table[table.network == network].assign(x=lambda t: t.precision.map(shown.index))
            means = rows.groupby("x").accuracy.mean()
            full = means[shown.index(_reference(rows))]
            ax.axhspan(full - allowance, full, color="#DDDDDD", zorder=0)
            ax.plot(means.index, means, color=COLORS[network], alpha=0.6)
            ax.plot(rows.x, rows.accuracy, MARKERS[network], color=COLORS[network], markersize=7, markeredgecolor="w")
            for x, mean in means.items():
                ax.annotate(f"{mean:.1f}", (x, rows[rows.x == x].accuracy.max()), (0, 8), textcoords="offset points",
                            ha="center", fontsize=12, path_effects=[withStroke(linewidth=3, foreground="w")])
            seeds = rows.seed.nunique()
            ax.set(title=f"{network}, {seeds} seed{'s' if seeds > 1 else ''}", xlim=(-0.5, len(shown) - 0.5))
            ax.set_xticks(range(len(shown)), [p.removesuffix(" bits").replace(", ", ",\n") for p in shown])
            ax.set_xlabel("float | bits of weights and activations")
            ax.grid(axis="x", visible=False)
            ax.margins(y=0.12)
        axes[0, 0].set_ylabel("validation accuracy (%)")
        means = table.groupby(["network", "precision"]).accuracy.mean()
        told = "; ".join(f"{network}: " + ", ".join(f"{p} {means[network, p]:.1f}" for p in shown
                                                    if (network, p) in means.index) for network in networks)
        return finish(figure, "A panel for each network with its validation accuracy in percent in float, in float "
                      f"after training with a teacher, and at fewer and fewer bits. Means over seeds: {told}.",
                      f"grey: from {_reference(table)} down to {allowance:g} points below\n{footnote}",
                      _within(means, shown[-1], allowance))


def _reference(table: pd.DataFrame) -> str:
    """Name the column of ``table`` that quantized networks are held against."""
    return AS_LONG if (table.precision == AS_LONG).any() else FULL


def _within(means: pd.Series, fewest: str, allowance: float) -> str:
    """Say in a sentence how many networks end within ``allowance`` points of float at the fewest bits; ``means`` by
    network and precision."""
    reference = _reference(means.reset_index())
    losses = (means.xs(reference, level="precision") - means.xs(fewest, level="precision")).dropna()
    within, name = (losses <= allowance).sum(), "a float network trained as long" if reference == AS_LONG else FULL
    return f"At {fewest}, {within} of {len(losses)} networks end at most {allowance:g} points below {name}"
