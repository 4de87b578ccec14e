"""PROFIT's freezing on a run's own AIWQ: which layers stop training, and what instability is left."""
from __future__ import annotations

import functools
import math

import numpy as np
import pandas as pd
from IPython.display import Image
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from ...errors import InputError
from ...plots.style import BLUE
from ...runs import Run
from ...training.freezing import choose
from ...training.phases import ORDERS, Freeze
from .panel import DECIMALS, KIND_COLORS, ON_PAGES, move


def freezing(run: Run) -> Image:
    """Show which layers are frozen; a page lets one choose how many, and in which order; ``run`` has measured the AIWQ.

    Left, a bar for each layer, coloured by kind, hollow where the weight is frozen.  Right, over the number of frozen
    layers: the sum of AIWQ over the layers that still train, and their share of the weights.  PROFIT freezes none,
    a third and two thirds of the layers in its three rounds, largest AIWQ first (order aiwq); the other orders are
    as in :class:`paperlib.training.phases.Freeze`, random with the run's seed.  InputError if the run has no AIWQ.
    """
    layers = measured(run)
    count, names = len(layers), list(layers.layer)

    @functools.cache
    def frozen(order: str) -> tuple[list[pd.Series], pd.DataFrame]:
        """For each number of frozen layers, which they are, and what share of AIWQ and weights remains."""
        freezes = [Freeze(n / count, order, measured_in="sampling") for n in range(count + 1)]
        which = [layers.layer.isin(choose(freeze, names, layers, run.recipe.seed)) for freeze in freezes]
        left = pd.DataFrame([layers.loc[~now, ["aiwq", "weights"]].sum() for now in which])
        return which, left / left.iloc[0]

    def draw(figure: Figure, frozen_layers: int, order: str) -> str:
        which, remains = frozen(order)
        table = layers.assign(frozen=which[frozen_layers])
        _draw_layers(figure, table, f"{frozen_layers} of {count} layers frozen, order {order}")
        _draw_remains(figure, remains, frozen_layers)
        return _describe(table, remains.iloc[frozen_layers], order)

    states = [{"frozen_layers": round(share * count), "order": order}
              for share, order in ((1 / 3, "aiwq"), (2 / 3, "aiwq"), (1 / 3, "reverse"))]
    return move(draw, states, (10.4, 3.6), "freezing", {
        "layers": layers.astype({"aiwq": object}).where(layers.notna(), None).to_dict("records"),
        "orders": {order: ranks(frozen(order)[0]) for order in ORDERS},
        "colors": [[kind, color] for kind, color in ON_PAGES.items() if kind in set(layers.kind)]})


def ranks(frozen: list[pd.Series]) -> list[int]:
    """Return for each layer from which number of frozen layers on it is one of them; ``frozen``: which they are, for
    0 to all layers."""
    return (len(frozen) - sum(which.astype(int) for which in frozen)).tolist()


def measured(run: Run) -> pd.DataFrame:
    """Return a row for each layer, in the network's order: layer, kind, aiwq (nats) and weights (how many)."""
    table = run.instability
    if table.empty:
        raise InputError("this run has measured no AIWQ: take one of the recipe profit, say "
                         "experiments.integers('recorded')['mobilenet_v3_large'][0]")
    table = table[table.phase == table.phase.iloc[-1]]
    sizes = {row.layer: math.prod(map(int, row.weight_shape.split("x"))) for row in run.layers.itertuples()}
    return table[["layer", "kind", "aiwq"]].assign(weights=table.layer.map(sizes)).reset_index(drop=True)


def _draw_layers(figure: Figure, layers: pd.DataFrame, title: str) -> None:
    ax = figure.add_axes((0.095, 0.16, 0.545, 0.66))
    ax.set_yscale("log")
    known = layers.aiwq[layers.aiwq > 0]
    bottom = 10.0 ** np.floor(np.log10(known.min()))
    colors = [KIND_COLORS[kind] for kind in layers.kind]
    fills = ["white" if frozen else color for frozen, color in zip(layers.frozen, colors)]
    bars = [[(x - 0.4, bottom), (x - 0.4, top), (x + 0.4, top), (x + 0.4, bottom)]
            for x, top in enumerate(layers.aiwq.fillna(bottom).clip(bottom))]
    ax.add_collection(PolyCollection(bars, facecolors=fills, edgecolors=colors, linewidths=1.1))
    handles = [Patch(color=color, label=kind) for kind, color in KIND_COLORS.items() if kind in set(layers.kind)]
    handles.append(Patch(facecolor="white", edgecolor="black", label="frozen"))
    ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=len(handles), fontsize=10.5,
              handlelength=1, columnspacing=0.9, handletextpad=0.4, borderaxespad=0.1)
    ax.set(xlabel="layer, in the network's order", ylabel="AIWQ (nats, log axis)", xlim=(-1, len(layers)),
           ylim=(bottom, 2 * known.max()))
    ax.yaxis.set(minor_locator=NullLocator(), major_formatter=DECIMALS)
    ax.grid(axis="x", visible=False)
    ax.text(0, 1.17, title, transform=ax.transAxes, fontsize=13, fontweight="bold")


def _draw_remains(figure: Figure, remains: pd.DataFrame, count: int) -> None:
    ax = figure.add_axes((0.725, 0.16, 0.255, 0.66))
    for column, color, style, name, height in (("aiwq", "black", "-", "of the AIWQ", 1.13),
                                               ("weights", BLUE, "--", "of the weights", 1.03)):
        left = 100 * remains[column]
        ax.plot(left.to_numpy(), style, color=color)
        ax.plot([count], [left[count]], "o", color=color, markersize=8, clip_on=False)
        ax.text(0, height, f"{left[count]:.1f} % {name}", color=color, fontweight="bold", transform=ax.transAxes)
    ax.set(xlabel="frozen layers", ylabel="still training (%)", xlim=(0, len(remains) - 1), ylim=(0, 100))


def _describe(layers: pd.DataFrame, remains: pd.Series, order: str) -> str:
    frozen, trains = layers[layers.frozen], layers[~layers.frozen]
    counts = frozen.kind.value_counts()
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in KIND_COLORS if kind in counts) or "none"
    return (f"Bars with the AIWQ of {len(layers)} layers on a log axis, coloured by kind, hollow where frozen: in the "
            f"order {order} {len(frozen)} layers are frozen ({kinds}). What still trains holds {remains.aiwq:.1%} of "
            f"the sum of AIWQ and {remains.weights:.1%} of the weights"
            + ("" if trains.empty else f"; its largest AIWQ is {trains.aiwq.max():.2g}")
            + ". Beside it both shares over the number of frozen layers, falling to 0.")
