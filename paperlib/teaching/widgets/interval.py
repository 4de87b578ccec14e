"""QIL's interval: what its centre c, its half width d and the bits do to the quantizers of weights and activations."""
from __future__ import annotations

import math

import torch
from IPython.display import Image
from matplotlib.figure import Figure

from ...analysis.qil_equations import SURROGATES, rounded_activations, rounded_weights, weight_constants
from ...plots.style import BLUE, ORANGE
from .panel import explore

SPREAD = 0.35       # s.d. of the normal weights whose pruned and clipped shares are named
REACH = 1.5         # of the inputs that are drawn
STATES = [{"c": 0.5, "d": 0.5, "bits": 3}, {"c": 0.5, "d": 0.2, "bits": 3}, {"c": 0.7, "d": 0.1, "bits": 2}]


def interval() -> Image:
    """Show both quantizers of QIL side by side; the knobs are c, d and the bits."""
    return explore(draw, STATES, c=(0.1, 0.9, 0.05), d=(0.1, 0.6, 0.05), bits=(2, 8, 1))


def draw(figure: Figure, c: float, d: float, bits: int) -> str:
    """Draw the staircases of weights and activations and their surrogates into an empty figure; returns it in words."""
    k, (pruned, clipped) = weight_constants(c, d, bits), shares(c, d, bits)
    x = torch.linspace(-REACH, REACH, 601, dtype=torch.float64)
    title = f"c = {c:.2f}, d = {d:.2f}, {bits} bits: {pruned:.0%} pruned, {clipped:.0%} clipped"
    left, right = figure.add_axes((0.07, 0.16, 0.52, 0.72)), figure.add_axes((0.67, 0.16, 0.31, 0.72))
    for ax, role, x, rounded in ((left, "weight", x, rounded_weights), (right, "activation", x[x >= 0],
                                                                       rounded_activations)):
        for side in (1, -1) if role == "weight" else (1,):
            ax.axvspan(side * max(c - d, 0), side * (c + d), color="#EEEEEE", zorder=0)
        ax.plot(x, rounded(x, c, d, bits), color=ORANGE, label="forward")
        ax.plot(x, SURROGATES[role](x, c, d, bits), color=BLUE, linestyle=(0, (1, 1)), linewidth=2.6, label="backward")
        ax.set(xlabel=role, xlim=(float(x[0]), REACH))
        ax.locator_params(nbins=5, steps=[1, 2, 5, 10])
    left.set(title=title, ylim=(-REACH, REACH))
    left.legend(loc="lower right")
    right.set(title="activations", ylim=(-0.05, 1.05))
    return (f"Two staircases for c = {c:.2f}, d = {d:.2f} and {bits} bits, with dotted lines for their backward "
            f"substitutes and the interval from {max(c - d, 0):.2f} to {c + d:.2f} shaded. Weights: 0 below "
            f"{max(k.m, 0):.2f}, then {k.q} level{'s' * (k.q > 1)} up to {k.M:.2f}, and the same on the negative side; "
            f"of normal weights with s.d. {SPREAD} {pruned:.0%} are pruned and {clipped:.0%} clipped. Activations: "
            f"{2**bits} levels from 0 to 1.")


def shares(c: float, d: float, bits: int) -> tuple[float, float]:
    """Return which share of normal weights becomes 0, and which lies beyond M and is cut off."""
    k = weight_constants(c, d, bits)
    pruned, kept = (math.erf(max(size, 0.0) / SPREAD / math.sqrt(2)) for size in (k.m, k.M))
    return pruned, 1 - kept
