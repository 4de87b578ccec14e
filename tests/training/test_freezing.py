"""Which layers freeze, and what still moves in a network where some are frozen."""
import dataclasses
import itertools
import math

import pandas as pd
import pytest
import torch
from torch import nn

from paperlib import models, recipes, runs
from paperlib.data.cifar10_batches import Batches
from paperlib.data.cifar10_images import load_subset
from paperlib.errors import InputError
from paperlib.models import Scheme, fused_conv
from paperlib.models.layers import QuantConv2d, QuantLinear
from paperlib.quantizers import Quantizer
from paperlib.runs.phase_store import StoredPhase
from paperlib.training import freezing
from paperlib.training.engine import Trainer, parameter_groups
from paperlib.training.phases import BN_ONLY, Freeze, Phase

LAYERS = list("abcdefg")


pytestmark = pytest.mark.usefixtures("one_thread")


def table(*values, layers=LAYERS):
    return pd.DataFrame({"layer": layers[:len(values)], "aiwq": values})


MEASURED = table(0.1, 0.9, 0.3, 0.5, 0.2, 0.7, 0.4)


@pytest.mark.parametrize("order, share, chosen", [
    ("aiwq", 1 / 3, "bf"), ("aiwq", 2 / 3, "bcdfg"), ("reverse", 1 / 3, "ae"), ("reverse", 2 / 3, "acdeg"),
    ("aiwq", 0.0, ""), ("aiwq", 1.0, "abcdefg"), ("aiwq", 0.05, ""), ("aiwq", 0.08, "b"), ("reverse", 0.95, "abcdefg")])
def test_by_what_was_measured(order, share, chosen):
    """The rows of the table may stand in any order; the result has the network's."""
    for measured in (MEASURED, MEASURED.iloc[::-1]):
        assert freezing.choose(Freeze(share, order, "m"), LAYERS, measured) == list(chosen)


@pytest.mark.parametrize("n, third, two_thirds", [(1, 0, 1), (2, 1, 1), (3, 1, 2), (4, 1, 3), (5, 2, 3), (64, 21, 43)])
def test_rounding_of_the_share(n, third, two_thirds):
    names = [str(i) for i in range(n)]
    measured = table(*map(float, range(n)), layers=names)
    for share, count in ((1 / 3, third), (2 / 3, two_thirds)):
        assert freezing.choose(Freeze(share, "aiwq", "m"), names, measured) == names[n - count:]


@pytest.mark.parametrize("order, wanted", [("aiwq", "ace"), ("reverse", "bdfg")])
def test_layers_without_a_value_count_as_the_most_stable(order, wanted):
    """NaN, or no row at all; 0 is more than not known."""
    measured = table(0.5, math.nan, 0.3, math.nan, 0.0, math.nan)       # and g is not in it
    assert freezing.choose(Freeze(len(wanted) / 7, order, "m"), LAYERS, measured) == list(wanted)


def test_equal_values_freeze_in_the_network_s_order():
    for order in ("aiwq", "reverse"):
        assert freezing.choose(Freeze(3 / 7, order, "m"), LAYERS, table(*[0.5] * 7)) == ["a", "b", "c"]


def test_random_order_depends_on_the_seed_alone():
    names = [str(i) for i in range(30)]

    def choose(seed, share=0.5, measured=None):
        return freezing.choose(Freeze(share, "random"), names, measured, seed)
    assert choose(3) == choose(3) == choose(3, measured=table(*map(float, range(30)), layers=names))
    found = [choose(seed) for seed in range(20)]
    assert all(len(f) == 15 and f == sorted(f, key=int) for f in found)
    assert len({tuple(f) for f in found}) == 20
    assert {name for f in found for name in f} == set(names)
    assert set(choose(3, 1 / 3)) < set(choose(3, 2 / 3))       # who is frozen in round 2 stays so in round 3


@pytest.mark.parametrize("order", ["aiwq", "reverse"])
def test_later_rounds_freeze_more_of_the_same(order):
    rounds = [set(freezing.choose(Freeze(share, order, "m"), LAYERS, MEASURED)) for share in (0, 1 / 3, 2 / 3, 1)]
    assert all(a < b for a, b in zip(rounds, rounds[1:]))


