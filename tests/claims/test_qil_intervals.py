"""Trained intervals: tables of a small network with intervals known by heart, and what is drawn and said of them."""
import copy

import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from torch import nn

from paperlib import analysis, models, plots, recipes
from paperlib.analysis import qil_intervals
from paperlib.claims import paper_tables
from paperlib.errors import InputError
from paperlib.recipes import profiles
from paperlib.runs import Run, loading

HISTORY = ["phase", "epoch", "step", "split", "metric", "value"]
WEIGHTS = torch.tensor([0.1, -0.29, 0.31, -0.5, 0.69, 0.71, -0.9, 0.0])
INPUTS = torch.tensor([[-1.0, 0.1, 0.31, 0.9], [-0.5, 0.2, 0.69, 0.71]])        # before ReLU


def made(intervals, w_bits=3, a_bits=2, seed=0):
    """A run with this history; ``intervals``: {(layer, role): [(c, d) after each epoch, from 0 on]}."""
    profile = profiles.changed("smoke", stage_epochs=2)
    recipe = recipes.qil("vgg7", w_bits=w_bits, a_bits=a_bits, profile=profile, seed=seed)
    phase = recipe.phases[-1].name
    rows = [(phase, epoch, 10 * epoch, "quantizer", f"{layer} {role} {name}", value)
            for (layer, role), way in intervals.items() for epoch, pair in enumerate(way)
            for name, value in zip("cd", pair)]
    rows += [(p.name, epoch, 10 * epoch, "val", "loss", 1.0) for p in recipe.phases for epoch in range(3)]
    return Run(recipe, pd.DataFrame(rows, columns=HISTORY), pd.DataFrame(), key="made up", seconds=0.0, environment={})


@pytest.mark.parametrize("w_bits, a_bits, weight, activation", [
    (3, 2, (0.3, 0.7), (0.3, 0.7)), (2, 1, (0.5, 0.5), (0.5, 0.5)), (5, 4, (0.22, 0.78), (0.22, 0.78))])
def test_bounds_by_hand(w_bits, a_bits, weight, activation):
    run = made({("z", "weight"): [(0.5, 0.5), (0.5, 0.3)], ("a", "activation"): [(1, 1), (0.5, 0.3)],
                ("a", "weight"): [(1, 1), (1, 1)]}, w_bits, a_bits)
    table = qil_intervals.bounds(run)
    assert table.columns.tolist() == qil_intervals.COLUMNS and table.epoch.tolist() == [0, 0, 0, 1, 1, 1]
    assert list(zip(table.layer, table.role, table.bits)) == 2 * [
        ("a", "activation", a_bits), ("z", "weight", w_bits), ("a", "weight", w_bits)]      # layers in their order
    end = table[table.epoch == 1]
    assert (*end.m[:2], *end.M[:2]) == pytest.approx((activation[0], weight[0], activation[1], weight[1]))


def test_bounds_of_a_run_that_does_not_track_them():
    table = qil_intervals.bounds(made({}))
    assert table.empty and table.columns.tolist() == qil_intervals.COLUMNS


class Net(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.first, self.mid, self.last = nn.Conv2d(3, 2, 1, bias=False), nn.Conv2d(2, 4, 1), nn.Linear(4, 10)
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(3)[:2, :, None, None])
            self.mid.weight.copy_(scale * WEIGHTS.view(4, 2, 1, 1))

    def forward(self, x):
        return self.last(self.mid(self.first(x).relu()).mean((2, 3)))


class Images:
    def epoch(self):
        yield torch.cat([INPUTS, torch.ones(1, 4)]).view(1, 3, 2, 2), None


@pytest.fixture
def run(monkeypatch):
    """Weights were half as large in float; both intervals of ``mid`` prune below 0.3 and clip above 0.7."""
    scheme = models.Scheme("qil", "qil", w_bits=3, a_bits=2, quantize_first=False, quantize_last=False)
    images = next(Images().epoch())[0]
    network = models.calibrate(models.quantize(Net(1.0), scheme), images)
    for q in (network.mid.weight_quantizer, network.mid.input_quantizer):
        q.c.data.fill_(0.5)
        q.d.data.fill_(0.3)
    monkeypatch.setattr(loading, "batches", lambda recipe, device: (None, Images()))
    run = made({("mid", "weight"): [(0.4, 0.4), (0.5, 0.3)], ("mid", "activation"): [(0.33, 0.33), (0.5, 0.3)]})
    monkeypatch.setattr(run, "model", lambda phase=None: copy.deepcopy(network) if phase is None else Net(0.5))
    return run


