"""The networks by name: their forms for large and small images, trained weights, and quantization of each."""
import math
import pickle
import urllib.error
from functools import partial

import pytest
import torch
import torchvision
from torch import nn

from paperlib import models
from paperlib.errors import InputError
from paperlib.models import Scheme, weights
from paperlib.models.layers import QuantConv2d, QuantLinear

PARAMETERS = {"mobilenet_v1": 4_231_976, "mobilenet_v2": 3_504_872, "mobilenet_v3_large": 5_483_032,
              "mobilenet_v3_small": 2_542_856, "resnet18": 11_689_512, "resnet50": 25_557_032,
              "resnet101": 44_549_160, "alexnet": 61_101_992}       # at 1000 classes
SMALL = {"mobilenet_v1": 2, "mobilenet_v2": 2, "mobilenet_v3_large": 2, "mobilenet_v3_small": 2, "vgg7": 8,
         "vgg7_hardtanh": 8, "resnet18": 4}        # the smallest map that a convolution makes of a 32x32 image
WIDE = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "vgg7",
        "vgg7_hardtanh")


@pytest.fixture(autouse=True)
def one_seed_and_thread():
    threads = torch.get_num_threads()
    yield torch.manual_seed(0), torch.set_num_threads(1)
    torch.set_num_threads(threads)


def images(n=2, size=32):
    x = torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))
    return x.to(memory_format=torch.channels_last)


def small(name, **settings):
    return models.build(name, **({"width": 0.25} if name in WIDE else {}), **settings)


def shapes(net):
    return {name: value.shape for name, value in net.state_dict().items()}


def on_meta(name, **settings):
    with torch.device("meta"):
        return models.build(name, **{"num_classes": 1000, "input_size": 224, **settings})


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_at_224(name):
    assert sum(p.numel() for p in on_meta(name).parameters()) == PARAMETERS[name]
    assert on_meta(name)(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 1000)


@pytest.mark.parametrize("name", weights.TORCHVISION)
def test_names_and_shapes_are_torchvisions(name):
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name)
    assert shapes(on_meta(name)) == shapes(theirs)
    assert list(shapes(on_meta(name, input_size=32))) == list(shapes(theirs))


def test_every_network_is_covered():
    assert models.names() == sorted({**PARAMETERS, **SMALL})


@pytest.mark.parametrize("name", SMALL)
def test_the_form_for_small_images(name):
    net, maps, x = small(name), [], images()
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    for conv in convs:
        conv.register_forward_hook(lambda m, x, y: maps.append(y.shape[-1]))
    y = net(x)
    y.logsumexp(1).sum().backward()
    assert y.shape == (2, 10) and all(p.grad.isfinite().all() for p in net.parameters())
    assert (maps[0], max(maps), min(m for m in maps if m > 1)) == (32, 32, SMALL[name])
    assert convs[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not any(m.p for m in net.modules() if isinstance(m, nn.Dropout))


def test_mobilenet_v1_is_its_papers():
    net = on_meta("mobilenet_v1", width=0.5)
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    out = [16, 16, 32, 32, 64, 64, 64, 64, 128, 128, 128, 128, *[256] * 12, 512, 512, 512]
    assert [c.out_channels for c in convs] == out
    assert [c.stride[0] for c in convs] == [2, 1, 1, 2, 1, 1, 1, 2, 1, 1, 1, 2, *[1] * 11, 2, 1, 1, 1]
    assert all(c.kernel_size == (3, 3) and c.groups == c.in_channels for c in convs[1::2])
    assert all(c.kernel_size == (1, 1) and c.groups == 1 for c in convs[2::2])
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.001]
    follow = [type(m).__name__ for m in net.features.modules() if not list(m.children())]
    assert follow == ["Conv2d", "BatchNorm2d", "ReLU"] * 27


def test_vgg7_with_signs_differs_in_the_activation_alone():
    plain, signed = (str(models.build(name, width=0.05)) for name in ("vgg7", "vgg7_hardtanh"))
    assert signed == plain.replace("ReLU(inplace=True)", "Hardtanh(min_val=-1.0, max_val=1.0, inplace=True)")


