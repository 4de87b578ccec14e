"""QIL's training: the paper's schedules, their short forms, and what the engine makes of them."""
import dataclasses
from collections import defaultdict

import pytest
import torch

from paperlib import models, quantizers, recipes, runs
from paperlib.errors import InputError
from paperlib.recipes import profiles
from paperlib.recipes.qil import OTHERS
from paperlib.training.engine import begin, parameter_groups, quantizer_parameters
from paperlib.training.phases import Phase

IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def names(recipe):
    return [p.name for p in recipe.phases]


def test_cifar10_is_the_papers_section_4_1():
    recipe = recipes.qil("vgg7", w_bits=3, a_bits=1, distillation=0.5, profile="cifar10")
    assert (recipe.model, recipe.width, recipe.batch_size, recipe.train_images) == ("vgg7", 1.0, 128, 50_000)
    beginning, phase = recipe.phases
    for p in recipe.phases:
        assert (p.epochs, p.milestones, p.lr, p.weight_decay, p.momentum) == (200, (60.0, 120.0, 180.0), 0.1, 2e-4, 0.9)
        assert p.linear_lr == 0.01 and not p.nesterov and p.warmup_epochs == 0
        assert [p.lr * p.lr_factor(e) for e in (0, 59.9, 60, 120, 199)] == pytest.approx([.1, .1, .01, .001, .0001])
    assert beginning.scheme is None and phase.quantizer_lr == 0.01
    assert (phase.label_weight, phase.teacher_weight, phase.teacher_loss, phase.teacher) == (0.5, 0.5, "mse", "float")
    scheme = phase.scheme
    assert (scheme.weight, scheme.activation, scheme.w_bits, scheme.a_bits) == ("qil", "qil", 3, 1)
    assert not scheme.quantize_first and not scheme.quantize_last and scheme.weight_options == {"normalized": True}
    assert recipe.label == "QIL, 3-bit weights, 1-bit activations, distillation 0.5"


@pytest.mark.parametrize("model, epochs, milestones", [("resnet18", 90, (20, 40, 60, 80)),
                                                       ("alexnet", 60, (5, 20, 30, 40, 50))])
def test_imagenet_is_the_papers_section_4_2(model, epochs, milestones):
    recipe = recipes.qil(model, w_bits=2, a_bits=2)
    assert names(recipe) == ["float", *(f"{b}-bit weights, {b}-bit activations" for b in (5, 4, 3, 2))]
    assert (recipe.batch_size, recipe.augmentation, recipe.width) == (512, "random_crop", 1.0)
    for phase in recipe.phases[1:]:
        assert (phase.epochs, phase.milestones, phase.lr, phase.weight_decay) == (epochs, milestones, 0.01, 1e-4)
        assert phase.teacher is None and phase.label_weight == 1 and phase.linear_lr == 1
        assert phase.scheme.weight_options == {}


@pytest.mark.parametrize("profile", ["laptop", "smoke"])
def test_small_profiles_shorten_the_schedule_in_proportion(profile):
    scale = profiles.get(profile)
    recipe = recipes.qil("vgg7", w_bits=2, a_bits=2, profile=profile)
    assert recipe.width == scale.vgg_width and recipe.batch_size == scale.batch_size
    assert recipe.phases[-1].quantizer_lr == 0.01
    for phase, epochs in zip(recipe.phases, (2 * scale.float_epochs, scale.stage_epochs), strict=True):
        assert phase.epochs == epochs
        assert phase.milestones == pytest.approx([epochs * share for share in (0.3, 0.6, 0.9)])


def test_from_trained_weights_weights_have_the_profiles_rate_and_intervals_the_papers():
    scale = profiles.get("pretrained")
    beginning, phase = recipes.qil("vgg7", w_bits=2, a_bits=2, profile="pretrained").phases
    assert (beginning.epochs, phase.epochs, phase.lr) == (0, scale.stage_epochs, scale.lr)
    assert phase.lr * phase.quantizer_lr == pytest.approx(0.1 * 0.01)
    assert recipes.qil("vgg7", profile=profiles.changed("pretrained", lr=0)).phases[1].lr == 0
    assert recipes.vgg7("TTQ", profile="pretrained").phases[1].quantizer_lr == 0.01         # of weights, not of QIL's
    paper = recipes.qil("vgg7", profile=profiles.changed("cifar10", weights="CIFAR10_V1")).phases[1]
    assert (paper.lr, paper.quantizer_lr) == (0.1, 0.01)


