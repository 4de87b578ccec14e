"""One weight whose optimum lies between two levels: its quantized value jumps to and fro, at any learning rate."""
from __future__ import annotations

import pandas as pd
from IPython.display import Image
from matplotlib.figure import Figure

from ...analysis.one_weight import descend
from ...plots.style import BLUE, GREY, ORANGE
from .panel import move

LAST = 60       # updates that the numbers are about


def oscillation() -> Image:
    """Show a weight that learns through rounding (:func:`paperlib.analysis.one_weight.descend`); a page lets one choose
    its optimum, between two levels, and the learning rate.

    Lines over the updates, in steps: the weight, the quantized weight, and the optimum.  The fixed panel has two rates:
    with a tenth of the rate the weight moves a tenth as far, and its quantized value jumps as often.
    """
    def draw(figure: Figure, optimum: float, rate: float) -> str:
        path = descend(optimum, rate)
        told = in_numbers(path)
        ax = figure.add_axes((0.075, 0.17, 0.72, 0.70))
        ax.plot(path.quantized, color=ORANGE, linewidth=1.6, drawstyle="steps-post")
        ax.plot(path.weight, color=BLUE, linewidth=2.2)
        ax.axhline(optimum, color=GREY, linestyle=":", linewidth=1.4)
        for height, text, color in ((path.weight.iloc[-1], "the weight", BLUE), (1.0, "its quantized value", ORANGE),
                                    (optimum, "the optimum", GREY)):
            ax.annotate(text, (1.01, height), xycoords=("axes fraction", "data"), color=color, va="center")
        ax.set(title=f"learning rate {rate:g}: {told['jumps']} jumps in the last {LAST} updates", xlabel="update",
               ylabel="in steps", ylim=(-0.1, 1.12), xlim=(0, len(path) - 1))
        return (f"Three lines over {len(path) - 1} updates: a weight near the threshold at 0.5, its quantized value, "
                f"which jumps between 0 and 1, and the optimum at {optimum:g}. At a learning rate of {rate:g} it jumps "
                f"{told['jumps']} times in the last {LAST} updates, with a mean of {told['mean']:.2f}, and the weight "
                f"moves by {told['swing']:.3f} steps.")

    return move(draw, [{"optimum": 0.3, "rate": 0.05}, {"optimum": 0.3, "rate": 0.005}], (10.4, 2.8), "oscillation", {})


def in_numbers(path: pd.DataFrame) -> dict[str, float]:
    """Return, for the last updates of a :func:`paperlib.analysis.one_weight.descend`, how often the quantized value
    jumps, its mean, and how far the weight swings."""
    last = path.iloc[-LAST:]
    return {"jumps": int(last.quantized.diff().abs().sum()), "mean": last.quantized.mean(),
            "swing": last.weight.max() - last.weight.min()}
