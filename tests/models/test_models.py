"""Layers, MobileNet-v3, which values can reach a layer, and what a scheme makes of a network."""

import copy
import io
import math
import operator
from functools import partial

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from paperlib import models, quantizers
from paperlib.errors import InputError
from paperlib.models import Scheme
from paperlib.models.layers import QuantConv2d, QuantLinear
from paperlib.models.value_bounds import input_floors

SIGNED = -math.inf
relu, hs, seq, SE = F.relu, F.hardswish, nn.Sequential, torchvision.ops.SqueezeExcitation
build, four_bits = partial(models.build, "mobilenet_v3_large"), partial(models.quantize, scheme=Scheme())


def images(n=4, size=32, seed=0, channels=3):
    x = torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(seed))
    return x.to(memory_format=torch.channels_last)


@pytest.fixture(autouse=True)
def one_seed_and_thread():
    threads = torch.get_num_threads()
    yield torch.manual_seed(0), torch.set_num_threads(1)
    torch.set_num_threads(threads)


@pytest.fixture
def small(one_seed_and_thread):
    return build(width=0.25)


@pytest.mark.parametrize("pad", [0.0, -0.375])
@pytest.mark.parametrize("settings", [
    {"kernel_size": 1}, {"kernel_size": (3, 5), "padding": (1, 2), "stride": 2},
    {"kernel_size": 5, "padding": (2, 0), "groups": 4, "bias": False, "dilation": 2}], ids=str)
def test_convolution_pads_with_its_value(settings, pad):
    conv, x = nn.Conv2d(4, 8, **settings).double(), images(2, 13, channels=4).double().requires_grad_()
    layer = QuantConv2d.from_float(conv)
    layer.pad_value, (rows, columns), want = pad, conv.padding, conv(x)
    assert layer.weight is conv.weight and torch.equal(layer(x), want) == (pad == 0 or rows + columns == 0)
    if pad:
        padded = F.pad(x, (columns, columns, rows, rows), value=pad)
        want = F.conv2d(padded, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)
    results = [(y, *torch.autograd.grad(y.square().sum(), (x, conv.weight))) for y in (layer(x), want)]
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_one_pixel_is_what_a_convolution_makes_of_it(bias, stride):
    conv, x = nn.Conv2d(6, 10, 1, stride, bias=bias).double(), images(3, 1, channels=6).double().requires_grad_()
    layer, found = QuantConv2d.from_float(conv), []
    assert layer.sees_one_pixel(x) and not layer.sees_one_pixel(images(3, 2, channels=6))
    for y in (layer(x), conv(x)):
        assert y.shape == (3, 10, 1, 1) and y.is_contiguous(memory_format=torch.channels_last)
        found.append((y, *torch.autograd.grad(y.square().sum(), (x, *conv.parameters()))))
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


def test_linear_quantizes_input_and_weight():
    linear, x = nn.Linear(6, 4).eval(), images(2, 6).relu()
    layer = QuantLinear.from_float(linear)
    assert torch.equal(layer(x), linear(x)) and not layer.training
    layer.input_quantizer = quantizers.build("duq", role="activation", bits=3).calibrate(x)
    layer.weight_quantizer = quantizers.build("duq", role="weight", bits=3).calibrate(linear.weight)
    want = F.linear(layer.input_quantizer(x), layer.weight_quantizer(linear.weight), linear.bias)
    assert torch.equal(layer(x), want) and not torch.allclose(want, linear(x))


def test_mobilenet_v3_is_torchvisions():
    ours, x = build(num_classes=1000, input_size=224).eval(), images(4, 64)
    theirs = torchvision.models.mobilenet_v3_large().to(memory_format=torch.channels_last)
    shapes = [{k: v.shape for k, v in net.state_dict().items()} for net in (ours, theirs)]
    assert shapes[0] == shapes[1] and sum(p.numel() for p in ours.parameters()) == 5_483_032
    for module in theirs.modules():
        module.momentum = None
    theirs.train()(x)       # batch norm with the statistics of x lets x through to the end
    ours.load_state_dict(theirs.eval().state_dict())
    assert torch.equal(ours(x), theirs(x)) and (ours(x) - ours(-x)).abs().max() > 0.1
    assert [m.p for m in ours.modules() if isinstance(m, nn.Dropout)] == [0.2]


