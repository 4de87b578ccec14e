"""The glossary's pictures, each drawn by the library that the words are about, and those that move without a kernel."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import torch
from gallery import image
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch.nn.functional import hardswish

from paperlib import plots, quantizers, recipes
from paperlib.analysis.one_weight import one_weight as one_weight_table
from paperlib.analysis.one_weight import staircases
from paperlib.plots.style import BLUE, GREEN, GREY, ORANGE, STYLE
from paperlib.teaching import moving
from paperlib.teaching.widgets.interval import draw as draw_interval

NAMES: dict[str, Callable[[], tuple[Figure, str]]] = {}
WIDE = (8.4, 3.4)


def picture(draw: Callable[[], tuple[Figure, str]]) -> Callable:
    """Register a function that returns a figure and its alternative text."""
    NAMES[draw.__name__.replace("_", " ")] = draw
    return draw


def figure(source: Path, name: str) -> str:
    """Draw a picture into ``source`` and return the Markdown that shows it."""
    folder, file = source / "pictures", f"{name.replace(' ', '_')}.png"
    folder.mkdir(exist_ok=True)
    with mpl.rc_context(STYLE):
        drawn, alt = NAMES[name]()
        drawn.savefig(folder / file, dpi=STYLE["savefig.dpi"])
    plt.close(drawn)
    return image(f"pictures/{file}", alt)


def live(source: Path, name: str) -> str:
    """Write a live picture as Markdown: the fixed picture of the same name, and the module that takes its place."""
    html = moving.html(name.replace(" ", "_"))
    return f"{figure(source, name)}\n\n````{{raw}} html\n{html}\n````"


def outputs(cell: dict) -> list[dict]:
    """Return the outputs of a notebook's cell with a module after each picture that names one in its metadata."""
    shown = []
    for output in cell.get("outputs", []):
        shown.append(output)
        if html := moving.noted(output.get("metadata", {})):
            shown.append({"output_type": "display_data", "data": {"text/html": html}, "metadata": {}})
    return shown


@picture
def one_weight() -> tuple[Figure, str]:
    stairs, jumps = staircases((8, 4, 2)), one_weight_table((8, 4, 2))
    drawn = plots.aiwq.draw_one_weight(stairs, jumps)
    return drawn, drawn.alt


@picture
def interval() -> tuple[Figure, str]:
    drawn = Figure(figsize=(10.4, 3.9), layout="none")
    return drawn, draw_interval(drawn, c=0.6, d=0.35, bits=3)


@picture
def clipping() -> tuple[Figure, str]:
    q = quantizers.build("pact", role="activation", bits=2).calibrate(torch.linspace(0, 2, 201), "max")
    x = torch.linspace(-0.5, 3, 1401)
    y, top = q(x).detach(), q.levels().max().item()
    drawn, ax = plt.subplots(figsize=WIDE)
    ax.plot(x, x, color=GREY, linestyle=":")
    ax.plot(x, y, color=BLUE)
    inside = (x >= 0) & (x <= top)
    ax.fill_between(x, x, y, where=inside, color=BLUE, alpha=0.2, linewidth=0)
    ax.fill_between(x, x, y, where=x >= top, color=ORANGE, alpha=0.3, linewidth=0)
    ax.text(0.28, 0.95, "rounding error", color=BLUE, ha="right")
    ax.text(2.95, 2.15, "clipping error", color=ORANGE, ha="right")
    ax.axvline(top, ymax=0.7, color=GREY, linewidth=1.2, linestyle="--")
    ax.text(top - 0.05, 0.1, f"the range ends at {top:g}", ha="right")
    ax.set(xlabel="input", ylabel="quantized", ylim=(-0.5, 3))
    return drawn, (f"A staircase of {len(q.levels())} levels from 0 to {top:g} along a dotted diagonal. Between 0 and "
                   f"{top:g} small triangles between staircase and diagonal are the rounding error; beyond {top:g} the "
                   "staircase stays level, and the growing wedge up to the diagonal is the clipping error.")


