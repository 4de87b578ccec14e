"""ONNX files: the same codes at every quantizer as in PyTorch, the operators, sizes and bytes, and what is refused."""
import copy
import functools
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from paperlib import models
from paperlib.deploy.compare import predictions
from paperlib.deploy.integer_layers import integers
from paperlib.deploy.onnx_export import OPSET, runner, session, to_onnx
from paperlib.deploy.onnx_requantize import requantize
from paperlib.errors import InputError
from paperlib.models import Scheme
from paperlib.models.residual import quantized_blocks
from paperlib.models.value_bounds import trace

pytestmark = pytest.mark.usefixtures("one_thread")


def images(n=4, size=32):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


@functools.cache
def network(name="mobilenet_v2", size=32, **scheme):
    """A network whose batch norms have negative and zero scales; float where no scheme is given.  Made once, and not
    to be changed."""
    torch.manual_seed(0)
    width = {} if name in ("alexnet", "resnet18") else {"width": 0.25}
    net = models.build(name, input_size=size, **width)
    if name == "alexnet":       # the rest of its classifier has 50 million weights
        net.classifier = nn.Sequential(nn.Linear(9216, 40), nn.ReLU(inplace=True), nn.Linear(40, 10))
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.3, 1.5)
        nn.init.normal_(norm.bias, std=0.3)
        norm.momentum = None
    with torch.no_grad():
        net.train()(images(8, size))
        for norm in norms:
            norm.weight[::7] *= -1
            norm.weight[3] = 0
    net.eval()
    return models.calibrate(models.quantize(net, Scheme(**scheme)), images(8, size)) if scheme else net


FOUR = {"w_bits": 4, "a_bits": 4}


def codes_of(net, x):
    """{layer or block: codes of its input} as PyTorch computes them."""
    found, net = {}, models.unfuse(net).double()
    quantizers = {n: m.input_quantizer for n, m in net.named_modules() if getattr(m, "input_quantizer", None)}
    quantizers |= {f"{n}.identity_quantizer": b.identity_quantizer for n, b in quantized_blocks(net)}
    for name, quantizer in quantizers.items():
        def keep(module, args, name=name, quantizer=quantizer):
            found[name] = quantizer.encode(args[0]).int().numpy()
        net.get_submodule(name).register_forward_pre_hook(keep)
    with torch.no_grad():
        return found, net(x.double()).float().numpy()


def codes_in(path, net, x, *, optimize=True, default=False):
    """The same from the file, by ONNX Runtime, with the tensors of codes as further outputs."""
    model = onnx.load(path)
    names = json.loads({p.key: p.value for p in model.metadata_props}["codes of the input"])
    for tensor in dict.fromkeys(names.values()):
        model.graph.output.append(onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.UINT8, None))
    open(f"{path}.open", "wb").write(model.SerializeToString())
    run = session(f"{path}.open", threads=1)
    if default or not optimize:
        options = onnxruntime.SessionOptions()
        if not optimize:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.add_session_config_entry("session.disable_quant_qdq", "1")
            options.intra_op_num_threads = 1
        run = onnxruntime.InferenceSession(f"{path}.open", options, providers=["CPUExecutionProvider"])
    logits, *codes = run.run(["logits", *names.values()], {"images": x.numpy()})
    modules, found = dict(net.named_modules()), {}
    for name, code in zip(names, codes):
        quantizer = modules[name] if "identity_quantizer" in name else modules[name].input_quantizer
        found[name] = code.astype(int) - (128 if quantizer.grid.code_min < 0 else 0)
    return found, logits


def compare(net, x, there):
    """Equal codes everywhere; or a rare number so close to the edge between two that rounding moved it, and after it
    whatever follows from that."""
    here, (codes, logits) = codes_of(net, x), there
    assert list(codes) == list(here[0]) and len(codes) > 1
    for name, expected in here[0].items():
        difference = np.abs(codes[name] - expected)
        if difference.any():
            assert difference.max() == 1 and difference.sum() <= 3, f"{name}: {np.count_nonzero(difference)} codes"
            return False
    assert np.abs(logits - here[1]).max() <= 2e-6 * max(1, np.abs(here[1]).max())
    return True


NETWORKS = [("mobilenet_v1", FOUR), ("mobilenet_v2", FOUR), ("mobilenet_v3_large", FOUR), ("mobilenet_v3_small", FOUR),
            ("resnet18", FOUR), ("vgg7", FOUR), ("alexnet", FOUR),
            ("mobilenet_v2", {"w_bits": 2, "a_bits": 3, "weight": "sawb", "activation": "pact"}),
            ("mobilenet_v2", {"w_bits": 5, "a_bits": 5}),
            ("mobilenet_v2", FOUR | {"identity_bits": 8}),
            ("mobilenet_v2", FOUR | {"weight": "lsq", "activation": "lsq", "per_channel": True}),
            ("mobilenet_v3_small", FOUR | {"negative_padding": False}),
            ("mobilenet_v3_small", FOUR | {"fold_norms": True}),
            ("mobilenet_v3_small", {"w_bits": 8, "a_bits": 8}),
            ("vgg7", {"w_bits": 3, "a_bits": 3, "weight": "qil", "activation": "qil", "quantize_first": False,
                      "quantize_last": False, "negative_padding": False}),
            ("vgg7", {"w_bits": 32, "a_bits": 4})]


