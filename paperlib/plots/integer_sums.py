"""Sums of products of codes: one of them in full, and how many bits they take, layer by layer (lesson 5)."""
from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from .style import BLUE, GREEN, GREY, ORANGE, STYLE, finish

# column of the table -> what it is called, colour, marker
BOUNDS = {"shape": ("any weights of this shape", GREY, "v"), "weights": ("these weights, any input", BLUE, "o"),
          "images": ("these weights, these images", ORANGE, "x")}
LIMIT = 16      # bits of the next smaller type


def bits(largest: pd.Series) -> pd.Series:
    """Count the bits of a signed integer that holds both signs of these magnitudes, whole numbers."""
    return largest.map(lambda n: int(n).bit_length() + 1)


def draw_pixel(codes: Tensor, weight: Tensor, title: str) -> Figure:
    """Draw a window of input codes, the codes of the weight and their products, three tables of whole numbers (rows,
    columns), with their sum."""
    products = codes * weight
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.4))
        for ax, table, name, after in zip(axes, (codes, weight, products), ("input codes", "weight codes", "products"),
                                          ("×", "=", "")):
            _draw_table(ax, table, name)
            ax.text(1.16, 0.5, after, transform=ax.transAxes, fontsize=20, ha="center", va="center")
        axes[-1].set_xlabel(f"sum: {products.sum()}", fontsize=14, fontweight="bold")
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
        return finish(figure, f"Three tables of whole numbers: a window of input codes {codes.tolist()}, the codes of "
                      f"the weight {weight.tolist()}, and their products, which add up to {products.sum()}.")


def _draw_table(ax: Axes, table: Tensor, name: str) -> None:
    """Write whole numbers into squares, the darker the larger: blue above 0, orange below."""
    size = max(table.abs().max().item(), 1)
    for (row, column), value in np.ndenumerate(table.numpy()):
        colour = BLUE if value > 0 else ORANGE
        ax.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, alpha=0.55 * abs(value) / size, linewidth=0))
        ax.text(column + 0.5, row + 0.5, str(value), ha="center", va="center", fontsize=14)
    rows, columns = table.shape
    ax.set(xlim=(0, columns), ylim=(rows, 0), aspect="equal", xticks=range(columns + 1), yticks=range(rows + 1),
           xticklabels=[], yticklabels=[], xlabel=name)
    ax.spines[:].set_visible(True)
    ax.tick_params(length=0)
    ax.grid(color=GREY, linewidth=0.8)


def draw_bits(table: pd.DataFrame) -> Figure:
    """Draw a column of three markers for each layer, by kind: the bits that its sums may take by what is known.

    ``table``: columns layer, kind, and shape, weights and images with the largest magnitude of a sum under each
    knowledge.
    """
    kinds = list(dict.fromkeys(table.kind))
    table = table.sort_values("kind", key=lambda column: column.map(kinds.index), kind="stable", ignore_index=True)
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(11, 4.4))
        for column, (label, colour, marker) in BOUNDS.items():
            axes.plot(table.index, bits(table[column]), marker, color=colour, markersize=6, label=label)
        for kind, places in table.groupby("kind").groups.items():
            if places[0]:
                axes.axvline(places[0] - 0.5, color=GREY, linewidth=0.8)
            axes.text(places.to_numpy().mean(), 0, kind, ha="center", va="top", transform=axes.get_xaxis_transform())
        axes.axhline(LIMIT, color=GREEN, linewidth=1.6)
        axes.annotate("int16", (4, LIMIT), (0, 4), textcoords="offset points", color=GREEN)
        axes.set(ylabel="bits with the sign", xlim=(-1.5, len(table) + 0.5), xticks=[], yticks=range(4, 25, 4))
        axes.set_xlabel("layers, by kind", labelpad=18)
        figure.legend(loc="outside upper center", ncols=3)
        found = {label: bits(table[column]) for column, (label, *_) in BOUNDS.items()}
        told = "; ".join(f"{label}: {b.min()} to {b.max()} bits, {_above(table, b)}" for label, b in found.items())
        return finish(figure, f"Three markers for each of {len(table)} layers, by kind: the bits that a sum of "
                      f"products takes, with a line at {LIMIT} bits. {told}.",
                      takeaway=f"Of {len(table)} layers, more than {LIMIT} bits are needed in " + "; ".join(
                          f"{(needed > LIMIT).sum()} for {label}" for label, needed in found.items()))


def _above(table: pd.DataFrame, needed: pd.Series) -> str:
    kinds = table.kind[needed > LIMIT].value_counts()
    return f"above {LIMIT} in {', '.join(f'{n} {kind}' for kind, n in kinds.items()) or 'no'} layers"
