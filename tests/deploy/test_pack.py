"""Packed files: the same network to the bit, every byte accounted for, and no file that is wrong gets through."""
import copy
import hashlib
import io
import json
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from paperlib import models, quantizers
from paperlib.deploy.integer_layers import integers
from paperlib.deploy.pack import contents, load, pack
from paperlib.deploy.packed_quantizer import StoredCodes
from paperlib.errors import InputError
from paperlib.models import Scheme, cost
from paperlib.models.fused_conv import FusedConv2d
from paperlib.models.layers import QuantConv2d, QuantLinear
from paperlib.quantizers import Quantizer
from paperlib.system import paths

pytestmark = pytest.mark.usefixtures("one_thread")
QIL = dict(weight="qil", activation="qil", quantize_first=False, quantize_last=False)
CASES = {
    "duq": ("mobilenet_v3_small", {}),
    "duq per channel in 8 bits": ("mobilenet_v2", dict(w_bits=8, a_bits=8, per_channel=True)),
    "duq folded": ("mobilenet_v1", dict(fold_norms=True)),
    "duq folded per channel": ("vgg7", dict(fold_norms=True, per_channel=True)),
    "lsq": ("mobilenet_v1", dict(weight="lsq", activation="lsq", w_bits=3, a_bits=2)),
    "identities": ("resnet18", dict(w_bits=5, identity_bits=8)),
    "sawb and pact": ("vgg7", dict(weight="sawb", activation="pact")),
    "sawb with 15 levels": ("mobilenet_v1", dict(weight="sawb", weight_options={"levels": 15}, per_channel=True)),
    "qil": ("vgg7", dict(QIL, w_bits=3, a_bits=3)),
    "qil normalized": ("vgg7", dict(QIL, weight_options={"normalized": True}, per_channel=True)),
    "qil of cvpr": ("vgg7", dict(QIL, weight_options={"version": "cvpr"}, w_bits=2)),
    "dorefa": ("vgg7", dict(weight="dorefa", activation="dorefa", w_bits=6)),
    "dorefa in 1 bit": ("vgg7", dict(weight="dorefa", activation="dorefa", w_bits=1)),
    "twn": ("vgg7", dict(weight="twn", activation="duq", w_bits=2)),
    "ttq": ("vgg7", dict(weight="ttq", activation="pact", w_bits=2, per_channel=True)),
    "bwn": ("vgg7", dict(weight="bwn", activation="pact", w_bits=1)),
    "xnor": ("vgg7_hardtanh", dict(weight="xnor", activation="xnor", w_bits=1, a_bits=1, first_input_bits=1, **{
        key: False for key in ("quantize_first", "quantize_last")})),
    "bc": ("vgg7", dict(weight="bc", activation="pact", w_bits=1)),
    "float inputs": ("vgg7", dict(a_bits=32)),
    "float weights": ("vgg7", dict(w_bits=32)),
}


def arguments(name):
    return {"name": name, "num_classes": 7} | ({} if name.startswith("resnet") else {"width": 0.25})


def images(n=2):
    x = torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return x.to(memory_format=torch.channels_last)


def shaken(net, scheme):
    """A quantized network with numbers everywhere, as training would leave them."""
    for m in net.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, std=0.2)
            nn.init.normal_(m.running_mean, std=0.1)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
            m.num_batches_tracked += 5
    net = models.calibrate(models.quantize(net, scheme), images(8)).eval()
    with torch.no_grad():
        for m in net.modules():
            for p in m.parameters(recurse=False) if isinstance(m, Quantizer) else ():
                p.mul_(torch.empty_like(p).uniform_(0.8, 1.2))      # DuQ's two scales are no longer the same
    return net


def made(case):
    name, scheme = CASES[case]
    torch.manual_seed(0)
    return shaken(models.build(**arguments(name)), Scheme(**scheme))


def layers(net):
    return {name: m for name, m in net.named_modules() if isinstance(m, (QuantConv2d, QuantLinear))}


