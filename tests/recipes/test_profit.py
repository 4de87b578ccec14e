"""PROFIT's phases, for every combination of its switches; and the whole of it on a tiny network."""
import dataclasses
import itertools
import json

import pytest
import torch

from paperlib import models, recipes, runs
from paperlib.data.cifar10_batches import Batches
from paperlib.data.cifar10_images import load_subset
from paperlib.errors import InputError
from paperlib.models.layers import QuantConv2d, QuantLinear
from paperlib.recipes import profiles
from paperlib.runs.phase_store import StoredPhase
from paperlib.training import freezing
from paperlib.training.engine import evaluate
from paperlib.training.phases import BN_ONLY, Freeze

ORDERS = ("aiwq", "reverse", "random", "none")


@pytest.fixture(scope="module", autouse=True)
def cpu():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield
    torch.set_num_threads(threads)


def bits(recipe):
    """(weights, activations) of each quantized phase."""
    return [(p.scheme.w_bits, p.scheme.a_bits) for p in recipe.phases[1:]]


def test_the_paper_s_phases():
    recipe = recipes.profit("mobilenet_v2", profile="cifar10")
    names = [p.name for p in recipe.phases]
    widths = [f"{what} {n}" for what in ("activations", "weights") for n in (8, 5, 4)]
    wanted = ["float", "fine-tuning"]
    for width in widths:
        wanted += [f"{width}, norms before", *([width] if width != "weights 4" else
                                               ["sampling", "round 1", "round 2", "round 3"]), f"{width}, norms after"]
    assert names == wanted
    assert list(dict.fromkeys(bits(recipe))) == [(32, 32), (32, 8), (32, 5), (32, 4), (8, 4), (5, 4), (4, 4)]
    freezes = {p.name: p.freeze for p in recipe.phases}
    for name, freeze in freezes.items():
        if ", norms " in name:
            assert freeze == BN_ONLY
        elif name in ("round 2", "round 3"):
            assert freeze == Freeze((int(name[-1]) - 1) / 3, "aiwq", "sampling")
        else:
            assert freeze is None
    assert [p.name for p in recipe.phases if p.measure] == ["sampling"]
    epochs = {p.name: p.epochs for p in recipe.phases}
    assert epochs["float"] == 100 and epochs["sampling"] == 5 and epochs["round 2"] == 18
    assert {n for name, n in epochs.items() if "norms" in name} == {5}
    assert all((p.warmup_epochs == 0) == (", norms " in p.name) for p in recipe.phases)
    assert [p.teacher for p in recipe.phases] == [None] + ["float"] * (len(names) - 1)
    assert all(p.scheme.negative_padding and (p.scheme.weight, p.scheme.activation) == ("duq", "duq")
               for p in recipe.phases[1:])
    assert recipe.phases[0].scheme is None


@pytest.mark.parametrize("w_bits, a_bits, weights, activations", [
    (4, 4, [8, 5, 4], [8, 5, 4]), (3, 4, [8, 5, 4, 3], [8, 5, 4]), (2, 8, [8, 5, 4, 3, 2], [8]), (8, 5, [8], [8, 5]),
    (6, 7, [8, 6], [8, 7]), (1, 1, [8, 5, 4, 3, 2, 1], [8, 5, 4, 3, 2, 1])])
def test_bits_fall_step_by_step_activations_first(w_bits, a_bits, weights, activations):
    profile = profiles.changed("smoke", bn_epochs=1)
    found = bits(recipes.profit(w_bits=w_bits, a_bits=a_bits, profile=profile))
    assert list(dict.fromkeys(found)) == [(32, 32), *((32, a) for a in activations), *((w, a_bits) for w in weights)]
    assert found == sorted(found, reverse=True)
    at_once = bits(recipes.profit(w_bits=w_bits, a_bits=a_bits, profile=profile, progressive=False))
    assert list(dict.fromkeys(at_once)) == [(32, 32), (32, a_bits), (w_bits, a_bits)]


