"""Other libraries' 4-bit quantization-aware training, on the same float networks.

Each entry of :data:`PEERS` copies a float network and quantizes the input and the weight of every Conv2d and Linear to
4 bits, per tensor, with ranges from one batch; padding stays zero.  Most peers offer a quantizer for a tensor, which
:func:`_wrap` puts before input and weight; Brevitas and ModelOpt replace the layers themselves.  Packages are imported
on use: :func:`version` says which ones are there.
"""
from __future__ import annotations

import copy
import importlib
import importlib.metadata
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BITS = 4
TOP = 2 ** BITS - 1             # unsigned levels are 0 .. TOP
HALF = 2 ** (BITS - 1)          # signed levels are -HALF .. HALF - 1


class _Quantized:
    def forward(self, x: Tensor) -> Tensor:
        x, weight = self.act_q(x), self.weight_q(self.weight)
        return F.linear(x, weight, self.bias) if isinstance(self, nn.Linear) else \
            self._conv_forward(x, weight, self.bias)


class _Conv2d(_Quantized, nn.Conv2d):
    """A Conv2d that quantizes its input by ``act_q`` and its weight by ``weight_q``."""


class _Linear(_Quantized, nn.Linear):
    """A Linear that quantizes its input by ``act_q`` and its weight by ``weight_q``."""


@torch.no_grad()
def _visit(net: nn.Module, x: Tensor, see: Callable[[str, Tensor], None]) -> None:
    """Call ``see(name, input)`` for each Conv2d and Linear in a float pass with batch statistics; ``net`` stays."""
    probe = copy.deepcopy(net).train()
    for name, layer in probe.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_pre_hook(lambda _, args, name=name: see(name, args[0]))
    probe(x)


def _wrap(net: nn.Module, x: Tensor, act: Callable[[Tensor], nn.Module],
          weight: Callable[[Tensor], nn.Module]) -> nn.Module:
    """A copy of ``net`` in which each Conv2d and Linear has the quantizers made by ``act`` and ``weight``."""
    net = copy.deepcopy(net)

    def quantize(name: str, sample: Tensor) -> None:
        layer = net.get_submodule(name)
        layer.__class__ = _Conv2d if isinstance(layer, nn.Conv2d) else _Linear
        layer.act_q, layer.weight_q = act(sample).to(x.device), weight(layer.weight.detach()).to(x.device)

    _visit(net, x, quantize)
    return net.train()


