"""AIWQ beside oscillating weights: tables and claims on made-up runs, statistics taken anew on a real network."""
import copy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import agree, leans, made_up
from matplotlib import pyplot as plt

from paperlib import models, recipes, runs
from paperlib.analysis import oscillations as analysis
from paperlib.claims import CONTRADICTED, NOT_ENOUGH, SUPPORTED, experiments, oscillations
from paperlib.plots import oscillations as plots
from paperlib.runs import Run
from paperlib.training.phases import Oscillations

LAYERS = [f"features.{i}.0" for i in range(8)]
RISING = np.arange(1.0, 9.0)


def run(seed=0, *, aiwq=RISING, oscillating=RISING, kl=RISING, rounds=70.0, anew=75.0, end=80.0):
    """A run with these values of its eight layers in the last round; in the round before all is the other way round."""
    history = [("round 3", 2, "val", "accuracy", rounds), ("weights 4, norms after", 1, "val", "accuracy", end)]
    measured = pd.DataFrame({"layer": LAYERS, "kind": "depthwise", "aiwq": aiwq, "changed": 2.0, "turned": 1.0,
                             "oscillating": oscillating, "frozen": 0.0})
    before = measured.assign(aiwq=measured.aiwq[::-1].to_numpy(), oscillating=0.0, frozen=50.0)
    instability = pd.concat([before.assign(phase="round 2"), measured.assign(phase="round 3")], ignore_index=True)
    made = made_up(recipes.profit(profile="cifar10", seed=seed), history, instability)
    made._found["wrong_statistics"] = pd.DataFrame({"layer": LAYERS[:-1], "kl": kl[:-1]})      # none behind the last
    made._found["norms_taken_anew"] = pd.DataFrame({
        "statistics": [analysis.AS_TRAINED, analysis.AGAIN], "loss": 1.0, "accuracy": [rounds, anew]})
    return made


def shuffled(seed):
    return np.random.default_rng(seed).permutation(RISING)


def test_the_last_round_is_looked_at_by_layer():
    table = analysis.by_layer([run(0), run(1, aiwq=2 * RISING)])
    assert table.seed.tolist() == 8 * [0] + 8 * [1] and table.layer.tolist() == 2 * LAYERS
    assert table.aiwq.tolist() == [*RISING, *(2 * RISING)] and table.frozen.eq(0).all()
    assert table.kl.isna().tolist() == 2 * (7 * [False] + [True])
    assert analysis.turned_share(table) == 0.5


def test_rank_correlations_are_those_over_layers_of_a_seed():
    table = analysis.by_layer([run(0, kl=RISING[::-1]), run(1, oscillating=np.array([1, 2, 3, 4, 5, 6, 8, 7.0]))])
    found = analysis.correlations(table)
    assert found.index.tolist() == ["AIWQ and oscillating weights", "AIWQ and wrong statistics",
                                    "oscillating weights and wrong statistics"]
    assert found[0].tolist() == pytest.approx([1, -1, -1])
    assert found[1].tolist() == pytest.approx([1 - 6 * 2 / (8 * 63), 1, 1])


def test_claims_follow_the_layers():
    alike = [run(s, oscillating=RISING + [0, 0, 0, 0, 0, 0, s, -s]) for s in range(3)]
    assert oscillations.same_layers(alike).verdict == SUPPORTED
    assert oscillations.same_layers([run(s, oscillating=shuffled(s)) for s in range(3)]).verdict != SUPPORTED
    better = [run(s, kl=RISING + [0.1, s, 0, 0, 0, 0, 0, 0], oscillating=shuffled(s)) for s in range(3)]
    verdict = oscillations.aiwq_predicts_better(better)
    assert verdict.verdict == SUPPORTED and agree(verdict)
    worse = [run(s, kl=RISING, aiwq=shuffled(s)) for s in range(3)]
    assert leans(oscillations.aiwq_predicts_better(worse)) == CONTRADICTED


def test_claims_follow_the_accuracies():
    def group(**at):
        return [run(s, **{name: value + 0.1 * s * (name != "end") for name, value in at.items()}) for s in range(3)]

    found = {"nothing frozen": group(rounds=60, anew=72.5), "PROFIT": group(rounds=70.05),
             "oscillating weights frozen": group(rounds=75.02), "oscillations dampened": group(rounds=74.01)}
    found["PROFIT"][1] = run(1, rounds=70.3)
    assert oscillations.weights_beat_layers(found).verdict == SUPPORTED
    assert oscillations.statistics_are_enough(found).verdict == SUPPORTED
    found["oscillations dampened"] = group(rounds=69.0)
    assert oscillations.weights_beat_layers(found).verdict != SUPPORTED
    found["PROFIT"] = [Run.unrecorded(r.recipe) for r in found["PROFIT"]]
    assert {v.verdict for v in oscillations.verdicts(found, "laptop")[2:]} == {NOT_ENOUGH}


@pytest.mark.parametrize("anew, verdict", [(76.0, SUPPORTED), (72.0, CONTRADICTED)])
def test_the_key_obstacle_costs_half_of_what_is_lost(anew, verdict):
    """Of ten points, six or two come back."""
    found = {"nothing frozen": [run(s, rounds=70, anew=anew) for s in range(3)],
             "float": [run(s, end=80.0) for s in range(3)]}
    judged, = oscillations.verdicts_on_the_obstacle(found, "recorded")
    assert leans(judged) == verdict
    assert judged.differences.difference.tolist() == pytest.approx([(anew - 70) / 10] * 3)