def test_vgg7_is_its_papers():
    net = models.build("vgg7")
    leaves = [m for m in net.modules() if not list(m.children())]
    conv, pool = ["Conv2d", "BatchNorm2d", "ReLU"], ["MaxPool2d"]
    assert [type(m).__name__ for m in leaves] == (conv * 2 + pool) * 3 + ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert [tuple(m.weight.shape[:2]) for m in leaves if isinstance(m, (nn.Conv2d, nn.Linear))] == [
        (128, 3), (128, 128), (256, 128), (256, 256), (512, 256), (512, 512), (1024, 8192), (10, 1024)]
    assert [m.bias is None for m in leaves if isinstance(m, (nn.Conv2d, nn.Linear))] == [True] * 7 + [False]
    assert small("vgg7", input_size=50)(images(size=50)).shape == (2, 10)


def test_alexnet_has_batch_norm_and_no_dropout():
    net = on_meta("alexnet")
    leaves = [m for m in net.features if not isinstance(m, nn.MaxPool2d)]
    assert [type(m).__name__ for m in leaves] == ["Conv2d", "BatchNorm2d", "ReLU"] * 5
    assert all(m.bias is None for m in leaves[::3]) and net.classifier[1].bias is not None
    assert not any(m.p for m in net.modules() if isinstance(m, nn.Dropout))
    assert on_meta("alexnet", input_size=63)(torch.empty(1, 3, 63, 63, device="meta")).shape == (1, 1000)


@pytest.mark.parametrize("make, message", [
    *((partial(models.build, name, width=0.5), f"{name} has no width multiplier, got width=0.5: leave it out")
      for name in ("alexnet", "resnet18", "resnet50", "resnet101")),
    (partial(models.build, "alexnet", input_size=62), "at least 63 pixels, got input_size=62: scale them up"),
    (partial(models.build, "vgg7", input_size=224), "of 32 to 64 pixels, got input_size=224: scale them down")])
def test_bad_input(make, message):
    with pytest.raises(InputError, match=message):
        make()


# -- trained weights ------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def theirs():
    """torchvision's MobileNet-v3-Small after a step's worth of statistics, which let an image through to the end."""
    torch.manual_seed(0)
    net = torchvision.models.mobilenet_v3_small()
    for module in net.modules():
        module.momentum = None
    net.train()(images(4, 64))
    return net.eval().to(memory_format=torch.channels_last)


ours = partial(models.build, "mobilenet_v3_small", num_classes=1000)


def without_counters(state):
    return {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}


@pytest.mark.parametrize("packed", [
    lambda state: state, lambda state: {"state_dict": state, "epoch": 3}, lambda state: {"model": state},
    lambda state: {f"module.{k}": v for k, v in state.items()}, without_counters], ids=range(5))
def test_weights_from_a_file(tmp_path, theirs, packed):
    torch.save(packed(theirs.state_dict()), path := tmp_path / "some.pth")
    net, x = ours(input_size=224, weights=path).eval(), images(size=64)
    assert torch.equal(net(x), theirs(x)) and net(x).std() > 1e-3
    tiny = ours(weights=str(path)).state_dict()
    assert all(torch.equal(v, tiny[k]) for k, v in without_counters(theirs.state_dict()).items())


def test_weights_of_a_resnet_fit_its_large_form(tmp_path):
    torch.save((net := torchvision.models.resnet18()).state_dict(), path := tmp_path / "resnet18.pth")
    large = partial(models.build, "resnet18", num_classes=1000, weights=path)
    assert torch.equal(large(input_size=224).eval()(images(size=64)),
                       net.to(memory_format=torch.channels_last).eval()(images(size=64)))
    with pytest.raises(InputError, match=r"1 of another shape \(conv1.weight is 64x3x7x7 in the file and 64x3x3x3 in "
                                         r"the network\); check the network's name, width and input_size"):
        large(input_size=32)


def changed(state, drop=(), add=(), **shaped):
    return {**{k: v for k, v in state.items() if k not in drop}, **{k: torch.ones(2) for k in add}, **shaped}