def test_mobilenet_v3_for_small_images(small):
    x = images(2)
    sizes = [(x := block(x)).shape[-1] for block in small.features]
    assert sizes == [32, 32, 16, 16, *[8] * 3, *[4] * 6, *[2] * 4] and small(images(2)).shape == (2, 10)
    assert [m.p for m in small.modules() if isinstance(m, nn.Dropout)] == [0.0]
    residual = [b for b in small.features if getattr(b, "use_res_connect", False)]
    assert len(residual) == 10 and all((b.block[-1][1].weight == 0).all() for b in residual)


class Net(nn.Module):
    """Something in front of one convolution."""

    def __init__(self, before=None):
        super().__init__()
        self.before, self.last = before, nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.last(self.before(x))


def net_with(forward):
    return type("Other", (Net,), {"forward": forward})()


FLOORS = {      # what stands in front of the convolution, by the floor of the convolution's input
    0: [relu, torch.relu, lambda x: x.relu(), nn.ReLU(), lambda x: relu(x + 0, True), lambda x: hs(relu(x)),
        lambda x: relu(x) + F.relu6(-x), lambda x: operator.iadd(relu(x), relu(-x)), lambda x: hs(x) + 0.375,
        lambda x: x.relu().mean(3, True), lambda x: F.relu6(x) * -1 + 6, seq(nn.ReLU6(), SE(3, 2))],
    -0.375: [hs, nn.Hardswish(), lambda x: hs(x) * F.hardsigmoid(x), lambda x: F.max_pool2d(hs(x), 3, 1, 1),
             seq(nn.Hardswish(), nn.AdaptiveAvgPool2d(4), nn.Dropout(), nn.Identity(), nn.MaxPool2d(2)),
             seq(nn.Hardswish(), SE(3, 2, scale_activation=nn.Hardsigmoid))],
    -0.1875: [lambda x: hs(x) * 0.5], -1: [lambda x: 5 + F.relu6(x) * -1], 1: [lambda x: relu(x) + 1],
    SIGNED: [lambda x: x, lambda x: x + 1, lambda x: x * x, lambda x: -relu(x), lambda x: relu(x) + x,
             lambda x: hs(x) - hs(x), lambda x: hs(x) * hs(x), lambda x: relu(x) - 1, lambda x: 1 - relu(x),
             lambda x: relu(x) * -1, lambda x: relu(x) / -2, lambda x: relu(x) * hs(x), lambda x: x.clamp(-1),
             lambda x: torch.cat([relu(x), x]), lambda x: F.pad(relu(x), (1, 1), value=-1), F.leaky_relu,
             lambda x: hs(x) + torch.tensor(1.0), seq(nn.ReLU(), nn.BatchNorm2d(3)), nn.AvgPool2d(3, 1, 1)]}
SOUND = [       # here any floor will do that is none too high
    lambda x: torch.add(relu(x), relu(-x), alpha=-1), lambda x: torch.add(relu(x), 1, alpha=-1),
    lambda x: (y := relu(x), y.sub_(1))[0], lambda x: (y := relu(x), torch.sub(y, 1, out=y))[0],
    lambda x: (y := relu(x), y.view(4, 3, 32, 32).sub_(1))[0], lambda x: torch.relu(input=x),
    lambda x: (y := relu(x), F.threshold(y, 1, -7, True))[0], lambda x: (y := relu(x), operator.isub(y, 1))[0],
    lambda x: (y := relu(x), operator.iadd(y, x))[0]]


@pytest.mark.parametrize("floor, before", [
    *((floor, before) for floor in FLOORS for before in FLOORS[floor]),
    *((None, before) for before in SOUND)])