def test_statistics_taken_anew_show_which_norm_was_wrong(one_thread):
    recipe = recipes.profit(profile="smoke", order="none")
    net = models.build("mobilenet_v3_large", num_classes=10, width=0.5, input_size=32, weights="CIFAR10_V1").eval()
    net = models.quantize(net, models.Scheme(w_bits=8, a_bits=8))
    looked = SimpleNamespace(recipe=recipe, model=lambda phase: net)
    assert analysis.last_round(looked) == "round 3"
    images = torch.cat([x for x, _ in analysis.loading.batches(recipe, torch.device("cpu"))[0].epoch()])
    models.calibrate(net, images[:100], method="max")
    net.load_state_dict(analysis._networks(looked)[1].state_dict())
    right = analysis.wrong_statistics(looked).set_index("layer").kl
    assert right.max() < 1e-6 and len(right) > 40
    norm = net.features[3].block[0][1]
    norm.running_mean += norm.running_var.sqrt()        # a standard deviation in every channel
    wrong = analysis.wrong_statistics(looked).set_index("layer").kl
    assert wrong["features.3.block.0.0"] == pytest.approx(0.5, rel=0.01)
    assert wrong.drop("features.3.block.0.0").max() < 1e-6
    before = copy.deepcopy(net.state_dict())
    table = analysis.norms_taken_anew(looked)
    assert table.statistics.tolist() == [analysis.AS_TRAINED, analysis.AGAIN]
    assert table.accuracy[0] < table.accuracy[1] - 5 and table.accuracy[1] > 80
    assert all(before[name].equal(value) for name, value in net.state_dict().items())


def test_methods_share_all_but_what_stops_oscillations():
    found = experiments.oscillations("pretrained", 1, 3)
    phases = {name: group[0].phases for name, group in found.items()}
    assert {tuple((p.name, p.epochs, p.lr) for p in each) for each in phases.values()} == {
        tuple((p.name, p.epochs, p.lr) for p in phases["PROFIT"])}
    for known_by in (lambda recipe: repr(recipe.identity()), lambda recipe: recipe.label):
        assert len({known_by(group[0]) for group in found.values()}) == 5
    first = [p.name for p in phases["PROFIT"]].index("round 1")
    assert not any(p.oscillations for p in phases["PROFIT"][:first])
    assert all(p.oscillations == Oscillations() and p.measure for p in phases["PROFIT"][first:-1])
    assert all(p.oscillations.dampening for p in phases["oscillations dampened"][first:])
    assert all(p.freeze is None for p in phases["oscillating weights frozen"][first:-1])


def test_pictures_say_what_they_show():
    figure = plots.draw_layers(analysis.by_layer([run(0), run(1)]), footnote="made up")
    assert "AIWQ and wrong statistics: 1.00" in figure.alt
    assert plots._closer(0.8, 0.3).startswith("AIWQ goes") and plots._closer(0.3, 0.8).startswith("Oscillation goes")
    assert [ax.get_title(loc="left") for ax in figure.axes] == 3 * ["rank correlation 1.00"]
    table = analysis.ends({"nothing frozen": [run(0, rounds=60.0)], "PROFIT": [run(0), run(1, end=90.0)]})
    assert analysis.summary(table).loc["PROFIT"].tolist() == [70.0, 75.0, 85.0, 4.5, 0.0, 2]
    figure = plots.draw_methods(table, footnote="made up")
    assert "nothing frozen: 60.0 as trained, 75.0 statistics taken anew" in figure.alt
    for empty in (plots.draw_layers, plots.draw_methods):
        assert "not recorded yet" in empty(pd.DataFrame(), footnote="").alt
    plt.close("all")


def test_the_notebook_says_what_the_recorded_runs_say():
    found = runs.obtain_each(experiments.oscillations("recorded"))
    free = [run for run in found["nothing frozen"] if not run.absent]
    layers = analysis.by_layer(free)
    assert analysis.turned_share(layers) > 0.8, "nearly all changes are oscillations"
    se, rest = (layers[(layers.kind == "se") == which] for which in (True, False))
    assert se.aiwq.max() > rest.aiwq.quantile(0.9) and se.oscillating.median() < rest.oscillating.median() / 20
    table = analysis.correlations(layers)
    assert (table.loc["AIWQ and wrong statistics"] > table.loc["oscillating weights and wrong statistics"] + 0.1).all()
    ends = analysis.summary(analysis.ends(found))
    assert ends.oscillating["oscillations dampened"] < ends.oscillating["nothing frozen"] / 20
    as_trained, anew, last = (ends[name] for name in (analysis.AS_TRAINED, analysis.AGAIN, analysis.LAST_STAGE))
    assert as_trained["nothing frozen"] < as_trained.drop("nothing frozen").min() - 1
    assert anew["nothing frozen"] > anew.drop("nothing frozen").max() - 0.6
    assert last["nothing frozen"] > last.drop("nothing frozen").max() - 0.6
