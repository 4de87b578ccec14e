"""What is no result: runs that are not recorded yet, collapsed quantizers, networks that guess."""
import dataclasses

import pandas as pd
import pytest
import torch
from conftest import ends_at, leans, made_up
from matplotlib import pyplot as plt
from test_ablation import found

from paperlib import analysis, claims, models, plots, recipes
from paperlib.claims import experiments, scoreboard
from paperlib.claims.verdict import at_scale
from paperlib.runs import Run
from paperlib.training.collapse import collapsed
from paperlib.training.engine import Trainer
from paperlib.training.phases import Phase

RECIPE = recipes.qil("vgg7", w_bits=2, a_bits=1, profile="laptop")     # 5 000 test images
LAST = RECIPE.phases[-1].name


def made(*rows, accuracy=60.0, recipe=RECIPE):
    """A run that ends at this accuracy, with more rows (phase, epoch, split, metric, value)."""
    return made_up(recipe, [(LAST, 5, "val", "accuracy", accuracy), *rows])


def interval(c, d, epoch=5):
    return [(LAST, epoch, "quantizer", f"classifier.0 weight {name}", value) for name, value in (("c", c), ("d", d))]


@pytest.mark.parametrize("c, d, gone", [(0.5, 0.5, False), (-0.1, 0.2, False), (-0.2, 0.2, True), (-0.3, 0.1, True),
                                        (-0.1, -0.2, False), (-0.3, -0.1, True)])
def test_an_interval_below_zero_has_collapsed(c, d, gone):
    run = made(*interval(c, d))
    assert run.failures == ["the quantizer classifier.0 weight collapsed in '2-bit weights, 1-bit activations'"] * gone
    assert run.outcome == ("failed training" if gone else "")
    assert not made(*interval(c, d, epoch=3), *interval(0.5, 0.5)).failures       # it came back


def test_what_the_engine_found_is_told():
    run = made(("float", 4, "collapsed", "features.3.0 activation", 1.0))
    assert run.failures == ["the quantizer features.3.0 activation collapsed in 'float'"]


@pytest.mark.parametrize("quantizers, layers, fails", [(1, 10, False), (1, 9, True), (2, 20, False), (3, 20, True)])
def test_few_constant_branches_are_told_and_are_no_failure(quantizers, layers, fails):
    """A twentieth of all quantizers, two of a layer."""
    names = [f"features.{i}.block.3.0 activation" for i in range(quantizers)]
    run = made(*((LAST, 5, "collapsed", name, 1.0) for name in names))
    run.layers = pd.DataFrame({"layer": range(layers)})
    assert len(run.failures) == quantizers * fails
    told = f"quantizers that give a single value: {', '.join(names)}"
    assert (told in plots.caption([run], "recorded").replace("\n", " ")) != fails


@pytest.mark.parametrize("accuracy, images, classes, data, guesses", [
    (10.0, 5000, 10, "cifar10", True), (11.2, 5000, 10, "cifar10", True), (11.4, 5000, 10, "cifar10", False),
    (13.9, 500, 10, "cifar10", True), (14.2, 500, 10, "cifar10", False),            # 3 of 1.34 points
    (0.2, 500, 1000, "imagenette", True), (14.2, 500, 1000, "imagenette", False),   # among ten
    (0.2, 50000, 1000, "imagenet", False), (0.14, 50000, 1000, "imagenet", True), (0.0, 0, 10, "cifar10", True)])
def test_guessing_is_an_accuracy_within_the_noise_of_chance(accuracy, images, classes, data, guesses):
    recipe = dataclasses.replace(RECIPE, test_images=images, num_classes=classes, data=data)
    assert made(accuracy=accuracy, recipe=recipe).failures == [f"the network guesses ({accuracy:.1f} %)"] * guesses


def unrecorded(group):
    return [Run.unrecorded(run.recipe) for run in group]