def test_floor(floor, before):
    net = Net(before).eval()
    found, q = input_floors(net).layers["last"], four_bits(net).last.input_quantizer
    assert found <= net.before(5 * images()).min() and (floor is None or found == floor)
    assert (q.signed, q.floor) == ((True, 0) if found == SIGNED else (False, min(found, 0)))


def test_lower_floor_and_first_range_of_a_layer_used_often_and_default_of_an_argument_left_out():
    net = models.calibrate(four_bits(net_with(lambda net, x, skip=None: (
        net.last(relu(x)) + net.last(x if skip is None else relu(x)) + net.last(relu(x))))), images())
    alone = quantizers.build("duq", role="activation", bits=8, signed=True).calibrate(relu(images()))
    assert input_floors(net).layers == {"last": SIGNED} and torch.equal(net.last.input_quantizer.a, alone.a)


def expected_plan():
    rows = [("first", 8, None, True)]       # kind, a_bits, floor, does it pad
    for block in "r re re res res res he he he he hes hes hes hes hes".split():
        floor, e, s = {"r": 0.0, "h": -0.375}[block[0]], "e" in block, "s" in block
        rows += [("expand", 4, None, False)] * e + [("depthwise", 4, floor if e else -0.375, True)]
        rows += [("se", 8, floor, False), ("se", 8, 0.0, False)] * s + [("project", 4, floor, False)]
    return rows + [("expand", 4, None, False)] + [("linear", 4, -0.375, False)] * 2


@pytest.mark.parametrize("settings", [{}, {"negative_padding": False}, {"activation": "pact"},
                                      {"w_bits": 32, "a_bits": 32}])
def test_plan(small, settings):
    net, padding = models.quantize(small, Scheme(**settings)), settings.get("negative_padding", True)
    plan, pact = models.plan(net), settings.get("activation") == "pact"
    assert list(plan.layer) == [n for n, m in small.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    for (kind, bits, floor, pads), row in zip(expected_plan(), plan.itertuples(), strict=True):
        held, q = 0.0 if pact else floor or 0.0, net.get_submodule(row.layer).input_quantizer
        assert row.kind == kind and (row.pad_value == held * padding if pads else math.isnan(row.pad_value))
        if "w_bits" not in settings:
            assert (row.w_bits, row.w_levels, row.a_bits, row.a_levels) == (4, 15, bits, 2**bits - q.signed)
            assert (q.signed, q.floor) == (floor is None, held) and (row.input == "signed") == q.signed
        else:
            assert q is None and (row.w_bits, row.a_bits) == (32, 32)


def ranges(net):
    quantized = (m for m in net.modules() if isinstance(m, quantizers.Quantizer))
    return {(q.role, i): [p.item() for p in q.parameters()] for i, q in enumerate(quantized)}


def test_quantize_leaves_the_float_network_alone(small):
    before, x = {k: v.clone() for k, v in small.state_dict().items()}, images()
    net = models.calibrate(four_bits(small), x)
    assert not any(isinstance(m, (QuantConv2d, QuantLinear)) for m in small.modules())
    for name, value in small.state_dict().items():
        assert torch.equal(value, before[name]) and torch.equal(value, net.state_dict()[name])
    (other := four_bits(small)).load_state_dict(net.state_dict())
    assert torch.equal(other.eval()(x), net.eval()(x)) and not torch.equal(net(x), small.eval()(x))


def test_what_a_new_scheme_keeps(small):
    old, x = models.calibrate(models.quantize(small, Scheme(w_bits=8, a_bits=8)), images()).eval(), images()
    for w_bits, a_bits in ((4, 8), (4, 4)):
        new = models.quantize(old, Scheme(w_bits=w_bits, a_bits=a_bits))
        assert set(models.plan(new).w_bits) == {w_bits} and new(x).isfinite().all()     # needs no new range
        assert ranges(new) == ranges(old)
    with pytest.raises(InputError, match="models.calibrate for a whole network"):
        models.quantize(old, Scheme(activation="pact"))(x)
    sawb = models.quantize(old, Scheme(weight="sawb", weight_options={"levels": 15}))
    assert set(models.plan(sawb).w_levels) == {15} and sawb(x).isfinite().all()


def test_calibrate(small):
    net = four_bits(small).train()
    net.features[0][1].eval()
    modes = {m: m.training for m in net.modules()}
    before = ranges(models.calibrate(net, images()))
    assert all(m.training == modes[m] and getattr(m, "calibrated", True) for m in modes)
    assert ranges(models.calibrate(net, 9 * images(seed=1), only_new=True)) == before
    anew = ranges(models.calibrate(net, 9 * images(seed=1)))
    assert anew != before and anew == ranges(models.calibrate(four_bits(small), 9 * images(seed=1)))
    assert not any(m.training for m in models.calibrate(net.eval(), images(), "max").modules())


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "mnasnet0_5", "resnet18"])
def test_networks_of_others(name):
    scheme, lows = Scheme(activation="pact" if name == "mnasnet0_5" else "duq"), []
    net = models.quantize(torchvision.models.get_model(name, num_classes=5), scheme)
    for layer in (m for m in net.modules() if isinstance(m, (QuantConv2d, QuantLinear))):
        if not layer.input_quantizer.signed:        # the floor is 0 in all of these
            layer.register_forward_pre_hook(lambda layer, inputs: lows.append(inputs[0].min().item()))
    models.calibrate(net, images(2, 64))(images(2, 64)).square().sum().backward()
    assert len(lows) > 30 and min(lows) >= 0 and all(p.grad.isfinite().all() for p in net.parameters())


