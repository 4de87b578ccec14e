"""PROFIT, supplement Fig. 2: loss curves of PACT and DuQ."""
from __future__ import annotations

import math

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..analysis.loss_curves import end_values
from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, SPLITS, STYLE, finish


def draw(history: pd.DataFrame, *, bits: int, footnote: str) -> Figure:
    """Draw PROFIT's supplement Fig. 2: training and validation loss by epoch, a panel for each stage.

    ``history``: :func:`paperlib.analysis.loss_curves.histories`, with phases "activations" and "weights" and the splits
    "train" and "val".  Lines are means over seeds, bands their range.
    """
    curves = _losses(history)
    with mpl.rc_context(STYLE):
        figure = _panels(curves.assign(split=curves.split.map(SPLITS)), bits, 5.6, "cross-entropy loss", style="split",
                         style_order=SPLITS.values(), markers=["o", "s"], palette=[ORANGE, BLUE])
        ends = "; ".join(f"{row['phase']}, {row['method']}: training {row['train loss']:.2f}, validation "
                         f"{row['val loss']:.2f}" for _, row in end_values(history).iterrows())
        return finish(figure, "Two panels of loss curves of PACT and DuQ by epoch, on the left while activations are "
                      f"trained at {bits} bits, on the right while weights are as well. They end at {ends}.", footnote,
                      _ends(end_values(history)))


def _ends(ends: pd.DataFrame) -> str:
    """Say in a sentence where the validation loss of both methods ends in the last stage; "" if one is missing."""
    last = _last(ends)
    if len(last) < 2:
        return ""
    low, high = last.iloc[0], last.iloc[-1]
    losses = f"{low['val loss']:.3f} and {high['val loss']:.3f}"
    return f"{low.method} ends with a lower validation loss than {high.method}, {losses}"


def draw_extension(history: pd.DataFrame, *, bits: int, classes: int, footnote: str) -> Figure:
    """Draw beyond the paper's figure: validation loss by epoch of up to four methods, a panel for each stage.

    ``history`` as for :func:`draw`, in the order PACT, DuQ, LSQ, QIL; ``classes``: their number, for a line at
    the loss of guessing where the curves come so high.
    """
    curves, methods = _losses(history).query("split == 'val'"), list(dict.fromkeys(history.method))
    guess, n = math.log(classes), len(methods)
    with mpl.rc_context(STYLE):
        figure = _panels(curves, bits, 5, "validation loss", style="method", hue_order=methods, style_order=methods,
                         markers=["o", "s", "^", "D"][:n], dashes=False, palette=[ORANGE, BLUE, GREEN, PURPLE][:n])
        for ax in figure.axes:
            ax.autoscale(False)
            ax.axhline(guess, color=GREY, linewidth=1.4, linestyle=":", zorder=0)
            ax.annotate("guessing", (0.5, guess), xycoords=("axes fraction", "data"), xytext=(0, -3), color=GREY,
                        textcoords="offset points", ha="center", va="top", annotation_clip=True)
        last = end_values(history)
        told = last["val loss"].map(": {:.2f}".format).where(last["val loss"].notna(), "")
        return finish(figure, "Two panels of validation loss by epoch, a line for each method, on the left while "
                      f"activations are trained at {bits} bits, on the right while weights are as well. They end at "
                      f"{'; '.join(last.phase + ', ' + last.method + told)}, and guessing gives {guess:.2f}.", footnote,
                      _order(last))


def _order(ends: pd.DataFrame) -> str:
    """Say in a sentence in which order the methods end in the last stage, by validation loss; "" if fewer than two
    do."""
    last = _last(ends)
    if len(last) < 2:
        return ""
    return "The validation losses end at " + ", ".join(f"{row.method} {row['val loss']:.3f}"
                                                       for _, row in last.iterrows())


def _last(ends: pd.DataFrame) -> pd.DataFrame:
    """Pick the last stage, the lowest validation loss first."""
    return ends[ends.phase == ends.phase.iloc[-1]].dropna(subset="val loss").sort_values("val loss")


def _losses(history: pd.DataFrame) -> pd.DataFrame:
    """Pick training and validation losses after each epoch."""
    return history[(history.metric == "loss") & (history.epoch > 0) & history.split.isin(SPLITS)]


def _panels(curves: pd.DataFrame, bits: int, height: float, loss: str, **look) -> Figure:
    """Draw curves by method, left of the activations' stage, right of the weights', under a legend for both."""
    figure, axes = plt.subplots(1, 2, figsize=(11, height))
    for ax, phase, title in zip(axes, ("activations", "weights"), ("activations", "then weights")):
        sns.lineplot(curves[curves.phase == phase], x="epoch", y="value", hue="method", markersize=7,
                     errorbar=("pi", 100), ax=ax, **look)
        ax.set(title=f"{title} to {bits} bits", yscale="log", xlabel="epoch of the stage",
               ylabel=f"{loss} (nats, log axis)")
        ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
        ax.yaxis.set_major_locator(mpl.ticker.MaxNLocator(8))
        ax.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%.2f"))
        ax.yaxis.set_minor_locator(mpl.ticker.NullLocator())
        entries = {text: line for line, text in zip(*ax.get_legend_handles_labels()) if text not in ("method", "split")}
        ax.get_legend().remove()
    figure.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=4, handlelength=2.6)
    return figure