def equal(net, other, x=None):
    with torch.no_grad():
        x = images() if x is None else x
        return torch.equal(net(x), other(x))


def same_weights(net, other):
    with torch.no_grad():
        pairs = [(a.quantized_weight(), b.quantized_weight()) for a, b in zip(layers(net).values(),
                                                                             layers(other).values(), strict=True)]
    return all(torch.equal(a, b) and in_memory(a) == in_memory(b) for a, b in pairs)


def in_memory(x):
    """The order of the dimensions, those of length 1 apart."""
    return [step for step, n in zip(x.stride(), x.shape) if n > 1]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small convolutional network of the user's own, and its file."""
    torch.manual_seed(0)
    net, path = shaken(own(), Scheme(w_bits=3)), tmp_path_factory.mktemp("pack") / "own.bin"
    return net, pack(net, path)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A network by name, and its file."""
    net = made("lsq")
    return net, pack(net, tmp_path_factory.mktemp("pack") / "built.bin", build=arguments("mobilenet_v1"))


def own(channels=5):
    return nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.Hardswish(),
                         nn.Conv2d(channels, 6, 3, stride=2, padding=1, bias=False), nn.ReLU(), nn.Flatten(),
                         nn.Linear(1536, 4))


def with_offsets():
    """DuQ's learned offsets need inputs with one sign."""
    torch.manual_seed(0)
    return shaken(after_relu(), Scheme(activation_options={"learn_offset": True}))


def after_relu():
    return nn.Sequential(nn.ReLU(), *own())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_loaded_network_is_the_same_to_the_bit(case, tmp_path):
    net, build = made(case), arguments(CASES[case][0])
    before = copy.deepcopy(net.state_dict())
    path = pack(net, tmp_path / "a", build=build)
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items()
               if isinstance(value, torch.Tensor))
    state = torch.random.get_rng_state()
    other = load(path)
    assert torch.equal(state, torch.random.get_rng_state())
    assert not other.training and equal(net, other) and same_weights(net, other)
    for name, layer in layers(net).items():
        q, stored = layer.weight_quantizer, layers(other)[name].weight_quantizer
        if q is not None:
            assert type(stored) is StoredCodes and (stored.bits, stored.shape, stored.grid) == (q.bits, q.shape, q.grid)
            assert torch.equal(stored.levels(), q.levels())
            assert torch.equal(stored.encode(layer.weight), q.encode(layer.weight))
            assert torch.equal(stored.decode(stored.code), layers(other)[name].weight)

    assert pack(other, tmp_path / "b", build=build).read_bytes() == path.read_bytes()
    pd.testing.assert_frame_equal(models.plan(net).drop(columns="weight"), models.plan(other).drop(columns="weight"))
    pd.testing.assert_frame_equal(cost.table(net, 32), cost.table(other, 32))

    table, costs = contents(path), cost.table(net, 32).set_index("layer")
    assert table.bytes.sum() == path.stat().st_size
    weights = table[table.part.eq("weight") & table.layer.isin(costs.index[costs.kind != "norm"])]
    assert weights.bytes.sum() == np.ceil(costs.weight_bytes).sum()


@pytest.mark.parametrize("case", ["duq folded", "duq folded per channel", "sawb with 15 levels", "twn"])
def test_integers_of_the_loaded_network(case, tmp_path):
    net = made(case)
    mine, its = integers(load(pack(net, tmp_path / "a", build=arguments(CASES[case][0])))), integers(net)
    assert list(mine) == list(its) and len(mine) > 7
    for name, layer in its.items():
        # float64 puts a weight that lies between two codes in float32 to the other side, once in a great while
        assert (mine[name].weight != layer.weight).double().mean() < 1e-4
        for field in ("scale", "bias", "weight_step"):
            torch.testing.assert_close(getattr(mine[name], field), getattr(layer, field), rtol=1e-5, atol=1e-5)
        assert (mine[name].step, mine[name].origin, mine[name].norm) == (layer.step, layer.origin, layer.norm)


