"""What each operation does to the lower bound of its input, and what squeeze-and-excite is, whatever its name."""
import hashlib
import math
import operator
import warnings

import mpmath
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from paperlib import models
from paperlib.models import Scheme, value_bounds
from paperlib.models.squeeze_excite import gate_layers
from paperlib.models.value_bounds import input_floors

X = 3 * torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
SIGNED, HSWISH = -float("inf"), -3 / 8


class Net(nn.Module):
    def __init__(self, before):
        super().__init__()
        self.before, self.last = before, nn.LazyConv2d(2, 1)

    def forward(self, x):
        return self.last(self.before(x))


# what keeps the least value of its input, whatever that is
KEEPING = [nn.AdaptiveAvgPool2d(2), nn.AdaptiveMaxPool2d(2), nn.AvgPool2d(2), nn.MaxPool2d(3, 2, 1), nn.Dropout2d(),
           nn.ChannelShuffle(2), nn.PixelShuffle(2), nn.PixelUnshuffle(2), nn.ReflectionPad2d(1),
           nn.ReplicationPad2d(1), nn.Upsample(scale_factor=2), nn.UpsamplingBilinear2d(scale_factor=2),
           nn.ZeroPad2d(1),
           lambda x: torch.cat([x, x], 1), lambda x: torch.stack([x, x], 2).flatten(1, 2),
           lambda x: F.avg_pool2d(x, 3, 1, 1), lambda x: F.adaptive_avg_pool2d(x, 3), lambda x: F.max_pool2d(x, 2),
           lambda x: F.dropout2d(x, 0.5, False), lambda x: x.permute(0, 1, 3, 2), lambda x: x.transpose(2, 3),
           lambda x: F.interpolate(x, scale_factor=2.0), lambda x: F.interpolate(x, 5, mode="bilinear"),
           lambda x: x.clone(), lambda x: x.contiguous(), lambda x: x.chunk(2, 1)[1], lambda x: x.split(4, 1)[0],
           lambda x: torch.chunk(x, 2, dim=1)[0], lambda x: x[:, :4], lambda x: x.flip(3), lambda x: x.roll(1, 2),
           lambda x: x.reshape(2, 4, 16, 8), lambda x: x.view(2, 8, 4, 16), lambda x: x.flatten(2).unsqueeze(3),
           lambda x: x.mean((2, 3), keepdim=True), lambda x: x.amax((2, 3), True), lambda x: F.pad(x, (1, 1)),
           lambda x: F.pad(x, (1, 1), value=2.0), lambda x: F.pad(x, (1, 1, 1, 1), "reflect"), lambda x: x / 1,
           lambda x: torch.maximum(x, x), lambda x: torch.minimum(x, x + 1), lambda x: x + 0]
# what keeps the sign of numbers from 0 upwards, and no other bound
SIGN = [nn.Tanh(), nn.LeakyReLU(), nn.Softsign(), nn.PReLU(), nn.LocalResponseNorm(2), F.leaky_relu, torch.tanh,
        lambda x: x.sum((2, 3), True), lambda x: F.avg_pool2d(x, 2, divisor_override=1), nn.ELU(-0.5), nn.CELU(-1.0)]
# what has a minimum of its own below 0, and keeps the sign of numbers from 0 upwards
DIPS = {value_bounds.SILU_MIN: [nn.SiLU(), nn.SiLU(True), F.silu, lambda x: F.silu(x, True)],
        value_bounds.GELU_MIN["none"]: [nn.GELU(), F.gelu],
        value_bounds.GELU_MIN["tanh"]: [nn.GELU("tanh"), lambda x: F.gelu(x, approximate="tanh")],
        value_bounds.MISH_MIN: [nn.Mish(), F.mish],
        -1.0: [nn.ELU(), F.elu, F.elu_, nn.CELU(), torch.celu, lambda x: F.elu(x, 1.0, True)],
        -0.25: [nn.ELU(0.25), lambda x: F.elu(x, alpha=0.25), nn.CELU(0.25), lambda x: torch.celu(x, 0.25)],
        -value_bounds.SELU[0] * value_bounds.SELU[1]: [nn.SELU(), F.selu, torch.selu]}