def test_a_layer_with_two_names_is_quantized_once_and_under_both():
    conv = nn.Conv2d(3, 3, 1)
    net = four_bits(seq(conv, nn.ReLU(), conv))
    assert type(net[0]) is QuantConv2d and net[0] is net[2]


def test_quantizers_suit_the_dtype_and_pact_what_lies_below_zero():
    net = models.quantize(Net(lambda x: F.relu6(x) * -1).double(), Scheme(activation="pact"))
    assert {p.dtype for p in net.parameters()} == {torch.float64} and net.last.input_quantizer.signed


def test_a_layer_called_by_keyword_is_quantized():
    net, x = net_with(lambda net, x: net.last(input=x)), images()
    assert input_floors(net).layers == {"last": SIGNED}
    quantized = models.calibrate(four_bits(net), x)
    assert type(quantized.last) is QuantConv2d and quantized(x).isfinite().all()


class Block(nn.Module):
    """A residual block, as plain as can be."""

    def __init__(self, relu=False):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU() if relu else nn.Identity()

    def forward(self, x):
        return self.relu(x + self.conv(x))


highway, eight_bits = Scheme(), Scheme(identity_bits=8)


def identity_rows(net):
    return models.plan(net).query("kind == 'identity'")


def calibrated_blocks(scheme=eight_bits, size=8):
    net = seq(nn.Conv2d(3, 3, 1), Block(relu=True), Block()).eval()
    return models.calibrate(models.quantize(net, scheme), images(size=size)), images(size=size, seed=1)


@pytest.mark.parametrize("name, blocks, floor", [
    ("mobilenet_v1", [], None), ("mobilenet_v2", [3, 5, 6, 8, 9, 10, 12, 13, 15, 16], "signed"),
    ("mobilenet_v3_small", [3, 5, 6, 8, 10, 11], "signed"),
    ("resnet18", ["1.0", "1.1", "2.1", "3.1", "4.1"], ">= 0")])
def test_which_blocks_quantize_their_identity(name, blocks, floor):
    with torch.device("meta"):
        net = models.build(name)
    rows = identity_rows(models.quantize(net, eight_bits))
    assert list(rows.layer) == [f"{'layer' if name == 'resnet18' else 'features.'}{b}" for b in blocks]
    assert set(rows.a_bits) <= {8} and set(rows.input) <= {floor} and rows.w_bits.isna().all()
    for scheme in (highway, Scheme(identity_bits=8, a_bits=32)):
        assert identity_rows(models.quantize(net, scheme)).empty