@pytest.mark.parametrize("change, message", [
    (partial(changed, drop=["features.0.0.weight"]), r"do not fit: 1 missing \(features.0.0.weight\); check"),
    (partial(changed, add="abcd"), r"4 unexpected \(a, b, c, \.\.\.\); check"),
    (partial(changed, drop=["features.0.1.bias"], add="a"), r"1 missing \(features.0.1.bias\); 1 unexpected \(a\)"),
    (lambda s: changed(s, **{"classifier.0.bias": torch.tensor(1.0)}), r"0.bias is a number in .* and 1024 in the net"),
    (lambda s: changed(s, **{"classifier.3.weight": torch.ones(7, 1024), "classifier.3.bias": torch.ones(7)}),
     "are for 7 classes, the network has 1000: build it with num_classes=7, then replace its last layer, classifier.3"),
    (lambda s: {"nothing": 1}, "no state dict of a float network: write it with torch.save"),
    (lambda s: [], "no state dict"), (lambda s: {}, "no state dict"),
    (lambda s: nn.Linear(1, 1), r"cannot read weights from .*\(UnpicklingError\): it must be a file that torch.save")])
def test_weights_that_do_not_fit_are_named(tmp_path, theirs, change, message):
    torch.save(change(theirs.state_dict()), path := tmp_path / "some.pth")
    with pytest.raises(InputError, match=message) as caught:
        ours(weights=path)
    assert "\n" not in str(caught.value)


def test_a_refused_file_leaves_the_network_alone(tmp_path, theirs):
    net = ours(width=0.5)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    torch.save(theirs.state_dict(), path := tmp_path / "wide.pth")
    with pytest.raises(InputError, match="of another shape .*check the network's name, width"):
        weights.load_weights(net, "mobilenet_v3_small", path)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize("content", [b"", b"not a file of torch's", b"PK\3\4 cut short"])
