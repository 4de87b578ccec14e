"""Integers compute what was trained: each layer, each code, each rounding."""
import functools
import json
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from paperlib import models, quantizers
from paperlib.deploy import compare, export_program, integers, programs
from paperlib.deploy import integer_net as module
from paperlib.deploy.compare import predictions
from paperlib.deploy.fixed_rules import Factor, compute, rounded
from paperlib.deploy.integer_layers import float64_copy, spacing
from paperlib.deploy.integer_net import IntegerNet
from paperlib.deploy.programs import thresholds
from paperlib.errors import InputError
from paperlib.models import Scheme
from paperlib.models.graph import trace
from paperlib.models.operations import operation

NETWORKS = {
    "v1, PACT and SAWB": ("mobilenet_v1", Scheme("sawb", "pact", 2, 2)),
    "v2, LSQ": ("mobilenet_v2", Scheme("lsq", "lsq")),
    "v3, DuQ": ("mobilenet_v3_large", Scheme()),
    "v3, each channel its own": ("mobilenet_v3_large", Scheme("duq", "duq", 3, 3, per_channel=True)),
    "v3, zeros as padding": ("mobilenet_v3_large", Scheme("lsq", "duq", negative_padding=False)),
    "v3, LSQ+": ("mobilenet_v3_small", Scheme("lsq+", "lsq+")),
    "v2, identity of 8 bits": ("mobilenet_v2", Scheme(identity_bits=8)),
    "v2, folded first": ("mobilenet_v2", Scheme(fold_norms=True, w_bits=8)),
    "vgg7, 1-bit weights": ("vgg7", Scheme("bwn", "dorefa", 1, 2)),
    "vgg7, ternary": ("vgg7", Scheme("twn", "qil", 2, 3)),
    "vgg7, QIL": ("vgg7", Scheme("qil", "qil", 3, 3)),
    "resnet18, QIL": ("resnet18", Scheme("qil", "qil", 3, 3)),
}
PARTLY_FLOAT = {"vgg7, float ends": ("vgg7", Scheme("qil", "qil", 3, 3, quantize_first=False, quantize_last=False))}
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@functools.cache
def network(how):
    """One of the networks above, made once and not to be changed."""
    return made(*{**NETWORKS, **PARTLY_FLOAT}[how])


def made(name, scheme):
    """Quantized, with batch norms as no training leaves them: gammas of both signs and 0."""
    torch.manual_seed(1)
    net = models.build(name, width={"vgg7": 0.0625, "resnet18": 1.0}.get(name, 0.25))
    for norm in net.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(norm.weight, 0.7, 0.5)
            nn.init.normal_(norm.bias)
            norm.running_mean.normal_(0, 0.2)
            norm.running_var.uniform_(0.5, 2)
            norm.weight.data[0] = 0
    return models.calibrate(models.quantize(net, scheme), IMAGES).eval()


@pytest.fixture(params=[*NETWORKS, *PARTLY_FLOAT])
def net(request):
    return network(request.param)


@pytest.mark.slow
def test_scale_and_bias_stand_for_layer_and_batch_norm(net):
    double, seen = float64_copy(net), {}
    found = integers(net)
    for name, layer in found.items():
        double.get_submodule(name).register_forward_pre_hook(
            lambda _, args, name=name: seen.update({name: [args[0].clone()]}))
        double.get_submodule(layer.norm or name).register_forward_hook(
            lambda _, args, out, name=name: seen[name].append(out.clone()))
    with torch.no_grad():
        double(IMAGES.double())
    assert len(found) >= 6
    for name, layer in found.items():
        before, after = seen[name]
        codes = double.get_submodule(name).input_quantizer.encode(before)
        output = layer.scale.view(layer.spatial) * layer.accumulate(codes) + layer.offset(codes)
        torch.testing.assert_close(output, after, rtol=1e-9, atol=1e-9 * after.abs().max().item())


