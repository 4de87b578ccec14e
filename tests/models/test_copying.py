"""What cannot be copied is named; what users have put on their layers stays or is spoken of."""
import threading

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from paperlib import models
from paperlib.errors import InputError
from paperlib.models import Scheme, fused_conv
from paperlib.models.layers import QuantConv2d, QuantLinear

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8),
                         nn.ReLU(), nn.Flatten(), nn.Linear(128, 5))


def keep(key, make=lambda y: y):
    return lambda net: net[2].register_forward_hook(lambda module, x, y: setattr(module, key, make(y)))


def running_sum(net):
    net[1].register_buffer("acc", torch.zeros(1))
    net[2].register_forward_hook(lambda module, x, y: setattr(net[1], "acc", net[1].acc + y.sum()))


@pytest.mark.parametrize("spoil, message", [
    (lambda net: prune.l1_unstructured(net[3], "weight", 0.5),
     r"^3 computes its weight.*prune.remove\(layer, 'weight'"),
    (lambda net: prune.random_structured(net[7], "weight", 0.5, dim=0), r"^7 .*prune.remove"),
    (lambda net: weight_norm(net[0]), r"^0 .*remove_weight_norm\(layer, 'weight'\)"),
    (lambda net: spectral_norm(net[7]), r"^7 .*remove_spectral_norm"),
    (keep("seen"), "because of 2.seen .*detach"), (keep("all", lambda y: {"a": [y]}), "because of 2.all .*detach"),
    (running_sum, "because of 1.acc .*detach"),
    (lambda net: setattr(net, "lock", threading.Lock()), "because of lock .*set it to None")])
@pytest.mark.parametrize("copying", [lambda net: models.quantize(net, Scheme()), models.fold, models.unfuse])
@pytest.mark.filterwarnings("ignore:.*torch.nn.utils:FutureWarning")
def test_what_cannot_be_copied_is_named(spoil, message, copying):
    net = network()
    spoil(net)
    net(X)
    with pytest.raises(InputError, match=message):
        copying(net)


def test_the_cure_cures():
    net = network()
    prune.l1_unstructured(net[3], "weight", 0.5)
    prune.remove(net[3], "weight")
    assert models.quantize(net, Scheme())[3].weight.eq(0).float().mean() == 0.5


@pytest.mark.parametrize("spoil, message", [
    (lambda net: parametrizations.weight_norm(net[3]), "^3: a parametrized Conv2d"),
    (lambda net: setattr(net[3], "forward", lambda x: x), "^3: Conv2d has a forward of its own"),
    (lambda net: setattr(net[7], "kind", "mine"), "^7: the attribute 'kind' of this Linear has a name"),
    (lambda net: net[0].register_buffer("watch", torch.ones(1)), "^0: the attribute 'watch'")])
def test_what_quantized_layers_cannot_hold_is_refused(spoil, message):
    net = network()
    spoil(net)
    with pytest.raises(InputError, match=message):
        models.quantize(net, Scheme())


def test_hooks_and_attributes_stay():
    net, calls = network(), []
    for i in (3, 7):
        net[i].tag, net[i].mask = f"layer {i}", nn.Parameter(torch.ones(2))
        net[i].register_buffer("count", torch.tensor(i), persistent=False)
        net[i].register_forward_pre_hook(lambda module, x: calls.append((type(module), "before")))
        net[i].register_forward_hook(lambda module, args, kwargs, y: calls.append((type(module), "after")),
                                     with_kwargs=True)
        net[i].register_full_backward_hook(lambda module, gx, gy: calls.append((type(module), "backward")))
        net[i].handle = net[i].register_forward_hook(lambda *_: calls.append("removed"))
        net[i].weight.requires_grad_(i == 7)
    q = models.calibrate(models.quantize(net.train(), Scheme()), X)
    calls.clear()
    for i in (3, 7):
        q[i].handle.remove()
    q(X.requires_grad_()).sum().backward()
    assert calls == [(QuantConv2d, "before"), (QuantConv2d, "after"), (QuantLinear, "before"), (QuantLinear, "after"),
                     (QuantLinear, "backward"), (QuantConv2d, "backward")]
    assert q[3].tag == "layer 3" and q[7].count == 7 and q[3].mask is not net[3].mask and q[3].training
    assert q[7].weight.requires_grad and not q[3].weight.requires_grad
    assert "3.mask" in q.state_dict() and "3.count" not in q.state_dict()
    assert not hasattr(net[3], "input_quantizer") and type(net[3]) is nn.Conv2d


class Counting(nn.Conv2d):
    def operations(self):
        return self.weight.numel()


def test_methods_that_are_lost_are_said():
    net = network()
    net[3] = Counting(8, 8, 3)
    with pytest.warns(UserWarning, match="a Counting becomes a QuantConv2d, without operations"):
        assert models.quantize(net, Scheme())[3].in_channels == 8


@pytest.mark.parametrize("place", [4, 5, 6, 1, 3])
def test_hooked_modules_are_neither_fused_nor_folded_so_hooks_see_what_they_saw(place, monkeypatch):
    monkeypatch.setattr(fused_conv, "WORTH", 0)
    net = network()
    net.insert(6, nn.Conv2d(8, 8, 1))
    net.train()(X)
    seen = []
    net.eval()[place].register_forward_hook(lambda module, x, y: seen.append((x[0].detach(), y.detach())))
    q = models.calibrate(models.quantize(net, Scheme()), X)
    for one, other in ((q, models.fuse(q)), (net, models.fold(net))):
        seen.clear()
        one(X), other(X)
        for a, b in zip(*seen):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
