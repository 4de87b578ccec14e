"""Networks of one's own: what integers, ONNX and the program compute is what was trained, or is refused by name."""
import warnings

import pytest
import torch
import torch.nn.functional as F
from test_integer_net import run_program
from torch import nn
from torch.optim.swa_utils import AveragedModel

from paperlib import models
from paperlib.deploy import IntegerNet, compare, export_program, integers, load, pack, runner, to_onnx
from paperlib.errors import InputError
from paperlib.models import Scheme

pytestmark = pytest.mark.usefixtures("one_thread")
IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Layers and a forward that puts them together."""

    def __init__(self, forward):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.n, self.m, self.r, self.l = nn.BatchNorm2d(8), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Linear(8, 5)
        self.none = nn.Sequential()
        self.register_buffer("k", torch.rand(8, 1, 1) + 0.1)
        self.register_buffer("whole", torch.tensor(3))
        self.w, self.own = nn.Parameter(torch.rand(1)), forward
        for norm in (self.n, self.m):
            nn.init.normal_(norm.weight, 0.7, 0.5)
            nn.init.normal_(norm.bias)
            norm.running_mean.normal_(0, 0.2)
            norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        return self.own(self, x)


def trained(forward, **scheme):
    torch.manual_seed(1)
    net = forward if isinstance(forward, nn.Module) else Net(forward)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # layers that this forward leaves out
        net = models.quantize(net.eval(), Scheme(**{"w_bits": 8, "a_bits": 8} | scheme))
    return models.calibrate(net, IMAGES).eval()


COMPUTED = {
    "a constant added": lambda n, x: n.b(n.r(n.a(x) + 1)), "on the left": lambda n, x: n.b(n.r(2 * n.a(x))),
    "subtracted": lambda n, x: n.b(n.a(x) - 0.3), "subtracted from": lambda n, x: n.b(1 - n.a(x)),
    "divided": lambda n, x: n.b(n.a(x) / 3), "divided by method": lambda n, x: n.b(n.a(x).div(255.0)),
    "a large factor": lambda n, x: n.b(n.a(x) * 300), "minus": lambda n, x: n.b(-n.a(x)),
    "a buffer": lambda n, x: n.b(n.a(x) * n.k), "a buffer on the left": lambda n, x: n.b(n.k - n.a(x)),
    "divided by a buffer": lambda n, x: n.b(n.a(x) / n.k),
    "a parameter": lambda n, x: n.b(n.w + n.a(x)), "twice itself": lambda n, x: (lambda y: n.b(y + y))(n.a(x)),
    "its square": lambda n, x: (lambda y: n.b(y * y))(n.a(x)),
    "in place by method": lambda n, x: (lambda y: (y.add_(1), n.b(y))[1])(n.a(x)),
    "in place before a skip": lambda n, x: (lambda y: n.b(n.r(y)) + y)(n.a(x)),
    "a function in place": lambda n, x: (lambda y: n.b(F.relu(y, True)) + y)(n.a(x)),
    "relu_ before a skip": lambda n, x: (lambda y: n.b(y.relu_()) + y)(n.a(x)),
    "one activation twice": lambda n, x: n.c(n.r(n.b(n.r(n.a(x))))),
    "the mean": lambda n, x: n.l(n.r(n.b(n.a(x))).mean([2, 3])),
    "maximum": lambda n, x: n.b(torch.maximum(n.a(x), n.k)),
    "mean of channels": lambda n, x: (lambda y: n.b(y * y.mean(1, keepdim=True)))(n.a(x)),
    "on the image": lambda n, x: n.b(n.r(n.a((x - 0.5) / 0.25))), "clamp": lambda n, x: n.b(n.a(x).clamp(-1, 1)),
    "functions": lambda n, x: n.l(torch.flatten(F.adaptive_avg_pool2d(F.hardtanh(F.max_pool2d(F.relu6(n.b(F.hardswish(
        n.a(x)))), 3, 2, 1), 0.0, 3.0), 1), 1)),
    "average pooling": lambda n, x: n.b(F.avg_pool2d(n.r(n.a(x)), 3, 2, 1)),
    "average of what is there": lambda n, x: n.b(F.avg_pool2d(n.r(n.a(x)), 3, 2, 1, False, False)),
    "pooling one axis": lambda n, x: n.l(F.adaptive_avg_pool2d(n.r(n.a(x)), (None, 1)).mean(2).flatten(1)),
    "a shape": lambda n, x: n.l(n.b(n.a(x)).mean((2, 3)).view(x.size(0), -1)),
    "one norm twice": lambda n, x: n.n(n.b(n.r(n.n(n.a(x))))), "norms and more": lambda n, x: (
        lambda y: n.b(n.r(n.n(y))) + y)(n.a(x)),
    "norm in a skip": lambda n, x: (lambda y: n.b(n.r(y)) + y)(n.n(n.a(x))),
    "nothing in a skip": lambda n, x: (lambda y: n.b(n.r(y)) + n.none(y))(n.a(x)),
}
NOT_IN_A_PROGRAM = {"a buffer", "a buffer on the left", "divided by a buffer", "a parameter", "mean of channels",
                    "on the image", "average pooling", "average of what is there", "pooling one axis", "one norm twice",
                    "norms and more", "maximum"}


def close(logits, net, share=1e-2):
    with torch.no_grad():
        right = net(IMAGES.clone())
    return (logits - right).norm() < share * right.norm()


@pytest.mark.parametrize("what", COMPUTED)
def test_every_form_computes_what_was_trained(what, tmp_path):
    net = trained(COMPUTED[what])
    exact, fixed = IntegerNet(net), IntegerNet(net, "fixed")
    assert compare(net, [(IMAGES, None)]).integer.sum() == 0 and close(exact(IMAGES), net, 1e-3)
    assert close(fixed(IMAGES), net)
    assert close(runner(to_onnx(net, tmp_path / "net.onnx", input_size=16))(IMAGES), net, 1e-3)
    if what in NOT_IN_A_PROGRAM:
        with pytest.raises(InputError, match="has no step in a program"):
            export_program(net, tmp_path / "net.npz", input_size=16)
        return
    codes = next(iter(fixed.codes(IMAGES).values())).numpy().astype("int64")
    _, numbers = run_program(export_program(net, tmp_path / "net.npz", input_size=16), codes)
    assert torch.equal(torch.from_numpy(numbers).double() / 2**20, fixed(IMAGES))


@pytest.mark.parametrize("forward, words", [
    (lambda n, x: n.b(n.a(x)**2), "^pow has no form in integers"), (lambda n, x: n.b(F.silu(n.a(x))), "^silu has no"),
    (lambda n, x: n.b(3 / (n.r(n.a(x)) + 1)), "truediv: div has a quotient that is no product with a constant"),
    (lambda n, x: n.b(F.dropout(n.a(x))), "dropout is active in evaluation"),
    (lambda n, x: (lambda y: (n.r(y.view(4, 8, -1)), n.b(y))[1])(n.a(x)), "r: ReLU .* changes numbers in place that a"),
    (lambda n, x: (lambda y: (n.r(y[:, :4]), n.b(y))[1])(n.a(x)), "changes numbers in place"),
    (lambda n, x: n.b(n.a(x) * n.whole), "whole holds whole numbers"),
    (lambda n, x: n.b(n.a(x).float()), "^float has no form in integers"),
    (lambda n, x: n.b(n.a(x) * 1e6), "needs more than 32 bits"),
    (lambda n, x: (n.b(n.a(x)), 1), "forward returns a tuple")])
def test_what_fixed_point_refuses_by_name(forward, words):
    net = trained(lambda n, x: forward(n, x))
    with pytest.raises(InputError, match=words):
        IntegerNet(net, "fixed")(IMAGES)


FOLDS = {       # norms that can go into the layer before them, and those that cannot
    "once": (lambda n, x: n.b(n.n(n.a(x))), 1), "one norm twice": (lambda n, x: n.n(n.b(n.n(n.a(x)))), 0),
    "a convolution twice": (lambda n, x: n.m(n.b(n.n(n.b(n.a(x))))), 0),
    "recurrent": (lambda n, x: [y := n.a(x), *(y := n.r(n.n(n.b(y))) for _ in range(3))][-1], 0),
    "output of the convolution used": (lambda n, x: (lambda y: n.n(y) + y)(n.a(x)), 0),
    "changed in place before": (lambda n, x: (lambda y: (n.r(y), n.n(y))[1])(n.a(x)), 0),
    "changed in place behind": (lambda n, x: (lambda y: n.b(n.r(y)) + y)(n.n(n.a(x))), 1),
    "by keyword": (lambda n, x: n.n(input=n.a(x)), 0)}


@pytest.mark.parametrize("how", FOLDS)
def test_only_what_can_be_folded_is(how, tmp_path):
    forward, folds = FOLDS[how]
    net = Net(forward).eval()
    folded = models.fold(net)
    assert sum(isinstance(m, nn.Identity) for m in folded.modules()) == folds
    with torch.no_grad():
        torch.testing.assert_close(folded(IMAGES), net(IMAGES), rtol=1e-4, atol=1e-4)
    net = trained(forward)
    with torch.no_grad():
        torch.testing.assert_close(models.fuse(net)(IMAGES), net(IMAGES), rtol=1e-3, atol=1e-2)
    if how in ("a convolution twice", "recurrent"):
        with pytest.raises(InputError, match="b is called more than once"):
            IntegerNet(net)
    elif how != "by keyword":
        assert sum(layer.norm is not None for layer in integers(net).values()) == folds
        assert close(IntegerNet(net)(IMAGES), net, 1e-3) and close(IntegerNet(net, "fixed")(IMAGES), net)
        assert close(runner(to_onnx(net, tmp_path / "net.onnx", input_size=16))(IMAGES), net, 1e-3)


def test_norms_along_another_axis_and_without_statistics(tmp_path):
    net = Net(lambda n, x: n.rows(n.l(n.a(x).flatten(2).transpose(1, 2)[:, :5])))        # (N, 5, 8) to (N, 5, 5)
    net.rows = nn.BatchNorm1d(5)
    net.rows.running_var.uniform_(0.2, 3)
    with pytest.raises(InputError, match="l: the batch norm rows behind it counts channels along another axis"):
        IntegerNet(trained(net))(IMAGES)
    net = Net(lambda n, x: n.l(n.rows(n.l2(n.a(x).flatten(2).transpose(1, 2)[:, :5]))))
    net.rows, net.l2 = nn.BatchNorm1d(5), nn.Linear(8, 8)
    net.rows.running_var.uniform_(0.2, 3)
    net = trained(net)
    assert close(IntegerNet(net)(IMAGES), net, 1e-3) and close(IntegerNet(net, "fixed")(IMAGES), net)
    batch = Net(lambda n, x: n.b(n.s(n.a(x))))
    batch.s = nn.BatchNorm2d(8, track_running_stats=False)
    assert isinstance(models.fold(batch).s, nn.BatchNorm2d)
    batch = trained(batch)
    assert close(IntegerNet(batch)(IMAGES), batch, 1e-3)
    with pytest.raises(InputError, match="s: batch_norm takes its statistics from the batch"):
        IntegerNet(batch, "fixed")(IMAGES)
    with pytest.raises(InputError, match=r"s \(batch_norm\): it takes its statistics from the batch"):
        to_onnx(batch, tmp_path / "net.onnx", input_size=16)


def test_a_layer_and_an_activation_under_two_names():
    net = Net(lambda n, x: n.b(n.act(n.norm(n.a(x)))))
    net.norm, net.act = net.n, nn.Hardswish()
    net.other = net.act
    net.own = lambda n, x: n.b(n.other(n.norm(n.a(x))))
    folded, quantized = models.fold(net.eval()), trained(net)
    with torch.no_grad():
        torch.testing.assert_close(folded(IMAGES), net(IMAGES), rtol=1e-4, atol=1e-4)
        fused = models.fuse(quantized)
        torch.testing.assert_close(fused(IMAGES), quantized(IMAGES), rtol=1e-3, atol=1e-2)
        assert torch.equal(models.unfuse(fused)(IMAGES), quantized(IMAGES))


def test_a_number_that_is_none_is_never_hidden(tmp_path):
    net = trained(lambda n, x: n.l(n.r(n.b(n.a(x))).mean([2, 3])))
    run = runner(to_onnx(net, tmp_path / "net.onnx", input_size=16))
    for value in (float("nan"), float("inf"), -float("inf")):
        images = IMAGES.clone()
        images[1, 2, 3, 4] = value
        for rescale in ("float", "fixed"):
            with pytest.raises(InputError, match="infinite or not a number"):
                IntegerNet(net, rescale)(images)
        logits = run(images)
        assert logits[1].isnan().all() and torch.equal(logits[[0, 2, 3]], run(IMAGES)[[0, 2, 3]])
    inside = trained(lambda n, x: n.b(n.a(x) * n.k))
    inside.k[:] = float("nan")
    with pytest.raises(InputError, match="what reaches b is not a number"):
        IntegerNet(inside)(IMAGES)
    inside.k[:] = 1
    inside.b.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match="weight of b is not finite"):
        IntegerNet(inside)
    with pytest.raises(InputError, match="needs more than 32 bits"):
        IntegerNet(trained(lambda n, x: n.b(n.a(x * 1.0))), "fixed")(IMAGES * 1e25)


def test_dilated_convolutions():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=2, dilation=2, stride=2), nn.ReLU(), nn.Conv2d(8, 4, 3, dilation=3))
    net = trained(net)
    assert compare(net, [(IMAGES, None)])[["integer", "fixed"]].sum().tolist() == [0, 0]
    layer = integers(net)["0"]
    codes = torch.randint(-127, 128, (2, 3, 9, 9), dtype=torch.int16)
    x, w = torch.zeros(2, 3, 13, 13, dtype=torch.int64), layer.weight.long()
    x[:, :, 2:-2, 2:-2] = codes
    exact = sum(torch.einsum("ncij,oc->noij", x[:, :, 2 * i:2 * i + 9:2, 2 * j:2 * j + 9:2], w[:, :, i, j])
                for i in range(3) for j in range(3))
    assert torch.equal(layer.accumulate(codes).long(), exact)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x, scale, other=None):
        return self.conv(x) * scale


@pytest.mark.parametrize("forward, words", [
    (lambda n, x: (n.b(n.a(x)), x), "forward returns a tuple, and a file has one output"),
    (lambda n, x: [n.b(n.a(x))], "forward returns a list"), (lambda n, x: {"y": n.b(n.a(x))}, "returns a dict"),
    (lambda n, x: n.b(F.max_pool2d(n.a(x), 2, return_indices=True)[0]), "max_pool2d"),
    (lambda n, x: n.b(torch.add(n.a(x), n.k, alpha=2)), "alpha=2, which cannot be exported"),
    (lambda n, x: n.b(F.dropout(n.a(x))), "training=True")])
def test_what_a_file_cannot_hold(forward, words, tmp_path):
    with pytest.raises(InputError, match=words):
        to_onnx(trained(forward), tmp_path / "net.onnx", input_size=16)


def test_two_inputs_and_own_layers_are_named(tmp_path):
    for form in (lambda net: to_onnx(net, tmp_path / "net.onnx", input_size=16), IntegerNet):
        with pytest.raises(InputError, match=r"Two.forward takes 2 tensors \(x, scale\)"):
            form(models.quantize(Two(), Scheme(w_bits=32, a_bits=32)))
    standardized = type("Standardized", (nn.Conv2d,), {"forward": lambda self, x: self._conv_forward(
        x, self.weight - self.weight.mean(), self.bias)})
    net = nn.Sequential(standardized(3, 4, 3), nn.BatchNorm2d(4)).eval()
    net[1].running_var.fill_(9)
    torch.testing.assert_close(models.fold(net)(IMAGES), net(IMAGES))
    with pytest.raises(InputError, match="0: Standardized may have a forward of its own"):
        to_onnx(net, tmp_path / "net.onnx", input_size=16)


def test_wrappers_are_taken_off(tmp_path):
    float_net = Net(COMPUTED["the mean"]).eval()
    del float_net.c
    net = trained(COMPUTED["the mean"])
    for wrap in (nn.DataParallel, torch.compile, AveragedModel, lambda n: nn.DataParallel(torch.compile(n))):
        assert list(models.plan(models.quantize(wrap(float_net), Scheme())).layer) == ["a", "b", "l"]
        wrapped = wrap(net)
        assert models.plan(wrapped).equals(models.plan(net))
        assert torch.equal(IntegerNet(wrapped)(IMAGES), IntegerNet(net)(IMAGES))
        assert pack(wrapped, tmp_path / "w").read_bytes() == pack(net, tmp_path / "n").read_bytes()
        assert (to_onnx(wrapped, tmp_path / "w.onnx", input_size=16).read_bytes()
                == to_onnx(net, tmp_path / "n.onnx", input_size=16).read_bytes())


def test_buffers_of_truth_values_and_small_numbers(tmp_path):
    def network():
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        for kind in (torch.bool, torch.int8, torch.int16, torch.uint8):
            net.register_buffer(str(kind)[6:], torch.tensor([0, 1, 1, 0]).to(kind))
        return net
    net = trained(network())
    net.int8.fill_(-7)
    net.bool.fill_(True)
    again = load(pack(net, tmp_path / "net"), network())
    for kind in ("bool", "int8", "int16", "uint8"):
        assert torch.equal(getattr(again, kind), getattr(net, kind)), kind
    net.register_buffer("turn", torch.tensor(1j))
    with pytest.raises(InputError, match="turn is complex64, .* persistent=False"):
        pack(net, tmp_path / "net")