def test_fused_networks_give_the_same_file(built, tmp_path):
    net, path = built
    fused = models.fuse(net).train()
    assert pack(fused, tmp_path / "a", build=arguments("mobilenet_v1")).read_bytes() == path.read_bytes()
    assert all(m.training for m in fused.modules())
    assert any(isinstance(layer, FusedConv2d) for layer in layers(fused).values())
    fused.eval()
    with torch.no_grad():
        torch.testing.assert_close(models.fuse(load(path))(images()), fused(images()))


def test_a_network_of_ones_own(small):
    net, path = small
    mine = own()
    before = copy.deepcopy(mine.state_dict())
    assert equal(net, load(path, mine))
    assert all(torch.equal(v, before[k]) for k, v in mine.state_dict().items()) and not any(layers(mine))
    assert equal(net, load(path, own().to(memory_format=torch.channels_last)))      # whatever lies in which way
    with pytest.raises(InputError, match="pass the float network as net"):
        load(path)
    for scheme in (Scheme(fold_norms=True), Scheme(weight="lsq+", activation="lsq+"), Scheme(negative_padding=False)):
        torch.manual_seed(0)
        net = shaken(own(), scheme)
        assert net[3].pad_value == (-0.375 if scheme.negative_padding else 0)
        assert equal(net, load(pack(net, path.with_name("other")), own()))
    offsets = with_offsets()
    other = load(pack(offsets, path.with_name("offsets")), after_relu())
    assert equal(offsets, other) and other[4].input_quantizer.learn_offset and other[4].input_quantizer.d < 0


