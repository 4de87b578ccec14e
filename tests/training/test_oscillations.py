"""Weights that jump to and fro: counted against a plain loop, dampened and frozen as the method says."""
import math

import pytest
import torch

from paperlib import models
from paperlib.errors import InputError
from paperlib.models import Scheme
from paperlib.training.oscillations import OscillationTracker
from paperlib.training.phases import Oscillations, Phase


def network(method="duq", bits=3):
    """Two quantized layers of four weights each."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.ReLU(), torch.nn.Linear(2, 2, bias=False))
    net = models.quantize(net, Scheme(weight=method, w_bits=bits, a_bits=8))
    models.calibrate(net, torch.rand(8, 2))
    return net


def weights(net):
    return [m.weight for m in net.modules() if isinstance(m, torch.nn.Linear)]


@torch.no_grad()
def walk(net, generator, size=0.3):
    for weight in weights(net):
        weight.add_(size * torch.randn(weight.shape, generator=generator))


def counted_plainly(paths):
    """(changes, oscillations, frequency) of each weight, out of the codes that it had."""
    found = []
    for path in paths:
        last, changes, turned, frequency = 0, 0, 0, 0.0
        for before, now in zip(path, path[1:]):
            move = (now > before) - (now < before)
            back = move * last < 0
            changes, turned, last = changes + (move != 0), turned + back, move or last
            frequency = 0.99 * frequency + 0.01 * back
        found.append((changes, turned, frequency))
    return found


def test_counts_are_those_of_a_plain_loop():
    net, generator = network(), torch.Generator().manual_seed(1)
    tracker = OscillationTracker(net, Oscillations())
    codes = [tracker.codes.tolist()]
    for _ in range(40):
        walk(net, generator)
        tracker.after_step(0.5)
        codes.append(tracker.codes.tolist())
    plain = counted_plainly(list(zip(*codes)))
    assert max(turned for _, turned, _ in plain) > 5
    torch.testing.assert_close(tracker.frequency, torch.tensor([f for *_, f in plain]))
    table = tracker.table()
    assert list(table.layer) == ["0", "2"]
    for row, part in zip(table.itertuples(), (plain[:4], plain[4:])):
        assert row.changed == pytest.approx(100 * sum(c for c, *_ in part) / 4 / 40)
        assert row.turned == pytest.approx(100 * sum(t for _, t, _ in part) / 4 / 40)
        assert row.oscillating == 100 * sum(f > 0.005 for *_, f in part) / 4
        assert row.frozen == 0


def test_before_the_first_step_nothing_has_been_counted():
    table = OscillationTracker(network(), Oscillations()).table()
    assert table.changed.isna().all() and table.turned.isna().all() and (table.oscillating == 0).all()


@pytest.mark.parametrize("method", ["duq", "lsq"])
def test_dampening_is_the_gradient_of_its_loss(method):
    net = network(method)
    walk(net, torch.Generator().manual_seed(2), size=1.0)       # some weights beyond their grids
    tracker = OscillationTracker(net, Oscillations(dampening=0.1))
    loss = 0.0
    for layer in tracker.layers.values():
        q, w = layer.weight_quantizer, layer.weight
        step = (q.affine().in_scale / q.grid.steps).detach()
        code = q.encode(w).float()
        loss = loss + (w.clamp(q.grid.code_min * step, q.grid.code_max * step) - code * step).square().sum()
    wanted = torch.autograd.grad(0.05 * loss, weights(net))
    for weight in weights(net):
        weight.grad = torch.ones_like(weight)
    tracker.dampen(0.5)     # half of the way along the cosine
    for weight, gradient in zip(weights(net), wanted):
        torch.testing.assert_close(weight.grad, 1 + gradient)
    assert any(gradient.any() for gradient in wanted) and any((gradient == 0).any() for gradient in wanted)


def test_dampening_begins_at_nothing():
    net = network()
    tracker = OscillationTracker(net, Oscillations(dampening=0.1))
    for weight in weights(net):
        weight.grad = torch.zeros_like(weight)
    tracker.dampen(0.0)
    assert not any(weight.grad.any() for weight in weights(net))


@torch.no_grad()
def test_a_frozen_weight_keeps_the_code_at_which_it_was_most():
    net = network()
    tracker = OscillationTracker(net, Oscillations(freeze_above=(0.015, 0.015)))
    layer, q = tracker.layers["0"], tracker.layers["0"].weight_quantizer
    points = q.affine().in_scale * torch.tensor([0.0, 1.0]) / q.grid.steps
    layer.weight[0, 0] = points[0]
    tracker.codes = tracker._codes()
    tracker.average = tracker.codes.float()
    for step in range(8):       # three times at 0 for once at 1
        layer.weight[0, 0] = points[int(step % 4 == 3)]
        tracker.after_step(0.5)
    assert tracker.frozen.tolist() == [True] + 7 * [False]
    q.a += 0.3                  # ranges go on training
    layer.weight[0, 0] = 10.0
    other = layer.weight[0, 1] = 5.0
    tracker.after_step(0.5)
    assert q.encode(layer.weight)[0, 0] == 0 and layer.weight[0, 0] == 0 and layer.weight[0, 1] == other
    assert tracker.table().frozen.tolist() == [25.0, 0.0]


def test_the_threshold_falls_along_a_cosine():
    tracker = OscillationTracker(network(), Oscillations(freeze_above=(0.1, 0.01)))
    tracker.frequency[:] = torch.linspace(0.0, 0.105, 8)
    for done in (0.0, 0.5, 1.0):
        tracker.frozen[:] = False
        before = tracker.frequency.clone()
        tracker.after_step(done)
        threshold = 0.01 + 0.09 * (1 + math.cos(math.pi * done)) / 2
        assert tracker.frozen.equal(0.99 * before > threshold)
        tracker.frequency = before


def test_a_phase_goes_on_from_the_phase_before():
    one, two = network(), network()
    whole = OscillationTracker(one, Oscillations())
    part = OscillationTracker(two, Oscillations())
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    for step in range(20):
        if step == 10:
            part = OscillationTracker(two, Oscillations(), part.state())
        for net, tracker, generator in zip((one, two), (whole, part), generators):
            walk(net, generator)
            tracker.after_step(0.5)
    assert part.frequency.equal(whole.frequency) and part.direction.equal(whole.direction)
    assert whole.frequency.any() and part.steps == 10


def test_with_other_levels_counting_starts_anew():
    before = OscillationTracker(network(bits=4), Oscillations(freeze_above=(0.1, 0.01)))
    before.frozen[:], before.average[:], before.frequency[:] = True, 7.0, 1.0
    after = OscillationTracker(network(bits=3), Oscillations(freeze_above=(0.1, 0.01)), before.state())
    assert not after.frozen.any() and not after.frequency.any() and after.average.equal(after.codes.float())


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="quantize its weights"):
        OscillationTracker(models.build("vgg7", width=0.0625), Oscillations())
    uneven = network("qil")
    assert len(OscillationTracker(uneven, Oscillations()).table()) == 2
    for stopped in (Oscillations(dampening=0.1), Oscillations(freeze_above=(0.1, 0.01))):
        with pytest.raises(InputError, match="not evenly spaced"):
            OscillationTracker(uneven, stopped)
    with pytest.raises(InputError, match="two frequencies"):
        Oscillations(freeze_above=(0.1,))
    with pytest.raises(InputError, match="is float"):
        Phase("weights", 1, 0.1, oscillations=Oscillations())
