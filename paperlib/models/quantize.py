"""From a Scheme, which is plain data, to a quantized network; and the network's plan, one row per layer."""
from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor, nn

from .. import quantizers
from ..errors import InputError
from ..layers import QuantConv2d, QuantLinear
from .fuse import unfuse
from .ranges import input_floors

FLOAT = 32


@dataclass(frozen=True)
class Scheme:
    """What each layer gets.  Bits are 1 to 8, or 32 for float.

    The precision map is PROFIT's (supplement, section 5): ``w_bits``/``a_bits`` everywhere except an 8-bit input to
    the first convolution and 8-bit activations in squeeze-and-excite; the identity path is never quantized.  With
    ``a_bits=32`` those two exceptions are float as well.  ``per_channel``: whether each output channel of a weight has
    its own range (None: what the method's authors do); ``weight_options`` and ``activation_options`` go to the
    quantizers, e.g. ``{"levels": 15}`` to SAWB.
    """

    weight: str = "duq"
    activation: str = "duq"
    w_bits: int = 4
    a_bits: int = 4
    first_input_bits: int = 8
    se_bits: int = 8
    negative_padding: bool = True
    per_channel: bool | None = None
    weight_options: dict = field(default_factory=dict)
    activation_options: dict = field(default_factory=dict)

    def __post_init__(self):
        for name in ("w_bits", "a_bits", "first_input_bits", "se_bits"):
            bits = getattr(self, name)
            if type(bits) is not int or bits not in (*quantizers.BITS, FLOAT):
                raise InputError(f"{name} must be a whole number from 1 to 8, or 32 for float, got {bits!r}")
        for role, method in (("weight", self.weight), ("activation", self.activation)):
            if method not in quantizers.names(role):
                raise InputError(f"{method!r} does not quantize {role}s: "
                                 f"choose from {', '.join(quantizers.names(role))}")


def _kind(net: nn.Module, name: str, first: bool) -> str:
    layer, parts = net.get_submodule(name), name.split(".")
    parents = [net.get_submodule(".".join(parts[:i])) for i in range(1, len(parts))]
    if any("squeeze" in type(p).__name__.lower() for p in parents):
        return "se"
    if isinstance(layer, nn.Linear):
        return "linear"
    if first:
        return "first"
    if layer.groups > 1 and layer.groups == layer.in_channels:
        return "depthwise"
    if layer.kernel_size == (1, 1):
        return "expand" if layer.out_channels > layer.in_channels else "project"
    return "conv"


def _quantizer(old, method: str, **settings):
    """The old quantizer where it is already the wanted one; else a new one, with the old one's range if it fits."""
    new = quantizers.build(method, **settings)
    if type(old) is type(new) and (old.signed, old.floor, old.shape) == (new.signed, new.floor, new.shape):
        if (old.bits, old.grid) == (new.bits, new.grid):
            return old
        new.load_state_dict(old.state_dict())
    return new


def _shape(layer: nn.Module, scheme: Scheme) -> dict:
    per_channel = scheme.per_channel
    if per_channel is None:
        per_channel = quantizers.find(scheme.weight, "weight").per_channel
    return {"shape": (len(layer.weight), *[1] * (layer.weight.dim() - 1))} if per_channel else {}


