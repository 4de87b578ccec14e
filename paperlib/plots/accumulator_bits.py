"""How many bits the sums of products take, layer by layer (lesson 5)."""
from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from .style import BLUE, GREEN, GREY, ORANGE, STYLE, finish

# column of the table -> what it is called, colour, marker
BOUNDS = {"shape": ("any weights of this shape", GREY, "v"), "weights": ("these weights, any input", BLUE, "o"),
          "images": ("these weights, these images", ORANGE, "x")}
LIMIT = 16      # bits of the next smaller type


def bits(largest: pd.Series) -> pd.Series:
    """Count the bits of a signed integer that holds both signs of these magnitudes, whole numbers."""
    return largest.map(lambda n: int(n).bit_length() + 1)


def draw(table: pd.DataFrame) -> Figure:
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
                      f"products takes, with a line at {LIMIT} bits. {told}.")


def _above(table: pd.DataFrame, needed: pd.Series) -> str:
    kinds = table.kind[needed > LIMIT].value_counts()
    return f"above {LIMIT} in {', '.join(f'{n} {kind}' for kind, n in kinds.items()) or 'no'} layers"