@picture
def straight_through() -> tuple[Figure, str]:
    q = quantizers.build("duq", role="weight", bits=3).calibrate(torch.ones(1), fraction=1.0)
    x = torch.linspace(-1.5, 1.5, 1201).requires_grad_()
    y = q(x)
    y.sum().backward()
    drawn, (left, right) = plt.subplots(1, 2, figsize=WIDE)
    left.plot(x.detach(), y.detach(), color=BLUE)
    left.plot(x.detach(), x.detach().clamp(-1, 1), color=ORANGE, linestyle=(0, (3, 2)))
    left.set(title="values", xlabel="weight", ylabel="quantized weight")
    right.plot(x.detach(), x.grad, color=ORANGE, linestyle=(0, (3, 2)))
    right.axhline(0, color=BLUE)
    right.set(title="slopes", xlabel="weight", ylabel="derivative", ylim=(-0.2, 1.4))
    right.text(0, 1.08, "the stand-in's: used in training", color=ORANGE, ha="center")
    right.text(0, 0.07, "the staircase's: 0", color=BLUE, ha="center")
    return drawn, (f"Left, a staircase of {len(q.levels())} levels from -1 to 1 and, dashed, the line through it that "
                   "is flat beyond -1 and 1. Right, their slopes: that of the staircase is 0 wherever it exists, that "
                   "of the dashed line is 1 between -1 and 1 and 0 outside.")


@picture
def h_swish() -> tuple[Figure, str]:
    x = torch.linspace(-4.5, 3, 601)
    y = hardswish(x)
    q = quantizers.build("duq", role="activation", bits=3, floor=-0.375).calibrate(y, "max")
    levels = q.levels().tolist()
    drawn, ax = plt.subplots(figsize=WIDE)
    for level in levels:
        ax.axhline(level, color=ORANGE, linewidth=1.2)
    ax.plot(x, y, color=BLUE)
    ax.grid(False)
    ax.annotate("the floor, -3/8 at x = -1.5", (-1.5, -0.375), (-2.2, 0.72), color=BLUE, ha="center",
                arrowprops={"arrowstyle": "->", "color": BLUE})
    ax.text(-4.4, levels[-1] + 0.08, f"{len(levels)} levels of DuQ, the lowest at -3/8", color=ORANGE)
    ax.set(xlabel="x", ylabel="h-swish(x)", ylim=(-0.6, 3.5))
    nearest = min(abs(level) for level in levels)
    return drawn, (f"h-swish from -4.5 to 3: 0 up to -3, a dip to -3/8 at -1.5, then it rises towards the diagonal. "
                   f"Horizontal lines mark {len(levels)} evenly spaced levels from {levels[0]:g} to {levels[-1]:.2f}; "
                   f"the lowest touches the dip, and the one nearest to 0 is {nearest:.2f} away from it.")


@picture
def depthwise() -> tuple[Figure, str]:
    channels = 5
    drawn, axes = plt.subplots(1, 2, figsize=(8.4, 2.9))
    for ax, dense, title in ((axes[0], True, "dense: every input channel"), (axes[1], False, "depthwise: its own")):
        for out in range(channels):
            for into in range(channels) if dense else (out,):
                ax.plot([into, out], [0, 1], color=ORANGE if out == 2 else GREY, linewidth=2 if out == 2 else 0.8,
                        zorder=2 if out == 2 else 1)
        for y, colour in ((0, BLUE), (1, GREEN)):
            ax.scatter(range(channels), [y] * channels, s=170, color=colour, zorder=3)
        ax.set(title=title, xlim=(-1.7, channels - 0.5), ylim=(-0.25, 1.25))
        ax.text(-0.45, 0, "input", color=BLUE, ha="right", va="center")
        ax.text(-0.45, 1, "output", color=GREEN, ha="right", va="center")
        ax.set_axis_off()
    return drawn, (f"Two nets of lines between {channels} input and {channels} output channels. Left, dense: each "
                   "output channel is joined to all input channels. Right, depthwise: each output channel is joined to "
                   "the one input channel below it.")


