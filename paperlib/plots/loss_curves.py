"""PROFIT, supplement Fig. 1: loss curves with and without PROFIT."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..analysis.loss_curves import along_rounds, fluctuation
from ..runs.outcomes import FAILED, NOT_RECORDED
from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, SPLITS, STYLE, blank, finish

WITHOUT = "nothing frozen"
PANELS = {"PROFIT": ("PROFIT: largest AIWQ first", ORANGE),
          "PROFIT, reverse order": ("control: smallest AIWQ first", GREEN),
          "PROFIT, random order": ("control: random order", PURPLE)}


def draw(history: pd.DataFrame, *, w_bits: int, a_bits: int, footnote: str) -> Figure:
    """Draw PROFIT's supplement Fig. 1: training and validation loss through the rounds, a panel for each order of
    freezing, beside the same training with nothing frozen, in blue.

    ``history``: :func:`paperlib.analysis.loss_curves.histories`, with ``method`` as in ``PANELS`` or "nothing frozen",
    with ": failed training" after it where it has.  Lines are means over seeds, bands their range.
    """
    curves = along_rounds(history[history.metric == "loss"])
    failed = {name.removesuffix(f": {FAILED}") for name in curves.method.unique() if name.endswith(FAILED)}
    curves = curves.assign(split=curves.split.map(SPLITS), method=curves.method.str.removesuffix(f": {FAILED}"))
    last, there = curves.groupby("round").epoch.max(), set(curves.method)
    if not there:
        return blank(footnote)
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(PANELS), figsize=(10.5, 4.4), sharey=True)
        for ax, (method, (title, colour)) in zip(axes, PANELS.items()):
            shown = [name for name in (WITHOUT, method) if name in there]
            if method not in there:
                ax.text(0.5, 0.5, NOT_RECORDED, transform=ax.transAxes, ha="center", color=GREY)
            sns.lineplot(curves[curves.method.isin(shown)], x="epoch", y="value", hue="method", hue_order=shown,
                         style="split", style_order=SPLITS.values(), palette={WITHOUT: BLUE, method: colour},
                         markers=["o", "s"], markersize=6, errorbar=("pi", 100), err_kws={"linewidth": 0}, ax=ax,
                         legend=False)
            ax.set_title(f"{title}\n{FAILED}" if method in failed else title, color=colour)
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
        validation = {method: means[method]["validation"] for method in [WITHOUT, *PANELS] if method in there}
        told = "; ".join(f"{method}: up to {val[val.index.get_level_values('round') > 1].max():.2f} after the first "
                         f"round and {val.iloc[-1]:.2f} at the end" for method, val in validation.items())
        return finish(figure, f"Three panels of training and validation loss by epoch through {len(last)} rounds, "
                      "each order of freezing (PROFIT, reverse, random) beside the same training with nothing frozen. "
                      f"Validation loss, {told}.",
                      f"weights in {w_bits} bits, activations in {a_bits} bits; {footnote}",
                      "" if failed else _calm(curves))


def _calm(curves: pd.DataFrame) -> str:
    """Say in a sentence how much the validation loss fluctuates with PROFIT and without while layers are frozen, from
    the end of round 1 on, in the mean over seeds; "" if one of them is missing."""
    found, start = {}, curves[curves["round"] == 1].epoch.max()
    for method in ("PROFIT", WITHOUT):
        rows = curves[(curves.method == method) & (curves.split == SPLITS["val"]) & (curves.epoch >= start)]
        found[method] = [fluctuation(seed.value) for _, seed in rows.sort_values("epoch").groupby("seed")]
    if not all(found.values()):
        return ""
    calm, restless = (np.mean(values) for values in found.values())
    return (f"With PROFIT the validation loss fluctuates by {calm:.3f} nats an epoch, with nothing frozen by "
            f"{restless:.3f}")


def draw_orders(curves: Mapping[str, Sequence[Sequence[float]]], *, every: int, rounds: int) -> Figure:
    """Draw the test loss under several orders of freezing, and its fluctuation seed by seed.

    ``curves``: {order: a list of losses (nats) for each seed}, measured after ``every`` steps, through ``rounds``
    rounds of equal length.  Left, the mean over seeds and their range.  Right, the
    :func:`paperlib.analysis.loss_curves.fluctuation` of each curve; a line joins the orders of one seed.
    """
    values = {order: [fluctuation(losses) for losses in seeds] for order, seeds in curves.items()}
    count = len(next(iter(values.values())))
    with mpl.rc_context(STYLE):
        figure, (ax, dots) = plt.subplots(1, 2, figsize=(10.5, 4.2), width_ratios=(1.7, 1))
        dots.plot(list(values.values()), color="#BBBBBB", linewidth=1.2, zorder=1)
        for i, ((order, seeds), colour) in enumerate(zip(curves.items(), (GREY, BLUE, ORANGE, GREEN))):
            losses = np.asarray(seeds)
            steps = every * np.arange(1, losses.shape[1] + 1)
            ax.plot(steps, losses.mean(0), color=colour, label=order)
            ax.fill_between(steps, losses.min(0), losses.max(0), color=colour, alpha=0.15, linewidth=0)
            dots.plot([i] * count, values[order], "o", color=colour, markersize=7)
        for k in range(1, rounds):
            ax.axvline(k * steps[-1] / rounds, color=GREY, linewidth=1.4, linestyle=":", zorder=0)
        ax.set(xlabel="step (dotted: the next round)", ylabel="test loss (nats)",
               title=f"mean and range of {count} seeds")
        ax.legend()
        dots.set_xticks(range(len(values)), [order.replace(" ", "\n", 1) for order in values])
        dots.set(xlim=(-0.4, len(values) - 0.6), ylim=(0, None), ylabel="fluctuation (nats per measurement)",
                 title="a line for each seed")
        dots.grid(axis="x", visible=False)
        told = "; ".join(f"{order}: {np.mean(each):.3f} nats per measurement, {min(each):.3f} to {max(each):.3f}"
                         for order, each in values.items())
        return finish(figure, f"Left, the test loss over {steps[-1]} steps in {rounds} rounds, a line for the mean and "
                      f"a band for the range of {count} seeds, for each order of freezing. Right, dots for the "
                      f"fluctuation in each seed: {told}.",
                      takeaway="The loss fluctuates by " + ", ".join(
                          f"{np.mean(each):.3f} nats ({order})" for order, each in values.items()))
