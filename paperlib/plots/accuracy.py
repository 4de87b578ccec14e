"""PROFIT, Table 1: accuracy by bit-width."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ..analysis.bit_operations import NAMES
from ..claims import published
from ..runs import Run
from ..runs.seeds import on_shared_seeds
from .style import BLUE, GREEN, GREY, ORANGE, STYLE, mean_and_spread

FULL, TAUGHT = "Full", "Full+"
COLORS = {"MobileNet-v1": BLUE, "MobileNet-v2": ORANGE, "MobileNet-v3-Large": GREEN}
MARKERS = {"MobileNet-v1": "o", "MobileNet-v2": "s", "MobileNet-v3-Large": "^"}


def by_network(found: Mapping[tuple[str, int], Sequence[Run]]) -> dict[tuple[str, int], list[Run]]:
    """The runs of :func:`paperlib.claims.experiments.accuracy`, of each network those seeds that all of its bit-widths have."""
    return {cell: runs for model in dict.fromkeys(model for model, _ in found) for cell, runs in
            on_shared_seeds({cell: runs for cell, runs in found.items() if cell[0] == model}).items()}


def accuracies(found: Mapping[tuple[str, int], Sequence[Run]]) -> pd.DataFrame:
    """Validation accuracy (%) of the runs of :func:`paperlib.claims.experiments.accuracy`.

    One row for each network, seed and column of the table: "Full" after the phase "float", "Full+" after
    "fine-tuning", and "8 bits" and so on after the last phase.  Columns network, precision, seed, accuracy, averaged
    (with averaged weights), epochs (trained until then).  Seeds as in :func:`by_network`.
    """
    rows = []
    for (model, bits), runs in by_network(found).items():
        for run in runs:
            for precision, phase in ((FULL, "float"), (TAUGHT, "fine-tuning"), (_bits(bits), None)):
                names = [p.name for p in run.recipe.phases]
                end = names.index(phase) if phase else len(names) - 1
                value, averaged = (_last(run, names[end], split) for split in ("val", "val_ema"))
                rows.append((NAMES[model], precision, run.recipe.seed, value, averaged,
                             sum(p.epochs for p in run.recipe.phases[:end + 1])))
    table = pd.DataFrame(rows, columns=["network", "precision", "seed", "accuracy", "averaged", "epochs"])
    return table.drop_duplicates(["network", "precision", "seed"], ignore_index=True)   # all share the float phases


def _last(run: Run, phase: str, split: str) -> float:
    """Accuracy (%) after a phase; NaN if it was not evaluated, such as the averaged weights of a pretrained network."""
    h = run.history
    rows = h[(h.phase == phase) & (h.split == split) & (h.metric == "accuracy")]
    return rows.value.iloc[-1] if len(rows) else float("nan")


def _bits(bits: int) -> str:
    return f"{bits} bits"


def precisions(table: pd.DataFrame) -> list[str]:
    """The columns of Table 1 in its order, the most bits first."""
    return sorted(table.precision.unique(), key=lambda p: (FULL, TAUGHT).index(p) if p in (FULL, TAUGHT)
                  else 100 - int(p.split()[0]))


def above_full(table: pd.DataFrame) -> pd.Series:
    """For each quantized run whether it ends above the float network that it began with."""
    full = table[table.precision == FULL].set_index(["network", "seed"]).accuracy
    quantized = table[~table.precision.isin([FULL, TAUGHT])].set_index(["network", "seed", "precision"]).accuracy
    return quantized > full.reindex(quantized.index.droplevel("precision")).to_numpy()


def accuracy_table(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds, s.d. and number of seeds, as text, laid out as Table 1: networks by precision."""
    cells = table.groupby(["network", "precision"]).accuracy.agg(mean_and_spread).unstack()
    return cells[precisions(table)].rename_axis(columns=None)


def published_accuracy(bits: Sequence[int]) -> pd.DataFrame:
    """The same of the paper, as far as there is a source: ImageNet top-1 accuracy (%)."""
    def cell(**where):
        where = {"paper_id": published.PROFIT, "table": "Table 1", "metric": "top1", **where}
        return "no source" if published.table(**where).empty else published.text(**where)

    methods = {FULL: "full precision (Full)", TAUGHT: "full precision + teacher-student (Full+)"}
    return pd.DataFrame([{**{name: cell(model=model, method=method) for name, method in methods.items()},
                          **{_bits(b): cell(model=model, method="PROFIT+DuQ(+NP)", w_bits=b, a_bits=b) for b in bits}}
                         for model in NAMES.values()], index=pd.Index(NAMES.values(), name="network"))


def accuracy_by_bits(table: pd.DataFrame, *, allowance: float, footnote: str) -> Figure:
    """PROFIT, Table 1 as a picture: a panel for each network, accuracy by precision.

    Lines are means over seeds, labelled with their values; points are single seeds.  The grey band reaches from the
    mean of "Full" down by ``allowance`` points.
    """
    shown, networks = precisions(table), [name for name in NAMES.values() if name in set(table.network)]
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(networks), figsize=(11, 5.2), sharey=True, squeeze=False)
        for ax, network in zip(axes[0], networks):
            rows = table[table.network == network].assign(x=lambda t: t.precision.map(shown.index))
            means = rows.groupby("x").accuracy.mean()
            full = means[0]
            ax.axhspan(full - allowance, full, color="#DDDDDD", zorder=0)
            ax.plot(means.index, means, color=COLORS[network], alpha=0.6)
            ax.plot(rows.x, rows.accuracy, MARKERS[network], color=COLORS[network], markersize=7, markeredgecolor="w")
            for x, mean in means.items():
                ax.annotate(f"{mean:.1f}", (x, rows[rows.x == x].accuracy.max()), (0, 8), textcoords="offset points",
                            ha="center", fontsize=12, path_effects=[withStroke(linewidth=3, foreground="w")])
            seeds = rows.seed.nunique()
            ax.set(title=f"{network}, {seeds} seed{'s' if seeds > 1 else ''}", xlim=(-0.5, len(shown) - 0.5))
            ax.set_xticks(range(len(shown)), [p.removesuffix(" bits") for p in shown])
            ax.set_xlabel("float | bits of weights and activations")
            ax.grid(axis="x", visible=False)
            ax.margins(y=0.12)
        axes[0, 0].set_ylabel("validation accuracy (%)")
        figure.supxlabel(f"grey: from Full down to {allowance:g} points below\n{footnote}", fontsize=10, color=GREY)
    return figure


def describe_accuracy_by_bits(table: pd.DataFrame) -> str:
    """Alternative text for :func:`accuracy_by_bits`, with the means that the lines join."""
    means = table.groupby(["network", "precision"]).accuracy.mean()
    parts = "; ".join(f"{network}: " + ", ".join(f"{p} {means[network, p]:.1f}" for p in precisions(table)
                                                if (network, p) in means.index)
                      for network in NAMES.values() if network in means.index.get_level_values(0))
    return ("A panel for each network with its validation accuracy in percent in float, in float after training with a "
            f"teacher, and at fewer and fewer bits. Means over seeds: {parts}.")
