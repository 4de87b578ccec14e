"""QIL, Fig. 2 and 3: the curves of its two quantizers, and a check of the printed derivatives."""
from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..analysis import qil_equations
from .style import BLUE, ORANGE, STYLE, finish


# -- Fig. 2 and 3 ---------------------------------------------------------------------------------------------------
def draw_weights(curves: pd.DataFrame, *, c: float, d: float, bits: int) -> Figure:
    """Draw QIL's Fig. 2: (a) forward mapping and staircase; backward surrogate at ``bits`` (b) and at 2 bits (c).

    ``curves``: :func:`paperlib.analysis.qil_equations.curves` for the same c, d and bits.
    """
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
        k = qil_equations.weight_constants(c, d, bits)
        _step(axes["a"], k)
        return finish(figure, f"Three panels over the weight, each odd about 0, with c = {c:g} and d = {d:g}: a "
                      f"staircase of {2 * k.q + 1} levels at {bits} bits with its forward mapping (a) and its "
                      "backward substitute (b), and one of three levels at 2 bits with its substitute (c). The "
                      f"staircase is 0 up to m = {k.m:.3f} and reaches its last level at M = {k.M:.3f}; the "
                      f"substitute rises from c - d = {c - d:.3f} to c + d = {c + d:.3f} and is flat beyond.",
                      takeaway=f"Weights below m = {k.m:.2f} become 0, weights above M = {k.M:.2f} become M: "
                               f"{2 * k.q + 1} levels")


def draw_activations(curves: pd.DataFrame, *, c: float, d: float, bits: int) -> Figure:
    """Draw QIL's Fig. 3: activations of ``bits`` (a) and of one bit (b), forward and backward.

    ``curves``: :func:`paperlib.analysis.qil_equations.curves` for the same c, d and bits.
    """
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
        k = qil_equations.activation_constants(c, d, bits)
        return finish(figure, f"Two panels over the activation from 0, with c = {c:g} and d = {d:g}: staircases from "
                      f"0 to 1 of {k.q + 1} levels at {bits} bit{'s' * (bits > 1)} (a) and of 2 at one bit (b), each "
                      f"with its backward substitute as a dotted line. (a) leaves 0 at m = {k.m:.3f} and reaches 1 at "
                      f"M = {k.M:.3f}, (b) jumps at c, and both substitutes rise from c - d = {c - d:.3f} to c + d = "
                      f"{c + d:.3f}.",
                      takeaway=f"Activations below m = {k.m:.2f} become 0, activations above M = {k.M:.2f} become 1: "
                               f"{k.q + 1} levels")


# -- derivatives ----------------------------------------------------------------------------------------------------
def draw_gradients(weights: pd.DataFrame, activations: pd.DataFrame) -> Figure:
    """Draw the two derivatives that are misprinted: as printed, as they are, and as differences of the surrogate.

    Tables: :func:`paperlib.analysis.qil_equations.gradient_check` of both roles.
    """
    misprinted = weights[weights.derivative == "c"], activations[activations.derivative == "d"]
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(10.4, 4.4))
        titles = "$\\partial\\hat{w}/\\partial c$, eq. 6 and 7", "$\\partial\\hat{x}/\\partial d$, eq. 13"
        for ax, rows, title, label in zip(axes, misprinted, titles, ("weight", "activation")):
            ax.plot(rows.input, rows.right, color=BLUE, linewidth=3, label="analytic, mended")
            ax.plot(rows.input[::6], rows.numeric[::6], "o", color="black", markersize=4.5, label="numeric")
            ax.plot(rows.input, rows.printed, color=ORANGE, linestyle=(0, (4, 2)), label="as printed")
            ax.set(title=title, xlabel=label, ylabel="derivative")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
        mended, printed = (" and ".join(f"{(rows[form] - rows.numeric).abs().max():.{digits}}" for rows in misprinted)
                           for form, digits in (("right", "0e"), ("printed", "2f")))
        return finish(figure, "Two panels, w-hat by c over the weight and x-hat by d over the activation: dots of the "
                      "numeric derivative, a solid line of the mended formula and a dashed one of the printed "
                      f"formula. The dots are at most {mended} off the solid line, and up to {printed} off the dashed "
                      "one.",
                      takeaway=f"The printed derivatives are off by up to {printed}, the mended by {mended} at most")


# -- parts ----------------------------------------------------------------------------------------------------------
def _rows(curves: pd.DataFrame, role: str, bits: int) -> pd.DataFrame:
    return curves[(curves.role == role) & (curves.bits == bits)]


def _curve(ax: Axes, rows: pd.DataFrame, line: str, name: str, staircase: str) -> None:
    ax.plot(rows.input, rows.staircase, color=ORANGE, label=staircase)
    ax.plot(rows.input, rows[line], color=BLUE, linestyle=(0, (1, 1)), linewidth=2.6, label=name)
    ax.legend(loc="upper left")


def _mark(ax: Axes, k: qil_equations.Constants, c: float, d: float, all_of_them: bool) -> None:
    """Mark the ends of the interval and its centre on the input axis; m and M too where there is room."""
    marks = {c - d: "$c-d$", c: "$c$", c + d: "$c+d$"} | ({k.m: "$m$", k.M: "$M$"} if all_of_them else {})
    ax.set_xticks(list(marks), list(marks.values()))


def _step(ax: Axes, k: qil_equations.Constants) -> None:
    """Mark the width of a step, between the first two thresholds, if it can be seen."""
    if 1 < k.q <= 7:
        end, height = k.m + (k.M - k.m) / (k.q - 1), -0.35 * k.M
        ax.annotate("", (end, height), (k.m, height), arrowprops={"arrowstyle": "<->", "lw": 1.6})
        ax.text((k.m + end) / 2, height - 0.08 * k.M, "$s = 2d/q$", ha="center", va="top")
