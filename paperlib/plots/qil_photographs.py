"""QIL, Table 3: ResNet-18 and AlexNet on photographs, with and without distillation."""
from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ..claims import published
from ..claims.experiments import DISTILLATION
from ..claims.qil_photographs import COLUMNS, NETWORKS
from ..runs.outcomes import FAILED
from .missing import number, unless_missing
from .qil_tables import MARKS
from .style import GREY, STYLE


def paper_photographs() -> pd.DataFrame:
    """The same as the paper prints it for ImageNet: columns network, bits, distillation, accuracy."""
    rows = published.table(paper_id=published.QIL, table="Table 3", metric="top1")
    table = pd.DataFrame({"network": rows.model.str.removesuffix("/ImageNet"), "bits": rows.w_bits.astype(int),
                          "distillation": rows.method.str.extract(r"lambda=(\S+)")[0].astype(float).fillna(0.0),
                          "accuracy": rows.value})
    return table[COLUMNS]


def photographs_table(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy (%), laid out as Table 3: a row for each bit-width, columns networks and lambda; in brackets what is
    lost against the float network."""
    full = table[table.bits == 32].set_index("network").accuracy
    outcomes = table.outcome if "outcome" in table else [""] * len(table)
    text = [outcome or (f"{a:.1f}" if b == 32 else f"{a:.1f} ({full[n] - a:+.1f})")
            for n, b, a, outcome in zip(table.network, table.bits, table.accuracy, outcomes)]
    shown = table.assign(text=text, row=table.bits.map(lambda b: "float" if b == 32 else f"A{b}W{b}"),
                         column=table.distillation.map("λ = {:g}".format))
    order = [f"A{b}W{b}" for b in sorted(set(table.bits) - {32})] + ["float"]
    cells = shown.pivot(index="row", columns=["network", "column"], values="text").reindex(order).fillna("")
    networks = [name for name in NETWORKS.values() if name in set(table.network)]
    return cells.reindex(columns=networks, level=0).rename_axis(index=None, columns=[None, None])


@unless_missing("accuracy")
def qil_photographs(ours: pd.DataFrame, *, footnote: str) -> Figure:
    """Accuracy by bit-width: the paper's in the upper row, ours in the lower one, a column for each network and scales
    of their own.  Dashed: the float network.  Crosses: failed trainings, which no line joins."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(2, len(NETWORKS), figsize=(10, 7.4), sharex=True)
        for row, (whose, table) in zip(axes, (("the paper, ImageNet", paper_photographs()), ("ours", ours))):
            for ax, network in zip(row, NETWORKS.values()):
                here = table[table.network == network].dropna(subset="accuracy")
                if here.empty:
                    ax.set_axis_off()
                    ax.text(0.5, 0.5, f"{network}: none of ours", color=GREY, ha="center", transform=ax.transAxes)
                    continue
                full = here[here.bits == 32].accuracy.iloc[0]
                ax.axhline(full, color=GREY, linestyle="--", linewidth=1.6, zorder=0)
                ax.annotate(f"float {full:.1f}", (1.8, full), (0, 4), textcoords="offset points", color=GREY,
                            fontsize=11, path_effects=[withStroke(linewidth=3, foreground="w")])
                for share in DISTILLATION:
                    marker, color = MARKS[share]
                    line = here[(here.bits < 32) & (here.distillation == share)].sort_values("bits")
                    if "outcome" in line:
                        failed, line = line[line.outcome == FAILED], line[line.outcome == ""]
                        ax.plot(failed.bits, failed.accuracy, "x", color=color, markersize=9, markeredgewidth=2)
                    if len(line):
                        ax.plot(line.bits, line.accuracy, marker=marker, color=color, markersize=8, markeredgecolor="w",
                                label=f"λ = {share:g}")
                ax.set(title=f"{network}, {whose}", xlim=(1.7, 5.3), xticks=[2, 3, 4, 5])
                ax.margins(y=0.15)
            row[0].set_ylabel("accuracy (%)")
        for ax in axes[-1]:
            ax.set_xlabel("bits of weights and activations")
        for ax in axes[0]:
            ax.xaxis.set_tick_params(labelbottom=True)
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=11)
        figure.supxlabel(footnote, fontsize=10, color=GREY)
    return figure


@unless_missing("accuracy")
def describe_qil_photographs(ours: pd.DataFrame) -> str:
    """Alternative text for :func:`qil_photographs`, with all numbers."""
    def words(table):
        parts, table = [], table.dropna(subset="accuracy")
        for network in table.network.unique():
            here = table[table.network == network]
            full = here[here.bits == 32].accuracy.iloc[0]
            lines = [f"with lambda {share:g} " + ", ".join(f"{number(mine)} at {b} bits"
                                                           for b, mine in line.groupby("bits"))
                     for share, line in here[here.bits < 32].sort_values("bits").groupby("distillation")]
            parts.append(f"{network}: {full:.1f} in float, {'; '.join(lines)}")
        return ". ".join(parts)

    return ("Panels with accuracy in percent by bit-width, a line for each share of distillation. Upper row, the paper "
            f"on ImageNet. {words(paper_photographs())}. Lower row, ours on few and small photographs. {words(ours)}.")


def other_methods() -> pd.DataFrame:
    """What is at hand of the paper's Table 4, and where it is from."""
    rows = published.table(paper_id=published.QIL, table="Table 4", metric="top1")
    table = pd.DataFrame({"method": rows.method.str.removesuffix(" (ours)").str.removesuffix("-v1"),
                          "network": rows.model.str.removesuffix("/ImageNet"),
                          "bits": [f"A{a}W{w}" for w, a in zip(rows.w_bits, rows.a_bits)],
                          "top-1 accuracy (%)": rows.value, "source": rows.source})
    return table.set_index(["network", "method", "bits"])
