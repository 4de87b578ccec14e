"""QIL, Tables 1 and 2: accuracy on CIFAR-10 by bit-width, with and without distillation, and beside other methods."""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ..claims import published
from ..claims.experiments import DISTILLATION, QIL_BITS
from ..runs import Run
from ..runs.outcomes import FAILED
from .missing import number, result, unless_missing
from .style import BLUE, GREEN, GREY, ORANGE, STYLE

FLOAT, LONGER = "float network", "float network trained as long"
MARKS = {0.0: ("o", BLUE), 0.5: ("s", ORANGE), 1.0: ("^", GREEN)}       # by lambda
LINES = {FLOAT: ":", LONGER: "--"}
# Table 2 from top to bottom: method, bits of weights, of activations; the paper has no DoReFa, we have no WAGE
ROWS = [("QIL", 2, 32), ("TTQ", 2, 32), ("TWN", 2, 32), ("BC", 1, 32), ("BWN", 1, 32), ("DoReFa", 1, 32),
        ("QIL", 2, 8), ("WAGE", 2, 8), ("QIL", 2, 4), ("QIL", 2, 2), ("QIL", 2, 1), ("XNOR", 1, 1)]


def qil_accuracies(found: Mapping[tuple, Sequence[Run]]) -> pd.DataFrame:
    """Validation accuracy (%) at the end of the runs of :func:`paperlib.claims.experiments.qil_table1` and
    :func:`paperlib.claims.experiments.qil_table2`, together or alone, and of the float networks that they began with.

    Columns method ("QIL", "TTQ", ..., FLOAT or LONGER), bits ("A1W2": of activations and weights), w_bits, a_bits,
    distillation (lambda), seed, accuracy, averaged (with averaged weights), epochs (trained until then),
    outcome (Run.outcome; "" for the float network at the beginning of any run that is there).
    """
    rows = []
    for key, runs in found.items():
        method, w, a = key if isinstance(key[0], str) else ("QIL", *key[:2])
        for run in runs:
            phases = run.recipe.phases
            share = phases[-1].teacher_weight if phases[-1].teacher else 0.0
            for name, width, lam, until in ((FLOAT, (32, 32), 0.0, 1),
                                            (LONGER if method == "float" else method, (w, a), share, len(phases))):
                if name == FLOAT and run.recipe.model != "vgg7":
                    continue                                # XNOR's, with Hardtanh
                end = phases[until - 1]
                rows.append((name, _bits(*width), *width, lam, run.recipe.seed,
                             *(run.values(end.name, split, "accuracy").iloc[-1] for split in ("val", "val_ema")),
                             sum(p.epochs for p in phases[:until]),
                             run.outcome if until > 1 or run.absent else ""))
    table = pd.DataFrame(rows, columns=["method", "bits", "w_bits", "a_bits", "distillation", "seed", "accuracy",
                                        "averaged", "epochs", "outcome"])
    table = table.iloc[table.accuracy.isna().argsort(kind="stable")]      # what is there comes first
    return table.drop_duplicates(["method", "bits", "distillation", "seed"], ignore_index=True)


def paper_accuracies() -> pd.DataFrame:
    """What the paper prints in both tables, as :func:`qil_accuracies` has ours: method, bits, w_bits, a_bits,
    distillation, accuracy."""
    rows = pd.concat([published.table(paper_id=published.QIL, table=t, metric="top1") for t in ("Table 1", "Table 2")])
    share = rows.method.str.extract(r"lambda=(\S+)")[0].astype(float).fillna(0.0)
    method = [FLOAT if m.startswith("full precision") else re.split("[- ]", m)[0] for m in rows.method]
    table = pd.DataFrame({"method": method, "bits": [_bits(w, a) for w, a in zip(rows.w_bits, rows.a_bits)],
                          "w_bits": rows.w_bits.astype(int), "a_bits": rows.a_bits.astype(int), "distillation": share,
                          "accuracy": rows.value})
    return table.drop_duplicates(ignore_index=True)


def _bits(w: int, a: int) -> str:
    return f"A{a}W{w}"


WIDTHS = [_bits(w, a) for w, a in QIL_BITS]


def qil_by_bits(table: pd.DataFrame) -> pd.DataFrame:
    """Table 1 as text, rows lambda, columns bit-widths and float: mean ± s.d. (n) of ours, the number alone of the
    paper's."""
    cells = _cells(table[table.method == "QIL"], ["distillation", "bits"]).unstack()
    cells = cells.reindex(columns=WIDTHS).dropna(axis="columns", how="all").fillna("")
    for name, cell in _cells(table[table.method.isin(LINES)], ["method"]).items():
        cells[name] = cell                                  # one number for all rows, as in the paper
    return cells.set_axis([f"λ = {share:g}" for share in cells.index]).rename_axis(columns=None)


