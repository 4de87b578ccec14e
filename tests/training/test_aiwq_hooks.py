"""AIWQ measures the network itself: not its copies, nothing after the block, once at a time."""
import contextlib
import copy
import io
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from paperlib import models
from paperlib.errors import InputError
from paperlib.models import Scheme, fused_conv
from paperlib.training.aiwq import Aiwq

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
pytestmark = pytest.mark.usefixtures("one_thread")


class Net(nn.Module):
    def __init__(self, again=False):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3),
                                      nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
        self.classifier, self.again = nn.Linear(128, 5), again

    def forward(self, x):
        x = checkpoint(self.features, x, use_reentrant=False) if self.again else self.features(x)
        return self.classifier(x)


@pytest.fixture(autouse=True)
def fuse_small_layers_too(monkeypatch):
    monkeypatch.setattr(fused_conv, "WORTH", 0)
    torch._dynamo.reset()


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = Net().to(memory_format=torch.channels_last).train()
    net(X)
    return models.calibrate(models.quantize(net, Scheme()), X).train()


def train(net, forward=None, steps=4):
    forward = net if forward is None else forward
    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        forward(X).square().mean().backward()
        optimizer.step()


def measured(net, *forward):
    with Aiwq(net) as aiwq:
        train(net, *forward)
    return aiwq.table()


def through_a_file(net):
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda net: pickle.loads(pickle.dumps(net)),
          "torch.save": through_a_file, "averaged": torch.optim.swa_utils.AveragedModel, "unfuse": models.unfuse,
          "fuse": models.fuse, "quantize": lambda net: models.quantize(net, Scheme()),
          "a layer": lambda net: copy.deepcopy(copy.copy(net.features[0]))}


@pytest.mark.parametrize("how", COPIES)
def test_copies_are_not_measured(net, how):
    wanted, keys = measured(copy.deepcopy(net)), [set(vars(module)) for module in net.modules()]
    with Aiwq(net) as aiwq:
        train(net, steps=2)
        twin = COPIES[how](net)
        assert not any("watch" in vars(module) for module in twin.modules())
        train(twin)
        train(net, steps=2)
    train(twin), train(net)         # nor is anything after the block
    assert aiwq.table().equals(wanted) and wanted.iterations.tolist() == [3, 3, 3] and wanted.aiwq.min() > 0
    assert [set(vars(module)) for module in net.modules()] == keys
    assert not net._forward_hooks and not net._forward_pre_hooks


@pytest.mark.parametrize("call", [
    lambda net: net.forward, lambda net: lambda x: net.classifier(net.features(x)), lambda net: copy.copy(net)])
def test_calls_that_bypass_the_network_are_said_and_change_nothing(net, call):
    wanted = measured(copy.deepcopy(net))
    with Aiwq(net) as aiwq:
        train(net, steps=2)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("error")
            net.eval(), call(net)(X), net.train()       # evaluation isn't counted in any case
        state = copy.deepcopy(net.state_dict())
        with pytest.warns(UserWarning, match=r"net\(x\), but features.0 was called otherwise"):
            train(net, call(net))
        net.load_state_dict(state)
        train(net, steps=2)
    assert aiwq.table().equals(wanted)


def test_what_a_backward_pass_computes_again_is_not_counted_again(net):
    wanted = measured(copy.deepcopy(net))
    net.again = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert measured(net).equals(wanted)


def test_two_at_once_are_refused_and_the_first_goes_on(net):
    wanted = measured(copy.deepcopy(net))
    with Aiwq(net) as aiwq:
        train(net, steps=2)
        for part in (net, net.features):
            with pytest.raises(InputError, match="another Aiwq is measuring"), Aiwq(part):
                pass
        train(net, steps=2)
    assert aiwq.table().equals(wanted) and measured(net).iterations.tolist() == [3, 3, 3]


class Broken(Exception):
    pass


def test_an_exception_leaves_nothing_behind(net):
    """Neither on the network nor in the numbers: a pass that breaks off counts for no layer."""
    wanted = measured(copy.deepcopy(net))
    with contextlib.suppress(Broken), Aiwq(net) as aiwq:
        train(net, steps=2)
        handle = net.classifier.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(Broken))
        state = copy.deepcopy(net.state_dict())
        with pytest.raises(Broken):
            net(X)
        handle.remove()
        net.load_state_dict(state)
        train(net, steps=2)
        raise Broken
    assert aiwq.table().equals(wanted) and not any("watch" in vars(module) for module in net.modules())
    assert not net._forward_hooks and not net._forward_pre_hooks


@pytest.mark.slow
@pytest.mark.parametrize("when, form", [("before", models.fuse), ("within", models.unfuse), ("a layer", models.fuse)])
def test_compiled(net, form, when):
    """AIWQ of a compiled network is that of the plain one, and the network goes on working afterwards."""
    plain, wanted = form(net), form(net)
    wanted = measured(wanted)
    if when == "before":
        compiled = torch.compile(plain, backend="eager")
        state = copy.deepcopy(plain.state_dict())
        train(plain, compiled, steps=1)
        plain.load_state_dict(state)
    with Aiwq(plain) as aiwq:
        if when == "within":
            compiled = torch.compile(plain, backend="eager")
        elif when == "a layer":
            plain.features[3].compile(backend="eager")
            compiled = plain
        train(plain, compiled)
    assert aiwq.table().iterations.tolist() == [3, 3, 3]
    assert aiwq.table().aiwq.tolist() == pytest.approx(wanted.aiwq.tolist(), rel=1e-3)
    train(plain, compiled)


@pytest.mark.slow
@pytest.mark.parametrize("form", [models.unfuse, models.fuse])
def test_compiled_networks_compute_the_same(net, form):
    net = form(net)
    twin = copy.deepcopy(net)
    compiled, found = torch.compile(twin, backend="aot_eager"), []
    for one, forward in ((net, net), (twin, compiled)):
        y = forward(X)
        y.square().sum().backward()
        found.append([y.detach(), *(p.grad for p in one.parameters() if p.grad is not None), *one.buffers()])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(compiled.eval()(X), net.eval()(X), rtol=1e-4, atol=1e-5)