def test_tied_and_repeated_layers(tmp_path):
    class Repeats(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
            self.again, self.c.weight, self.b.weight = self.a, self.b.weight, self.b.weight
            self.c.bias, self.scale = self.b.bias, nn.Parameter(torch.tensor(2.0))
            self.register_buffer("steps", torch.tensor([3], dtype=torch.int32))
            self.register_buffer("scratch", torch.zeros(9), persistent=False)

        def forward(self, x):
            return self.c(self.b(self.again(self.a(x)) * self.scale))

    torch.manual_seed(0)
    net = shaken(Repeats(), Scheme(quantize_last=False))        # the weight of b is in 4 bits, the same in c in float
    net.steps += 1
    path = pack(net, tmp_path / "a")
    other = load(path, Repeats())
    assert equal(net, other) and other.steps == 4 and other.again is other.a
    assert contents(path).part.tolist()[2:-1] == [
        "scale", "steps", "weight", "bias", "weight_quantizer.a", "weight_quantizer.c", "input_quantizer.a",
        "input_quantizer.c", "weight", "bias", "weight_quantizer.a", "weight_quantizer.c", "input_quantizer.a",
        "input_quantizer.c", "weight"]      # the bias that two layers share is there once


@pytest.mark.slow
def test_a_fresh_process_gives_the_same_bits(built, tmp_path):
    net, path = built
    code = ("import sys, torch; from paperlib.deploy.pack import load; torch.set_num_threads(1)\n"
            "x = torch.load(sys.argv[2]); net = load(sys.argv[1])\n"
            "with torch.no_grad(): torch.save(net(x), sys.argv[3])")
    torch.save(images(), tmp_path / "x.pt")
    subprocess.run([sys.executable, "-c", code, path, tmp_path / "x.pt", tmp_path / "y.pt"], check=True, cwd=paths.ROOT)
    with torch.no_grad():
        assert torch.equal(torch.load(tmp_path / "y.pt"), net(images()))


def test_a_reader_with_numpy_alone(built, small):
    """As the format is written down at the top of pack.py."""
    def read(path, name):
        data = path.read_bytes()
        assert data[:8] == bytes.fromhex("93 4E 42 49 54 4E 45 54") and data[8:12] == b"\1\0\0\0"
        assert hashlib.sha256(data[:-32]).digest() == data[-32:]
        length = int(np.frombuffer(data, "<u8", 1, 12)[0])
        header, payload = json.loads(data[20:20 + length]), data[20 + length:-32]
        least, greatest = next(x["weight"]["codes"] for x in header["layers"] if x["name"] == name)
        found = {}
        for layer, part, kind, n, shape, offset, size in header["parts"]:
            if layer == name:
                raw, count = np.frombuffer(payload[offset:offset + size], np.uint8), np.prod(shape, dtype=int)
                if kind == "codes":
                    bits = np.unpackbits(raw, count=count * n, bitorder="little").reshape(count, n)
                    code = np.packbits(bits, axis=1, bitorder="little")[:, 0].reshape(shape)
                    found["code"] = code.astype(int) + least
                else:
                    found[part] = raw.view(np.dtype(kind).newbyteorder("<")).reshape(shape)
        return found, greatest

    (net, path), seen, codes = built, 0, set()
    for name, layer in layers(net).items():
        found, _ = read(path, name)
        assert np.array_equal(found["code"], layer.weight_quantizer.encode(layer.weight).numpy())
        value = (found["code"] * np.maximum(found["weight_quantizer.s"], np.float32(1e-8))).astype(np.float32)
        assert np.array_equal(value, layer.quantized_weight().detach().numpy())
        assert ("bias" in found) == (layer.bias is not None)
        seen += found["code"].size
        codes |= set(found["code"].flat)
    assert seen > 100_000 and len(codes) > 4
    net, path = small
    found, top = read(path, "3")        # DuQ in 3 bits: codes straddle bytes
    np.testing.assert_allclose(found["code"] * np.log1p(np.exp(found["weight_quantizer.c"])) / top,
                               net[3].quantized_weight().detach().numpy(), rtol=1e-5)


@pytest.mark.parametrize("method, bits, options, formula", [
    ("duq", 3, {}, lambda q, k, top: k * (torch.log(1 + torch.exp(q.c)) / top)),
    ("lsq", 5, {}, lambda q, k, top: k * q.s.clamp(1e-8)), ("lsq+", 2, {}, lambda q, k, top: k * q.s.clamp(1e-8)),
    ("sawb", 4, {}, lambda q, k, top: (k - top / 2) * (2 * q.clip / top)),
    ("sawb", 4, {"levels": 15}, lambda q, k, top: k * (q.clip / top)),
    ("dorefa", 3, {}, lambda q, k, top: (k - top / 2) * (2 * q.scale / top)),
    ("dorefa", 1, {}, lambda q, k, top: (k - top / 2) * (2 * q.scale / top)),
    ("qil", 3, {}, lambda q, k, top: k * ((q.c + q.d - q.d / top).clamp(1e-6) / top)),
    ("qil", 4, {"normalized": True}, lambda q, k, top: k / top),
    ("qil", 4, {"version": "cvpr"}, lambda q, k, top: k / top),
    ("twn", 2, {}, lambda q, k, top: k * q.alpha),
    ("ttq", 2, {}, lambda q, k, top: torch.where(k == 1, q.Wp, torch.where(k == -1, -q.Wn, 0))),
    ("bwn", 1, {}, lambda q, k, top: (2 * k - 1) * q.alpha), ("bc", 1, {}, lambda q, k, top: 2 * k - 1)])
def test_formulas_of_the_format(method, bits, options, formula):
    """What codes stand for, by method, as the top of pack.py says."""
    weight = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    q = quantizers.build(method, role="weight", bits=bits, shape=(4, 1), **options).calibrate(weight)
    with torch.no_grad():
        for number, p in enumerate(q.parameters()):
            p.mul_(1.1 + number / 10)
        value, code = q(weight), q.encode(weight).float()
        torch.testing.assert_close(formula(q, code, q.grid.code_max), value, rtol=1e-5, atol=0)
    assert code.unique().numel() > 1


def test_stored_weights_do_not_train(small):
    net = load(small[1], own())
    x = images().requires_grad_()
    with pytest.raises(InputError, match="cannot be trained"):
        net.train()(x).sum().backward()
    for layer in layers(net).values():
        layer.weight.requires_grad_(False)
    net.eval()(x).sum().backward()
    assert x.grad.abs().sum() > 0 and net[1].weight.grad.abs().sum() > 0 and net[0].input_quantizer.c.grad is not None
    assert all(p.grad is None for layer in layers(net).values() for p in layer.weight_quantizer.parameters())
    with pytest.raises(InputError, match="weight of shape"):
        net[0].weight_quantizer(torch.zeros(3))


def test_what_pack_refuses(small, tmp_path, monkeypatch):
    net = small[0]

    def refused(match, net, **options):
        with pytest.raises(InputError, match=match) as caught:
            pack(net, tmp_path / "a", **options)
        assert "\n" not in str(caught.value) and not (tmp_path / "a").exists()

    refused("not quantized", own())
    refused("no range yet", models.quantize(own(), Scheme()))
    refused("is float64.*net.float", copy.deepcopy(net).double())
    refused("meta device", copy.deepcopy(net).to("meta"))
    refused("does not give this network", net, build={"name": "vgg7"})
    refused("does not give this network", made("lsq"), build={"name": "mobilenet_v1", "width": 0.35, "num_classes": 7})
    refused("cannot be arguments", net, build={"name": "vgg7", "depth": 3})
    refused("unknown model", net, build={"name": "vgg8"})
    broken = copy.deepcopy(net)
    broken[3].weight.data[0, 0, 0, 0] = float("nan")
    refused("weight of 3 is not finite", broken)
    broken = copy.deepcopy(net)
    broken[3].input_quantizer.a.data.fill_(float("nan"))
    refused("range of 3.input_quantizer is not finite", broken)
    # a method with options of its own
    monkeypatch.setitem(sys.modules["paperlib.deploy.packed_quantizer"].OPTIONS, "duq", {})
    refused("input_quantizer: DuQ has options that pack does not know", with_offsets())


def test_files_appear_whole_or_not_at_all(small, tmp_path, monkeypatch):
    net, path = small
    (tmp_path / "a").write_bytes(b"old")

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fails)
    with pytest.raises(InputError, match="No space left"):
        pack(net, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["a"]
    with pytest.raises(InputError, match="cannot write"):
        pack(net, path / "below" / "a file")


def test_weights_among_the_arguments_are_left_out(built, tmp_path):
    net, path = built
    build = {**arguments("mobilenet_v1"), "weights": "IMAGENET1K_V1", "width": 0.25, "input_size": 32}
    assert pack(net, tmp_path / "a", build=build).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("other, match", [
    (lambda: own(6), "0.weight is codes of shape .5, 3, 3, 3. in the file and codes of shape .6"),
    (lambda: own()[:-1], "'6' is a layer of kind 'linear' in the file, not in the network"),
    (lambda: nn.Sequential(*own(), nn.Linear(4, 4)), "7.weight is missing in the file and float32"),
    (lambda: own().double(), "is float64"), (lambda: own().half(), "is float16"),
    (lambda: own().to("meta"), "meta device"), (lambda: shaken(own(), Scheme()), "pass the float one"),
    (lambda: nn.Linear(3, 4), "not in the network")])
def test_networks_that_do_not_fit(small, other, match):
    with pytest.raises(InputError, match=match) as caught:
        load(small[1], other())
    assert str(caught.value).startswith(f"cannot load {small[1]}: ") and "\n" not in str(caught.value)


def refused(data, path, net=None):
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        load(path, net)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and ": " in message
    return message


def test_a_hundred_damaged_files(small, tmp_path):
    data, net = small[1].read_bytes(), own()
    length = struct.unpack_from("<Q", data, 12)[0]
    rng, path = np.random.default_rng(0), tmp_path / "damaged"
    cuts = [1, 7, 8, 11, 12, 19, 20, 21, 51, 52, 53, 20 + length - 1, 20 + length, 20 + length + 1, len(data) - 33,
            len(data) - 32, len(data) - 31, len(data) - 1]
    places = [*range(20), *rng.integers(20, 20 + length, 20), *rng.integers(20 + length, len(data) - 32, 20),
              *rng.integers(len(data) - 32, len(data), 12)]
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a", data)
    foreign = [b"", b"\0" * 1000, b"\x89PNG\r\n\x1a\n" + data[8:], buffer.getvalue(), archive.getvalue(),
               b"{}", data + b"\0", data + data, b" " + data, data[1:]]
    damaged = [data[:n] for n in cuts] + foreign
    for place in places:
        flipped = bytearray(data)
        flipped[place] ^= 1 << rng.integers(8)
        damaged.append(bytes(flipped))
    assert len(damaged) == 100 == len(set(damaged))
    messages = {refused(d, path, net).removeprefix(f"{path} ").split(" (")[0].split(":")[0] for d in damaged}
    assert len(messages) > 3
    for d in damaged[::9]:
        path.write_bytes(d)
        with pytest.raises(InputError):
            contents(path)


@pytest.mark.parametrize("name", ["nothing here", "."])
def test_files_that_cannot_be_read(tmp_path, name):
    with pytest.raises(InputError, match="cannot read.*deploy.pack wrote"):
        load(tmp_path / name)


def test_newer_formats(small, tmp_path):
    data = bytearray(small[1].read_bytes())
    data[8] = 2
    data[-32:] = hashlib.sha256(data[:-32]).digest()
    assert "format 2, newer than 1: update" in refused(data, tmp_path / "a", own())
    data[8] = 0
    data[-32:] = hashlib.sha256(data[:-32]).digest()
    assert "contradicts the format" in refused(data, tmp_path / "a", own())


def forged(data, change=lambda header: None, payload=lambda p: p, text=None, length=None):
    """The file with another header or payload and a checksum that fits."""
    end = 20 + struct.unpack_from("<Q", data, 12)[0]
    header = json.loads(data[20:end])
    header = change(header) or header
    if text is None:
        text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    data = data[:12] + struct.pack("<Q", len(text) if length is None else length) + text + payload(data[end:-32])
    return data + hashlib.sha256(data).digest()


def put(*keys):
    """A change of the header: the last key is the value."""
    *keys, last, value = keys

    def change(header):
        at = header
        for key in keys:
            at = at[key]
        at[last] = value

    return change


def quantizer(name, value, which="weight", layer=0):
    return put("layers", layer, which, name, value)


def part(column, value, row=0):
    return put("parts", row, column, value)


HEADERS = {
    "no dict": lambda h: [1], "null": lambda h: [None], "a field less": lambda h: [h.pop("blocks"), h][1],
    "a field more": put("more", 1), "layers no list": put("layers", {}), "parts null": put("parts", None),
    "no layers": put("layers", []), "no parts": put("parts", []), "a layer less": lambda h: h["layers"].pop() and h,
    "a layer twice": lambda h: h["layers"].append(h["layers"][0]), "order": lambda h: h["layers"].reverse(),
    "build a string": put("build", "vgg7"), "build of dots": put("build", {}),
    "layer no dict": put("layers", 0, 5), "layer unknown": put("layers", 0, "name", "nowhere"),
    "layer is root": put("layers", 0, "name", ""), "layer is a norm": put("layers", 0, "name", "1"),
    "dunder": put("layers", 0, "name", "__class__"), "kind": put("layers", 0, "kind", "__class__"),
    "kind of another type": put("layers", 0, "kind", ["first"]), "pad null": put("layers", 0, "pad_value", None),
    "pad a string": put("layers", 0, "pad_value", "0"), "pad an int": put("layers", 0, "pad_value", 0),
    "pad of a linear": put("layers", 2, "pad_value", 0.0), "pad nan": put("layers", 0, "pad_value", float("nan")),
    "pad inf": put("layers", 0, "pad_value", float("inf")), "memory": put("layers", 0, "channels_last", 1),
    "weight float": put("layers", 0, "weight", None), "input float": put("layers", 0, "input", None),
    "quantizer a list": put("layers", 0, "weight", []), "quantizer empty": put("layers", 0, "weight", {}),
    "method unknown": quantizer("method", "nothing"), "method dunder": quantizer("method", "__class__"),
    "method of inputs": quantizer("method", "pact"), "method other": quantizer("method", "lsq"),
    "method null": quantizer("method", None), "bits 0": quantizer("bits", 0), "bits 64": quantizer("bits", 64),
    "bits -1": quantizer("bits", -1), "bits true": quantizer("bits", True), "bits 4": quantizer("bits", 4),
    "bits 3.0": quantizer("bits", 3.0), "bits huge": quantizer("bits", 10**30), "unsigned": quantizer("signed", False),
    "signed 1": quantizer("signed", 1), "floor": quantizer("floor", -1.0), "floor an int": quantizer("floor", 0),
    "floor huge": quantizer("floor", 1e308, "input", 1), "floor text": quantizer("floor", "0"),
    "floor signed": quantizer("floor", 1.0, "input"), "shape": quantizer("shape", [5, 1, 1, 1]),
    "shape huge": quantizer("shape", [10**12]), "shape huge of channels": quantizer("shape", [10**12, 1, 1, 1]),
    "shape negative": quantizer("shape", [-1]), "shape of dicts": quantizer("shape", [{}]),
    "shape true": quantizer("shape", [5, True, 1, 1]), "shape of input": quantizer("shape", [5], "input"),
    "codes": quantizer("codes", [-4, 3]), "codes empty": quantizer("codes", []),
    "options": quantizer("options", {"levels": 15}), "options none": quantizer("options", {}),
    "options of build": quantizer("options", {"name": "x"}),
    "options text": quantizer("options", {"learn_offset": "no"}),
    "options true": quantizer("options", {"learn_offset": True}), "options a list": quantizer("options", []),
    "options deep": quantizer("options", {"learn_offset": [[[]]]}),
    "blocks no dicts": put("blocks", [1]), "block without": put("blocks", [{"name": "0"}]),
    "block unknown": lambda h: h["blocks"].append({"name": "9", "quantizer": h["layers"][0]["input"]}),
    "block of no sum": lambda h: h["blocks"].append({"name": "2", "quantizer": h["layers"][0]["input"]}),
    "part a dict": put("parts", 0, {}), "part short": lambda h: h["parts"][0].pop() and h,
    "part elsewhere": part(0, "1"), "part of nothing": part(0, "x" * 10**5), "part with another name": part(1, "bias"),
    "part dunder": part(1, "__class__"), "part in float16": part(2, "float16"), "part in float32": part(2, "float32"),
    "part an object": part(2, "object"), "part of 0 bits": part(3, 0), "part of 64 bits": part(3, 64),
    "part of 4 bits": part(3, 4), "part of true bits": part(3, True), "shape of 10**12": part(4, [10**12]),
    "shape of zeros": part(4, [0, 10**30]), "shape of minus one": part(4, [-1, -135]), "shape flat": part(4, [135]),
    "shape of floats": part(4, [5.0, 3, 3, 3]), "shape of text": part(4, ["5"]), "shape long": part(4, [1] * 10**4),
    "offset beyond": part(5, 10**9), "offset negative": part(5, -1), "offset overlapping": part(5, 0, row=1),
    "offset a float": part(5, 0.0), "bytes of 0": part(6, 0), "bytes negative": part(6, -51),
    "bytes huge": part(6, 10**18), "bytes one more": part(6, 52),
    "part twice": lambda h: h["parts"].insert(0, h["parts"][0]),
    "parts swapped": lambda h: h["parts"].reverse(), "part last left out": lambda h: h["parts"].pop() and h,
}


@pytest.mark.parametrize("what", HEADERS)
def test_forged_headers(small, tmp_path, what):
    net, path = small
    data = path.read_bytes()
    change = HEADERS[what]

    def changed(header):
        result = change(header)
        return result if result is not None and what in ("no dict", "null") else None

    other = forged(data, changed)
    assert other != data
    refused(other, tmp_path / "a", own())
    try:
        contents(tmp_path / "a")        # looks at the parts, not at networks
        assert what.split()[0] not in ("offset", "bytes")
    except InputError:
        pass


@pytest.mark.parametrize("build", [
    {"name": "mobilenet_v1", "num_classes": 7, "width": 0.5, "input_size": 32},
    {"name": "mobilenet_v1", "num_classes": 10**9, "width": 0.25, "input_size": 32},
    {"name": "mobilenet_v1", "num_classes": 2**24, "width": 64.0, "input_size": 32},
    {"name": "mobilenet_v1", "num_classes": 7, "width": 1e300, "input_size": 32},
    {"name": "mobilenet_v1", "num_classes": 7, "width": -1.0, "input_size": 32},
    {"name": "mobilenet_v1", "num_classes": 0, "width": 0.25, "input_size": 32},
    {"name": "mobilenet_v1", "num_classes": True, "width": 0.25, "input_size": 32},
    {"name": "resnet18", "num_classes": 7, "width": 0.25, "input_size": 32},
    {"name": "vgg7", "num_classes": 7, "width": 0.25, "input_size": 10**9},
    {"name": "__class__", "num_classes": 7, "width": 0.25, "input_size": 32},
    {"name": "mobilenet_v1", "num_classes": 7, "width": 0.25, "input_size": 32, "weights": "x.pt"},
    {"name": "mobilenet_v1"}])
def test_forged_arguments(built, tmp_path, build):
    refused(forged(built[1].read_bytes(), put("build", build)), tmp_path / "a")


def test_forged_texts_and_payloads(small, built, tmp_path):
    data, path = small[1].read_bytes(), tmp_path / "a"
    assert forged(data) == data
    end = 20 + struct.unpack_from("<Q", data, 12)[0]
    text = data[20:end]
    texts = [b"", b"{", b"\xff\xfe", b"[" * 10**5, b"[" * 500 + b"]" * 500, b'{"a":' * 10**5, b" " + text, text + b" ",
             text.replace(b'"build":null', b'"build":null,"build":null'), text.replace(b"0.0", b"0.00"),
             text.replace(b"0.0", b"NaN"), text.replace(b"0.0", b"1e999"), text.replace(b"1536", b"9" * 5000),
             text.replace(b"first", b"\\ud800"), text.decode().encode("utf-16")]
    for other in texts:
        assert other != text
        assert "contradicts the format" in refused(forged(data, text=other), path, own())
    for length in (0, len(text) - 1, len(text) + 1, len(data), 2**31, 2**63, 2**64 - 1):
        assert "contradicts the format" in refused(forged(data, text=text, length=length), path, own())
    for change in (lambda p: p[:-1], lambda p: p + b"\0", lambda p: b"", lambda p: p + p):
        assert "contradicts the format" in refused(forged(data, payload=change), path, own())
    # 135 codes of 3 bits fill 405 bits; the last three of 408 are zero; 7 is none of the seven levels
    for change in (lambda p: p[:50] + bytes([p[50] | 128]) + p[51:], lambda p: bytes([p[0] | 7]) + p[1:]):
        assert "beyond its 7 levels" in refused(forged(data, payload=change), path, own())
    place = next(row for row in json.loads(text)["parts"] if row[1] == "input_quantizer.a")[5]
    nan = struct.pack("<f", float("nan"))
    assert "not finite" in refused(forged(data, payload=lambda p: p[:place] + nan + p[place + 4:]), path, own())