def test_identity_and_branch_see_the_quantized_input():
    net, x = calibrated_blocks()
    block, seen = net[1], []
    block.conv.register_forward_pre_hook(lambda conv, args: seen.append(args[0]))
    inputs = net[0](x)
    held = block.identity_quantizer(inputs)
    y = block(inputs)
    assert torch.equal(seen[0], held) and not torch.equal(held, inputs)
    assert torch.equal(y, relu(held + block.conv(held)))
    y.sum().backward()
    assert all(p.grad.any() for p in block.identity_quantizer.parameters())
    assert net[2].identity_quantizer.floor == 0 and not net[2].identity_quantizer.signed       # after ReLU


def test_quantized_identity_survives_copies_files_and_fusing():
    net, x = calibrated_blocks()
    y, (fresh, _) = net(x), calibrated_blocks(size=4)
    assert not torch.equal(fresh(x), y)
    fresh.load_state_dict(net.state_dict())
    torch.save(net, file := io.BytesIO())
    file.seek(0)
    saved, twin, fused = torch.load(file, weights_only=False), copy.deepcopy(net), models.fuse(net)
    for other in (fresh, saved, twin, fused, models.unfuse(fused), models.quantize(net, eight_bits)):
        assert torch.equal(other(x), y) and len(other[1]._forward_pre_hooks) == 1
        assert other is fresh or other[1].identity_quantizer is not net[1].identity_quantizer
        again = models.quantize(other, highway)
        assert identity_rows(again).empty and not torch.equal(again(x), y) and not again[1]._forward_pre_hooks
        assert len(net[1]._forward_pre_hooks) == len(other[1]._forward_pre_hooks) == 1     # each has a hook of its own
        assert list(again.state_dict()) == list(calibrated_blocks(highway)[0].state_dict())
    four = models.quantize(net, Scheme(identity_bits=4))        # keeps the range, needs no new one
    assert set(identity_rows(four).a_bits) == {4} and not torch.equal(four(x), y)
    models.calibrate(four, 9 * images(size=8), only_new=True)
    assert torch.equal(four[1].identity_quantizer.a, net[1].identity_quantizer.a)
    with torch.no_grad():
        twin[1].identity_quantizer.a.add_(1)
    assert not torch.equal(twin(x), y) and torch.equal(net(x), y)


@pytest.mark.parametrize("forward, rows", [
    (lambda net, x: x + net.last(x), 0),                                # the network itself: no block of its own
    (lambda net, x: net.before(relu(net.before(x))), 1),                # one block, called twice
    (lambda net, x: net.before(x=x), 0), (lambda net, x: net.before(x) + x, 1)])
def test_sums_that_are_no_blocks_and_blocks_called_twice(forward, rows):
    net = net_with(forward)
    net.before = Block()
    with pytest.warns(UserWarning, match="these layers, which stay float"):     # each leaves one out
        net = models.quantize(net, eight_bits)
    assert list(identity_rows(net).input) == ["signed"] * rows
    assert models.calibrate(net, images())(images()).isfinite().all()


def test_a_block_whose_children_are_a_sequence_is_refused():
    residual = type("Residual", (nn.Sequential,), {"forward": lambda self, x: x + nn.Sequential.forward(self, x)})
    net = seq(nn.Conv2d(3, 3, 1), residual(nn.Conv2d(3, 3, 1)))
    with pytest.raises(InputError, match="identity of 1, whose children are a sequence: let .* Residual as an attr"):
        models.quantize(net, eight_bits)
    assert len(models.plan(models.quantize(net, highway))) == 2