def test_no_verdict_from_what_is_missing_or_failed():
    guess, gone = found(QIL=10.5), found()
    gone["QIL"] = unrecorded(gone["QIL"])
    for runs, word, shown in ((guess, claims.FAILED, "failed training"),
                              (gone, claims.NOT_RECORDED, "not recorded yet")):
        verdict = claims.ablation.beats_previous_methods(runs)
        assert verdict.reason == word == shown and verdict.summary() == ""
        assert verdict.table().n.tolist() == [0] and claims.comparisons([verdict])["mean"].tolist() == [shown]
        assert claims.listed([verdict]).startswith(f"1. **{verdict.claim}**: {claims.NOT_ENOUGH}: {shown} (")
        others = claims.ablation.each_part_helps({3: runs, 4: found(4)})
        assert [v.reason or leans(v) for v in others][:1] == [word] and {leans(v) for v in others[1:]} == {
            claims.SUPPORTED}
        assert [leans(v) for v in at_scale("smoke", [verdict])] == [claims.NOT_TESTABLE]
    both = claims.ablation.beats_previous_methods({**gone, "PACT": guess["QIL"]})
    assert both.reason == claims.NOT_RECORDED


def test_one_failed_seed_does_not_count_and_is_told():
    verdict = claims.ablation.beats_previous_methods(found(seeds=3, QIL=10.0))
    assert verdict.reason == claims.FAILED and verdict.table().n.tolist() == [2]
    assert verdict.differences.outcome.tolist() == ["", "", claims.FAILED]


def test_a_claim_about_failing_has_failed_trainings_for_evidence():
    def cells(end):
        return {cell: [ends_at(dataclasses.replace(r, recorded=False), end if cell == (4, True, False) else 60.0)
                       for r in recipes] for cell, recipes in experiments.folding("laptop", 1).items()}

    assert leans(claims.bn_folding.four_bits_fail_folded(cells(10.0))) == claims.SUPPORTED
    assert leans(claims.bn_folding.four_bits_fail_folded(cells(60.0))) == claims.CONTRADICTED
    missing = cells(10.0)
    missing[4, True, False] = unrecorded(missing[4, True, False])
    assert claims.bn_folding.four_bits_fail_folded(missing).reason == claims.NOT_RECORDED


@pytest.mark.slow
def test_every_claim_answers_for_runs_that_are_not_there(monkeypatch):
    """The scoreboard without a single recorded run."""
    monkeypatch.setattr("paperlib.runs.obtaining.is_recorded", lambda recipe: False)
    table = scoreboard.table(scoreboard.judge("recorded"))
    trained = table[~table.runs.isin(["counted", "ImageNet", "no runs"])]
    assert len(trained) > 50 and set(trained.verdict) == {claims.NOT_ENOUGH, claims.NOT_TESTABLE}
    assert set(trained.n) == {0}
    figure = plots.scoreboard.draw(table, footnote="made up")
    plt.close(figure)
    assert "QIL, section 4.1 and Fig. 4: 1 not enough evidence" in figure.alt


def test_the_ladder_marks_what_is_no_result():
    runs = found(seeds=2, DuQ=10.0)
    runs["QIL"] = unrecorded(runs["QIL"])
    runs["PACT"] = [ends_at(run.recipe, 10.0) for run in runs["PACT"]]
    table = analysis.ablation.ladder({3: runs})
    shown = analysis.ablation.summary(table)["accuracy (%), 3 bits"]
    assert shown["QIL"] == "not recorded yet" and shown["DuQ"] == "64.0 (n=1); failed training: 10.0"
    assert shown["PACT"].startswith("failed training: 10.0, 10.0")
    figure = plots.ablation.draw(table, footnote="made up")
    [ax] = figure.axes
    texts, means = [text.get_text() for text in ax.texts], [line for line in ax.lines if line.get_markersize() == 11]
    assert sum(len(line.get_xdata()) for line in means) == 6
    assert {"failed training", "1 of 2 seeds: failed training"} <= {*texts}
    assert "PACT failed training, QIL not recorded yet" in figure.alt
    plt.close(figure)
    told = plots.caption([run for group in runs.values() for run in group], "laptop").split("\n")
    assert "not recorded yet: QIL" in told
    assert "failed training: PACT + SAWB, mobilenet_v3_large, seed 0: the network guesses (10.0 %)" in " ".join(told)