def test_from_trained_weights_xnors_network_first_gets_used_to_hardtanh():
    recipe = recipes.vgg7("XNOR", profile="pretrained")
    assert recipe.model == "vgg7_hardtanh" and [p.epochs for p in recipe.phases] == [5, 5]
    begun = profiles.changed("pretrained", float_epochs=12)             # all others train float first, too
    assert recipes.vgg7("XNOR", profile=begun).phases[0] == recipes.vgg7("TWN", profile=begun).phases[0]
    ours, relu = (models.build(name, width=0.25, weights="CIFAR10_V1").state_dict() for name in (recipe.model, "vgg7"))
    assert all(torch.equal(ours[name], value) for name, value in relu.items()) and ours.keys() == relu.keys()


def test_progressive_goes_down_through_the_next_higher_widths():
    recipe = recipes.qil("vgg7", w_bits=3, a_bits=1, profile="laptop", progressive=True)
    assert names(recipe)[1:] == ["8-bit weights, 8-bit activations", "5-bit weights, 5-bit activations",
                                 "4-bit weights, 4-bit activations", "3-bit weights, 3-bit activations",
                                 "3-bit weights, 2-bit activations", "3-bit weights, 1-bit activations"]
    assert names(recipes.qil("resnet18", profile="imagenette", progressive=False)) == ["float", names(recipe)[3]]


def test_a_lambda_of_one_needs_no_labels():
    phase = recipes.qil("vgg7", distillation=1, profile="laptop").phases[-1]
    assert (phase.label_weight, phase.teacher_weight) == (0, 1)
    with pytest.raises(InputError, match="distillation must be a number from 0 to 1, got 2"):
        recipes.qil("vgg7", distillation=2, profile="laptop")


@pytest.mark.parametrize("method", [*OTHERS, "float"])
def test_other_methods_differ_in_the_quantizers_alone(method):
    recipe = recipes.vgg7(method, profile="laptop")
    ours = recipes.qil("vgg7", w_bits=2, a_bits=32, profile="laptop")
    assert recipe.phases[0] == ours.phases[0] and recipe.width == ours.width
    assert recipe.model == ("vgg7_hardtanh" if method == "XNOR" else "vgg7")
    same = {"name": "", "scheme": None, "track": False, "teacher_loss": "", "teacher_weight": 0.0}
    one, other = (dataclasses.asdict(r.phases[1]) | same for r in (recipe, ours))
    assert one == other
    scheme = recipe.phases[1].scheme
    assert not scheme.quantize_first and not scheme.quantize_last
    bits = {"TTQ": (2, 32), "TWN": (2, 32), "XNOR": (1, 1), "float": (32, 32)}.get(method, (1, 32))
    assert (scheme.w_bits, scheme.a_bits) == bits


@pytest.mark.parametrize("ask, cause", [
    (lambda: recipes.qil("mobilenet_v2"), "for vgg7, resnet18, alexnet, not 'mobilenet_v2'"),
    (lambda: recipes.qil("resnet18", profile="laptop"), "resnet18 on photographs: choose the profile imagenet"),
    (lambda: recipes.qil("vgg7"), "vgg7 on CIFAR-10: choose the profile cifar10 or laptop"),
    (lambda: recipes.vgg7("duq"), "unknown method 'duq': choose from float, TTQ")])
def test_what_does_not_fit_is_refused(ask, cause):
    with pytest.raises(InputError, match=cause):
        ask()


def started(recipe):
    """The recipe's network at the beginning of its last phase."""
    net = models.build(recipe.model, width=0.05)
    return begin(net, recipe.phases[-1], IMAGES)