def test_pruning_by_hand(run):
    table = qil_intervals.interval_pruning(run).set_index("role")
    assert table.layer.tolist() == ["mid", "mid"] and table["values"].tolist() == [8, 8]
    assert table.loc["weight", ["zero", "pruned", "pruned_of_all", "clipped"]].tolist() == pytest.approx(
        [1 / 8, 2 / 7, 3 / 8, 2 / 8])
    assert table.loc["activation", ["zero", "pruned", "pruned_of_all", "clipped"]].tolist() == pytest.approx(
        [2 / 8, 2 / 6, 4 / 8, 2 / 8])
    assert table.at_start.to_dict() == {"weight": 2 / 8, "activation": 3 / 8}     # below 0.4 / 3 and 0.33 / 3
    assert (table.c.round(6).tolist(), table.d.round(6).tolist()) == ([0.5, 0.5], [0.3, 0.3])


def test_pruning_of_a_run_that_does_not_track_its_intervals(run):
    run.history = run.history[run.history.split != "quantizer"]
    table = qil_intervals.interval_pruning(run)
    assert table.at_start.isna().all() and table.pruned_of_all.tolist() == [3 / 8, 4 / 8]


def test_histograms_hold_what_the_quantizers_see(run):
    table = qil_intervals.interval_histograms(run)
    assert len(table) == 4 * qil_intervals.BINS and set(table.layer) == {"mid"}
    assert table.groupby(["network", "role"]).share.sum().tolist() == pytest.approx([1] * 4)
    for network, scale in (("quantized", 1.0), ("float", 0.5)):
        mine = table[(table.network == network) & (table.role == "weight")]
        assert (mine.left.min(), mine.left.max() + mine.width.max()) == pytest.approx((-0.9 * scale, 0.71 * scale))
        inside = (mine.left < 0.32 * scale) & (mine.left + mine.width > 0.3 * scale)
        assert mine.share[inside].sum() == pytest.approx(1 / 8)
        above = table[(table.network == network) & (table.role == "activation")]
        assert above.left.min() == 0 and above[above.left > 0.6].share.sum() == pytest.approx(3 / 6)   # of the six > 0


def test_motion_is_in_widths_of_the_interval_before():
    way = [(1.0, 1.0), (1.1, 1.0), (1.2, 1.0), (1.2, 1.0), (1.25, 1.0)]       # 3-bit weights: 2/3 and 4/3 apart
    still = [(1.0, 1.0)] * 5
    run = made({("a", "weight"): way, ("b", "weight"): still, ("a", "activation"): still})
    table = analysis.qil_intervals.motion([run]).set_index(["intervals of", "bound"])
    for bound in ("m", "M"):
        assert table.loc["weights", bound].tolist() == pytest.approx([12.5 * 3 / 4, 25 * 3 / 4, 5 * 3 / 4])
        assert table.loc["activations", bound].tolist() == [0, 0, 0]


def tables(run, shares, start=0.1):
    """Gives a run the tables that are made of networks; ``shares``: {(layer, role): (values, pruned)}."""
    ends = qil_intervals.bounds(run).query("epoch == epoch.max()").set_index(["layer", "role"])
    run._found["interval_pruning"] = pd.DataFrame([
        {"layer": layer, "role": role, "bits": ends.bits[layer, role], "c": ends.c[layer, role],
         "d": ends.d[layer, role], "values": n, "zero": 0.05, "pruned": share, "pruned_of_all": share, "clipped": 0.0,
         "at_start": start} for (layer, role), (n, share) in shares.items()])
    run._found["interval_histograms"] = pd.DataFrame([
        (network, layer, role, 0.25 * i, 0.25, 0.25) for layer, role in shares for network in ("float", "quantized")
        for i in range(4)], columns=["network", "layer", "role", "left", "width", "share"])
    return run