def test_a_picture_of_nothing_says_so():
    table = analysis.ablation.ladder({3: {row: unrecorded(group) for row, group in found().items()}})
    figure = plots.ablation.draw(table, footnote="made up")
    assert [text.get_text() for text in figure.axes[0].texts] == ["not recorded yet"]
    assert figure.alt.startswith("An empty panel that says: not recorded yet.")
    plt.close(figure)


@pytest.fixture
def net():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3), torch.nn.ReLU(),
              torch.nn.Conv2d(8, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    return torch.nn.Sequential(*layers)


IMAGES = torch.randn(16, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("weight, activation, change, named", [
    ("qil", "qil", {"weight.c": -1.0, "weight.d": 0.5}, ["2 weight"]),
    ("qil", "qil", {"weight.c": 50.0}, ["2 weight"]),                   # everything is pruned
    ("qil", "qil", {"input.c": 50.0}, ["2 activation"]),
    ("qil", "qil", {"input.c": -1.0, "input.d": 0.5}, ["2 activation"]),
    ("sawb", "pact", {"input.alpha": -1.0}, ["2 activation"]),
    ("lsq", "lsq", {"input.s": -1.0}, ["2 activation"]), ("lsq", "lsq", {"weight.s": float("nan")}, ["2 weight"]),
    ("duq", "duq", {"input.a": 500.0}, ["2 activation"]),               # all of it on the lowest level
    ("duq", "duq", {"weight.c": float("nan")}, ["2 weight"]), ("duq", "duq", {}, []), ("qil", "qil", {}, []),
    ("sawb", "pact", {}, []), ("lsq", "lsq", {}, []), ("bwn", "duq", {}, []), ("bc", "duq", {}, [])])
@pytest.mark.parametrize("fused", [False, True])
def test_quantizers_that_no_longer_tell_one_value_from_another(net, weight, activation, change, named, fused):
    bits = 1 if weight in ("bwn", "bc") else 4
    scheme = models.Scheme(weight, activation, w_bits=bits, a_bits=4)
    qnet = models.calibrate(models.quantize(net, scheme), IMAGES)
    with torch.no_grad():
        for name, value in change.items():
            which, parameter = name.split(".")
            getattr(getattr(qnet[2], f"{which}_quantizer"), parameter).fill_(value)
    qnet, before = models.fuse(qnet) if fused else qnet, {k: v.clone() for k, v in qnet.state_dict().items()
                                                          if isinstance(v, torch.Tensor)}
    assert collapsed(qnet, IMAGES)[:1] == named         # what comes after may have nothing left to tell apart
    assert all(torch.equal(v, before[k]) or v.isnan().all() for k, v in qnet.state_dict().items() if k in before)


class Data:
    """Two batches of random images."""
    batch_size, n_images, device, unseen, class_subset = 16, 32, torch.device("cpu"), 0, None

    def __len__(self):
        return 2

    def epoch(self, i=0, start=0):
        yield from [(IMAGES, torch.arange(16) % 4)] * (2 - start)


@pytest.mark.parametrize("broken", [False, True])
def test_the_history_of_a_training_names_what_collapsed(net, broken):
    scheme = models.Scheme("qil", "qil", w_bits=4, a_bits=4)
    qnet = models.calibrate(models.quantize(net, scheme), IMAGES)
    if broken:
        qnet[2].weight_quantizer.c.data.fill_(-1.0)
    trainer = Trainer(qnet, Phase("quantized", 2, 0.001, scheme=scheme), Data(), Data(), seed=0)
    trainer.run()
    rows = [row for row in trainer.history if row[2] == "collapsed"]
    assert rows == ([[2, 4, "collapsed", "2 weight", 1.0]] if broken else [])
