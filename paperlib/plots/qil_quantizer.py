"""QIL, Fig. 1 to 3: the quantized layer, the curves of its two quantizers, and a check of the printed derivatives."""
from __future__ import annotations

import math

import matplotlib as mpl
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from ..analysis import qil_equations
from .style import BLUE, GREY, ORANGE, STYLE

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


# -- Fig. 1 ---------------------------------------------------------------------------------------------------------
def qil_layer() -> Figure:
    """QIL, Fig. 1: a convolution whose weights and inputs are quantized; where values and gradients go."""
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
    return figure


def _edges(start: str, end: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where a straight arrow between two boxes leaves the first and reaches the second."""
    (x0, y0, w0, h0, *_), (x1, y1, w1, h1, *_) = BOXES[start], BOXES[end]
    if x0 == x1:
        up = math.copysign(0.5, y1 - y0)
        return (x0, y0 + up * h0), (x1, y1 - up * h1)
    height = y1 if h1 < h0 else y0      # that of the lower box
    return (x0 + w0 / 2, height), (x1 - w1 / 2, height)


def _arrow(ax: Axes, tail: tuple, head: tuple, left: float, colour: str, line) -> None:
    """An arrow, moved to its left by this much."""
    across, length = (tail[1] - head[1], head[0] - tail[0]), math.dist(tail, head)
    tail, head = (tuple(v + left * s / length for v, s in zip(point, across)) for point in (tail, head))
    ax.annotate("", head, tail, arrowprops={"arrowstyle": "-|>", "color": colour, "linestyle": line, "lw": 2,
                                            "shrinkA": 1, "shrinkB": 1, "mutation_scale": 16})


def qil_flow() -> pd.DataFrame:
    """The arrows of :func:`qil_layer`: columns values_from, values_to; gradients go the other way."""
    names = {name: text.replace("\n", " ").replace("$", "") for name, (*_, text, _) in BOXES.items()}
    return pd.DataFrame([(names[a], names[b]) for a, b in ARROWS], columns=["values_from", "values_to"])


def describe_qil_layer() -> str:
    """Alternative text for :func:`qil_layer`."""
    return ("A drawing of boxes and arrows. Solid arrows, forward: the activations X and the weights W of a layer each "
            "go through a quantizer of their own, which also has the centre c and the half width d of an interval as "
            "inputs; the two quantized tensors go into the convolution, and from there through further layers to the "
            "loss. Dashed arrows, the gradient of the loss, run back along every one of them. Coloured as trained are "
            "the weights and, for both quantizers, c and d.")


# -- Fig. 2 and 3 ---------------------------------------------------------------------------------------------------
def qil_curves(c: float, d: float, w_bits: int, a_bits: int, points: int = 1201) -> pd.DataFrame:
    """What Fig. 2 and 3 draw, for weights of ``w_bits`` and of 2, activations of ``a_bits`` and of 1.

    Columns role; bits; input; staircase (forward); mapping (forward, before the floor); surrogate (backward)."""
    reach, tables = 1.25 * (c + d), []
    for role, widths in (("weight", (w_bits, 2)), ("activation", (a_bits, 1))):
        x = torch.linspace(-reach if role == "weight" else 0.0, reach, points, dtype=torch.float64)
        tables += [pd.DataFrame({"role": role, "bits": bits, "input": x,
                                 "staircase": getattr(qil_equations, f"rounded_{role}s")(x, c, d, bits),
                                 "mapping": getattr(qil_equations, f"mapped_{role}s")(x, c, d, bits),
                                 "surrogate": qil_equations.SURROGATES[role](x, c, d, bits)})
                   for bits in dict.fromkeys(widths)]
    return pd.concat(tables, ignore_index=True)


def qil_weights(curves: pd.DataFrame, *, c: float, d: float, bits: int) -> Figure:
    """QIL, Fig. 2: (a) forward mapping and staircase; backward surrogate at ``bits`` (b) and at 2 bits (c).

    ``curves`` as :func:`qil_curves` gives them for the same c, d and bits."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplot_mosaic("aa;bc", figsize=(10.4, 7.6))
        for name, width, column, label in (("a", bits, "mapping", "$\\hat{w}_F$, before the floor"),
                                           ("b", bits, "surrogate", "$\\hat{w}$, backward"),
                                           ("c", 2, "surrogate", "$\\hat{w}$, backward")):
            ax, k = axes[name], qil_equations.weight_constants(c, d, width)
            _curve(ax, _rows(curves, "weight", width), column, label, "$\\bar{w}$, forward")
            _mark(ax, k, c, d, all_of_them=name == "a" and 1 < k.q <= 3)
            sizes = range(1, k.q + 1) if k.q <= 3 else (k.q,)
            levels = {sign * i * k.M / k.q: f"${'-' if sign < 0 else ''}{f'{i}/{k.q}' if i < k.q else ''}M$"
                      for i in sizes for sign in (-1, 1)}
            ax.set_yticks([0, *levels], ["0", *levels.values()])
            ax.set(title=f"({name}) {'forward' if name == 'a' else 'backward'}, {width} bits", xlabel="weight $w$",
                   ylabel="" if name == "c" else "quantized weight")
        _step(axes["a"], qil_equations.weight_constants(c, d, bits))
    return figure


def describe_qil_weights(*, c: float, d: float, bits: int) -> str:
    """Alternative text for :func:`qil_weights`, with the values that are marked."""
    k = qil_equations.weight_constants(c, d, bits)
    return (f"Three panels over the weight, each odd about 0, with c = {c:g} and d = {d:g}. (a) Forward at {bits} "
            f"bits: a staircase of {2 * k.q + 1} levels, 0 up to m = {k.m:.3f}, that reaches its last level, M, at "
            f"M = {k.M:.3f}; steps are {2 * d / k.q:.3f} wide. A dotted line jumps from 0 to the first level at m, "
            f"touches the left end of each level and stays at M. (b) Backward at {bits} bits: the dotted line is 0 up "
            f"to c - d = {c - d:.3f}, goes straight through the middles of the steps, and is flat from c + d = "
            f"{c + d:.3f}. (c) Backward at 2 bits: three levels that change at c alone, and a dotted line that rises "
            f"between c - d and c + d up to M = {c:g}.")


def qil_activations(curves: pd.DataFrame, *, c: float, d: float, bits: int) -> Figure:
    """QIL, Fig. 3: activations of ``bits`` (a) and of one bit (b), forward and backward.

    ``curves`` as :func:`qil_curves` gives them for the same c, d and bits."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(10.4, 4.2), sharey=True)
        for ax, width, letter in zip(axes, (bits, 1), "ab"):
            k = qil_equations.activation_constants(c, d, width)
            _curve(ax, _rows(curves, "activation", width), "surrogate", "$\\hat{x}$, backward", "$\\bar{x}$, forward")
            _mark(ax, k, c, d, all_of_them=1 < k.q <= 3)
            ax.set(title=f"({letter}) {width} bit{'s' * (width > 1)}", xlabel="activation $x$")
        q = qil_equations.steps("activation", bits)
        inner = {i / q: f"{i}/{q}" for i in range(1, q)} if q <= 3 else {}
        axes[0].set_yticks([0, *inner, 1], ["0", *inner.values(), "1"])
        axes[0].set_ylabel("quantized activation")
    return figure


def describe_qil_activations(*, c: float, d: float, bits: int) -> str:
    """Alternative text for :func:`qil_activations`, with the values that are marked."""
    k = qil_equations.activation_constants(c, d, bits)
    return (f"Two panels over the activation from 0, with c = {c:g} and d = {d:g}. (a) At {bits} "
            f"bit{'s' * (bits > 1)}: a staircase of {k.q + 1} levels from 0 to 1 that leaves 0 at m = {k.m:.3f} and "
            f"reaches 1 at M = {k.M:.3f}, and a dotted line, its backward substitute, that rises from 0 at c - d = "
            f"{c - d:.3f} to 1 at c + d = {c + d:.3f}. (b) At one bit: a single jump from 0 to 1 at c, with the same "
            "dotted line.")


# -- derivatives ----------------------------------------------------------------------------------------------------
def qil_gradients(weights: pd.DataFrame, activations: pd.DataFrame) -> Figure:
    """The two derivatives that are misprinted: as printed, as they are, and as differences of the surrogate.

    Tables as :func:`paperlib.analysis.qil_equations.gradient_check` gives them."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(10.4, 4.4))
        titles = "$\\partial\\hat{w}/\\partial c$, eq. 6 and 7", "$\\partial\\hat{x}/\\partial d$, eq. 13"
        for ax, rows, title, label in zip(axes, _misprinted(weights, activations), titles, ("weight", "activation")):
            ax.plot(rows.input, rows.right, color=BLUE, linewidth=3, label="analytic, mended")
            ax.plot(rows.input[::6], rows.numeric[::6], "o", color="black", markersize=4.5, label="numeric")
            ax.plot(rows.input, rows.printed, color=ORANGE, linestyle=(0, (4, 2)), label="as printed")
            ax.set(title=title, xlabel=label, ylabel="derivative")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def _misprinted(weights: pd.DataFrame, activations: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    return weights[weights.derivative == "c"], activations[activations.derivative == "d"]


def describe_qil_gradients(weights: pd.DataFrame, activations: pd.DataFrame) -> str:
    """Alternative text for :func:`qil_gradients`, with how far the printed lines are off."""
    said = []
    for rows in _misprinted(weights, activations):
        off = (rows.printed - rows.numeric).abs()
        said.append(f"the dots of the numeric derivative lie on the solid line of the mended formula, at most "
                    f"{(rows.right - rows.numeric).abs().max():.6f} off; the dashed line of the printed one is up to "
                    f"{off.max():.2f} away from them, at {rows.input[off.idxmax()]:.2f}")
    return f"Two panels. Left, w-hat by c over the weight: {said[0]}. Right, x-hat by d over the activation: {said[1]}."


# -- parts ----------------------------------------------------------------------------------------------------------
def _rows(curves: pd.DataFrame, role: str, bits: int) -> pd.DataFrame:
    return curves[(curves.role == role) & (curves.bits == bits)]


def _curve(ax: Axes, rows: pd.DataFrame, line: str, name: str, staircase: str) -> None:
    ax.plot(rows.input, rows.staircase, color=ORANGE, label=staircase)
    ax.plot(rows.input, rows[line], color=BLUE, linestyle=(0, (1, 1)), linewidth=2.6, label=name)
    ax.legend(loc="upper left")


def _mark(ax: Axes, k: qil_equations.Constants, c: float, d: float, all_of_them: bool) -> None:
    """The ends of the interval and its centre on the input axis; m and M too where there is room."""
    marks = {c - d: "$c-d$", c: "$c$", c + d: "$c+d$"} | ({k.m: "$m$", k.M: "$M$"} if all_of_them else {})
    ax.set_xticks(list(marks), list(marks.values()))


def _step(ax: Axes, k: qil_equations.Constants) -> None:
    """The width of a step, between the first two thresholds, if it can be seen."""
    if 1 < k.q <= 7:
        end, height = k.m + (k.M - k.m) / (k.q - 1), -0.35 * k.M
        ax.annotate("", (end, height), (k.m, height), arrowprops={"arrowstyle": "<->", "lw": 1.6})
        ax.text((k.m + end) / 2, height - 0.08 * k.M, "$s = 2d/q$", ha="center", va="top")
