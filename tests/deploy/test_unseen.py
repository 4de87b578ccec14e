"""What the graph of a network does not show, or no other form has, is named, or found when ranges are set."""
import pytest
import torch
from test_own_networks import IMAGES, Net, close, trained
from torch import nn

from paperlib import models
from paperlib.deploy import IntegerNet, pack, to_onnx
from paperlib.errors import InputError
from paperlib.models import Scheme
from paperlib.training.aiwq import Aiwq

pytestmark = pytest.mark.usefixtures("one_thread")


def item(net, x):
    y = net.r(net.a(x))
    y[:, 0] = -3.0
    return net.b(y)


def data(net, x):
    y = net.r(net.a(x))
    y.data -= 1
    return net.b(y)


@pytest.mark.parametrize("forward, word", [
    (item, "setitem"), (data, "getattr"), (lambda n, x: n.b(torch.where(n.a(x) > 0, 1.0, 0.0)), "where|gt")])
def test_operations_without_a_form_are_named(forward, word, tmp_path, capfd):
    net = trained(forward)
    assert net.b.input_quantizer.signed and close(IntegerNet(net)(IMAGES), net, 1e-3)
    with pytest.raises(InputError, match=f"^({word}) has no form"):
        IntegerNet(net, "fixed")
    with pytest.raises(InputError, match=f"^({word}) has no counterpart"):
        to_onnx(net, tmp_path / "net.onnx", input_size=16)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("place", ["", "a", "r"])
@pytest.mark.parametrize("before", [True, False])
def test_hooks_are_refused_where_nobody_would_call_them(place, before, tmp_path):
    net = trained(lambda n, x: n.b(n.r(n.a(x))))
    module = net.get_submodule(place)
    hook = (module.register_forward_pre_hook(lambda module, args: (args[0] / 2,)) if before else
            module.register_forward_hook(lambda module, args, output: output / 2))
    for form in (IntegerNet, lambda net: to_onnx(net, tmp_path / "net.onnx", input_size=16)):
        with pytest.raises(InputError, match=f"^{place or 'Net'} has a forward hook, .*handle.remove"):
            form(net)
    hook.remove()
    with Aiwq(net):
        assert close(IntegerNet(net)(IMAGES), net, 1e-3)


class Lowers(nn.Module):
    def forward(self, x):
        return x.sub_(1)


def test_values_below_a_grid_are_not_calibrated_away():
    hooked = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1))
    hooked[1].register_forward_hook(lambda module, args, output: output - 1)
    lowered = Net(lambda n, x: (lambda y: (n.lowers(y), n.b(y))[1])(n.r(n.a(x))))
    lowered.lowers = Lowers()
    for net, layer in ((hooked, "2"), (lowered, "b")):
        for batches in (IMAGES, [IMAGES, IMAGES]):
            with pytest.raises(InputError, match=f"^{layer} gets values down to -1, where forward has none below 0"):
                models.calibrate(models.quantize(net, Scheme()), batches)


@pytest.mark.parametrize("spoil, cure", [
    (lambda net: nn.Sequential(torch.compile(net)), "torch.compile on the whole network, not on parts"),
    (torch.jit.script, "network that TorchScript was made from"),
    (lambda net: torch.jit.trace(net, IMAGES), "network that TorchScript was made from")])
def test_what_cannot_be_followed_has_its_own_cure(spoil, cure):
    with pytest.raises(InputError, match=cure):
        models.quantize(spoil(nn.Sequential(nn.Conv2d(3, 4, 3))), Scheme())


class Twice(nn.Module):
    def forward(self, x):
        return 2 * x


def test_a_norm_that_computes_its_weight_is_left_as_it_is():
    net = Net(lambda n, x: n.b(n.n(n.a(x)))).eval()
    nn.utils.parametrize.register_parametrization(net.n, "weight", Twice())
    torch.testing.assert_close(models.fold(net)(IMAGES), net(IMAGES))
    net = trained(net)
    assert close(IntegerNet(net)(IMAGES), net, 1e-3)


class Scaled(nn.Module):
    scale = 1.0

    def forward(self, x):
        return x * self.scale

    def get_extra_state(self):
        return self.scale

    def set_extra_state(self, scale):
        self.scale = scale


def test_state_that_is_no_tensor_is_not_lost_in_a_packed_file(tmp_path):
    net = trained(nn.Sequential(nn.Conv2d(3, 4, 3), Scaled()))
    with pytest.raises(InputError, match=r"^1 \(Scaled\) has a get_extra_state of its own, .* what it keeps a buffer"):
        pack(net, tmp_path / "net")


@pytest.mark.parametrize("activation", ["pact", "lsq", "qil", "dorefa", "lsq+", "duq"])
def test_methods_that_ignore_the_floor_may_get_what_lies_above_it(activation):
    """What h-swish puts below 0 is expected, also by grids that begin at 0."""
    net = models.build("mobilenet_v3_small", width=0.35)
    models.calibrate(models.quantize(net, models.Scheme(activation=activation)), torch.randn(2, 3, 32, 32), "max")