def test_convolutions_linear_layers_and_intervals_have_rates_of_their_own():
    recipe = recipes.qil("vgg7", profile="laptop")
    net, rates = started(recipe), defaultdict(set)
    by_id = {id(p): name for name, p in net.named_parameters()}
    for group in parameter_groups(net, recipe.phases[-1]):
        for p in group["params"]:
            rates[round(group["lr"], 9), group["weight_decay"]].add(by_id[id(p)])
    intervals = {n for n in by_id.values() if n.endswith((".c", ".d"))}
    linear = {n for n in by_id.values() if n.startswith(("classifier.0.", "classifier.3."))} - intervals
    assert len(intervals) == 6 * 4 and rates[0.001, 0.0] >= intervals
    assert rates[0.001, 0.0] | rates[0.001, 2e-4] == linear | intervals
    assert set(rates) == {(0.1, 2e-4), (0.1, 0.0), (0.001, 2e-4), (0.001, 0.0)}
    assert {n for (_, decay), found in rates.items() if decay for n in found} == {
        n for n, p in net.named_parameters() if p.ndim > 1}


def test_intervals_of_linear_layers_learn_no_faster_than_these():
    recipe = recipes.qil("vgg7", profile="pretrained")
    net, stage = started(recipe), recipe.phases[-1]
    assert (stage.lr, stage.quantizer_lr, stage.linear_lr) == (0.01, 0.1, 0.01)
    by_id = {id(p): name for name, p in net.named_parameters()}
    rates = {by_id[id(p)]: group["lr"] for group in parameter_groups(net, stage) for p in group["params"]}
    for role in ("weight", "input"):
        assert rates[f"features.3.0.{role}_quantizer.c"] == pytest.approx(0.001)
        assert rates[f"classifier.0.{role}_quantizer.c"] == rates["classifier.0.weight"] == pytest.approx(1e-4)


def test_quantizer_parameters_have_names_and_values():
    net = started(recipes.qil("vgg7", w_bits=3, a_bits=2, profile="laptop"))
    found = quantizer_parameters(net)
    assert len(found) == 24
    layer = net.features[3][0]
    assert found["features.3.0 weight c"] == layer.weight_quantizer.c.item()
    assert found["features.3.0 activation d"] == layer.input_quantizer.d.item()
    assert quantizer_parameters(models.build("vgg7", width=0.05)) == {}


def test_tracked_phases_keep_the_intervals_of_every_epoch(tmp_path, monkeypatch, one_thread):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path))
    recipe = recipes.qil("vgg7", w_bits=2, a_bits=2, profile=profiles.changed(
        "smoke", train_images=100, test_images=50, batch_size=50, float_epochs=1, stage_epochs=2))
    run = runs.obtain(recipe)
    rows = run.history[run.history.split == "quantizer"]
    assert set(rows.phase) == {recipe.phases[-1].name} and sorted(set(rows.epoch)) == [0, 1, 2]
    last = rows[rows.epoch == 2].set_index("metric").value
    assert last.to_dict() == pytest.approx(quantizer_parameters(run.model()))
    assert not last.equals(rows[rows.epoch == 0].set_index("metric").value)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_normalized_weights_are_divided_by_their_greatest_level(bits):
    w = torch.randn(500, generator=torch.Generator().manual_seed(1)).double()
    plain, unit = (quantizers.build("qil", role="weight", bits=bits, **o).double().calibrate(w)
                   for o in ({}, {"normalized": True}))
    assert torch.equal(plain.encode(w), unit.encode(w))
    torch.testing.assert_close(unit(w) * plain.top(), plain(w), atol=1e-12, rtol=0)
    assert unit.levels()[-1] == 1
    x = w.clone().requires_grad_()
    unit(x).sum().backward()
    inside = (w.abs() > (unit.c - unit.d)) & (w.abs() < unit.c + unit.d)
    torch.testing.assert_close(x.grad, inside.double() * 0.5 / unit.d.detach(), atol=1e-12, rtol=0)


def test_phase_reads_its_rate_as_a_number():
    assert Phase("float", 1, 0.1, linear_lr=1) == Phase("float", 1, 0.1, linear_lr=1.0)