def quantize(net: nn.Module, scheme: Scheme) -> nn.Module:
    """A copy of ``net`` in which every Conv2d and Linear has the quantizers that ``scheme`` gives it.

    ``net`` is float or already quantized; quantizers that the new scheme keeps, and ranges where only the bit-width
    changes, are carried over, new ones wait for :func:`calibrate`.  InputError if the network has no such layer or
    cannot be traced.
    """
    net = unfuse(net)
    floors = input_floors(net)
    if not floors:
        raise InputError(f"{type(net).__name__} has no Conv2d or Linear layer: there is nothing to quantize")
    missed = [name for name, m in net.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and name not in floors]
    if missed:
        warnings.warn(f"forward does not call these layers, which stay float: {', '.join(missed)}", stacklevel=2)
    names = {}      # every name under which a layer is known: one layer may stand in several places
    for name, module in net.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    for index, (name, floor) in enumerate(floors.items()):
        layer = net.get_submodule(name)
        if not isinstance(layer, (QuantConv2d, QuantLinear)):
            old, layer = layer, (QuantConv2d if isinstance(layer, nn.Conv2d) else QuantLinear).from_float(layer)
            for place in names[old]:
                net.set_submodule(place, layer)
        layer.kind = _kind(net, name, first=index == 0)
        a_bits = scheme.a_bits
        if a_bits != FLOAT:
            a_bits = {"first": scheme.first_input_bits, "se": scheme.se_bits}.get(layer.kind, a_bits)
        signed, floor = floor == -math.inf, (0.0 if floor == -math.inf else min(floor, 0.0))
        layer.input_quantizer = None if a_bits == FLOAT else _quantizer(
            layer.input_quantizer, scheme.activation, role="activation", bits=a_bits, signed=signed, floor=floor,
            **scheme.activation_options)
        layer.weight_quantizer = None if scheme.w_bits == FLOAT else _quantizer(
            layer.weight_quantizer, scheme.weight, role="weight", bits=scheme.w_bits,
            **_shape(layer, scheme), **scheme.weight_options)
        if isinstance(layer, QuantConv2d):
            pad = floor if layer.input_quantizer is None else layer.input_quantizer.floor
            layer.pad_value = pad if scheme.negative_padding else 0.0
        layer.to(layer.weight.device, layer.weight.dtype)       # new quantizers come as float32 on the CPU
    return net


def _layers(net: nn.Module):
    found = [(n, m) for n, m in net.named_modules() if isinstance(m, (QuantConv2d, QuantLinear))]
    if not found:
        raise InputError("this network is not quantized: call models.quantize(net, scheme) first")
    return found


@torch.no_grad()
def calibrate(net: nn.Module, x: Tensor) -> nn.Module:
    """Give every quantizer that has no range yet one from a batch of images ``x`` (N, C, H, W); returns ``net``.

    One forward pass in evaluation mode.  Each layer sees inputs that the layers before it have already quantized.
    """
    def set_ranges(layer, args, kwargs):
        x = args[0] if args else kwargs["input"]
        for quantizer, tensor in ((layer.input_quantizer, x), (layer.weight_quantizer, layer.weight)):
            if quantizer is not None and not quantizer.calibrated:
                quantizer.calibrate(tensor)

    if any(getattr(layer, "before", None) for _, layer in _layers(net)):
        raise InputError("in a fused network layers don't see their own inputs: calibrate first, then models.fuse")
    modes = {module: module.training for module in net.modules()}
    hooks = [layer.register_forward_pre_hook(set_ranges, with_kwargs=True) for _, layer in _layers(net)]
    try:
        net.eval()(x)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    return net


def plan(net: nn.Module) -> pd.DataFrame:
    """One row per quantized layer, in the network's order: kind, shape, bits, methods, levels, floor, padding."""
    def describe(q):
        return (FLOAT, "float", None) if q is None else (q.bits, type(q).__name__, q.grid.n_levels)

    rows = []
    for name, layer in _layers(net):
        (a_bits, activation, a_levels), (w_bits, weight, w_levels) = map(
            describe, (layer.input_quantizer, layer.weight_quantizer))
        rows.append({
            "layer": name, "kind": layer.kind, "weight_shape": "x".join(map(str, layer.weight.shape)),
            "w_bits": w_bits, "weight": weight, "w_levels": w_levels,
            "a_bits": a_bits, "activation": activation, "a_levels": a_levels,
            "input": None if layer.input_quantizer is None else
                     "signed" if layer.input_quantizer.signed else f">= {layer.input_quantizer.floor:g}",
            "pad_value": layer.pad_value if any(getattr(layer, "padding", ())) else None})
    return pd.DataFrame(rows)
