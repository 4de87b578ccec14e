"""models.calibrate: what it sees, in which state it leaves a network, and what it says."""
import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from paperlib import models, quantizers
from paperlib.errors import InputError
from paperlib.models import Scheme, calibrate, quantize
from paperlib.models.layers import QuantConv2d, QuantLinear
from paperlib.training.engine import begin
from paperlib.training.phases import Phase

KEEP = [("duq", "duq"), ("lsq", "lsq"), ("lsq+", "lsq+"), ("sawb", "pact"), ("qil", "duq")]
DISTURB = [("qil", "qil", {"normalized": True}), ("dorefa", "dorefa"), ("twn", "duq"), ("ttq", "duq"), ("bc", "duq"),
           ("bwn", "duq")]
NORMS = (nn.BatchNorm2d, nn.BatchNorm1d)


def images(n=6, seed=0, size=8, channels=3):
    return 2 * torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(seed)) + 1


def network(**norm):
    """Two norms after convolutions, one for vectors, in float with statistics of other data."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, **norm), nn.ReLU(), nn.Conv2d(8, 8, 3),
                        nn.BatchNorm2d(8, **norm), nn.ReLU(), nn.Flatten(), nn.Linear(128, 12),
                        nn.BatchNorm1d(12, **norm), nn.ReLU(), nn.Dropout(), nn.Linear(12, 4))
    net.train()(images(20, seed=9))
    return net


def scheme(weight="qil", activation="qil", options=None, **settings):
    bits = {"w_bits": 1 if weight in ("bc", "bwn") else 2 if weight in ("twn", "ttq") else 4}
    return Scheme(weight, activation, weight_options=options or {}, **bits | settings)


def layers(net):
    return {name: m for name, m in net.named_modules() if isinstance(m, (QuantConv2d, QuantLinear))}


def statistics(net):
    return [b.clone() for name, b in net.named_buffers() if name.endswith(("running_mean", "running_var"))]


def levels(net):
    return {name: m.levels() for name, m in net.named_modules()
            if isinstance(m, quantizers.Quantizer) and m.role == "activation"}


def same(a, b, **how):
    torch.testing.assert_close(levels(a), levels(b), **how)
    torch.testing.assert_close(statistics(a), statistics(b), **how)


def seen_by(net, name, *x):
    found = []
    hook = net.get_submodule(name).register_forward_pre_hook(lambda m, args: found.append(args[0]))
    net(*x)
    hook.remove()
    return found[0]


# -- batch norms -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("methods", KEEP, ids=str)
def test_methods_that_keep_the_size_leave_batch_norms_alone(methods):
    net, x = quantize(network(), scheme(*methods)).eval(), images()
    before, state = statistics(net), copy.deepcopy(net)
    calibrate(net.train(), x).eval()
    torch.testing.assert_close(statistics(net), before, rtol=0, atol=0)
    for name, layer in layers(net).items():         # one pass in evaluation mode, each layer after the ones before it
        q = state.get_submodule(name).input_quantizer.calibrate(seen_by(net, name, x))
        assert torch.equal(q.levels(), layer.input_quantizer.levels())


@pytest.mark.parametrize("methods", DISTURB, ids=str)
def test_ranges_are_set_on_inputs_as_training_sees_them(methods):
    net, x = calibrate(quantize(network(), scheme(*methods)), images()), images()
    twin = copy.deepcopy(net).train()
    for m in twin.modules():
        m.training = isinstance(m, NORMS)
        if isinstance(m, NORMS):
            m.momentum = 1.0
    for name, layer in layers(net).items():
        again = copy.deepcopy(layer.input_quantizer).calibrate(seen_by(twin, name, x))
        torch.testing.assert_close(again.levels(), layer.input_quantizer.levels())
    torch.testing.assert_close(statistics(net), statistics(twin))


def test_everything_else_about_norms_stays():
    net = quantize(network(momentum=None), scheme())
    net[1].eval()
    modes = {m: (m.training, getattr(m, "momentum", 0)) for m in net.modules()}
    counted = net[4].num_batches_tracked.item()
    calibrate(net, images())
    assert {m: (m.training, getattr(m, "momentum", 0)) for m in net.modules()} == modes
    assert net[4].num_batches_tracked == counted


def test_one_value_per_channel_has_no_statistics():
    net = quantize(network(), scheme())
    before = statistics(net)
    calibrate(net, images(1))
    kept = [a.equal(b) for a, b in zip(statistics(net), before)]
    assert kept == [False] * 4 + [True] * 2     # BatchNorm1d sees one image
    assert net.eval()(images(3)).isfinite().all()


@pytest.mark.parametrize("net", [
    network(track_running_stats=False), nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)),
    nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 2, 3))], ids=["own", "none", "group"])
def test_networks_without_running_statistics(net):
    assert calibrate(quantize(net, scheme()), images())(images()).isfinite().all()


def test_folded_norms_are_none():
    net = quantize(models.fold(network()[:7].eval()), scheme())
    assert statistics(net) == [] and calibrate(net, images())(images()).isfinite().all()


def test_processes_that_share_their_norms_agree_with_one(monkeypatch):
    from paperlib.system import distributed
    one, many = (quantize(network(), scheme()) for _ in range(2))
    monkeypatch.setattr(distributed, "world", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    same(calibrate(one, images()), calibrate(distributed.synchronized(many), images()), rtol=0, atol=0)


def test_a_phase_keeps_the_ranges_of_the_one_before():
    phases = [Phase(str(a), 1, 0.1, scheme=scheme("duq", "duq", a_bits=a)) for a in (8, 4)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")      # nothing about training: it follows
        first = begin(network().eval(), phases[0], images(), fast=False)
        second = begin(first, phases[1], 3 * images(seed=1), fast=False)
    tops = [[q[-1].item() for q in levels(net).values()] for net in (first, second)]
    assert tops[0] == pytest.approx(tops[1])


def test_with_a_range_method_each_bit_width_has_its_own_range():
    given = {"activation_options": {"range_method": "mse"}}
    first = begin(network(), Phase("8", 1, 0.1, scheme=scheme("duq", "duq", a_bits=8, **given)), images(), fast=False)
    second = begin(first, Phase("4", 1, 0.1, scheme=scheme("duq", "duq", a_bits=4, **given)), images(), fast=False)
    again = begin(second, Phase("more", 1, 0.1, scheme=scheme("duq", "duq", a_bits=4, **given)), 9 * images(),
                  fast=False)
    tops = [{name: q[-1].item() for name, q in levels(net).items()} for net in (first, second, again)]
    activations = [name for name in tops[0] if "input_quantizer" in name][1:]      # the first keeps its 8 bits
    assert activations and all(tops[1][name] < tops[0][name] for name in activations)
    assert tops[2] == tops[1]


# -- several batches -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method, options", [("max", {}), ("percentile", {"percent": 99.9}), ("mse", {})])
def test_first_layer_sees_all_batches(method, options):
    batches = [images(seed=s) * (s + 1) for s in range(3)]
    net = calibrate(quantize(network(), scheme("duq", "duq")), iter(batches), method, **options)
    whole = copy.deepcopy(net[0].input_quantizer).calibrate(torch.cat(batches), method, **options)
    torch.testing.assert_close(net[0].input_quantizer.levels(), whole.levels(), rtol=5e-4, atol=0)
    alone = calibrate(quantize(network(), scheme("duq", "duq")), batches[0], method, **options)
    assert alone[0].input_quantizer.levels()[-1] < net[0].input_quantizer.levels()[-1]


def test_statistics_are_those_of_all_batches():
    batches = [images(n, seed=n) * n for n in (2, 6, 4)]
    net = calibrate(quantize(network(), scheme()), batches)
    inputs = torch.cat([seen_by(net.eval(), "1", x) for x in batches])
    torch.testing.assert_close(net[1].running_mean, inputs.mean((0, 2, 3)))
    torch.testing.assert_close(net[1].running_var, inputs.var((0, 2, 3)))


def test_equal_batches_are_as_good_as_one():
    for methods in (("duq", "duq"), ("qil", "qil")):
        one, many = (calibrate(quantize(network(), scheme(*methods)), data) for data in (images(), [images()] * 3))
        same(one, many, rtol=2e-2, atol=2e-2)


def test_batches_of_one_image_have_statistics_together():
    net = calibrate(quantize(network(), scheme()), list(images(8).split(1)))
    assert net.eval()(images(8)).isfinite().all() and net[8].running_var.min() > 0 and not net[8].running_var.eq(
        network()[8].running_var).any()


def test_an_iterator_is_read_once():
    calibrate(quantize(network(), scheme("duq", "duq")), (images(seed=s) for s in range(3)))
    calibrate(quantize(network(), scheme()), (images(seed=s) for s in range(1)))
    with pytest.raises(InputError, match="read only once: pass a list of batches or a DataLoader"):
        calibrate(quantize(network(), scheme()), (images(seed=s) for s in range(3)))


# -- what it takes ---------------------------------------------------------------------------------------------
def test_a_batch_in_every_form():
    x, y = images(), torch.arange(6)
    want = calibrate(quantize(network(), scheme()), x)
    for data in (x.numpy(), x.numpy().astype(float), [x], (x,), (x, y), [x, y], [(x, y)], iter([[x, y]]),
                 DataLoader(TensorDataset(x, y), batch_size=6), (x.numpy(), y.numpy()), (x, images(size=1)[:, 0, 0])):
        same(calibrate(quantize(network(), scheme()), data), want, rtol=0, atol=0)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

    def forward(self, x, other, scale=1.0):
        return (self.a(x) + self.b(other)) * scale


def test_networks_with_two_inputs():
    x, other = images(), images(seed=1) * 5
    nets = [calibrate(quantize(Two(), scheme("duq", "duq")), data)
            for data in ((x, other), [x, other], (x, other, torch.arange(6)), [(x, other)])]
    for net in nets[1:]:
        same(nets[0], net, rtol=0, atol=0)
    assert nets[0].b.input_quantizer.levels()[-1] > 2 * nets[0].a.input_quantizer.levels()[-1]
    with pytest.raises(InputError, match=r"Two takes 2 inputs, a batch has 1: pass batches \(x1, x2\)"):
        calibrate(nets[0], x)


def test_tensors_like_each_other_are_batches():
    x = images(12)
    net = calibrate(quantize(network(), scheme("duq", "duq")), x.split(4), "max")
    assert net[0].input_quantizer.levels()[-1] == x.abs().max()


@pytest.mark.parametrize("data, message", [
    (None, "cannot calibrate with a NoneType: pass a batch of images"), (3, "cannot calibrate with a int"),
    ([], "no batch to calibrate with"), (iter(()), "no batch"), ({"x": 1}, "has a str where a tensor"),
    ([{"x": images()}], r"has a dict where a tensor or an array is due: pass batches x or \(x, labels\)"),
    (TensorDataset(images()), "a TensorDataset gives images one by one: pass a DataLoader"),
    (images().byte(), "cannot take images of shape .*uint8"), (images() / 0, "the images have NaN or infinite values"),
    (np.array(["x"]), "has a str"), (images(0), "^0, input: cannot calibrate on an empty tensor"),
    (images(channels=4), "Sequential cannot take images of shape .* give it the size, channels")])
def test_data_that_do_not_fit(data, message):
    net = calibrate(quantize(network(), scheme()), images(seed=3))
    before, kept = copy.deepcopy(net), [m.training for m in net.modules()]
    with pytest.raises(InputError, match=message) as caught:
        calibrate(net, data)
    assert "\n" not in str(caught.value) and not any(m._forward_pre_hooks for m in net.modules())
    same(net, before, rtol=0, atol=0)
    assert [m.training for m in net.modules()] == kept


def test_nan_inside_names_the_layer_and_leaves_the_network_as_it_was():
    net = calibrate(quantize(network(), scheme()), images(seed=3))
    before = copy.deepcopy(net)
    net[4].bias.data[2] = torch.nan
    with pytest.raises(InputError, match="^7, input: cannot calibrate on NaN"):
        calibrate(net, images())
    same(net, before, rtol=0, atol=0)
    net[3].weight.data[0, 0, 0, 0] = torch.inf
    with pytest.raises(InputError, match="^3, weight: cannot calibrate on NaN"):
        calibrate(net, images())


# -- methods ---------------------------------------------------------------------------------------------------
def test_method_is_that_of_every_range():
    net = calibrate(quantize(network(), scheme("duq", "duq")), images(), "max")
    assert net[0].input_quantizer.levels()[-1] == images().abs().max()
    assert net[0].weight_quantizer.levels()[-1].item() == pytest.approx(net[0].weight.abs().max().item())
    net = calibrate(net, images(), "percentile", percent=50)
    assert net[0].weight_quantizer.levels()[-1].item() == pytest.approx(0.9 * net[0].weight.abs().max().item())
    assert net[0].input_quantizer.levels()[-1].item() == pytest.approx(images().abs().median().item(), rel=1e-2)
    calibrate(quantize(network(), scheme("sawb", "dorefa")), images(), "max")       # no range to choose


@pytest.mark.parametrize("method, options, message", [
    ("best", {}, "^unknown calibration 'best'"), ("max", {"percent": 3}, "^calibration 'max' does not take percent"),
    (None, {"percent": 3}, "options belong to a method"),
    ("percentile", {"percent": 0}, "^0, input: percent must be above 0")])
def test_methods_that_are_none(method, options, message):
    with pytest.raises(InputError, match=message):
        calibrate(quantize(network(), scheme("duq", "duq")), images(), method, **options)


def test_it_says_when_ranges_assume_training():
    net = quantize(network(), scheme("duq", "duq"))
    with pytest.warns(UserWarning, match='DuQ clip .* calibrate with method="mse" or "max"'):
        calibrate(net.eval(), images())
    padded = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Hardswish(), nn.Conv2d(3, 3, 3, padding=1))
    with pytest.warns(UserWarning, match='"max" and quantize with negative_padding=False; one that'):
        calibrate(quantize(padded, scheme("duq", "duq")).eval(), images())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibrate(net.train(), images())
        calibrate(net.eval(), images(), "mse")
        calibrate(quantize(network(), scheme("lsq", "lsq")).eval(), images())
        calibrate(quantize(network(), scheme("duq", "duq", activation_options={"range_method": "mse"})).eval(),
                  images())


# -- layers that are not reached, and weights that change --------------------------------------------------------
class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.head, self.late = nn.Conv2d(4, 2, 1), nn.Sequential(nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))

    def forward(self, x):
        x = self.body(x)
        return (self.head(x), self.late(x)) if self.training else self.head(x)


@pytest.mark.parametrize("methods", [("duq", "duq"), ("qil", "qil")])
@pytest.mark.parametrize("data", [images(), [images(), images(seed=1)]], ids=["one", "many"])
def test_heads_of_training_have_ranges(methods, data):
    net = calibrate(quantize(Heads().train(), scheme(*methods)), data)
    assert (net.late[1].running_mean == 0).all() == (methods[0] == "duq")
    assert all(y.isfinite().all() for y in net(images())) and net.training
    torch.testing.assert_close(net.head.input_quantizer.levels(), net.late[0].input_quantizer.levels())


def test_layers_that_are_never_called_are_named():
    net = quantize(Heads().train(), scheme("duq", "duq"))
    net.forward = lambda x: net.head(net.body(x))
    with pytest.warns(UserWarning, match=r"forward does not call late.0: no range is set there"):
        calibrate(net, images())
    with pytest.raises(InputError, match="has no range yet"):
        net.late(net.body(images()))


def test_float_weights_that_are_loaded_later_need_new_ranges():
    net, other = calibrate(quantize(network(), scheme("duq", "duq")), images()), network()
    with torch.no_grad():
        other[3].weight.mul_(3)
    net.eval().load_state_dict(network().state_dict(), strict=False)       # the same weights: nothing has changed
    assert net(images()).isfinite().all()
    net.load_state_dict(other.state_dict(), strict=False)
    with pytest.raises(InputError, match="has no range yet: call calibrate"):
        net(images())
    same(calibrate(net.train(), images()), calibrate(quantize(other, scheme("duq", "duq")), images()), rtol=0, atol=0)
    twin = quantize(network(), scheme("duq", "duq"))
    twin.load_state_dict(net.state_dict())
    assert twin.eval()(images()).equal(net.eval()(images()))