def qil_losses(table: pd.DataFrame) -> pd.DataFrame:
    """By how many points Table 1's networks that did not fail are below float ones of the same seed: columns against
    (FLOAT or LONGER), distillation, bits, seed, loss."""
    rows = table[(table.method == "QIL") & table.bits.isin(WIDTHS) & (table.outcome == "")]
    parts = []
    for name in LINES:
        reference = table[table.method == name].set_index("seed").accuracy
        loss = rows.seed.map(reference) - rows.accuracy
        parts.append(rows[["distillation", "bits", "seed"]].assign(against=name, loss=loss))
    return pd.concat(parts, ignore_index=True).dropna()[["against", "distillation", "bits", "seed", "loss"]]


def near_guessing(table: pd.DataFrame) -> list[str]:
    """What ends below 20 %, twice the accuracy of guessing among ten classes, in the mean over seeds."""
    means = table.groupby(["method", "bits", "distillation"], sort=False).accuracy.mean()
    return [f"{method} {bits}" + (f" with λ = {share:g}" if method == "QIL" else "")
            for method, bits, share in means.index[means < 20]]


def qil_by_method(table: pd.DataFrame) -> pd.DataFrame:
    """Table 2 as text: method, bits of weights and of activations, accuracy (%), and where ours have them epochs."""
    rows = _table2(table)
    order = [(name, 32, 32) for name in (FLOAT, LONGER)] + ROWS
    key, grouped = ["method", "w_bits", "a_bits"], rows.groupby(["method", "w_bits", "a_bits"])
    shown = pd.DataFrame({"accuracy (%)": _cells(rows, key),
                          **({"epochs": grouped.epochs.first()} if "epochs" in rows else {})})
    shown = shown.loc[[row for row in order if row in shown.index]].reset_index()
    return shown.rename(columns={"w_bits": "bits of weights", "a_bits": "bits of activations"}).set_index("method")


def _cells(rows: pd.DataFrame, by: list[str]) -> pd.Series:
    columns = [column for column in ("accuracy", "outcome") if column in rows]
    return rows.groupby(by)[columns].apply(result if "outcome" in rows else lambda r: f"{r.accuracy.iloc[0]:.2f}")


def _table2(table: pd.DataFrame) -> pd.DataFrame:
    """Of QIL only ternary weights with lambda 0.5."""
    return table[(table.method != "QIL") | (table.w_bits == 2) & (table.distillation == 0.5)]


@unless_missing("accuracy")
def qil_table1(ours: pd.DataFrame, *, footnote: str) -> Figure:
    """QIL, Table 1 as a picture: accuracy by bit-width for each lambda, ours on the left, the paper's on the right, on
    a scale of its own.  Crosses are failed trainings, no results.  Large marks are means over seeds, small ones single
    seeds; lines are float networks."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(11, 5.4))
        for ax, table in zip(axes, (ours, paper_accuracies())):
            for share, shift in zip(DISTILLATION, (-0.22, 0, 0.22)):
                marker, color = MARKS[share]
                rows = table[(table.method == "QIL") & (table.distillation == share) & table.bits.isin(WIDTHS)]
                rows = rows.assign(x=rows.bits.map(WIDTHS.index) + shift)
                rows = _without_failed(ax, rows, "x", "accuracy")
                means = rows.groupby("x").accuracy.mean()
                ax.plot(means.index, means, marker, color=color, markersize=9, markeredgecolor="w", linestyle="-",
                        linewidth=1, label=f"λ = {share:g}")
                if "seed" in rows.columns:
                    ax.plot(rows.x, rows.accuracy, marker, color=color, markersize=3.5, alpha=0.6)
            ax.set_xticks(range(len(WIDTHS)), WIDTHS)
            ax.set(title=_title(table), xlabel="bits of activations (A) and weights (W)",
                   xlim=(-0.5, len(WIDTHS) - 0.5))
            ax.grid(axis="x", visible=False)
            ax.margins(y=0.12)
            _levels(ax.axhline, table)
        axes[0].set_ylabel("validation accuracy (%)")
        axes[1].set_ylabel("test accuracy (%), another scale")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, fontsize=11)
        figure.supxlabel(footnote, fontsize=10, color=GREY)
    return figure


@unless_missing("accuracy")
def qil_table2(ours: pd.DataFrame, *, footnote: str) -> Figure:
    """QIL, Table 2 as a picture: ternary weights of QIL and other methods, rows as in the table; ours on the left, the
    paper's on the right, on a scale of its own.  Points are seeds, bars their mean; crosses are failed trainings."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(11, 5.8), sharey=True)
        for ax, table in zip(axes, (_table2(ours), _table2(paper_accuracies()))):
            _levels(ax.axvline, table)
            ends, words = {}, {}
            for y, row in enumerate(ROWS):
                rows = table[[key == row for key in zip(table.method, table.w_bits, table.a_bits)]]
                values = _without_failed(ax, rows.assign(y=y), "accuracy", "y").accuracy.dropna()
                if "outcome" in rows and (rows.outcome != "").any():
                    words[y] = rows.outcome.max()
                if values.empty:
                    continue
                marker, color = ("o", BLUE) if row[0] == "QIL" else ("D", ORANGE)
                ax.plot([values.mean()] * 2, [y - 0.3, y + 0.3], color=color, linewidth=3)
                ax.plot(values, [y] * len(values), marker, color=color, markersize=6, markeredgecolor="w")
                ends[y] = (values.max(), f"{values.mean():.1f}" if "seed" in table.columns else f"{values.mean():.2f}")
            ax.margins(x=0.05)
            low, high = ax.get_xlim()
            ax.set_xlim(low, high + 0.16 * (high - low))        # room for the numbers
            for y, (x, text) in ends.items():
                ax.annotate(text, (x, y), (9, 0), textcoords="offset points", va="center", fontsize=11,
                            path_effects=[withStroke(linewidth=4, foreground="w")])
            for y in set(range(len(ROWS))) - set(ends):
                ax.text(0.02, y, words.get(y, "no number"), color=GREY, fontsize=11, va="center",
                        transform=ax.get_yaxis_transform())
            for y in (5.5, 7.5):                                # the table's groups, by bits of activations
                ax.axhline(y, color=GREY, linewidth=0.8)
            ax.set(title=_title(table), ylim=(len(ROWS) - 0.4, -0.6))
            ax.grid(axis="y", visible=False)
        axes[0].set_xlabel("validation accuracy (%)")
        axes[1].set_xlabel("test accuracy (%), another scale")
        axes[0].set_yticks(range(len(ROWS)), [f"{method}  {_bits(w, a)}" for method, w, a in ROWS])
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=11)
        figure.supxlabel(footnote, fontsize=10, color=GREY)
    return figure


