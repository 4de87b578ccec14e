"""The notebooks: the parameters of each, the runs that it opens on, and the claims that these judge.

From here `python -m paperlib prepare` and `record` know what to train, the scoreboard what to judge, and notebooks
which values their parameters may have.  Defaults are here as well as in the notebooks, so that an edited parameters
cell is known for one (parameters.py).
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .. import claims
from ..analysis.bn_folding import weight_ranges
from ..analysis.hswish import hswish_grids, hswish_histograms, hswish_layers, hswish_levels
from ..analysis.oscillations import norms_taken_anew, wrong_statistics
from ..analysis.qil_intervals import interval_histograms, interval_pruning
from ..errors import InputError
from ..models.scheme import FLOAT
from ..recipes import Recipe, profiles
from . import experiments
from .choices import Parameter, number, one_of, some_of
from .verdict import Verdict


@dataclass(frozen=True)
class Shown:
    """Runs that a notebook shows, and the claims that they judge.

    ``wanted``: their recipes by name, given a profile and a number of seeds (0: as many as belong to the profile), or
    given nothing if they are ``recorded`` ones whatever the profile is; None if nothing is trained.  ``verdicts``: the
    claims, given the runs and the profile.  ``what``: what the scoreboard calls these runs, beside the profile.
    ``tables``: what is made of their networks (Run.find).
    """

    wanted: Callable[..., experiments.Wanted] | None
    verdicts: Callable[..., list[Verdict]] | None = None
    what: str = ""
    recorded: bool = False
    tables: tuple[Callable, ...] = ()

    def recipes(self, profile: str, seeds: int) -> experiments.Wanted:
        """Name the recipes at this scale."""
        return {} if self.wanted is None else self.wanted() if self.recorded else self.wanted(profile, seeds)


@dataclass(frozen=True)
class Notebook:
    """A notebook's parameters and runs; ``packed``: the recorded ones bring their networks along."""

    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    shows: Sequence[Shown] = ()
    packed: bool = False


WIDTHS, NETWORKS = (4, 8, 5, 3, 2), ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large")
PROFILE, SEEDS, BITS = one_of("recorded", *profiles.names()), number(0, 0, 100), one_of(*WIDTHS)
SEVERAL_BITS, SWITCH = some_of("", *map(str, sorted(WIDTHS, reverse=True))), one_of(True, False)
LAYERS = ("features.4.0", "features.1.0", "features.3.0", "features.6.0", "features.7.0", "classifier.0")
IMAGENETTE = {"what": "Imagenette", "recorded": True}
SMALL_IMAGENETTE = {"what": "Imagenette, small", "recorded": True}