@pytest.mark.slow
@pytest.mark.parametrize("name, scheme", NETWORKS, ids=[f"{n}-{'-'.join(map(str, s.values()))}" for n, s in NETWORKS])
def test_every_code_is_the_networks_own(name, scheme, tmp_path):
    size = 63 if name == "alexnet" else 32
    net, x = network(name, size, **scheme), images(2, size)
    path = to_onnx(net, tmp_path / "net.onnx", input_size=size)
    plain = codes_in(path, net, x, optimize=False)
    compare(net, x, plain)
    fast = codes_in(path, net, x)
    compare(net, x, fast)
    assert compare(net, x, plain) or compare(net, x, fast) or name == "resnet18" or scheme.get("a_bits", 4) > 4
    small = to_onnx(net, tmp_path / "small.onnx", input_size=size, carrier="int4")
    np.testing.assert_array_equal(session(small, threads=1).run(None, {"images": x.numpy()})[0], fast[1])


@pytest.mark.parametrize("bits", (4, 5))
def test_options_other_than_ours_do_not_round_the_bias(bits, tmp_path):
    net, x = network(w_bits=bits, a_bits=bits), images(2)
    path = to_onnx(net, tmp_path / "net.onnx", input_size=32)
    assert compare(net, x, codes_in(path, net, x, default=True))


def limits(net):
    """(layer, quantizer behind it, least and greatest code) of mobilenet_v2's layers with ReLU6 and a layer behind."""
    nodes, modules = list(trace(net).nodes), dict(net.named_modules())
    kinds = [modules.get(n.target) if n.op == "call_module" else None for n in nodes]
    for i in range(len(nodes) - 3):
        if isinstance(kinds[i + 2], nn.ReLU6) and getattr(kinds[i + 3], "input_quantizer", None):
            q = copy.deepcopy(kinds[i + 3].input_quantizer).double()
            yield nodes[i].target, q, 0, int(q.codes(torch.tensor([6.0]).double()))


@pytest.mark.parametrize("bits", (2, 4))
def test_integers_give_the_code_of_every_sum_that_can_occur(bits):
    net = network(w_bits=bits, a_bits=bits)
    layers, checked = integers(net), 0
    for name, q, low, top in limits(net):
        layer = layers[name]
        weight, room, bias, scale = requantize(layer, q, low, top)
        assert np.abs(weight * room).max() <= 127 and np.abs(bias).max() < 2**23 and (scale > 0).all()
        signs = np.sign(layer.scale.numpy())
        moving = np.abs(weight).reshape(len(weight), -1).sum(1) > 0
        shape = -1, *[1] * (weight.ndim - 1)
        assert (weight == layer.weight.numpy() * np.where(moving, signs, 0).reshape(shape).astype(int)).all()
        grid, flat = layer.layer.input_quantizer.grid, layer.weight.numpy().astype(int).reshape(len(weight), -1)
        for c in range(len(weight)):
            ends = np.sort([flat[c] * grid.code_min, flat[c] * grid.code_max], 0).sum(1)
            sums = np.arange(ends[0], ends[1] + 1)
            real = layer.scale[c].item() * sums + layer.bias[c].item()
            expected = q.codes(torch.from_numpy(real)).numpy().clip(low, top)
            seen = sums * int(signs[c]) if moving[c] else 0 * sums
            whole = (seen * room + int(bias[c])).astype(np.float32)
            found = np.rint(whole * np.float32(scale[c])).clip(low, top)
            assert (found == expected).all(), (name, c)
            checked += len(sums)
    assert checked > 20_000


def test_eight_bits_leave_no_room():
    net = network(w_bits=8, a_bits=8)
    layers = integers(net)
    assert all(requantize(layers[name], *rest) is None for name, *rest in limits(net))


def stored(path):
    model = onnx.load(path)
    return model, {t.name: onnx.helper.tensor_dtype_to_np_dtype(t.data_type) for t in model.graph.initializer}