@pytest.fixture
def found():
    """5, 4 and 3 bits: the weights of layer "a" are pruned more and more, and m of "b" falls below 0 at 5 bits."""
    def one(bits, share):
        way = {("a", "weight"): [(1.0, 1.0), (1.5, 1.0)], ("a", "activation"): [(1.0, 1.0)] * 2,
               ("b", "weight"): [(1.0, 1.0), (0.8, 1.0)], ("b", "activation"): [(1.0, 1.0)] * 2}
        shares = {("a", "weight"): (3, share), ("a", "activation"): (3, 0.7), ("b", "weight"): (1, 0.0),
                  ("b", "activation"): (1, 0.9)}
        return [tables(made(way, bits, bits), shares)]

    return {5: one(5, 0.2), 4: one(4, 0.4), 3: one(3, 0.8)}


def test_shares_of_all_layers_weigh_each_value_alike(found):
    shares = analysis.qil_pruning.pruned_shares(found)
    whole = shares[shares.layer == "all"].set_index(["role", "bits"])
    assert whole.end["weight"].tolist() == pytest.approx([15, 30, 60]) and whole.start.tolist() == [10] * 6
    assert whole.end["activation"].tolist() == pytest.approx([75] * 3)
    table = analysis.qil_pruning.summary(shares, paper_tables.pruned_shares())
    assert table["paper"].tolist() == ["26.4", "", "84.2"] + ["about 75"] * 3
    assert table["ours, all layers"][:3].tolist() == ["15.0 (n=1)", "30.0 (n=1)", "60.0 (n=1)"]
    assert table.iloc[3, -2:].tolist() == ["80.0", "70.0 to 90.0"]


def test_pictures_say_what_they_show(found):
    first = {bits: runs[0] for bits, runs in found.items()}
    values, intervals = analysis.qil_intervals.distributions(first)
    lines, shares = analysis.qil_intervals.last_bounds(first[4]), analysis.qil_pruning.pruned_shares(found)
    figure = plots.qil_intervals.draw_bounds(lines, footnote="made up")
    ends = {line.get_label(): line.get_ydata()[-1] for line in figure.axes[1].lines}     # M of the weights
    assert ends["a"] == pytest.approx((2.5 - 1 / 7) / (2 - 1 / 7)) and len(ends) == 2
    assert "of weights M lies between 0.89 and 1.27 of where it began" in figure.alt
    figure = plots.qil_intervals.draw_distributions(values, intervals, "a", footnote="made up")
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles[:4] == ["float", "5 bits: 20.0 % pruned", "4 bits: 40.0 % pruned", "3 bits: 80.0 % pruned"]
    drawn = [round(float(line.get_xdata()[0]), 3) for line in figure.axes[3].lines]
    assert drawn == [0.833, 2.167, 1.5, -0.833, -2.167, -1.5] and len(figure.axes[7].lines) == 3
    assert not figure.axes[0].lines and not figure.axes[4].lines
    assert "of the weights 20.0 % at 5 bits, 40.0 % at 4 bits, 80.0 % at 3 bits; of the activations" in figure.alt
    figure = plots.qil_pruning.draw(shares, footnote="made up")
    stars = [line for line in figure.axes[0].lines if line.get_label() == "paper"]
    assert list(zip(*stars[0].get_data())) == [(0, 26.4), (2, 84.2)]
    assert "weights 15.0 at 5 bits (10.0 before training), 30.0 at 4 bits" in figure.alt
    plt.close("all")
    with pytest.raises(InputError, match="no quantized layer 'c': choose from a, b"):
        plots.qil_intervals.draw_distributions(values, intervals, "c", footnote="made up")


def test_words_tell_what_was_there_before_training(found):
    said = analysis.qil_pruning.in_words(found)
    assert said.startswith("* Quantized networks train for 2 epochs, 20 steps, where the paper's train for 200 epochs")
    assert "Below 5 %, as for the activations, the curves" in said and "the weights and the" not in said
    assert "changes by +45.0 points. Before the first step of training it was +0.0 already" in said
    assert "+5.0 points at 5 bits, +20.0 points at 4 bits, +50.0 points at 3 bits" in said
    assert "in 1 of 2 layers at 5 bits, 1 of 2 layers at 4 bits. Then nothing" in said
    assert "80 % are 0 at 3 bits (5 % by ReLU alone)" in said
