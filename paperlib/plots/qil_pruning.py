"""QIL, Fig. 5: what trained intervals prune, by bit-width."""
from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..analysis.qil_intervals import ROLES
from ..claims import paper_tables
from .qil_intervals import layer_styles
from .style import STYLE, blank, finish


def draw(shares: pd.DataFrame, *, footnote: str) -> Figure:
    """Draw what is pruned by bit-width, left of weights and right of activations: lines for all layers together, after
    and before training, thin ones for single layers (means over seeds), and the paper's numbers.

    ``shares``: :func:`paperlib.analysis.qil_pruning.pruned_shares`.
    """
    if shares.end.isna().all():
        return blank(footnote)
    paper = paper_tables.pruned_shares()
    bits, styles = sorted(shares.bits.unique(), reverse=True), layer_styles(shares.layer[shares.layer != "all"])
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(11, 5.2), sharey=True)
        for ax, (role, title) in zip(axes, ROLES.items()):
            means = shares[shares.role == role].groupby(["layer", "bits"])[["end", "start"]].mean()
            for layer, (colour, marker) in styles.items():
                ax.plot(range(len(bits)), means.end[layer].reindex(bits), color=colour, marker=marker, linewidth=1,
                        markersize=6, alpha=0.9, label=layer)
            ax.plot(range(len(bits)), means.end["all"].reindex(bits), color="black", linewidth=3,
                    label="all layers together")
            ax.plot(range(len(bits)), means.start["all"].reindex(bits), color="black", linewidth=2,
                    linestyle=(0, (1, 1.2)), label="the same before training")
            printed = paper[(paper.role == role) & paper.bits.isin(bits)]
            ax.plot(printed.bits.map(bits.index), printed.value, "*", color="black", markersize=15,
                    markerfacecolor="white", label="paper")
            ax.set(title=title, xlabel="bits", ylim=(-2, 100), xlim=(-0.3, len(bits) - 0.7))
            ax.set_xticks(range(len(bits)), bits)
        axes[0].set_ylabel("pruned (% of all values)")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
        means = shares[shares.layer == "all"].groupby(["role", "bits"])[["start", "end"]].mean()
        told = "; ".join(f"{name} " + ", ".join(
            f"{row.end:.1f} at {b} bits ({row.start:.1f} before training)"
            for b, row in means.loc[role].sort_index(ascending=False).iterrows()) for role, name in ROLES.items())
        return finish(figure, "Two panels of lines, the share of values that is pruned by bit-width, of weights and "
                      f"of activations, for {len(styles)} layers and for all together, with the paper's numbers as "
                      f"stars. All layers together, in percent: {told}.", footnote, _pruned(means))


def _pruned(means: pd.DataFrame) -> str:
    """Say in a sentence what is pruned of all values at the fewest bits, after and before training; ``means``: percent,
    by role and bits."""
    few = means.xs(bits := means.index.get_level_values("bits").min(), level="bits")
    return (f"At {bits} bits {few.end['weight']:.0f} % of the weights and {few.end['activation']:.0f} % of the "
            f"activations are pruned; before training, {few.start['weight']:.0f} and {few.start['activation']:.0f} %")