def test_standard_operators_on_integers_and_what_they_take(tmp_path):
    net = network(**FOUR)
    files = {c: to_onnx(net, tmp_path / f"{c}.onnx", input_size=32, carrier=c) for c in ("int8", "int4")}
    files["float"] = to_onnx(network(), tmp_path / "float.onnx", input_size=32)
    sizes = [files[c].stat().st_size for c in ("int4", "int8", "float")]
    assert sizes == sorted(sizes) and sizes[2] > 2 * sizes[1]
    model, types = stored(files["int8"])
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    ops = [n.op_type for n in model.graph.node]
    # of 52 convolutions 18 give what is added to something or pooled: 16 project, the first and the last do not
    assert [ops.count(op) for op in ("QLinearConv", "MatMulInteger", "Conv", "Gemm")] == [34, 16, 2, 1]
    assert ops.count("QuantizeLinear") == 53 - 34
    weights = {"QLinearConv": 3, "MatMulInteger": 1}
    assert all(types[n.input[weights[n.op_type]]] == np.int8 for n in model.graph.node if n.op_type in weights)
    props = {p.key: p.value for p in model.metadata_props}
    assert json.loads(props["bits of weight and input"])["features.0.0"] == [4, 8]
    assert len(json.loads(props["integer convolutions"])) == ops.count("QLinearConv") + ops.count("MatMulInteger")
    model, types = stored(files["int4"])
    large = [t for t in model.graph.initializer if np.prod(t.dims) > 2000 and len(t.dims) > 1]
    assert large and all(t.data_type == onnx.TensorProto.INT4 for t in large)


def test_bytes_repeat_and_the_network_stays(tmp_path):
    net = network("vgg7", **FOUR)
    before = {k: v.clone() for k, v in net.state_dict().items() if torch.is_tensor(v)}
    first, again = (to_onnx(net, tmp_path / f"{i}.onnx", input_size=32).read_bytes() for i in range(2))
    assert first == again
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in before.items())
    assert to_onnx(models.fuse(net), tmp_path / "fused.onnx", input_size=32).read_bytes() == first


def test_any_batch_and_any_float_network(tmp_path):
    for name in ("mobilenet_v2", "mobilenet_v3_small", "vgg7", "resnet18"):
        net, x = network(name), images(5)
        run = session(to_onnx(net, tmp_path / "net.onnx", input_size=32), threads=1)
        logits = run.run(None, {"images": x.numpy()})[0]
        one = run.run(None, {"images": x[:1].numpy()})[0]
        with torch.no_grad():
            expected = net(x).numpy()
        assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()
        assert np.abs(one - logits[:1]).max() < 1e-4 * np.abs(expected).max()


def test_runner_takes_the_place_of_the_network(tmp_path):
    net, x = copy.deepcopy(network("vgg7", **FOUR)), images(6)
    run = runner(to_onnx(net, tmp_path / "net.onnx", input_size=32), threads=1)
    with torch.no_grad():
        labels = net(x).argmax(1)
    batches = [(x[:4], labels[:4]), (x[4:], (labels[4:] + 1) % 10)]
    found = predictions({"torch": net, "onnx": run}, batches).set_index("form").loc["onnx"]
    assert (found.images, found.other_answers, found.accuracy) == (6, 0, pytest.approx(400 / 6))
    assert found.logit_difference < 1e-5
    other = (labels[0] + 1) % 10
    with torch.no_grad():
        net.classifier[-1].bias[other] += 100
    found = predictions({"torch": net, "onnx": run}, batches).set_index("form").loc["onnx"]
    assert found.other_answers == 6 - int((labels == other).sum()) and found.logit_difference > 90


class Head(nn.Module):
    def __init__(self, last):
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 4, 3, padding=1), last

    def forward(self, x):
        return torch.flatten(self.last(self.conv(x)), 1)


class Function(Head):
    def forward(self, x):
        return torch.logsumexp(self.conv(x), (2, 3))


@pytest.mark.parametrize("net, size, words", [
    (Head(nn.GELU()), 32, r"last \(GELU\) has no counterpart in ONNX"),
    (Function(nn.ReLU()), 32, "logsumexp has no counterpart in ONNX"),
    (Head(nn.AdaptiveAvgPool2d(5)), 32, "windows of several sizes"),
    (Head(nn.ReLU()), (4, 8, 8), "cannot take images of shape 4x8x8")])
def test_what_cannot_be_exported_is_named(net, size, words, tmp_path):
    with pytest.raises(InputError, match=words):
        to_onnx(net, tmp_path / "net.onnx", input_size=size)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name, scheme, words", [
    ("vgg7", {"weight": "ttq", "w_bits": 2, "a_bits": 4}, "not evenly spaced"),
    ("vgg7_hardtanh", {"weight": "xnor", "activation": "xnor", "w_bits": 1, "a_bits": 1, "first_input_bits": 1},
     "factor that it takes from the input")])
def test_quantizers_that_cannot_be_exported_are_named(name, scheme, words, tmp_path):
    with pytest.raises(InputError, match=words):
        to_onnx(network(name, **scheme), tmp_path / "net.onnx", input_size=32)


def test_inputs_with_two_signs_have_no_grid_in_qil(tmp_path):
    net = models.quantize(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)), Scheme(weight="qil", activation="qil"))
    with pytest.raises(InputError, match="QIL does not round its input to an evenly spaced grid"):
        to_onnx(models.calibrate(net, images(2, 8)), tmp_path / "net.onnx", input_size=8)


def test_wrong_carrier(tmp_path):
    with pytest.raises(InputError, match="'int8' or 'int4'"):
        to_onnx(network(), tmp_path / "net.onnx", input_size=32, carrier="int2")