def _without_failed(ax: mpl.axes.Axes, rows: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """The rows that are no failed trainings; draws a cross for each that is."""
    if "outcome" not in rows:
        return rows
    failed = rows[rows.outcome == FAILED]
    if len(failed):
        ax.plot(failed[x], failed[y], "x", color=GREY, markersize=8, markeredgewidth=2)
    return rows[rows.outcome != FAILED]


def _title(table: pd.DataFrame) -> str:
    if "epochs" not in table.columns:
        return "the paper: full width, all images, 200 epochs"
    first, whole = table[table.method == FLOAT].epochs.max(), table.epochs.max()
    return f"ours: {whole - first} epochs after {first} in float"


def _levels(draw, table: pd.DataFrame) -> None:
    """A line for each float network, across the whole panel."""
    for name, style in LINES.items():
        if (rows := table[table.method == name]).accuracy.notna().any():
            draw(rows.accuracy.mean(), color=GREY, linestyle=style, linewidth=1.6, zorder=0, label=name)


@unless_missing("accuracy")
def describe_qil_table1(ours: pd.DataFrame) -> str:
    """Alternative text for :func:`qil_table1`, with the means that it shows."""
    def part(table):
        cells = dict(list(table[table.method == "QIL"].groupby(["distillation", "bits"])))
        return "; ".join([f"lambda {share:g}: " + ", ".join(f"{b} {number(cells[share, b])}" for b in WIDTHS
                                                            if (share, b) in cells)
                          for share in DISTILLATION] + _floats(table))

    return ("Two panels with accuracy in percent by bit-width of activations and weights, a kind of mark for each "
            f"lambda and horizontal lines for float networks. Ours, means over seeds: {part(ours)}. The paper, on "
            f"another scale: {part(paper_accuracies())}.")


@unless_missing("accuracy")
def describe_qil_table2(ours: pd.DataFrame) -> str:
    """Alternative text for :func:`qil_table2`, with the means that it shows."""
    def part(table):
        table = _table2(table)
        cells = dict(list(table.groupby(["method", "w_bits", "a_bits"])))
        return ", ".join([f"{row[0]} {_bits(*row[1:])} {number(cells[row])}" for row in ROWS if row in cells] +
                         _floats(table))

    return ("Two panels with a row for each method and bit-width of Table 2, its accuracy in percent as a point for "
            "each seed and a bar for the mean, and vertical lines for float networks. Ours, means over seeds: "
            f"{part(ours)}. The paper, on another scale: {part(paper_accuracies())}.")


def _floats(table: pd.DataFrame) -> list[str]:
    return [f"{name} {number(rows)}" for name in LINES if (rows := table[table.method == name]).size]