def test_files_of_another_kind(tmp_path, content):
    (path := tmp_path / "some.pth").write_bytes(content)
    with pytest.raises(InputError, match="cannot read weights from .*some.pth .*: it must be a file that"):
        ours(weights=path)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    (folder := tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return folder


def torchvisions(monkeypatch, answer):
    calls = []

    def get_state_dict(member, **settings):
        calls.append((str(member), settings))
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", get_state_dict)
    return calls


@pytest.mark.parametrize("asked, got", [("IMAGENET1K_V1", "IMAGENET1K_V1"), ("IMAGENET1K_V2", "IMAGENET1K_V2"),
                                        ("DEFAULT", "IMAGENET1K_V2")])
def test_weights_by_torchvisions_names(monkeypatch, hub, asked, got):
    net = torchvision.models.mobilenet_v2()
    calls = torchvisions(monkeypatch, net.state_dict())
    mine = models.build("mobilenet_v2", num_classes=1000, weights=asked)
    assert all(torch.equal(v, mine.state_dict()[k]) for k, v in net.state_dict().items())
    assert calls == [(f"MobileNet_V2_Weights.{got}",
                      {"check_hash": True, "map_location": "cpu", "weights_only": True})]
    with pytest.raises(InputError, match="are for 1000 classes, the network has 10: build it with num_classes=1000"):
        models.build("mobilenet_v2", weights=asked)


@pytest.mark.parametrize("error, message", [
    (urllib.error.URLError("no\nroute"), r"^cannot get https://\S+/resnet18-f37072fd.pth \(<urlopen error no route>\): "
     r"lay the file at \S+/hub/checkpoints/resnet18-f37072fd.pth, or set TORCH_HOME"),
    (RuntimeError("invalid hash value"), r"f37072fd.pth arrived damaged \(invalid hash value\): run again"),
    (pickle.UnpicklingError(), r"arrived damaged \(UnpicklingError\)")])
def test_weights_that_cannot_be_had(monkeypatch, hub, error, message):
    torchvisions(monkeypatch, error)
    with pytest.raises(InputError, match=message) as caught:
        models.build("resnet18", num_classes=1000, weights="IMAGENET1K_V1")
    assert "\n" not in str(caught.value)


def test_a_damaged_file_in_the_cache_is_refused(hub):
    (hub / "resnet18-f37072fd.pth").write_bytes(b"half of it")
    with pytest.raises(InputError, match="resnet18-f37072fd.pth is damaged or another file .*: delete it"):
        models.build("resnet18", num_classes=1000, weights="IMAGENET1K_V1")


@pytest.mark.parametrize("name, asked, message", [
    ("mobilenet_v2", "IMAGENET1K_V3", "torchvision has only IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT: choose one"),
    ("mobilenet_v3_small", "IMAGENET1K_V2", "nothing for mobilenet_v3_small .* only IMAGENET1K_V1, DEFAULT: "),
    ("resnet18", "missing.pth", "weights='missing.pth' is no file, .* and torchvision has only .* or a path"),
    *((name, "IMAGENET1K_V1", f"for {name} .*, and torchvision has none: give the path of a file")
      for name in ("mobilenet_v1", "vgg7"))])
def test_names_of_weights_that_there_are_not(name, asked, message):
    with pytest.raises(InputError, match=message):
        models.build(name, weights=asked)


# -- quantization of each -------------------------------------------------------------------------------------------
FLOORS = {"mobilenet_v1": {0.0}, "vgg7": {0.0}, "alexnet": {0.0}, "resnet18": {0.0}, "resnet50": {0.0},
          "resnet101": {0.0}, "mobilenet_v2": {0.0, -math.inf}, "mobilenet_v3_large": {0.0, -0.375, -math.inf},
          "mobilenet_v3_small": {0.0, -0.375, -math.inf}}        # of every layer but the first


@pytest.mark.parametrize("name", FLOORS)
def test_what_reaches_each_layer(name):
    net = models.quantize(on_meta(name, input_size=224 if name != "vgg7" else 32), Scheme())
    plan = models.plan(net)
    assert len(plan) == sum(isinstance(m, (QuantConv2d, QuantLinear)) for m in net.modules())
    assert not any(type(m) in (nn.Conv2d, nn.Linear) for m in net.modules())
    assert list(plan.kind).count("first") == 1 and plan.kind[0] == "first" and plan.kind.iloc[-1] == "linear"
    assert plan.input[0] == "signed" and plan.a_bits[0] == 8 and set(plan.w_bits) == {4}
    assert set(plan.input[1:]) == {"signed" if f == -math.inf else f">= {f:g}" for f in FLOORS[name]}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:DuQ. no value of the calibration data")     # squeeze-and-excite, untrained
@pytest.mark.parametrize("scheme", [Scheme(), Scheme("qil", "qil", quantize_first=False, quantize_last=False,
                                                     identity_bits=4)], ids=["PROFIT", "QIL"])
@pytest.mark.parametrize("name", SMALL)
def test_each_network_quantizes_and_trains(name, scheme):
    x, y, net = images(8), torch.arange(8), small(name)
    for norm in (m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
        norm.momentum = 1.0     # one step, and evaluation sees the statistics of x as training does
    net(x)
    net = models.calibrate(models.quantize(net, scheme), x).train()
    nn.functional.cross_entropy(net(x), y).backward()
    weighted = [m for m in net.modules() if isinstance(m, (QuantConv2d, QuantLinear))]
    assert all(p.grad is not None and p.grad.isfinite().all() for m in weighted for p in m.parameters())
    assert weighted[0].weight.grad.any() and weighted[-1].weight.grad.any()


def test_alexnet_quantizes_at_its_smallest():
    net, x = models.build("alexnet", input_size=63), images(size=63)
    net = models.calibrate(models.quantize(net, Scheme()), x)
    assert net(x).shape == (2, 10) and net(x).isfinite().all() and net(x).any()


class Plain(nn.Module):
    """A network by somebody who never heard of torch.fx."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, stride=2), nn.Linear(8, 10)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        return self.fc(torch.relu(self.conv2(x)).mean((2, 3)))


def test_a_network_of_ones_own_learns_quantized():
    x, y = images(16), torch.arange(16) % 10
    net = models.calibrate(models.quantize(Plain(), Scheme()), x)
    assert list(models.plan(net).kind) == ["first", "conv", "linear"]
    assert list(models.plan(net).input) == ["signed", ">= 0", ">= 0"]
    optimizer, losses = torch.optim.Adam(net.parameters(), 0.01), []
    for _ in range(100):
        optimizer.zero_grad()
        losses.append(nn.functional.cross_entropy(net(x), y))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