# by the floor of what comes out, whatever comes in
OWN = {0: [nn.Hardtanh(0, 6), lambda x: F.hardtanh(x, 0.0, 6.0), lambda x: x.clamp(0, 6), lambda x: x.clamp(min=0),
           lambda x: torch.clamp_min(x, 0), lambda x: x.clip(0), nn.ReLU(True), F.relu_, lambda x: x.relu_(),
           lambda x: x.sigmoid(), nn.Softmax(1), lambda x: x.softmax(1), lambda x: F.softmax(x, 1), nn.Hardsigmoid(),
           torch.abs, abs, lambda x: x.abs(), lambda x: x.exp(), nn.Softplus(), torch.square,
           lambda x: 1 - torch.sigmoid(x), lambda x: F.relu(x) / 2, lambda x: F.relu(x).add_(F.relu(-x))],
       1: [lambda x: x.clamp(1, 2), lambda x: torch.maximum(x, F.relu(x) + 1)], HSWISH: [nn.Hardswish(True)],
       SIGNED: [nn.Hardtanh(), lambda x: x.clamp(-1, 1), lambda x: x.clamp(max=1), nn.ConstantPad2d(1, -1.0),
                lambda x: F.interpolate(F.relu(x), scale_factor=2.0, mode="bicubic"), lambda x: F.relu(x) / -2,
                lambda x: F.relu(x) - F.relu(-x), lambda x: torch.cat([F.relu(x), x], 1), nn.LogSigmoid(),
                lambda x: torch.add(F.relu(x), F.relu(-x), alpha=-1), lambda x: x.clamp(min=x - 1), torch.sin,
                lambda x: torch.div(F.relu(x), -1, rounding_mode="floor"), lambda x: torch.minimum(F.relu(x), x),
                lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
                lambda x: (y := F.relu(x), y.view(2, 8, 64).sub_(1))[0], lambda x: (y := F.relu(x), y.neg_())[0],
                lambda x: (y := F.relu(x), F.threshold(y, 1, -7, True))[0]]}
CASES = [(start, floor, op) for start, floor in ((F.relu, 0), (F.hardswish, HSWISH), (lambda x: x + 0, SIGNED))
         for op in KEEPING]
CASES += [(F.relu, 0, op) for op in SIGN] + [(F.hardswish, SIGNED, op) for op in SIGN]
CASES += [(lambda x: x + 0, floor, op) for ops_by_floor in (OWN, DIPS) for floor, ops in ops_by_floor.items()
          for op in ops]
CASES += [(F.relu, 0, op) for ops in DIPS.values() for op in ops]
CASES += [(F.hardswish, floor, op) for floor, op in (
    (value_bounds.SILU_MIN, nn.SiLU()), (math.expm1(HSWISH), nn.ELU()), (0.5 * math.expm1(HSWISH), nn.ELU(0.5)),
    (0.5 * math.expm1(HSWISH / 0.5), nn.CELU(0.5)))]


def floor_of(before, x=X):
    net = Net(before).eval()
    with torch.no_grad():
        net(x.clone())
        return input_floors(net).layers["last"], before(x.clone()).min().item()


@pytest.mark.parametrize("start, floor, op", CASES)
def test_floor_of_each_operation(start, floor, op):
    before = nn.Sequential(Start(start), op.eval()) if isinstance(op, nn.Module) else (lambda x: op(start(x)))
    found, least = floor_of(before)
    assert found <= least + 1e-6 and found == floor


SMOOTH = {"silu": (lambda x: x / (1 + mpmath.exp(-x)), value_bounds.SILU_MIN),
          "gelu": (lambda x: x * mpmath.ncdf(x), value_bounds.GELU_MIN["none"]),
          "gelu by tanh": (lambda x: x / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (
              x + mpmath.mpf("0.044715") * x**3))), value_bounds.GELU_MIN["tanh"]),
          "mish": (lambda x: x * mpmath.tanh(mpmath.log(1 + mpmath.exp(x))), value_bounds.MISH_MIN)}


@pytest.mark.parametrize("name", SMOOTH)
def test_minima_to_double_precision(name):
    """Where the derivative is 0, with 40 digits; and no lower value on either side."""
    function, floor = SMOOTH[name]
    with mpmath.workdps(40):
        lowest = mpmath.findroot(lambda x: mpmath.diff(function, x), -1)
        assert float(function(lowest)) == floor
        assert all(function(lowest + d) > function(lowest) for d in (-30, -1, -0.01, 0.01, 1, 30))


def test_selus_constants_are_torchs():
    x = torch.linspace(-30, 3, 67, dtype=torch.float64)
    scale, alpha = value_bounds.SELU
    torch.testing.assert_close(F.selu(x), scale * torch.where(x > 0, x, alpha * torch.expm1(x)), rtol=1e-15, atol=0)


