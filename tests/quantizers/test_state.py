"""State dicts of quantized networks: they know what they are the state of, and hold tensors alone."""
import copy
import io
import warnings

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from paperlib import models, quantizers
from paperlib.errors import InputError
from paperlib.models import Scheme
from paperlib.quantizers.state import EXTRA


def images(seed=0):
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def net_of(scheme=Scheme(), calibrated=True):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Hardswish(), nn.Conv2d(8, 8, 3), nn.ReLU(),
                        nn.Flatten(), nn.Linear(128, 5)).eval()
    net = models.quantize(net, scheme)
    return models.calibrate(net, images()).eval() if calibrated else net


def extras(state):
    return [key for key in state if key.endswith(EXTRA)]


def old_form(state):
    """As the first versions wrote it."""
    return {k: {"calibrated": bool(v[0])} if k.endswith(EXTRA) else v for k, v in state.items()}


@pytest.mark.parametrize("saved, here, names", [
    ({}, {"w_bits": 2}, ["0.weight_quantizer", "DuQ(bits=4, signed=True", "DuQ(bits=2, signed=True"]),
    ({"w_bits": 2}, {"w_bits": 2, "a_bits": 3}, ["3.input_quantizer", "bits=4, signed=False, floor=-0.375", "bits=3"]),
    ({"activation": "pact"}, {"activation": "lsq"}, ["PACT(bits=8", "LSQ(bits=8"]),
    ({"weight": "sawb", "weight_options": {"levels": 15}}, {"weight": "sawb"}, ["codes=-7..7", "codes=0..15"]),
    ({"weight": "qil", "weight_options": {"normalized": True}}, {"weight": "qil"}, ["normalized"]),
    ({"per_channel": True}, {}, ["shape=(8, 1, 1, 1)", "shape=()"])])
@pytest.mark.parametrize("strict", [True, False])
def test_the_state_of_other_quantizers_is_refused_by_name(saved, here, names, strict):
    state, net = net_of(Scheme(**saved)).state_dict(), net_of(Scheme(**here), calibrated=False)
    with pytest.raises(InputError) as refused:
        net.load_state_dict(state, strict=strict)
    assert all(name in str(refused.value) for name in names)


@pytest.mark.parametrize("form", [dict, old_form])
def test_a_state_loads_into_its_like(form):
    net, fresh, file = net_of(), net_of(calibrated=False), io.BytesIO()
    torch.save(form(net.state_dict()), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(images(1)), net(images(1)))


@pytest.mark.parametrize("name", ["duq", "pact", "lsq", "qil"])
def test_ranges_are_carried_over_to_other_bits_and_not_between_variants(name):
    weight = {"weight": name} if name != "pact" else {}
    net = net_of(Scheme(activation=name, **weight))
    fewer = models.quantize(net, Scheme(activation=name, w_bits=3, a_bits=3, **weight))
    old, new = net[3].input_quantizer, fewer[3].input_quantizer
    assert (new.bits, new.calibrated, old.bits) == (3, True, 4)
    assert all(torch.equal(p, q) for p, q in zip(old.parameters(), new.parameters()))
    if name == "qil":
        other = models.quantize(net, Scheme("qil", "qil", weight_options={"normalized": True}))
        assert other[3].weight_quantizer.levels().max() == 1 and net[3].weight_quantizer.levels().max() < 1
        cvpr = models.quantize(net, Scheme("qil", "qil", weight_options={"version": "cvpr"}))
        assert not cvpr[3].weight_quantizer.calibrated


def mixed(kind):
    """Two states of one network, averaged by hand for a while in a usual way."""
    net = net_of()
    mean = {k: v.clone() for k, v in net.state_dict().items()}
    for step in range(200):
        with torch.no_grad():
            net[3].weight_quantizer.a.add_(0.01)
        for k, v in net.state_dict().items():
            if kind == "anew":
                mean[k] = 0.9 * mean[k] + 0.1 * v
            elif kind == "back to its type":
                mean[k] = (0.9 * mean[k] + 0.1 * v).to(v.dtype)
            elif kind == "in place":
                mean[k].copy_(0.9 * mean[k] + 0.1 * v)
            elif v.is_floating_point():
                mean[k].mul_(0.9).add_(v, alpha=0.1) if kind == "floats" else mean[k].lerp_(v, 0.1)
            else:
                mean[k].copy_(v)
    return mean


@pytest.mark.parametrize("kind", ["anew", "back to its type", "in place", "floats", "lerp"])
def test_an_average_made_by_hand_loads(kind):
    mean, fresh = mixed(kind), net_of(calibrated=False)
    fresh.load_state_dict(mean)
    assert all(q.calibrated for q in fresh.modules() if isinstance(q, quantizers.Quantizer))
    assert torch.equal(fresh[3].weight_quantizer.a, mean["3.weight_quantizer.a"])
    with pytest.raises(InputError, match="0.weight_quantizer is DuQ.bits=4"):
        net_of(Scheme(w_bits=3)).load_state_dict(mean)


def test_averaged_model_keeps_ranges():
    net = net_of()
    ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for _ in range(3):
        ema.update_parameters(net)
    fresh = net_of(calibrated=False)
    fresh.load_state_dict({k.removeprefix("module."): v for k, v in ema.state_dict().items() if k != "n_averaged"})
    assert torch.allclose(fresh(images()), net(images()))
    again = AveragedModel(net_of(calibrated=False), use_buffers=True)
    again.load_state_dict(ema.state_dict())
    assert torch.allclose(again(images()), net(images()))


@pytest.mark.parametrize("change", [torch.clone, torch.Tensor.half, torch.Tensor.bfloat16, torch.Tensor.double])
def test_all_entries_are_tensors_that_can_be_cloned_and_cast(change):
    state = {k: change(v) if v.is_floating_point() else v for k, v in net_of().state_dict().items()}
    fresh = net_of(calibrated=False)
    fresh.load_state_dict(state)
    assert fresh[3].input_quantizer.calibrated and fresh(images()).isfinite().all()


def test_the_old_onnx_exporter_torch_export_and_jit_trace():
    import onnxruntime

    net, x, other, file = net_of(), images(), images(5), io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (x,), file, dynamo=False, input_names=["x"])
        session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
        traced, exported = torch.jit.trace(net, x), torch.export.export(net, (x,)).module()
        y = torch.tensor(session.run(None, {"x": other.numpy()})[0])
        torch.testing.assert_close(y, net(other), rtol=1e-4, atol=1e-4)
        assert torch.equal(exported(other), net(other)) and torch.equal(traced(other), net(other))


@pytest.mark.parametrize("state", [None, {}, torch.tensor(1.0), torch.full((9,), 1e9), torch.tensor([1.0, torch.nan])])
def test_a_damaged_entry_is_named(state):
    net = net_of()
    broken = copy.copy(net.state_dict()) | {"3.input_quantizer._extra_state": state}
    with pytest.raises(InputError, match="3.input_quantizer._extra_state"):
        net.load_state_dict(broken)