class _Lsq(nn.Module):
    """Learned step size, as a user would write it in autograd operations."""

    def __init__(self, sample: Tensor, signed: bool) -> None:
        super().__init__()
        self.low, self.high = (-HALF, HALF - 1) if signed else (0, TOP)
        self.step = nn.Parameter(2 * sample.abs().mean().clamp(min=1e-6) / self.high ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        g = (x.numel() * self.high) ** -0.5             # LSQ's gradient scale for the step
        step = (self.step - self.step * g).detach() + self.step * g
        x = (x / step).clamp(self.low, self.high)
        return ((x.round() - x).detach() + x) * step


def naive(net: nn.Module, x: Tensor) -> nn.Module:
    """Plain autograd operations, learned step sizes."""
    return _wrap(net, x, lambda t: _Lsq(t, bool(t.min() < 0)), lambda t: _Lsq(t, True))


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, n: int) -> Tensor:
        return x.mul(n).round_().div_(n)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class _DuQ(nn.Module):
    """Clip at softplus(a), round, stretch to softplus(c); hard-swish inputs are shifted by its minimum of -3/8."""

    def __init__(self, top: Tensor, signed: bool, shift: float = 0.0) -> None:
        super().__init__()
        self.low, self.n, self.shift = (-1.0, HALF - 1, 0.0) if signed else (0.0, TOP, shift)
        self.a, self.c = (nn.Parameter(top.clamp(min=1e-3).expm1().log().view(1)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        a, c = F.softplus(self.a), F.softplus(self.c)
        x = x + self.shift if self.shift else x
        x = _Round.apply(F.hardtanh(x / a, self.low, 1.0), self.n) * c
        return x - self.shift if self.shift else x


def authors(net: nn.Module, x: Tensor) -> nn.Module:
    """DuQ in the style of the PROFIT authors' code: composed operations, one autograd function for rounding."""
    def act(t: Tensor) -> nn.Module:
        low = t.min().item()
        shift = 0.375 if -0.375 <= low < 0 else 0.0
        size = (t + shift).abs().flatten()
        size = size[size > 0] if size.any() else size
        return _DuQ(size.kthvalue(max(1, int(0.95 * len(size)))).values, low < -0.375, shift)

    return _wrap(net, x, act, lambda t: _DuQ(0.9 * t.abs().max(), True))


_AO_ACTIVATION = {"quant_min": 0, "quant_max": TOP, "dtype": torch.quint8, "qscheme": torch.per_tensor_affine}
_AO_WEIGHT = {"quant_min": -HALF, "quant_max": HALF - 1, "dtype": torch.qint8, "qscheme": torch.per_tensor_symmetric}


def ao_learnable(net: nn.Module, x: Tensor) -> nn.Module:
    """torch.ao's learnable fake-quantization: scale and zero point are parameters, LSQ+'s gradient scale."""
    from torch.ao.quantization import MinMaxObserver
    from torch.ao.quantization._learnable_fake_quantize import _LearnableFakeQuantize

    def learnable(t: Tensor, options: dict) -> nn.Module:
        quantizer = _LearnableFakeQuantize(MinMaxObserver, use_grad_scaling=True, **options).to(t.device)
        quantizer(t)                    # takes the observer's range
        return quantizer.enable_param_learning()

    return _wrap(net, x, lambda t: learnable(t, _AO_ACTIVATION), lambda t: learnable(t, _AO_WEIGHT))


def ao_fused(net: nn.Module, x: Tensor) -> nn.Module:
    """torch.ao's fused observer and fake-quantization: ranges are moving averages, not learned."""
    from torch.ao.quantization import FusedMovingAvgObsFakeQuantize, MovingAverageMinMaxObserver

    def fused(t: Tensor, options: dict) -> nn.Module:
        quantizer = FusedMovingAvgObsFakeQuantize(MovingAverageMinMaxObserver, **options).to(t.device)
        quantizer(t)
        return quantizer

    return _wrap(net, x, lambda t: fused(t, _AO_ACTIVATION), lambda t: fused(t, _AO_WEIGHT))


def brevitas(net: nn.Module, x: Tensor) -> nn.Module:
    """Brevitas layers, both scales learned: a parameter for the input, a parameter that starts at max |w|."""
    import brevitas.nn as qnn
    from brevitas.inject.enum import ScalingImplType
    from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerTensorFloat, Uint8ActPerTensorFloat

    net = copy.deepcopy(net)

    def replace(name: str, sample: Tensor) -> None:
        old = net.get_submodule(name)
        options = {
            "bias": old.bias is not None, "weight_quant": Int8WeightPerTensorFloat, "weight_bit_width": BITS,
            "weight_scaling_impl_type": ScalingImplType.PARAMETER_FROM_STATS,
            "input_quant": Int8ActPerTensorFloat if sample.min() < 0 else Uint8ActPerTensorFloat,
            "input_bit_width": BITS,
            "input_scaling_impl_type": ScalingImplType.PARAMETER, "input_scaling_init": sample.abs().max().item()}
        if isinstance(old, nn.Linear):
            new = qnn.QuantLinear(old.in_features, old.out_features, **options)
        else:
            new = qnn.QuantConv2d(old.in_channels, old.out_channels, old.kernel_size, stride=old.stride,
                                  padding=old.padding, dilation=old.dilation, groups=old.groups, **options)
        new.weight, new.bias = old.weight, old.bias
        net.set_submodule(name, new.to(x.device))
        new.quant_weight()              # takes the weight's range

    _visit(net, x, replace)
    return net.train()


def torchao(net: nn.Module, x: Tensor) -> nn.Module:
    """torchao's integer fake quantizers with range learning; it has no per-tensor case, but one long row is one."""
    from torchao.quantization.qat import IntxFakeQuantizeConfig, IntxFakeQuantizer, initialize_fake_quantizers

    class OneRow(nn.Module):
        def __init__(self, t: Tensor, dtype: torch.dtype, granularity: str, is_symmetric: bool) -> None:
            super().__init__()
            self.quantizer = IntxFakeQuantizer(IntxFakeQuantizeConfig(
                dtype, granularity, is_symmetric=is_symmetric, zero_point_precision=torch.float32,
                is_dynamic=False, range_learning=True))
            initialize_fake_quantizers(self, (t,))

        def forward(self, t: Tensor) -> Tensor:
            t = t.movedim(1, -1)        # in channels_last, the rows below are views
            return self.quantizer(t.reshape(1, -1)).view(t.shape).movedim(-1, 1)

    return _wrap(net, x, lambda t: OneRow(t, torch.uint4, "per_token", False),
                 lambda t: OneRow(t, torch.int4, "per_channel", True))


def nncf(net: nn.Module, x: Tensor) -> nn.Module:
    """NNCF's symmetric quantizer, learned scale.

    ``nncf.quantize`` itself has no target device that takes 4 bits everywhere: NPU refuses them for the inputs of
    depthwise convolutions, the others for any.  The first pass compiles NNCF's C++ quantizer.
    """
    from nncf.common.quantization.structs import QuantizationScheme
    from nncf.torch.quantization.layers import PTQuantizerSpec, SymmetricQuantizer

    def symmetric(t: Tensor, signed: bool) -> nn.Module:
        quantizer = SymmetricQuantizer(PTQuantizerSpec(
            num_bits=BITS, mode=QuantizationScheme.SYMMETRIC, signedness_to_force=signed, narrow_range=False,
            half_range=False, scale_shape=(1,), logarithm_scale=False, is_quantized_on_export=False))
        quantizer.scale.data.fill_(t.abs().max())
        return quantizer

    return _wrap(net, x, lambda t: symmetric(t, bool(t.min() < 0)), lambda t: symmetric(t, True))


def modelopt(net: nn.Module, x: Tensor) -> nn.Module:
    """ModelOpt's ``mtq.quantize``: ranges are the calibrated maxima, not learned.  It makes inputs NCHW-contiguous."""
    import modelopt.torch.quantization as mtq

    tensor = {"num_bits": BITS, "axis": None}
    entries = [{"quantizer_name": "*", "enable": False}, {"quantizer_name": "*weight_quantizer", "cfg": tensor}]
    tops = {}

    def see(name: str, sample: Tensor) -> None:
        entries.append({"quantizer_name": f"{name}.input_quantizer",
                        "cfg": tensor | {"unsigned": bool(sample.min() >= 0)}})
        tops[name] = sample.abs().max()

    _visit(net, x, see)
    net = mtq.quantize(copy.deepcopy(net), {"quant_cfg": entries, "algorithm": "max"})
    for name, top in tops.items():
        net.get_submodule(name).input_quantizer.amax = top
    return net.train()


PEERS: dict[str, Callable[[nn.Module, Tensor], nn.Module]] = {
    "naive": naive, "authors": authors, "torch.ao learnable": ao_learnable, "torch.ao fused": ao_fused,
    "brevitas": brevitas, "torchao": torchao, "nncf": nncf, "modelopt": modelopt}

_PACKAGES = {"brevitas": ("brevitas.nn", "brevitas"), "torchao": ("torchao.quantization.qat", "torchao"),
             "nncf": ("nncf.torch.quantization.layers", "nncf"),
             "modelopt": ("modelopt.torch.quantization", "nvidia-modelopt")}


def version(peer: str) -> str | None:
    """The version of a peer's package, None where it does not import."""
    module, package = _PACKAGES.get(peer, ("torch", "torch"))
    try:
        importlib.import_module(module)
    except Exception:  # noqa: BLE001 (a package that does not suit this torch may fail in any way)
        return None
    return importlib.metadata.version(package)
