"""Every testable sentence of the papers, with what our runs say about it.

``judge`` asks each item for its claims; a notebook shows the same claims with their pictures.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd

from .. import runs
from ..analysis import bit_operations
from ..recipes import profiles
from ..runs import Run
from . import (
    ablation,
    accuracy,
    aiwq,
    cost,
    experiments,
    folding,
    hswish,
    loss_curves,
    pact_vs_duq,
    published,
    qil,
    qil_photographs,
)
from .verdict import Verdict

RECORDED = "recorded"      # of claims that are judged by shipped runs whatever the profile is


@dataclass(frozen=True)
class Judged:
    """A claim as it was judged: its notebook, the runs that were looked at, the number that the paper prints ("" if
    none), and which runs these are."""

    item: str
    verdict: Verdict
    runs: list[Run]
    scale: str
    number: str = ""


def judge(profile: str, seeds: int = 0) -> list[Judged]:
    """All claims, judged by the runs of a profile; trains what is missing.  ``seeds`` as in :mod:`paperlib.claims.experiments`."""
    return [judged for claims in CLAIMS for judged in claims(Source(profile, seeds))]


def table(judged: list[Judged]) -> pd.DataFrame:
    """One row per claim: claim, where, paper (its number), ours (mean ± s.d. over seeds, or the extremes of several
    comparisons), seeds, agree (single comparisons that do), verdict, runs (their scale), notebook."""
    rows = []
    for j in judged:
        v = j.verdict
        judged = v.differences[v.differences.outcome == ""]
        rows.append({"claim": v.claim, "where": v.where, "paper": j.number, "ours": v.summary(),
                     "seeds": judged.seed.nunique(), "agree": f"{int(v.holds.sum())} of {len(judged)}",
                     "verdict": v.verdict, "runs": j.scale, "notebook": j.item})
    return pd.DataFrame(rows)


def page(table: pd.DataFrame) -> str:
    """The table as Markdown, with links to the notebooks; comparisons that agree stand beside the verdict."""
    lines = ["| claim | where | paper | ours | verdict | runs |", "|---|---|---|---|---|---|"]
    for row in table.itertuples():
        judged = f"**{row.verdict}**" + (f" ({row.agree})" if row.seeds else "")
        lines.append(f"| [{row.claim}]({row.notebook}.ipynb) | {row.where} | {row.paper} | {row.ours} | {judged} | "
                     f"{row.runs}, n = {row.seeds} |")
    return "\n".join(lines)


class Source:
    """Where the runs of items come from: a profile and a number of seeds."""

    def __init__(self, profile: str, seeds: int):
        self.profile, self.seeds, self.testable = profile, seeds, profiles.get(profile).conclusive

    def obtain(self, item: Callable[..., experiments.Wanted], **options) -> tuple[dict, list[Run]]:
        """({name: runs}, all of them)."""
        return shelf(item(self.profile, self.seeds, **options), complete=self.seeds > 0)


def shelf(wanted: experiments.Wanted, *, complete: bool = False) -> tuple[dict, list[Run]]:
    """({name: runs}, all of them)."""
    found = runs.obtain_each(wanted, complete=complete)
    return found, [run for group in found.values() for run in group]


def _aiwq(source: Source) -> Iterator[Judged]:
    name, photographs = "profit_fig2_4_aiwq", experiments.aiwq_photographs()
    for (found, every), testable, scale in ((source.obtain(experiments.aiwq), source.testable, source.profile),
                                            (shelf(photographs), True, f"{RECORDED}: Imagenette")):
        for verdict in (aiwq.aiwq_grows(found, testable=testable), aiwq.norms_jump(found, testable=testable),
                        aiwq.aiwq_is_uneven(found[4], testable=testable)):
            yield Judged(name, verdict, every, scale)


def _loss_curves(source: Source) -> Iterator[Judged]:
    name, harder = "profit_supp_fig1_loss_curves", experiments.loss_curves_two_bits()
    for (found, every), testable, scale in (
            (source.obtain(experiments.loss_curves), source.testable, f"{source.profile}: 4-bit weights"),
            (shelf(harder), True, f"{RECORDED}: 2-bit weights")):
        for claim in (loss_curves.profit_lies_lower, loss_curves.profit_ends_lower, loss_curves.profit_calms):
            yield Judged(name, claim(found["aiwq"], found["none"], testable=testable), every, scale)
        yield Judged(name, loss_curves.aiwq_order_calms(found, testable=testable), every, scale)


def _pact_vs_duq(source: Source) -> Iterator[Judged]:
    found, every = source.obtain(experiments.pact_vs_duq)
    for claim in (pact_vs_duq.duq_ends_lower, pact_vs_duq.duq_starts_higher):
        yield Judged("profit_supp_fig2_pact_vs_duq", claim(found["duq"], found["pact"], testable=source.testable),
                     every, source.profile)


def _hswish(source: Source) -> Iterator[Judged]:
    found, every = source.obtain(experiments.hswish)
    d, p, lsq, testable = found["duq"], found["pact"], found["lsq"], source.testable
    for verdict in (hswish.hswish_outputs_differ(d, testable=testable),
                    hswish.fixed_split_does_not_fit(d, testable=testable),
                    hswish.pact_has_nothing_below_zero(p, testable=testable),
                    hswish.duq_learns_better_levels(d, p, lsq, testable=testable)):
        yield Judged("profit_supp_fig3_hswish_histograms", verdict, every, source.profile)


def _cost(source: Source) -> Iterator[Judged]:
    for model in bit_operations.OTHERS:
        yield Judged("profit_supp_fig4_cost_accuracy", cost.saves(model), [], "counted", f"{cost.printed(model):g} %")
    for verdict in (cost.costs_as_much_as_dsq(),
                    *(cost.almost_half_the_size(m) for m in ("mobilenet_v2", "mobilenet_v3_large"))):
        yield Judged("profit_supp_fig4_cost_accuracy", verdict, [], "counted")
    for verdict in cost.accuracy_gains():
        yield Judged("profit_supp_fig4_cost_accuracy", verdict, [], "ImageNet")


def _folding(source: Source) -> Iterator[Judged]:
    ours, photographs = source.obtain(experiments.folding), shelf(experiments.folding_photographs())
    pretrained = shelf({32: experiments.aiwq_photographs()[32]})[1]
    for (found, every), kept, testable, scale in (
            (ours, ours[0][32, False, False], source.testable, source.profile),
            (photographs, pretrained, True, f"{RECORDED}: Imagenette")):
        yield Judged("profit_supp_s5_bn_folding", folding.folded_weights_are_wider(kept, testable=testable), every,
                     scale)
        claims = [folding.folding_control_trains, folding.four_bits_fail_folded, folding.channels_repair_folding]
        for claim in claims + [folding.eight_bits_survive_folding] * ((8, True, False) in found):
            yield Judged("profit_supp_s5_bn_folding", claim(found, testable=testable), every, scale)


def _accuracy(source: Source) -> Iterator[Judged]:
    found, every = source.obtain(experiments.accuracy)
    for model in experiments.MODELS:
        yield Judged("profit_table1_accuracy",
                     accuracy.four_bits_stay_close(model, found[model, 4], testable=source.testable), every,
                     source.profile, f"{accuracy.allowance():g} points, ImageNet")
        by_bits = {bits: group for (m, bits), group in found.items() if m == model}
        yield Judged("profit_table1_accuracy",
                     accuracy.fewer_bits_cost_accuracy(model, by_bits, testable=source.testable), every, source.profile)


def _ablation(source: Source) -> Iterator[Judged]:
    name, few = "profit_table3_ablation", profiles.get(source.profile).ablation_bits
    found, every = {}, []
    for bits in few:
        found[bits], runs_of_it = source.obtain(experiments.ablation, bits=bits)
        every += runs_of_it
    yield Judged(name, ablation.beats_previous_methods(found[min(few)], min(few), testable=source.testable), every,
                 source.profile, f"{ablation.published_gain():g} points at 3 bits, ImageNet")
    for verdict in ablation.each_part_helps(found, testable=source.testable):
        yield Judged(name, verdict, every, source.profile)
    photographs = {bits: shelf(wanted)[0] for bits, wanted in experiments.ablation_photographs().items()}
    every = [run for rows in photographs.values() for group in rows.values() for run in group]
    for verdict in ablation.ablation_on_photographs(photographs):
        yield Judged(name, verdict, every, f"{RECORDED}: Imagenette, small")


def _qil_tables(source: Source) -> Iterator[Judged]:
    name, scale, testable = "qil_table1_2_cifar10", source.profile, source.testable
    (table1, every1), (table2, every2) = source.obtain(experiments.qil_table1), source.obtain(experiments.qil_table2)
    for share in (0.5, 1.0):
        yield Judged(name, qil.distillation_helps(table1, share, testable=testable), every1, scale)
    for w, a in ((2, 2), (2, 1)):
        for longer in ((), table2["float", 32, 32]):
            yield Judged(name, qil.qil_stays_close(table1, w, a, longer, testable=testable), every1 + list(longer),
                         scale, f"{qil.qil_allowance(w, a):g} points")
    for a in qil.RIVALS:
        yield Judged(name, qil.qil_beats(table2, a, testable=testable), every2, scale)


def _qil_intervals(source: Source) -> Iterator[Judged]:
    found, every = source.obtain(experiments.qil_intervals)
    five, three, activations = (published.value(paper_id=published.QIL, metric=metric) for metric in (
        "weight pruning ratio 5 bit", "weight pruning ratio 3 bit", "activation pruning ratio (about)"))
    for verdict, number in ((qil.bounds_converge(found[4], testable=source.testable), ""),
                            (qil.weight_pruning_rises(found, testable=source.testable),
                             f"{five:g} % at 5 bits, {three:g} % at 3"),
                            (qil.activations_pruned(found, testable=source.testable), f"{activations:g} %"),
                            (qil.activation_pruning_is_similar(found, testable=source.testable), "")):
        yield Judged("qil_fig4_5_intervals", verdict, every, source.profile, number)


def _qil_photographs(source: Source) -> Iterator[Judged]:
    found = {model: shelf(cells) for model, cells in experiments.qil_photographs().items()}
    cells, most = {model: mine for model, (mine, _) in found.items()}, qil_photographs.qil_photographs_allowance()
    every = [run for _, group in found.values() for run in group]
    for claim, number in ((qil_photographs.few_bits_keep_full_accuracy, f"{most:g} points"),
                          (qil_photographs.two_bits_cost_most, ""), (qil_photographs.distillation_does_not_help, "")):
        yield Judged("qil_table3_4_imagenet", claim(cells), every, f"{RECORDED}: Imagenette, small", number)


CLAIMS = (_aiwq, _accuracy, _ablation, _loss_curves, _pact_vs_duq, _hswish, _cost, _folding, _qil_tables,
          _qil_intervals, _qil_photographs)