@picture
def zero_point() -> tuple[Figure, str]:
    q = quantizers.build("lsq+", role="activation", bits=3, signed=True).calibrate(torch.linspace(-1, 2.5, 99), "max")
    levels = q.levels().tolist()
    step = levels[1] - levels[0]
    drawn, ax = plt.subplots(figsize=(8.4, 2.4))
    ax.axhline(0, color=GREY, linewidth=1.2)
    for code, level in enumerate(levels):
        ax.plot(level, 0, "o", color=BLUE, markersize=11)
        ax.text(level, 0.45, f"{level:.2g}", color=BLUE, ha="center")
        ax.text(level, -0.75, str(code), color=ORANGE, ha="center")
    ax.text(levels[0] - 0.35, 0.45, "real", color=BLUE, ha="right")
    ax.text(levels[0] - 0.35, -0.75, "code", color=ORANGE, ha="right")
    ax.annotate("", (levels[1], 1.15), (levels[0], 1.15), arrowprops={"arrowstyle": "<->", "color": GREY})
    ax.text((levels[0] + levels[1]) / 2, 1.3, f"scale {step:.2g}", color=GREY, ha="center")
    ax.plot(0, 0, "|", color="black", markersize=26, markeredgewidth=2)
    ax.text(0, -1.5, f"zero point {-levels[0] / step:.2g}", ha="center")
    ax.set(ylim=(-1.8, 1.8), xlim=(levels[0] - 0.9, levels[-1] + 0.3))
    ax.set_axis_off()
    return drawn, (f"A number line with {len(levels)} evenly spaced levels from {levels[0]:.2g} to {levels[-1]:.2g}, "
                   f"and below them their codes 0 to {len(levels) - 1}. The distance of two levels is the scale, "
                   f"{step:.2g}; the real 0 stands above code {-levels[0] / step:.2g}, the zero point.")


@picture
def progressive() -> tuple[Figure, str]:
    phases = [p for p in recipes.profit("mobilenet_v2", profile="imagenet").phases if p.scheme and p.epochs]
    top, ends = 12, [0]       # what float is drawn as; where each phase ends
    for phase in phases:
        ends.append(ends[-1] + phase.epochs)
    drawn, ax = plt.subplots(figsize=(8.4, 3.2))
    for what, colour, line in (("activations", ORANGE, "-"), ("weights", BLUE, (0, (4, 1.5)))):
        bits = [min(getattr(p.scheme, f"{what[0]}_bits"), top) for p in phases]
        ax.stairs(bits, ends, baseline=None, color=colour, linestyle=line, linewidth=2.6)
    ax.text(ends[-1] * 0.35, 4.25, "activations", color=ORANGE)
    ax.text(ends[-1] * 0.25, top - 1, "weights", color=BLUE)
    for phase, start, end in zip(phases, ends, ends[1:]):
        if phase.name.startswith("round"):
            ax.axvspan(start, end, color=GREEN, alpha=0.1 + 0.5 * (phase.freeze.share if phase.freeze else 0), lw=0)
            ax.text((start + end) / 2, 8.2, phase.name.replace(" ", "\n"), ha="center")
    ax.set(xlabel="epoch of quantized training", ylabel="bits", yticks=[4, 5, 8, top],
           yticklabels=["4", "5", "8", "float"], ylim=(3, top + 1), xlim=(0, ends[-1]))
    rounds = sum(p.name.startswith("round") for p in phases)
    return drawn, (f"Bits over {ends[-1]} epochs of PROFIT's recipe at ImageNet scale. Activations step down from "
                   "float to 8, 5 and 4 bits; only then weights do the same. "
                   f"The last {rounds} stretches at 4 bits are shaded, darker each time: the rounds of freezing.")


LIVE = [name for name in NAMES if name.replace(" ", "_") in moving.NAMES]