@pytest.mark.slow
def test_sums_are_those_of_whole_numbers(net):
    for layer in list(integers(net).values())[:6]:
        grid = layer.layer.input_quantizer.grid
        shape = (2, layer.layer.in_channels, 5, 5) if isinstance(layer.layer, nn.Conv2d) else (2, layer.weight.shape[1])
        codes = torch.randint(grid.code_min, grid.code_max + 1, shape, dtype=torch.int16)
        sums = layer.accumulate(codes)
        assert sums.dtype == torch.int32 and sums.abs().max() <= layer.largest < 2**31
        x, w = codes.numpy().astype(np.int64), layer.weight.numpy().astype(np.int64)
        if isinstance(layer.layer, nn.Linear):
            assert (sums.numpy() == x @ w.T).all()
            continue
        exact = convolve(x, w, layer.layer.groups, layer.layer.stride[0], layer.layer.padding[0])
        assert (sums.numpy() == exact).all()


@pytest.mark.slow
def test_every_code_is_that_of_the_fake_quantized_network(net):
    table = compare(net, [(IMAGES[:1], None), (IMAGES[1:], None)])
    assert len(table) >= len(integers(net)) and table.codes.min() >= 16
    assert (table.integer == 0).all(), table
    assert (table.float32 >= table.ties).all() and not (table.furthest > 1e-3).any(), table
    known = table[table.layer.isin(integers(net))]
    assert (known.fixed.isna().all() or (table.fixed.sum() / table.codes.sum() < 0.02)), table


def test_codes_of_weights_are_those_of_training():
    """Half-way between two levels in float32, a hair below in float64."""
    net = models.quantize(nn.Sequential(nn.Conv2d(1, 1, 1)), Scheme("lsq", "lsq"))
    quantizer = net[0].weight_quantizer
    net = models.calibrate(net, torch.rand(1, 1, 2, 2))
    steps = torch.nextafter(quantizer.s.detach(), torch.tensor(1.0)) * torch.arange(-7, 7) + 0.5 * quantizer.s.detach()
    weights = torch.cat([torch.nextafter(steps, torch.tensor(side)) for side in (-9.0, 9.0)] + [steps])
    net[0].weight.data = weights.reshape(-1, 1, 1, 1)
    trained = quantizer.encode(net[0].weight)
    twin = models.unfuse(net).double()[0]
    assert (twin.weight_quantizer.encode(twin.weight) != trained).any()
    assert (float64_copy(net)[0].weight_quantizer.encode(twin.weight) == trained).all()


def test_a_wrong_weight_is_seen(monkeypatch):
    net = network("v2, LSQ")

    def altered(net):
        found = integers(net)
        layer = list(found.values())[3]
        layer.weight[-1] += 1
        return found
    monkeypatch.setattr(module, "integers", altered)
    assert compare(net, [(IMAGES, None)]).integer[4:].sum() > 0


@pytest.mark.slow
def test_logits(net):
    exact = float64_copy(net)(IMAGES.double()).detach()
    torch.testing.assert_close(IntegerNet(net)(IMAGES), exact, rtol=0, atol=1e-9 * exact.abs().max().item())


@pytest.mark.slow
@pytest.mark.parametrize("how", NETWORKS)
def test_fixed_point_holds_integers_alone(how, monkeypatch):
    fixed, seen = IntegerNet(network(how), "fixed"), []
    run = programs.FixedProgram.run_node
    monkeypatch.setattr(programs.FixedProgram, "run_node",
                        lambda self, node: seen.append((node.op, run(self, node))) or seen[-1][1])
    logits = fixed(IMAGES)
    inner = [value for op, value in seen if op not in ("placeholder", "output")]
    assert logits.dtype == torch.float64 and all(value.dtype == torch.int64 for value in inner)
    assert max(value.abs().max() for value in inner) < 2**31
    exact = IntegerNet(network(how))(IMAGES)
    assert (logits - exact).abs().max() < 0.3 * exact.abs().max()