@pytest.mark.parametrize("progressive, bn_stages, teacher, padding", list(itertools.product([True, False], repeat=4)))
def test_switches_take_out_their_part_and_nothing_else(progressive, bn_stages, teacher, padding):
    profile = profiles.changed("smoke", bn_epochs=1)
    whole = recipes.profit(profile=profile)
    recipe = recipes.profit(profile=profile if bn_stages else "smoke", progressive=progressive, bn_stages=bn_stages,
                            teacher=teacher, negative_padding=padding)
    wanted = [p for p in whole.phases if (bn_stages or "norms" not in p.name)
              and (progressive or not any(f"{what} {n}" in p.name for what in ("activations", "weights")
                                          for n in (8, 5)))]
    assert [p.name for p in recipe.phases] == [p.name for p in wanted]
    for p, q in zip(recipe.phases, wanted):
        if p.scheme:
            q = dataclasses.replace(q, scheme=dataclasses.replace(q.scheme, negative_padding=padding),
                                    teacher="float" if teacher else None)
        assert p == q
    assert set(recipe.table()["negative padding"][1:]) == {padding}
    assert set(recipe.table().teacher[1:]) == {"float" if teacher else "none"}


@pytest.mark.parametrize("rounds", [1, 2, 3, 5])
@pytest.mark.parametrize("order", ORDERS)
def test_rounds(order, rounds):
    """Every order has the same phases, epochs and rates; only what is frozen differs."""
    recipe, other = (recipes.profit(profile="laptop", order=o, rounds=rounds) for o in (order, "aiwq"))
    found = [p for p in recipe.phases if p.name.startswith("round")]
    assert [p.name for p in found] == [f"round {i + 1}" for i in range(rounds)]
    assert [p.freeze for p in found] == [
        None if i == 0 or order == "none" else Freeze(i / rounds, order, "sampling") for i in range(rounds)]
    assert [dataclasses.replace(p, freeze=None) for p in recipe.phases] == [
        dataclasses.replace(p, freeze=None) for p in other.phases]
    assert [p.freeze for p in recipe.phases if p not in found] == [
        p.freeze for p in other.phases if p.name[:5] != "round"]
    assert recipe.label == {"aiwq": "PROFIT", "none": "nothing frozen"}.get(order, f"PROFIT, {order} order")


def test_orders_share_all_before_the_second_round():
    """So comparing them trains little twice."""
    profile = profiles.changed("smoke", bn_epochs=1)
    keys = {order: [link.key for link in StoredPhase.chain(recipes.profit(profile=profile, order=order))]
            for order in ORDERS}
    names = [p.name for p in recipes.profit(profile=profile).phases]
    shared = names.index("round 2")
    assert all(keys[order][:shared] == keys["aiwq"][:shared] for order in ORDERS)
    assert all(len({keys[order][i] for order in ORDERS}) == 4 for i in range(shared, len(names)))


@pytest.mark.parametrize("profile", profiles.names())
@pytest.mark.parametrize("order", ORDERS)
def test_survives_json(order, profile):
    recipe = recipes.profit("mobilenet_v1", w_bits=3, profile=profile, order=order, seed=3, teacher=order != "none")
    again = recipes.Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe
    if not recipe.recorded:
        assert [a.key for a in StoredPhase.chain(again)] == [b.key for b in StoredPhase.chain(recipe)]


@pytest.mark.parametrize("options, cause", [
    ({"order": "alphabet"}, "unknown freezing order 'alphabet': choose from aiwq"),
    ({"rounds": 0}, "rounds must be a whole number from 1 to 100, got 0"),
    ({"w_bits": 32}, "quantizes weights and activations"), ({"a_bits": 32}, "quantizes weights and activations"),
    ({"w_bits": 9}, "1 to 8"), ({"a_bits": 0}, "1 to 8"), ({"w_bits": 2.0}, "whole number"),
    ({"profile": "huge"}, "unknown profile 'huge'"), ({"weight": "pact"}, "'pact' does not quantize weights"),
    ({"activation": "magic"}, "'magic' does not quantize activations")])
def test_what_cannot_be(options, cause):
    with pytest.raises(InputError, match=cause):
        recipes.profit(**{"profile": "smoke", **options})


def test_other_quantizers_and_learning_rate():
    recipe = recipes.profit(profile="smoke", weight="sawb", activation="pact", lr=0.123)
    assert {(p.scheme.weight, p.scheme.activation, p.lr) for p in recipe.phases[1:]} == {("sawb", "pact", 0.123)}
    assert recipe.phases[0] == recipes.profit(profile="smoke").phases[0]