def test_layers_by_name_come_on_top():
    assert freezing.choose(Freeze(layers=("e", "b")), LAYERS) == ["b", "e"]
    assert freezing.choose(Freeze(1 / 3, "aiwq", "m", ("g", "b")), LAYERS, MEASURED) == ["b", "f", "g"]
    with pytest.raises(InputError, match="cannot freeze x, y: the network's layers are a, b, c, d, e, f, ..."):
        freezing.choose(Freeze(layers=("a", "x", "y")), LAYERS)


def test_without_a_measurement():
    with pytest.raises(InputError, match="'m' has measured no AIWQ: give it measure=True"):
        freezing.choose(Freeze(0.5, "aiwq", "m"), LAYERS)
    assert freezing.choose(BN_ONLY, LAYERS) == LAYERS


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_impossible_share(share):
    with pytest.raises(InputError, match="freeze share must be a number from 0 to 1"):
        Freeze(share)


@pytest.mark.parametrize("arguments, cause", [
    ((0.5, "alphabet", "m"), "order must be one of aiwq, reverse, random, got 'alphabet'"),
    ((0.5, "aiwq"), "needs measured_in"), ((0.5, "reverse"), "measured_in")])
def test_impossible_order(arguments, cause):
    with pytest.raises(InputError, match=cause):
        Freeze(*arguments)


@pytest.fixture(scope="module")
def batches():
    train, test = (images.stratified(40) for images in load_subset())
    return Batches(train, 20, train=True, seed=1), Batches(test, 40, train=False)


def network(fuse):
    """Four quantized layers, the last of which has no batch norm behind it."""
    torch.manual_seed(0)
    parts = [nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8),
             nn.Hardswish(), nn.Conv2d(8, 12, 1, 2), nn.BatchNorm2d(12), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
             nn.Flatten(), nn.Linear(48, 10)]
    net = nn.Sequential(*parts).to(memory_format=torch.channels_last)
    images = load_subset()[0].stratified(20).x.float() / 64 - 2
    net = models.calibrate(models.quantize(net, Scheme()), images)
    return models.fuse(net) if fuse else net


def state(net):
    return {name: value.clone() for name, value in net.state_dict().items() if not name.endswith("_extra_state")}


NORM = {"0": "1", "3": "4", "6": "7"}