def test_first_and_last_layer_in_float():
    a, b, c = (nn.Conv2d(3, 3, 1) for _ in range(3))
    net = net_with(lambda net, x: net.last(net.before(net.last(relu(net.before(x))))))
    net.before, net.last = seq(a, b), c
    for scheme, float_layers in ((Scheme(), []), (Scheme(quantize_first=False), ["before.0"]),
                                 (Scheme(quantize_last=False), ["last"]),
                                 (Scheme(quantize_first=False, quantize_last=False), ["before.0", "last"])):
        plan = models.plan(models.quantize(net, scheme)).set_index("layer")
        for layer, row in plan.iterrows():
            assert (row.w_bits, row.a_bits) == ((32, 32) if layer in float_layers else
                                                (4, 8 if layer == "before.0" else 4))
            assert (row.weight == row.activation == "float") == (layer in float_layers)
    swapped = net_with(lambda net, x: net.before(net.last(net.before(x))))      # one layer is first and last
    swapped.before = a
    plan = models.plan(models.quantize(swapped, Scheme(quantize_last=False))).set_index("layer")
    assert dict(plan.w_bits) == {"before": 32, "last": 4}


def test_float_ends_come_back(small):
    net = models.quantize(small, Scheme(quantize_first=False, quantize_last=False))
    plan, x = models.plan(net), images()
    assert plan.w_bits.tolist()[:2] == [32, 4] and plan.a_bits.tolist()[-2:] == [4, 32]
    assert models.calibrate(net, x)(x).isfinite().all()
    whole = models.plan(models.quantize(net, Scheme()))
    assert set(whole.w_bits) == {4} and whole.a_bits[0] == 8 and whole.equals(models.plan(four_bits(small)))


@pytest.mark.parametrize("x, shape", [(images(channels=4), "4, 4, 32, 32"), (images(size=4), "4, 3, 4, 4")])
def test_calibrating_with_images_that_do_not_fit(x, shape):
    net = four_bits(models.build("vgg7", width=0.05))
    modes = [m.training for m in net.modules()]
    with pytest.raises(InputError, match=rf"VGG7 cannot take images of shape \({shape}\) .*: give it the size"):
        models.calibrate(net, x)
    assert [m.training for m in net.modules()] == modes and not any(m._forward_pre_hooks for m in net.modules())


class Hidden(nn.Module):
    """Its layers stand in a plain list, where torch doesn't see them."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.Conv2d(3, 3, 1)]

    def forward(self, x):
        return self.layers[0](x)


@pytest.mark.parametrize("make, message", [
    (partial(models.build, "nope"), "unknown .* from alexnet, mobile"), (partial(Scheme, se_bits=16), "se_bits"),
    *((partial(build, **k), "must be a .*number .*, got")
      for k in ({"width": 0}, {"width": math.nan}, {"input_size": 16}, {"num_classes": 0})),
    *((partial(Scheme, w_bits=b), "w_bits must be a whole .* or 32 for float") for b in (9, 0, True, 2.5)),
    (partial(Scheme, "nope"), "not quantize"), (partial(Scheme, "pact"), "not quantize weights: choose from"),
    *((partial(Scheme, identity_bits=b), "identity_bits must be a whole number") for b in (0, 16, 8.0)),
    (partial(four_bits, Hidden()), "cannot follow Hidden.forward .*: make every layer an attribute"),
    (partial(four_bits, nn.Conv2d(3, 3, 1)), r"nothing to quantize \(a layer by itself: put it into nn.Sequential"),
    (partial(four_bits, seq(nn.ReLU())), "no Conv2d or Linear layer: there is nothing to quantize"),
    (partial(four_bits, Net(lambda x: x if x.sum() > 0 else -x)), "cannot follow Net.forward .*control flow"),
    (partial(four_bits, seq(nn.Conv2d(3, 3, 3, padding="same"))), "numeric zero padding .*: pad before"),
    (partial(four_bits, seq(nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"))), "numeric zero padding"),
    (partial(models.plan, Net()), r"not quantized: call models.quantize\(net, scheme\) first"),
    (partial(four_bits, Net(lambda x: x if len(x) else -x)), "cannot follow Net.forward .*len"),
    (partial(four_bits, seq(type("Own", (nn.Linear,), {"forward": len})(3, 3))), "Own has a forward of its")])
def test_bad_input(make, message):
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