@pytest.mark.slow
def test_more_fraction_bits_cost_fewer_codes():
    net, wrong = network("v3, DuQ"), []
    for fraction in (6, 11, 16):
        table = compare(net, [(IMAGES, None)], fraction)
        wrong.append(table.fixed.sum() / table.codes.sum())
    assert wrong[0] > 3 * wrong[1] > 9 * wrong[2] and wrong[0] > 0.05


@given(st.lists(st.tuples(st.floats(-2.0**20, 2.0**20).filter(lambda x: abs(x) > 1e-12),
                          st.integers(-2**31 + 1, 2**31 - 1)), min_size=1, max_size=20))
def test_factor_is_the_rounded_product(pairs):
    reals, numbers = (torch.tensor(column) for column in zip(*pairs))
    factor = Factor(reals.double())
    assert factor.multiplier.abs().max() <= 2**31
    for product, multiplier, shift, number, real in zip(
            factor(numbers, (-1,)).tolist(), factor.multiplier.tolist(), factor.shift.tolist(), numbers.tolist(),
            reals.double().tolist()):
        exact = Fraction(multiplier, 2**shift)
        assert abs(exact - Fraction(real)) <= max(abs(Fraction(real)) * Fraction(1, 2**31), Fraction(1, 2**63))
        assert product == (number * multiplier + 2**(shift - 1)) // 2**shift


def test_factor_refuses_what_no_shift_can_hold():
    with pytest.raises(InputError, match="smaller fraction"):
        Factor(torch.tensor([2.0**31]).double())


