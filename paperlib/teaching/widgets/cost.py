"""Bits for each kind of layer, and what they cost: bit operations and bytes of weights."""
from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from IPython.display import Image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import nn

from ... import models
from ...models.cost import table
from ...models.scheme import FLOAT, Scheme
from .panel import KIND_COLORS, KINDS, ON_PAGES, move

BITS = {f"{w} / {a}" if w < FLOAT else "float": (w, a)
        for w, a in ((FLOAT, FLOAT), (8, 8), (4, 8), (5, 5), (4, 4), (3, 3), (2, 4), (2, 2))}   # of weights, of inputs


def cost(net: nn.Module, input_size: int | tuple[int, int, int] = 32) -> Image:
    """Show what a network costs; a page lets one choose the bits (weights / inputs) of each kind of layer.

    Left the bit operations for one image, right the bytes of the weights, both as
    :func:`paperlib.models.cost.table` counts them and split by kind: in float, with 8 bits everywhere, and with the
    bits chosen.  ``net``: float or quantized, its own bits don't matter; ``input_size`` as for ``cost.table``, whose
    InputErrors this has too.
    """
    layers = counted(net, input_size)
    kinds = [kind for kind in KINDS if kind in set(layers.kind)]
    fixed = {"float": by_kind(layers, {}), "8 bits": by_kind(layers, dict.fromkeys(kinds, (8, 8)))}

    def draw(figure: Figure, **words: str) -> str:
        costs = {**fixed, "chosen": by_kind(layers, {kind: BITS[bits] for kind, bits in words.items()})}
        for left, column, title, unit, name in (
                (0.075, "bops", "bit operations, one image", 1e6, "10⁶ bit operations"),
                (0.565, "bytes", "weights", 1e3, "kilobytes")):
            ax = figure.add_axes((left, 0.18, 0.40, 0.57))
            _draw_bars(ax, {label: rows[column] / unit for label, rows in costs.items()})
            ax.set(title=title, xlabel=name)
        handles = [Patch(color=KIND_COLORS[kind], label=f"{kind} {bits}") for kind, bits in words.items()]
        figure.text(0.005, 0.937, "bits of weights / inputs:", va="center", fontsize=11)
        figure.legend(handles=handles, loc="center left", bbox_to_anchor=(0.19, 0.94), ncols=len(handles), fontsize=11,
                      handlelength=1, columnspacing=1.0, handletextpad=0.4)
        return _describe(costs, words)

    def state(others: str, **special: str) -> dict[str, str]:
        return {kind: special.get(kind, others) for kind in kinds}

    states = [state("4 / 4", first="4 / 8", se="4 / 8"), state("2 / 2", first="8 / 8", linear="8 / 8"),
              state("8 / 8", expand="4 / 4", project="4 / 4", conv="4 / 4")]     # the first one is the paper's
    sums = layers.groupby("kind")[["macs", "weights", "sums"]].sum().loc[kinds]
    rows = [{"kind": row.Index, "color": ON_PAGES[row.Index], "start": states[0][row.Index], "macs": row.macs,
             "weights": row.weights, "sums": row.sums} for row in sums.itertuples()]
    return move(draw, states, (10.4, 3.3), "cost", {"kinds": rows, "bits": list(BITS.items())})


def counted(net: nn.Module, input_size: int | tuple[int, int, int]) -> pd.DataFrame:
    """Return a row for each convolution and fully connected layer: layer, kind, macs, weights, and ``sums``, the bit
    operations that do not depend on its bits."""
    found = table(models.quantize(net, Scheme(w_bits=FLOAT, a_bits=FLOAT)), input_size)
    found = found[found.kind.isin(KINDS)]
    return pd.DataFrame({"layer": found.layer, "kind": found.kind, "macs": found.macs,
                         "weights": found.weight_bytes * 8 / FLOAT,
                         "sums": found.bops - found.macs * (FLOAT * FLOAT + FLOAT + FLOAT)})


def by_kind(layers: pd.DataFrame, bits: Mapping[str, tuple[int, int]]) -> pd.DataFrame:
    """Return bit operations and bytes by kind, in the order of KINDS; kinds that ``bits`` lacks are float."""
    w, a = ([bits.get(kind, (FLOAT, FLOAT))[i] for kind in layers.kind] for i in (0, 1))
    rows = layers.assign(w=w, a=a)
    rows["bops"] = rows.macs * (rows.a * rows.w + rows.a + rows.w) + rows.sums
    rows["bytes"] = rows.weights * rows.w / 8
    return rows.groupby("kind")[["bops", "bytes"]].sum().reindex([k for k in KINDS if k in set(layers.kind)])


def _draw_bars(ax: Axes, costs: Mapping[str, pd.Series]) -> None:
    """Stack {float, 8 bits, chosen: a number for each kind}; a bar is cut off where it would dwarf the others."""
    sums = {label: values.sum() for label, values in costs.items()}
    longest = 1.85 * max(sums["8 bits"], sums["chosen"])
    for y, (label, values) in enumerate(costs.items()):
        ends = values.cumsum()
        ax.broken_barh(list(zip(ends - values, values)), (y - 0.31, 0.62),
                       facecolors=[KIND_COLORS[kind] for kind in values.index], edgecolor="white", linewidth=0.6)
        text = _number(sums[label]) + ("" if label == "8 bits" else f" = {sums[label] / sums['8 bits']:.3g} × 8 bits")
        if sums[label] > longest:
            ax.text(0.985, y, f"{text} →", ha="right", va="center", transform=ax.get_yaxis_transform(),
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 2})
        else:
            ax.text(sums[label] + 0.012 * longest, y, text, va="center",
                    bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1})
    ax.set(xlim=(0, longest), ylim=(2.5, -0.5), yticks=range(3), yticklabels=list(costs))
    ax.grid(axis="y", visible=False)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


def _describe(costs: Mapping[str, pd.DataFrame], words: Mapping[str, str]) -> str:
    totals = "; ".join(f"{label} {_number(rows.bops.sum() / 1e6)} million bit operations and "
                       f"{_number(rows.bytes.sum() / 1e3)} kilobytes" for label, rows in costs.items())
    shares = costs["chosen"] / costs["chosen"].sum()
    most, largest = shares.bops.idxmax(), shares.bytes.idxmax()
    asked = ", ".join(f"{kind} {bits}" for kind, bits in words.items())
    return (f"Stacked bars by kind of layer, with bits of weights and inputs {asked}: {totals}. Of the chosen bits "
            f"{shares.bops[most]:.0%} of the operations are in layers of kind {most} and "
            f"{shares.bytes[largest]:.0%} of the bytes in {largest}.")
