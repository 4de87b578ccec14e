"""QIL, Fig. 1: the quantized layer, where values and gradients go."""
from __future__ import annotations

import math

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from .style import BLUE, GREY, ORANGE, STYLE, finish

DATA, TRAINED, WORK = "#EAF3FA", "#FBE3D6", "#F2F2F2"
DASHES = (0, (3, 2))
# Fig. 1: name: (x and y of the centre, width, height, text, fill)
BOXES = {
    "X": (1.1, 4.1, 1.7, 1.0, "$X_l$\nactivations", DATA), "W": (1.1, 1.5, 1.7, 1.0, "$W_l$\nweights", TRAINED),
    "qX": (4.0, 4.1, 1.9, 1.0, "quantizer\n$N_X$ bits", WORK), "cX": (4.0, 5.85, 1.9, 0.8, "$c_X$, $d_X$", TRAINED),
    "qW": (4.0, 1.5, 1.9, 1.0, "quantizer\n$N_W$ bits", WORK), "cW": (4.0, -0.25, 1.9, 0.8, "$c_W$, $d_W$", TRAINED),
    "X_": (6.8, 4.1, 1.7, 1.0, "$\\bar{X}_l$\nfew levels", DATA),
    "W_": (6.8, 1.5, 1.7, 1.0, "$\\bar{W}_l$\nfew levels", DATA),
    "conv": (9.6, 2.8, 1.9, 3.6, "convolution", WORK), "loss": (12.7, 2.8, 1.3, 1.0, "loss $L$", WORK)}
ARROWS = (("X", "qX"), ("cX", "qX"), ("W", "qW"), ("cW", "qW"), ("qX", "X_"), ("qW", "W_"), ("X_", "conv"),
          ("W_", "conv"), ("conv", "loss"))
GRADIENTS = {(5.15, 5.85): "$\\partial L/\\partial c_X,\\ \\partial L/\\partial d_X$", (0.25, 0.65):
             "$\\partial L/\\partial W_l$", (5.15, -0.25): "$\\partial L/\\partial c_W,\\ \\partial L/\\partial d_W$"}


def draw() -> Figure:
    """Draw QIL's Fig. 1: a convolution whose weights and inputs are quantized; where values and gradients go."""
    with mpl.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(10.4, 5.6))
        ax.set(xlim=(0, 13.5), ylim=(-1.6, 6.4))
        ax.set_axis_off()
        for x, y, width, height, text, fill in BOXES.values():
            ax.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, facecolor=fill, linewidth=1.4,
                                        edgecolor="black", boxstyle="round,pad=0,rounding_size=0.12"))
            ax.text(x, y, text, ha="center", va="center", fontsize=14)
        for start, end in ARROWS:
            tail, head = _edges(start, end)
            _arrow(ax, tail, head, 0.15, BLUE, "-")
            _arrow(ax, head, tail, 0.15, ORANGE, DASHES)
        for (x, y), text in GRADIENTS.items():
            ax.text(x, y, text, color=ORANGE, fontsize=15, va="center")
        ax.text(11.3, 2.35, "further\nlayers", fontsize=12, color=GREY, ha="center", va="top")
        lines = [plt.Line2D([], [], color=BLUE), plt.Line2D([], [], color=ORANGE, linestyle=DASHES),
                 plt.Rectangle((0, 0), 1, 1, facecolor=TRAINED, edgecolor="black")]
        ax.legend(lines, ["values, forward", "gradient of the loss, backward", "is trained"], loc="lower center",
                  ncols=3, bbox_to_anchor=(0.5, -0.02), fontsize=13)
        return finish(figure, "A drawing of boxes and arrows, where solid arrows are values: the activations X and "
                      "the weights W of a layer each go through a quantizer of their own, with the centre c and the "
                      "half width d of an interval, and then into the convolution and on to the loss. Dashed arrows, "
                      "the gradient of the loss, run back along every one of them; coloured as trained are the "
                      "weights and, for both quantizers, c and d.",
                      takeaway="One loss trains the weights and the intervals of both quantizers")


def _edges(start: str, end: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Find where a straight arrow between two boxes leaves the first and reaches the second."""
    (x0, y0, w0, h0, *_), (x1, y1, w1, h1, *_) = BOXES[start], BOXES[end]
    if x0 == x1:
        up = math.copysign(0.5, y1 - y0)
        return (x0, y0 + up * h0), (x1, y1 - up * h1)
    height = y1 if h1 < h0 else y0      # that of the lower box
    return (x0 + w0 / 2, height), (x1 - w1 / 2, height)


def _arrow(ax: Axes, tail: tuple, head: tuple, left: float, colour: str, line) -> None:
    """Draw an arrow, moved to its left by this much."""
    across, length = (tail[1] - head[1], head[0] - tail[0]), math.dist(tail, head)
    tail, head = (tuple(v + left * s / length for v, s in zip(point, across)) for point in (tail, head))
    ax.annotate("", head, tail, arrowprops={"arrowstyle": "-|>", "color": colour, "linestyle": line, "lw": 2,
                                            "shrinkA": 1, "shrinkB": 1, "mutation_scale": 16})


def flow() -> pd.DataFrame:
    """Tabulate the arrows of :func:`draw`: columns values_from, values_to; gradients go the other way."""
    names = {name: text.replace("\n", " ").replace("$", "") for name, (*_, text, _) in BOXES.items()}
    return pd.DataFrame([(names[a], names[b]) for a, b in ARROWS], columns=["values_from", "values_to"])
