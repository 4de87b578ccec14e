"""PROFIT, supplement Fig. 1: loss curves with and without PROFIT."""
from __future__ import annotations

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..analysis.loss_curves import along_rounds
from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, SPLITS, STYLE, finish

WITHOUT = "nothing frozen"
PANELS = {"PROFIT": ("PROFIT: largest AIWQ first", ORANGE),
          "PROFIT, reverse order": ("control: smallest AIWQ first", GREEN),
          "PROFIT, random order": ("control: random order", PURPLE)}


def draw(history: pd.DataFrame, *, w_bits: int, a_bits: int, footnote: str) -> Figure:
    """Draw PROFIT's supplement Fig. 1: training and validation loss through the rounds, a panel for each order of
    freezing, beside the same training with nothing frozen, in blue.

    ``history``: :func:`paperlib.analysis.loss_curves.histories`, with ``method`` as in ``PANELS`` or
    "nothing frozen".  Lines are means over seeds, bands their range.
    """
    curves = along_rounds(history[history.metric == "loss"])
    curves = curves.assign(split=curves.split.map(SPLITS))
    last = curves.groupby("round").epoch.max()
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(PANELS), figsize=(10.5, 4.4), sharey=True)
        for ax, (method, (title, colour)) in zip(axes, PANELS.items()):
            shown = [WITHOUT, method]
            sns.lineplot(curves[curves.method.isin(shown)], x="epoch", y="value", hue="method", hue_order=shown,
                         style="split", style_order=SPLITS.values(), palette=[BLUE, colour], markers=["o", "s"],
                         markersize=6, errorbar=("pi", 100), err_kws={"linewidth": 0}, ax=ax, legend=False)
            ax.set_title(title, color=colour)
            ax.set(xlabel="epoch, through all rounds", ylabel="cross-entropy loss (nats)")
            ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
            for k, (start, end) in enumerate(zip([0, *last], last)):
                ax.axvline(start, color=GREY, linewidth=1.4, linestyle=":", zorder=0)
                share = f"{k}/{len(last)}" if k else "frozen: 0"
                ax.text((start + end) / 2, 1, share, transform=ax.get_xaxis_transform(), color=GREY, fontsize=12,
                        ha="center", va="top")
        low, high = axes[0].get_ylim()
        axes[0].set_ylim(low, high + 0.06 * (high - low))       # room for the shares
        lines = [mpl.lines.Line2D([], [], color=BLUE, label=WITHOUT),
                 mpl.lines.Line2D([], [], color="black", marker="o", label="validation"),
                 mpl.lines.Line2D([], [], color="black", marker="s", linestyle=(0, (4, 1.5)), label="training")]
        figure.legend(handles=lines, loc="outside upper center", ncols=3, handlelength=2.6)
        means = curves.groupby(["method", "split", "round", "epoch"]).value.mean()
        validation = {method: means[method]["validation"] for method in [WITHOUT, *PANELS]}
        told = "; ".join(f"{method}: up to {val[val.index.get_level_values('round') > 1].max():.2f} after the first "
                         f"round and {val.iloc[-1]:.2f} at the end" for method, val in validation.items())
        return finish(figure, f"Three panels of training and validation loss by epoch through {len(last)} rounds, "
                      "each order of freezing (PROFIT, reverse, random) beside the same training with nothing frozen. "
                      f"Validation loss, {told}.",
                      f"weights in {w_bits} bits, activations in {a_bits} bits; {footnote}")