@pytest.mark.slow
@pytest.mark.parametrize("names", [["3"], ["0", "11"], ["0", "3", "6", "11"]], ids="-".join)
@pytest.mark.parametrize("norms, quantizers", list(itertools.product([True, False], repeat=2)))
@pytest.mark.parametrize("fuse", [False, True], ids=["plain", "fused"])
def test_what_moves_while_training(fuse, norms, quantizers, names, batches, monkeypatch):
    """With momentum and weight decay, over two epochs: to the bit, or by something; in the averaged network as well."""
    monkeypatch.setattr(fused_conv, "WORTH", 0)
    net = network(fuse)
    before = state(net)
    phase = Phase("lesson", 2, lr=0.1, scheme=Scheme(), weight_decay=0.1, quantizer_lr=1.0, warmup_epochs=0,
                  freeze=Freeze(layers=names, norms=norms, quantizers=quantizers))
    if len(names) == 4 and not norms and not quantizers:
        with pytest.raises(InputError, match="everything is frozen"):
            Trainer(net, phase, *batches, seed=0, frozen=names)
        return
    trainer = Trainer(net, phase, *batches, seed=0, frozen=names)
    trainer.run()
    still = {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    if not norms:
        still |= {key for key in before for name in names if key.startswith(f"{NORM.get(name)}.")}
    if not quantizers:
        still |= {key for key in before if key.split(".")[0] in names and "quantizer" in key}
    no_slope = {key for key in before if key.endswith(".c") and key.split(".")[0] in NORM}     # batch norm undoes it
    for after in (state(net), state(trainer.ema.module)):
        moved = {key for key, value in before.items() if not torch.equal(value, after[key])}
        assert not moved & still and set(before) - still - moved <= no_slope
    assert all(value.isfinite().all() for value in state(net).values())


@pytest.mark.parametrize("norms, quantizers", list(itertools.product([True, False], repeat=2)))
def test_what_is_frozen_has_no_place_in_the_optimizer(norms, quantizers):
    net = network(False)
    phase = Phase("lesson", 1, lr=0.1, scheme=Scheme())
    still = freezing.apply(net, Freeze(1.0, norms=norms, quantizers=quantizers), ["0", "3", "6", "11"])
    assert still == ([] if norms else [net[1], net[4], net[7]])
    left = {id(p) for group in parameter_groups(net, phase) for p in group["params"]}
    wanted = {id(p) for m in net.modules() if norms and isinstance(m, nn.BatchNorm2d)
              or quantizers and isinstance(m, Quantizer) for p in m.parameters()}
    assert left == wanted and bool(left) == (norms or quantizers)


def test_without_the_batch_norms_their_running_statistics_would_be_used(batches):
    """A batch norm that stands still is in evaluation mode while it trains, and later phases train it again."""
    net, modes = network(False), []
    phase = Phase("lesson", 1, lr=0.1, scheme=Scheme(), freeze=Freeze(layers=("3",), norms=False))
    Trainer(net, phase, *batches, seed=0, frozen=["3"]).run(
        report=lambda **event: modes.append([net[k].training for k in (1, 4, 7)]))
    assert modes == [[True, False, True]] * 2
    net = models.quantize(net, Scheme())                # what the next phase does
    modes.clear()
    Trainer(net, dataclasses.replace(phase, freeze=None), *batches, seed=0).run(
        report=lambda **event: modes.append([net[k].training for k in (1, 4, 7)]))
    assert modes == [[True] * 3] * 2


@pytest.mark.parametrize("name, some", [
    ("mobilenet_v2", {"features.0.0": "features.0.1", "features.2.conv.2": "features.2.conv.3"}),
    ("mobilenet_v3_large", {"features.0.0": "features.0.1", "features.4.block.1.0": "features.4.block.1.1"}),
    ("resnet18", {"conv1": "bn1", "layer1.0.conv2": "layer1.0.bn2",
                  "layer2.0.downsample.0": "layer2.0.downsample.1"})])
def test_batch_norm_behind_each_convolution(name, some):
    net = models.build(name, **({} if name == "resnet18" else {"width": 0.25}))
    net = models.calibrate(models.quantize(net, Scheme()), torch.randn(2, 3, 32, 32)).train()
    found = freezing.norms_behind(net)
    assert some.items() <= found.items() and len(set(found.values())) == len(found)
    assert set(found.values()) == {n for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    without = {n for n, m in net.named_modules() if isinstance(m, (QuantConv2d, QuantLinear))} - set(found)
    assert all(isinstance(net.get_submodule(n), QuantLinear) or ".fc" in n for n in without)
    for layer, norm in found.items():
        assert net.get_submodule(layer).out_channels == net.get_submodule(norm).num_features
    assert freezing.norms_behind(models.fuse(net)) == found


@pytest.mark.slow
def test_an_identity_path_is_no_layer(tmp_path, monkeypatch):
    """Its quantizer has a row in the plan; freezing all layers and their quantizers leaves the blocks' norms alone."""
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path))
    recipe = recipes.activations_then_weights("duq", profile="smoke")
    scheme = Scheme(identity_bits=8)
    net = models.quantize(models.build("mobilenet_v2", width=0.1), scheme)
    plan = models.plan(net)
    assert freezing.layers(net) == plan.layer[plan.kind != "identity"].tolist() != plan.layer.tolist()
    phase = Phase("norms", 1, lr=0.05, scheme=scheme, freeze=Freeze(1.0, quantizers=False), measure=True)
    recipe = dataclasses.replace(recipe, model="mobilenet_v2", width=0.1, train_images=40, test_images=40,
                                 batch_size=20, phases=(
        Phase("float", 1, lr=0.02, warmup_epochs=0, bn_momentum=1.0), phase))
    run = runs.obtain(recipe, progress=lambda **event: None)
    before, net = run.model("float").state_dict(), run.model("norms")
    norms = {name for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    moved = {key for key, value in before.items() if not torch.equal(value, net.state_dict()[key])}
    assert {key.rpartition(".")[0] for key in moved} == norms
    assert {"features.3.conv.0.1.weight", "features.3.conv.3.bias"} <= moved     # a block with an identity path
    layers = pd.read_csv(StoredPhase(run.recipe, 1).folder / "layers.csv")
    assert layers.layer.tolist() == plan.layer.tolist()
    assert (layers.iterations.isna() == (plan.kind == "identity")).all()