@pytest.mark.parametrize("method", ["duq", "pact", "lsq", "lsq+", "qil", "dorefa"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_thresholds_give_the_quantizers_codes(method, bits):
    floor = -0.375 if method in ("duq", "lsq+") else 0.0
    q = quantizers.build(method, role="activation", bits=bits, signed=False, floor=floor)
    q = q.calibrate(torch.rand(1000) * 4 + floor).double()
    for fraction in (3, 16):
        table = thresholds(q, fraction)
        near = torch.cat([table - 1, table, table + 1, torch.tensor([-2**30, 0, 2**30])]).clamp(-2**31, 2**31 - 1)
        codes = torch.bucketize(near, table, right=True) + q.grid.code_min
        assert (codes == q.encode(near.double() / 2**fraction)).all()
        assert len(table) == q.grid.n_levels - 1 and (table.diff() >= 0).all()


def test_pooling_and_activations_of_integers():
    x = torch.randint(-2**20, 2**20, (2, 3, 7, 5))
    for size in (1, (3, 2), (7, 5), 9):
        exact = F.adaptive_avg_pool2d(x.double(), size)
        assert ((rounded(exact) - exact).abs() <= 0.5 + 1e-9).all()
    for height, width in ((1, 2), (2, 3), (4, 4), (7, 7), (3, 56), (112, 112)):     # sums that lie at half-way
        count = height * width
        sums = torch.randint(-2**30, 2**30, (500, 1)) * count + count // 2 + torch.randint(-1, 2, (500, 1))
        x = (sums // count).expand(-1, count).clone()
        x[:, :-1] += torch.arange(count - 1) % 5
        x[:, -1] += sums[:, 0] - x.sum(1)
        means = (x.sum(1) + count // 2).div(count, rounding_mode="floor")
        x = x.view(500, 1, height, width)
        for pooled in (F.adaptive_avg_pool2d(x.double(), 1), F.avg_pool2d(x.double(), (height, width)),
                       x.double().mean((2, 3)), F.adaptive_avg_pool2d(x.double().to(
                           memory_format=torch.channels_last), 1)):
            assert torch.equal(rounded(pooled).flatten(), means)
    net = nn.Sequential(nn.Conv2d(1, 1, 1))
    program = IntegerNet(models.calibrate(models.quantize(net, Scheme()), IMAGES[:, :1]), "fixed", 16).program
    real = x.double() / 2**16
    for layer in (nn.Hardswish(), nn.Hardsigmoid(), nn.ReLU(), nn.ReLU6(), nn.Hardtanh(), nn.MaxPool2d(2)):
        node = next(iter(trace(nn.Sequential(layer)).find_nodes(op="call_module", target="0")))
        found = operation(node, {"0": layer})
        fixed = compute(program, found, (x,), found.settings)
        assert fixed.dtype == torch.int64
        assert ((fixed - layer(real) * 2**16).abs() <= 0.5 + 1e-6).all(), layer


def test_levels_between_the_steps_have_doubled_codes():
    q = quantizers.build("dorefa", role="weight", bits=2)       # -1, -1/3, 1/3, 1
    net = models.quantize(nn.Sequential(nn.Conv2d(2, 30, 1)), Scheme("dorefa", "lsq", 2, 4))
    net = models.calibrate(net, torch.rand(2, 2, 4, 4)).double().eval()
    layer = integers(net)["0"]
    assert sorted(set(layer.weight.flatten().tolist())) == [-3, -1, 1, 3]
    torch.testing.assert_close(layer.weight * layer.weight_step, q.double()(net[0].weight).detach(), rtol=1e-9, atol=0)


def run_program(file, codes):
    """What the file describes, in plain numpy: the logits as integers, for the codes (int64) of images."""
    arrays = np.load(file)
    program = json.loads(arrays["program"].tobytes())
    one, known = 2 ** program["fraction"], {"codes": codes}
    for step in program["steps"]:
        own = {key.rpartition(".")[2]: arrays[key].astype(np.int64) for key in arrays
               if key.startswith(step["name"] + ".")}
        x, *other = (known[name] for name in step["inputs"])
        if step["op"] == "codes":
            x = step["code_min"] + np.searchsorted(own["thresholds"], x, "right")
        elif step["op"] in ("convolve", "product", "numbers"):
            spatial = (-1, 1, 1) if step["op"] == "convolve" else (-1,)
            if step["op"] == "convolve":
                x = convolve(x, own["weight"], step["groups"], *step["stride"][:1], *step["padding"][:1])
            elif step["op"] == "product":
                x = x @ own["weight"].T
            assert np.abs(x).max() < 2**31
            shift = own["shift"].reshape(spatial)
            x = (x * own["multiplier"].reshape(spatial) + (1 << (shift - 1)) >> shift) + own["bias"]
        elif step["op"] == "clip":
            x = np.clip(x, step["low"], step["high"])
        elif step["op"] == "hardsigmoid":
            x = (np.clip(x + 3 * one, 0, 6 * one) + 3) // 6
        elif step["op"] == "hardswish":
            x = (x * np.clip(x + 3 * one, 0, 6 * one) + 3 * one) // (6 * one)
        elif step["op"] == "average":
            assert step["size"] == [1, 1]
            n = x.shape[-1] * x.shape[-2]
            x = (x.sum((-2, -1), keepdims=True) + n // 2) // n
        elif step["op"] == "max":
            (n, _), (s, _) = step["kernel"], step["stride"]
            x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in step["padding"])], constant_values=-2**31)
            x = np.lib.stride_tricks.sliding_window_view(x, (n, n), (2, 3))[:, :, ::s, ::s].max((-2, -1))
        elif step["op"] == "flatten":
            x = x.reshape(len(x), -1)
        elif step["op"] == "add":
            x = x + other[0]
        else:
            assert step["op"] == "multiply"
            x = (x * other[0] + one // 2) >> program["fraction"]
        known[step["name"]] = x
    return program, x


def convolve(x, w, groups, stride, padding):
    k, (n, channels) = w.shape[-1], x.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)]), (k, k), (2, 3))[:, :, ::stride, ::stride]
    size, w = windows.shape[2:4], w.reshape(groups, len(w) // groups, -1)
    windows = windows.reshape(n, groups, channels // groups, *size, k * k).transpose(1, 0, 3, 4, 2, 5)
    out = windows.reshape(groups, -1, w.shape[2]) @ w.transpose(0, 2, 1)
    return out.reshape(groups, n, *size, -1).transpose(1, 0, 4, 2, 3).reshape(n, -1, *size)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["v2, LSQ", "v3, DuQ", "v3, zeros as padding", "v2, identity of 8 bits",
                                 "vgg7, 1-bit weights"])
def test_the_exported_program_needs_nothing_but_integers(how, tmp_path):
    net = network(how)
    fixed = IntegerNet(net, "fixed", 18)
    codes = [c.numpy().astype(np.int64) for c in fixed.codes(IMAGES).values()]
    logits = fixed(IMAGES)
    program, numbers = run_program(export_program(net, tmp_path / "net.npz", input_size=32, fraction=18), codes[0])
    assert (numbers == (logits * 2**18).long().numpy()).all() and numbers.dtype == np.int64
    given = program["input"]
    image = np.clip(np.round((IMAGES.double().numpy() - given["offset"]) / given["step"]), given["code_min"],
                    given["code_max"])
    assert (image == codes[0]).all()


def test_what_cannot_be_integers_says_why(tmp_path):
    net = models.build("vgg7_hardtanh", width=0.0625)
    xnor = models.calibrate(models.quantize(net, Scheme("xnor", "xnor", 1, 1, first_input_bits=1)), IMAGES)
    with pytest.raises(InputError, match="factor that it takes from the input"):
        IntegerNet(xnor)
    ttq = made("vgg7", Scheme("ttq", "duq", 2, 4))
    with pytest.raises(InputError, match="not evenly spaced"):
        integers(ttq)
    partly = network("vgg7, float ends")
    with pytest.raises(InputError, match=r"features\.0\.0, classifier\.3 stayed in float"):
        IntegerNet(partly, "fixed")
    good = network("v2, LSQ")
    with pytest.raises(InputError, match="features.0.0: the image has to go to one layer"):
        export_program(network("vgg7, QIL"), tmp_path / "net.npz", input_size=32)
    assert not any(tmp_path.iterdir())
    with pytest.raises(InputError, match="float or fixed, got 'int'"):
        IntegerNet(good, "int")
    with pytest.raises(InputError, match="1 to 30, got 31"):
        IntegerNet(good, "fixed", 31)
    with pytest.raises(InputError, match="more than 32 bits"):
        IntegerNet(good, "fixed", 30)(IMAGES)
    odd = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Conv2d(4, 4, 1))
    odd = models.calibrate(models.quantize(odd, Scheme()), IMAGES)
    assert IntegerNet(odd)(IMAGES).shape == (2, 4, 30, 30)
    with pytest.raises(InputError, match="^1: GELU has no form in integers: use rescale='float'$"):
        IntegerNet(odd, "fixed")(IMAGES)


def test_spacing_of_each_channel():
    q = quantizers.build("duq", role="weight", bits=4, shape=(3, 1, 1, 1)).calibrate(torch.randn(3, 2, 3, 3)).double()
    step, origin = spacing(q)
    assert step.shape == (3,) and (origin == 0).all()
    torch.testing.assert_close(step[:, None] * torch.arange(-7, 8), q.levels(), rtol=1e-12, atol=1e-15)


def test_predictions():
    right, x, y = torch.eye(4), torch.zeros(4, 1), torch.arange(4)
    forms = {"a": lambda x: right[:len(x)], "b": lambda x: 2 * right[:len(x)].roll(1, 1)}
    table = predictions(forms, [(x, y), (x[:2], y[:2])]).set_index("form")
    assert table.images.tolist() == [6, 6] and table.accuracy.tolist() == [100, 0]
    assert table.other_answers.tolist() == [0, 6] and table.logit_difference.tolist() == [0, 2]
    assert table.loss["a"] == pytest.approx(np.log(np.e + 3) - 1)