def test_imagenet_profile_has_the_authors_numbers():
    """Those of the released code: SGD with Nesterov momentum, batches of 256, moving averages in steps, rates."""
    recipe = recipes.profit("mobilenet_v2", profile="imagenet")
    assert (recipe.batch_size, recipe.num_classes, recipe.input_size, recipe.data) == (256, 1000, 224, "imagenet")
    assert (recipe.train_images, recipe.test_images, recipe.weights) == (0, 0, "IMAGENET1K_V1")
    assert recipe.phases[0].epochs == 0 and recipe.phases[0].teacher is None
    steps = 5005
    for p in recipe.phases[1:]:
        bn_only = ", norms " in p.name
        assert (p.momentum, p.nesterov, p.weight_decay, p.quantizer_lr) == (0.9, True, 4e-5, 0.01)
        assert p.averaging_weight(steps) == pytest.approx(1 - 0.9997, rel=2e-3) and p.bn_momentum is None
        assert (p.teacher, p.teacher_loss, p.label_weight, p.teacher_weight) == (
            "torchvision/resnet101", "cross_entropy", 1.0, 1.0)
        assert p.per_epoch and not p.milestones
        assert p.epochs == (5 if bn_only or p.name == "sampling" else 18)
        assert [p.lr_factor(e) for e in range(4)][:3] == pytest.approx([0.1, 0.4, 0.7] if not bn_only else [
            p.lr_factor(e + 0.5) for e in range(3)])
        assert p.lr_factor(0 if bn_only else 3) == 1.0 and p.lr_factor(p.epochs) == pytest.approx(1e-3)


def tiny(**options):
    """All of PROFIT at 3 bits with a step or two in each of its phases."""
    profile = profiles.changed("smoke", train_images=40, test_images=40, batch_size=20, bn_epochs=1, float_lr=0.4,
                               lr=0.05, quantizer_lr=1.0)
    return recipes.profit("mobilenet_v2", w_bits=3, a_bits=3, profile=profile, progressive=False, **options)


def weights(net):
    return {name: [m.weight.detach().clone(), None if m.bias is None else m.bias.detach().clone()]
            for name, m in net.named_modules() if isinstance(m, (QuantConv2d, QuantLinear))}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAPERLIB_RUNS", str(tmp_path_factory.mktemp("profit")))
        yield {order: runs.obtain(tiny(order=order), progress=lambda **event: None) for order in ORDERS}


def unchanged(run, before, after):
    """The layers whose weight and bias are the same to the bit after both phases."""
    a, b = (weights(run.model(phase)) for phase in (before, after))
    return [name for name in a if all(x is y or torch.equal(x, y) for x, y in zip(a[name], b[name]))]


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_frozen_layers_stand_still(order, finished):
    run = finished[order]
    table = run.instability
    assert set(table.phase) == {"sampling"} and table.layer.tolist() == run.layers.layer.tolist()
    assert table.aiwq.between(0, 1e9).all() and table.aiwq.max() > 0 and (table.iterations == 1).all()
    names = table.layer.tolist()
    ranked = table.sort_values("aiwq", ascending=order == "reverse", kind="stable").layer.tolist()
    still = [set(unchanged(run, *pair)) for pair in (("sampling", "round 1"), ("round 1", "round 2"),
                                                     ("round 2", "round 3"), ("round 3", "weights 3, norms after"))]
    n = [round(len(names) * i / 3) for i in range(4)]
    if order == "none":
        assert still == [set(), set(), set(), set(names)]
    elif order == "random":
        assert [len(s) for s in still] == n and still[1] < still[2]
        assert still[1] == set(freezing.choose(Freeze(1 / 3, "random"), names, seed=0))
    else:
        assert still == [set(ranked[:k]) for k in n]


def test_other_parameters_of_frozen_layers_train(finished):
    before, after = (finished["aiwq"].model(phase).state_dict() for phase in ("round 3", "weights 3, norms after"))
    moved = {name for name, value in before.items() if torch.is_tensor(value) and not torch.equal(value, after[name])}
    assert any(name.endswith("weight_quantizer.a") for name in moved)
    assert any(name.endswith("input_quantizer.a") for name in moved)
    assert {"features.0.1.weight", "features.0.1.bias", "features.0.1.running_mean"} <= moved


def test_run_of_profit_says_what_its_networks_do(finished):
    test = Batches(load_subset()[1].stratified(40), 500, train=False)
    run = finished["aiwq"]
    last = run.recipe.phases[-1].name
    for averaged, split in ((False, "val"), (True, "val_ema")):
        found = evaluate(run.model(averaged=averaged), test)
        assert found["loss"] == pytest.approx(run.values(last, split).iloc[-1], rel=1e-6)
    assert set(models.plan(run.model()).w_bits) == {3}
    assert run.model("fine-tuning").features[0][0].weight_quantizer is None
    others = [finished[order].values("round 2", "train").iloc[-1] for order in ORDERS]
    assert len(set(others)) == 4                    # freezing makes a difference
    assert len({run.values("round 1", "train").iloc[-1] for run in finished.values()}) == 1