class Start(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function, self.inner = function, nn.Sequential(nn.Identity())

    def forward(self, x):
        return self.function(x)


BEHIND_A_NORM = {"squeezenet1_1": [], "googlenet": [], "shufflenet_v2_x0_5": [
    "stage2.0.branch1.2", *(f"stage{s}.{i}.branch2.5" for s, n in ((2, 4), (3, 8), (4, 4)) for i in range(n)),
    "stage3.0.branch1.2", "stage4.0.branch1.2"]}


@pytest.mark.parametrize("name", BEHIND_A_NORM)
def test_unsigned_behind_every_relu_of_torchvisions_networks(name):
    torch.manual_seed(0)
    options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    net = getattr(torchvision.models, name)(**options)
    floors, seen = input_floors(net.eval()).layers, {}
    for layer in floors:
        net.get_submodule(layer).register_forward_pre_hook(
            lambda _, args, layer=layer: seen.update({layer: args[0].min().item()}))
    with torch.no_grad():
        net(torch.randn(2, 3, 64, 64))
    signed = [layer for layer, floor in floors.items() if floor == SIGNED]
    assert sorted(signed[1:]) == sorted(BEHIND_A_NORM[name])        # and the image
    assert all(floors[layer] <= least for layer, least in seen.items()) and len(seen) == len(floors)
    assert {floor for floor in floors.values()} <= {0.0, SIGNED}


PLANS = {       # recorded runs rest on these
    ("alexnet", 224): ["b9caf5332c0f", "b9caf5332c0f"],
    ("mobilenet_v1", 32): ["507b699faa55", "507b699faa55"],
    ("mobilenet_v1", 224): ["507b699faa55", "507b699faa55"],
    ("mobilenet_v2", 32): ["f1d048baae4a", "bdbd2b543ff8"],
    ("mobilenet_v2", 224): ["f1d048baae4a", "bdbd2b543ff8"],
    ("mobilenet_v3_large", 32): ["abb0d73601dc", "7686c5d54be2"],
    ("mobilenet_v3_large", 224): ["abb0d73601dc", "7686c5d54be2"],
    ("mobilenet_v3_small", 32): ["75d552e023d1", "4af8e0fb935d"],
    ("mobilenet_v3_small", 224): ["75d552e023d1", "4af8e0fb935d"],
    ("resnet101", 32): ["7fa5d0540598", "0161a91419a0"],
    ("resnet101", 224): ["5aa17bfc0fd4", "73513e95ee67"],
    ("resnet18", 32): ["ebd43f250403", "ad031225243a"],
    ("resnet18", 224): ["d486955dee57", "ab3bdf6fc268"],
    ("resnet50", 32): ["897e7e5a6d42", "180a16fb0cd7"],
    ("resnet50", 224): ["14becbf30aa2", "bee3ae0e09f4"],
    ("vgg7", 32): ["e69ff9a72dae", "e69ff9a72dae"],
    ("vgg7_hardtanh", 32): ["4a6992ef52b5", "4a6992ef52b5"],
}


@pytest.mark.parametrize("name, size", PLANS)
def test_plans_of_our_networks_stay(name, size):
    with torch.device("meta"):
        net = models.build(name, input_size=size)
    tables = [models.plan(models.quantize(net, scheme)).to_csv() for scheme in (Scheme(), Scheme(identity_bits=8))]
    assert [hashlib.sha256(table.encode()).hexdigest()[:12] for table in tables] == PLANS[name, size]


class Gate(nn.Module):
    """Squeeze-and-excite in other people's words."""

    def __init__(self, pool, product, linear=False):
        super().__init__()
        self.one, self.two = (nn.Linear(8, 2), nn.Linear(2, 8)) if linear else (nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1))
        self.pool, self.product = pool, product

    def forward(self, x):
        return self.product(x, self.two(F.relu(self.one(self.pool(x)))).sigmoid())


spread = lambda x, g: x * g[:, :, None, None]      # noqa: E731
GATES = [Gate(nn.AdaptiveAvgPool2d(1), torch.mul), Gate(nn.AdaptiveAvgPool2d((1, 1)), lambda x, g: g * x),
         Gate(lambda x: F.adaptive_avg_pool2d(x, 1), lambda x, g: x.mul_(g)),
         Gate(lambda x: x.mean((2, 3), keepdim=True), operator.imul), Gate(lambda x: x.mean([-1, -2]), spread, True),
         Gate(lambda x: F.avg_pool2d(x, x.shape[2:]), lambda x, g: x * (1 + g)),
         Gate(lambda x: x.view(x.size(0), 8, -1).mean(2),
              lambda x, g: x * g.view(x.size(0), 8, 1, 1).expand_as(x), True),
         Gate(lambda x: F.adaptive_max_pool2d(x, 1) + F.adaptive_avg_pool2d(x, 1), lambda x, g: x + x * g)]
NOT_GATES = [Gate(nn.Identity(), torch.mul), Gate(nn.AdaptiveAvgPool2d(1), torch.add),
             Gate(lambda x: x.mean(3, keepdim=True), torch.mul), Gate(nn.AdaptiveAvgPool2d(2), lambda x, g: g),
             Gate(nn.AdaptiveAvgPool2d(1), lambda x, g: x.mean((2, 3), keepdim=True) * g)]


@pytest.mark.parametrize("gate, found", [*((g, {"1.one", "1.two"}) for g in GATES), *((g, set()) for g in NOT_GATES)])
def test_squeeze_and_excite_is_what_it_does(gate, found):
    net = nn.Sequential(nn.Conv2d(3, 8, 3), gate, nn.Conv2d(8, 4, 1)).eval()
    assert net(X[:, :3]).dim() == 4 and gate_layers(net) == found
    plan = models.plan(models.quantize(net, Scheme())).set_index("layer")
    assert set(plan.index[plan.kind == "se"]) == found and (plan.a_bits[list(found)] == 8).all()


def test_no_name_makes_a_layer_squeeze_and_excite():
    net = nn.Sequential(nn.Identity(), torchvision.models.squeezenet1_1())
    assert "se" not in set(models.plan(models.quantize(net, Scheme())).kind)
    assert len(gate_layers(torchvision.models.efficientnet_b0())) == 32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformer = models.quantize(torchvision.models.vit_b_16(), Scheme())      # attention stays float
    assert len(models.plan(transformer)) == 26