NOTEBOOKS = {
    "profit_fig2_4_aiwq": Notebook(
        {"profile": PROFILE, "seeds": SEEDS, "model": one_of(NETWORKS[2], *NETWORKS[:2]), "bits": BITS},
        [Shown(experiments.aiwq, claims.aiwq.verdicts),
         Shown(experiments.aiwq_photographs, claims.aiwq.verdicts, **IMAGENETTE)]),
    "profit_table1_accuracy": Notebook(
        {"profile": PROFILE, "seeds": SEEDS, "bits": SEVERAL_BITS, "networks": some_of(" ".join(NETWORKS), *NETWORKS)},
        [Shown(experiments.accuracy, claims.accuracy.verdicts)]),
    "profit_table3_ablation": Notebook(
        {"profile": PROFILE, "seeds": SEEDS, "bits": SEVERAL_BITS},
        [Shown(experiments.ablations, claims.ablation.verdicts),
         Shown(experiments.ablation_photographs, claims.ablation.verdicts_on_photographs,
               "Imagenette, 4 bits", recorded=True),
         Shown(experiments.identity_path, claims.ablation.verdicts_on_identity, "3 bits", recorded=True)]),
    "profit_supp_fig1_loss_curves": Notebook(
        {"profile": PROFILE, "seeds": SEEDS, "w_bits": BITS, "a_bits": BITS},
        [Shown(experiments.loss_curves, claims.loss_curves.verdicts, "4-bit weights"),
         Shown(experiments.loss_curves_two_bits, claims.loss_curves.verdicts, "2-bit weights", recorded=True),
         Shown(experiments.loss_curves_pretrained, claims.loss_curves.verdicts, "3 bits, from 89 %", recorded=True),
         Shown(experiments.loss_curves_photographs, claims.loss_curves.verdicts, "Imagenette, 4 bits", recorded=True)]),
    "profit_supp_fig2_pact_vs_duq": Notebook(
        {"profile": PROFILE, "seeds": SEEDS, "bits": BITS, "quantizer_lr": number(1.0, 0, 100), "extension": SWITCH},
        [Shown(experiments.pact_vs_duq, claims.pact_vs_duq.verdicts),
         Shown(lambda profile, seeds: experiments.pact_vs_duq(profile, seeds, methods=("lsq", "qil"))),
         Shown(lambda: experiments.pact_vs_duq("recorded", quantizer_lr=0.01), claims.pact_vs_duq.verdicts,
               "quantizers at a hundredth of the rate", recorded=True),
         Shown(experiments.duq_scales, claims.pact_vs_duq.verdicts_on_scales, "one scale", recorded=True)]),
    "profit_supp_fig3_hswish_histograms": Notebook(
        {"profile": PROFILE, "seeds": SEEDS, "bits": BITS},
        [Shown(experiments.hswish, claims.hswish.verdicts, tables=(hswish_layers, hswish_levels)),
         Shown(lambda profile, seeds: {"duq": experiments.hswish(profile, seeds)["duq"]}, tables=(hswish_grids,)),
         Shown(lambda profile, _: {"duq": experiments.hswish(profile, 1)["duq"]}, tables=(hswish_histograms,))]),
    "profit_supp_fig4_cost_accuracy": Notebook(
        {"profile": PROFILE, "seeds": SEEDS, "bits": SEVERAL_BITS},
        [Shown(None, claims.cost_accuracy.verdicts, "counted"),
         Shown(None, claims.cost_accuracy.accuracy_gains, "ImageNet"),
         Shown(lambda profile, seeds: {(model, bits): recipes for (model, bits), recipes
                                       in experiments.accuracy(profile, seeds).items() if bits < FLOAT})]),
    "profit_supp_s5_bn_folding": Notebook(
        {"profile": PROFILE, "seeds": SEEDS},
        [Shown(experiments.folding_float, claims.bn_folding.verdicts_on_ranges, tables=(weight_ranges,)),
         Shown(experiments.folding, claims.bn_folding.verdicts),
         Shown(experiments.folding_float_photographs, claims.bn_folding.verdicts_on_ranges, tables=(weight_ranges,),
               **IMAGENETTE),
         Shown(experiments.folding_photographs, claims.bn_folding.verdicts, **IMAGENETTE)]),
    "beyond_context": Notebook({"profile": PROFILE}),
    "beyond_oscillations": Notebook(
        {"profile": PROFILE, "seeds": SEEDS, "bits": one_of(0, *WIDTHS)},
        [Shown(experiments.oscillations, claims.oscillations.verdicts, tables=(wrong_statistics, norms_taken_anew)),
         Shown(experiments.obstacle, claims.oscillations.verdicts_on_the_obstacle, "3 bits", recorded=True)]),
    "qil_fig1_3_quantizer": Notebook(
        {"profile": PROFILE, "w_bits": number(3, 2, 8), "a_bits": number(2, 1, 8), "c": number(0.5, 0.01, 100),
         "d": number(0.4, 0.01, "c"), "images": number(2, 1, 1000)}),
    "qil_table1_2_cifar10": Notebook(
        {"profile": PROFILE, "seeds": SEEDS},
        [Shown(experiments.qil_tables, claims.qil_tables.verdicts),
         Shown(experiments.qil_parts, claims.qil_tables.verdicts_on_parts, "a part left out", recorded=True),
         Shown(experiments.qil_reasons, claims.qil_tables.verdicts_on_steps, "step by step", recorded=True)]),
    "qil_fig4_5_intervals": Notebook(
        {"profile": PROFILE, "seeds": SEEDS, "layer": one_of(*LAYERS)},
        [Shown(experiments.qil_intervals, claims.qil_intervals.verdicts,
               tables=(interval_pruning, interval_histograms))]),
    "qil_table3_4_imagenet": Notebook(
        {"profile": PROFILE},
        [Shown(experiments.qil_photographs, claims.qil_photographs.verdicts, **SMALL_IMAGENETTE)]),
    "deploy_integers": Notebook(
        {"profile": PROFILE, "model": one_of(NETWORKS[2], NETWORKS[1]), "batches": number(1, 0, 1000),
         "fraction": number(20, 1, 30)},
        [Shown(lambda profile, _: experiments.integers(profile))], packed=True),
    "learn_1_grids_and_error": Notebook(
        shows=[Shown(lambda profile, _: {"float": [experiments.float_network(profile)]})], packed=True),
    "scoreboard": Notebook({"profile": PROFILE, "seeds": SEEDS}),
    "own_network": Notebook(
        {"bits": number(4, 2, 8), "float_epochs": number(5, 1, 1000), "epochs": number(2, 1, 1000),
         "lr": number(0.1, 0, 10)}),
}


def names() -> list[str]:
    """List the notebooks that have runs."""
    return [name for name, notebook in NOTEBOOKS.items() if notebook.shows]


def needed(profile: str, name: str | None = None, seeds: int = 0) -> Iterator[tuple[Recipe, tuple[Callable, ...]]]:
    """Go through the recipes of a notebook at its defaults, or of all, each with the functions whose tables it
    makes of their runs (Run.find).

    InputError if the notebook has none of its own.
    """
    if name is not None and name not in names():
        raise InputError(f"{name!r} has no runs of its own: choose from {', '.join(names())}")
    for notebook in [NOTEBOOKS[name]] if name else NOTEBOOKS.values():
        for shown in notebook.shows:
            for recipe in experiments.flat(shown.recipes(profile, seeds)):
                yield recipe, shown.tables
