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
    curves = _curves(history)
    curves = curves.assign(split=curves.split.map(SPLITS))
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(11, 5.6))
        for ax, (phase, title) in zip(axes, _titles(bits).items()):
            sns.lineplot(curves[curves.phase == phase], x="epoch", y="value", hue="method", style="split", ax=ax,
                         style_order=SPLITS.values(), markers=["o", "s"], markersize=7, palette=[ORANGE, BLUE],
                         errorbar=("pi", 100))
            _scales(ax, title, "cross-entropy loss (nats, log axis)")
            handles, labels = ax.get_legend_handles_labels()
            ax.get_legend().remove()
        entries = [(h, text) for h, text in zip(handles, labels) if text not in ("method", "split")]
        figure.legend(*zip(*entries), loc="outside upper center", ncols=4, handlelength=2.6)
        ends = "; ".join(f"{row['phase']}, {row['method']}: training {row['train loss']:.2f}, validation "
                         f"{row['val loss']:.2f}" for _, row in end_values(history).iterrows())
        return finish(figure, "Two panels of loss curves of PACT and DuQ by epoch, on the left while activations are "
                      f"trained at {bits} bits, on the right while weights are as well. They end at {ends}.", footnote)


def draw_extension(history: pd.DataFrame, *, bits: int, classes: int, footnote: str) -> Figure:
    """Draw beyond the paper's figure: validation loss by epoch of up to four methods, a panel for each stage.

    ``history`` as for :func:`draw`, in the order PACT, DuQ, LSQ, QIL; ``classes``: their number, for a line at
    the loss of guessing where the curves reach so far.  Lines are means over seeds, bands their range.
    """
    curves = _curves(history)
    curves, methods = curves[curves.split == "val"], list(dict.fromkeys(curves.method))
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(11, 5))
        for ax, (phase, title) in zip(axes, _titles(bits).items()):
            sns.lineplot(curves[curves.phase == phase], x="epoch", y="value", hue="method", style="method", ax=ax,
                         hue_order=methods, style_order=methods, markers=["o", "s", "^", "D"][:len(methods)],
                         dashes=False, markersize=7, palette=[ORANGE, BLUE, GREEN, PURPLE][:len(methods)],
                         errorbar=("pi", 100))
            _scales(ax, title, "validation loss (nats, log axis)")
            handles, labels = ax.get_legend_handles_labels()
            ax.get_legend().remove()
            ax.autoscale(False)
            ax.axhline(math.log(classes), color=GREY, linewidth=1.4, linestyle=":", zorder=0)
            ax.annotate("guessing", (0.5, math.log(classes)), xycoords=("axes fraction", "data"), xytext=(0, -3),
                        textcoords="offset points", color=GREY, ha="center", va="top", annotation_clip=True)
        figure.legend(handles, labels, loc="outside upper center", ncols=4, handlelength=2.6)
        last = end_values(history)
        told = last["val loss"].map(": {:.2f}".format).where(last["val loss"].notna(), "")
        return finish(figure, "Two panels of validation loss by epoch, a line for each method, on the left while "
                      f"activations are trained at {bits} bits, on the right while weights are as well. They end at "
                      f"{'; '.join(last.phase + ', ' + last.method + told)}, and guessing gives "
                      f"{math.log(classes):.2f}.", footnote)


def _curves(history: pd.DataFrame) -> pd.DataFrame:
    """Training and validation losses after each epoch."""
    return history[(history.metric == "loss") & (history.epoch > 0) & history.split.isin(SPLITS)]


def _titles(bits: int) -> dict[str, str]:
    return {"activations": f"activations to {bits} bits", "weights": f"then weights to {bits} bits"}


def _scales(ax: mpl.axes.Axes, title: str, ylabel: str) -> None:
    ax.set(title=title, yscale="log", xlabel="epoch of the stage", ylabel=ylabel)
    ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    ax.yaxis.set_major_locator(mpl.ticker.MaxNLocator(8))
    ax.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%.2f"))
    ax.yaxis.set_minor_locator(mpl.ticker.NullLocator())
