"""Networks with SiLU and other activations that have a minimum: quantized, trained for a step, deployed."""
import pytest
import torch
import torchvision
from torch import nn

from paperlib import models
from paperlib.deploy import IntegerNet, runner, to_c, to_onnx
from paperlib.errors import InputError
from paperlib.models import Scheme
from paperlib.models.value_bounds import MISH_MIN, SILU_MIN

pytestmark = pytest.mark.usefixtures("one_thread")
IMAGES = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
PIXELS = torch.linspace(-2, 2, 256).expand(3, -1)


class Inverted(nn.Module):
    """A universal inverted bottleneck, as MobileNet-v4 has it: depthwise, expanding, depthwise, projecting."""

    def __init__(self, channels, activation, first=True, second=True):
        super().__init__()
        wide = 2 * channels

        def depthwise(n):
            return [nn.Conv2d(n, n, 3, padding=1, groups=n, bias=False), nn.BatchNorm2d(n)]

        self.branch = nn.Sequential(
            *(depthwise(channels) if first else []), nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide),
            activation(), *([*depthwise(wide), activation()] if second else []),
            nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x):
        return x + self.branch(x)


def v4(activation):
    """A stem, a block of each kind that MobileNet-v4 has (with both, one or neither depthwise layer), and a head."""
    blocks = [Inverted(8, activation, first, second) for first in (True, False) for second in (True, False)]
    return nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1, bias=False), nn.BatchNorm2d(8), activation(), *blocks,
                         nn.Conv2d(8, 16, 1), activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))


def efficientnet():
    return torchvision.models.efficientnet_b0(num_classes=5)


def trained(net):
    """Quantized to 4 bits, one step of training, in evaluation mode."""
    torch.manual_seed(0)
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = None                    # statistics of real activations, as a trained network has them
    with torch.no_grad():
        net.train()(IMAGES)
    net = models.calibrate(models.quantize(net, Scheme()).train(), IMAGES)
    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    loss = nn.functional.cross_entropy(net(IMAGES), torch.arange(8) % 5)
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0, error_if_nonfinite=True)
    optimizer.step()
    assert [name for name, p in net.named_parameters() if not p.grad.any()] == []
    return net.eval()


def builds():
    torch.manual_seed(0)
    return {"EfficientNet-B0": (efficientnet(), SILU_MIN), "v4, SiLU": (v4(nn.SiLU), SILU_MIN),
            "v4, Mish": (v4(nn.Mish), MISH_MIN), "v4, ReLU": (v4(nn.ReLU), 0.0)}


@pytest.fixture(scope="module")
def networks():
    return {name: (trained(net), floor) for name, (net, floor) in builds().items()}


@pytest.mark.parametrize("name", builds())
def test_floors_padding_and_levels(name, networks):
    net, floor = networks[name]
    plan = models.plan(net)
    depthwise = plan[plan.kind == "depthwise"]
    after = depthwise[depthwise.input != "signed"]
    assert len(after) >= 2 and set(after.pad_value) == {floor}
    assert set(plan.input) == {"signed", f">= {floor:g}"}
    for layer in after.layer:
        quantizer = net.get_submodule(layer).input_quantizer
        assert quantizer.levels()[0].item() == pytest.approx(floor, abs=1e-7) and len(quantizer.levels()) == 16
    if name == "EfficientNet-B0":           # two gates in each of 16 blocks, and all depthwise layers
        assert (plan.kind == "se").sum() == 32 and set(plan.a_bits[plan.kind == "se"]) == {8}
        assert len(after) == len(depthwise) == 16


@pytest.mark.parametrize("name", builds())
def test_integers_with_float_between_them(name, networks):
    net, _ = networks[name]
    with torch.no_grad():
        wanted = net.double()(IMAGES.double()).float()
        net.float()
    found = IntegerNet(net)(IMAGES)
    assert (found.argmax(1) == wanted.argmax(1)).all() and (found - wanted).norm() < 0.02 * wanted.norm()


@pytest.mark.parametrize("name", builds())
def test_onnx_or_a_word(name, networks, tmp_path):
    net, _ = networks[name]
    if name == "v4, Mish":
        with pytest.raises(InputError, match=r"\(Mish\) has no counterpart in ONNX here"):
            to_onnx(net, tmp_path / "net.onnx", input_size=64)
        return
    with torch.no_grad():
        wanted = net(IMAGES)
    found = runner(to_onnx(net, tmp_path / "net.onnx", input_size=64))(IMAGES)
    same = (found - wanted).abs().amax(1) < 1e-3            # in others a rounding has moved a code, and that many more
    assert same.sum() >= 6, same


@pytest.mark.parametrize("name, what", [("EfficientNet-B0", "SiLU"), ("v4, SiLU", "SiLU"), ("v4, Mish", "Mish")])
def test_integers_alone_are_refused_by_name(name, what, networks, tmp_path):
    net, _ = networks[name]
    for form in (lambda: IntegerNet(net, "fixed"), lambda: to_c(net, tmp_path / "net.c", input_size=64, pixels=PIXELS)):
        with pytest.raises(InputError, match=rf"{what} has no form in integers: use rescale='float'"):
            form()


def test_v4_with_relu_in_integers_alone_and_as_c(networks, tmp_path):
    net, _ = networks["v4, ReLU"]
    with torch.no_grad():
        wanted = net(IMAGES)
    assert (IntegerNet(net, "fixed")(IMAGES) - wanted).norm() < 0.02 * wanted.norm()
    assert "int main" in to_c(net, tmp_path / "net.c", input_size=64, pixels=PIXELS).read_text()
