"""From a Scheme, which is plain data, to a quantized network; and the network's plan, one row per layer."""
from __future__ import annotations

import math
import warnings

import pandas as pd
from torch import Tensor, nn

from .. import quantizers
from ..errors import InputError
from .fold import fold
from .fuse import unfuse
from .graph import unwrapped
from .layers import QuantConv2d, QuantLinear
from .residual import attach, detach, quantized_blocks
from .scheme import FLOAT, Scheme
from .squeeze_excite import gate_layers
from .value_bounds import input_floors


def kind(net: nn.Module, name: str, first: bool, gates: set[str]) -> str:
    """What part a Conv2d or Linear plays; ``first``: whether it is the first that is called; ``gates``: those in
    squeeze-and-excite, as :func:`paperlib.models.squeeze_excite.gate_layers` finds them."""
    layer = net.get_submodule(name)
    if name in gates:
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
    """The old quantizer where it is already the wanted one; else a new one, with the old one's range if it fits and
    no ``range_method`` is to find one for the new bit-width."""
    new = quantizers.build(method, **settings)
    if type(old) is type(new) and old.form() == new.form():
        return old
    fits = type(old) is type(new) and (old.signed, old.floor, _shapes(old)) == (new.signed, new.floor, _shapes(new))
    if fits and new.range_method is None:
        new.adopt(old)
    return new


def _shapes(quantizer) -> dict:
    return {name: tensor.shape for name, tensor in (*quantizer.named_parameters(), *quantizer.named_buffers())}


def _input_quantizer(old, scheme: Scheme, bits: int, floor: float):
    if bits == FLOAT:
        return None
    return _quantizer(old, scheme.activation, role="activation", bits=bits, signed=floor == -math.inf,
                      floor=_pad(floor), **scheme.activation_options)


def _weight_quantizer(old, scheme: Scheme, bits: int, weight: Tensor):
    if bits == FLOAT:
        return None
    per_channel = scheme.per_channel
    if per_channel is None:
        per_channel = quantizers.find(scheme.weight, "weight").per_channel
    shape = {"shape": (len(weight), *[1] * (weight.dim() - 1))} if per_channel else {}
    return _quantizer(old, scheme.weight, role="weight", bits=bits, **shape, **scheme.weight_options)


def _pad(floor: float) -> float:
    """Return the least value of an input with this floor that padding may stand for: 0, or less where that is known."""
    return 0.0 if floor == -math.inf else min(floor, 0.0)


def quantize(net: nn.Module, scheme: Scheme) -> nn.Module:
    """Make a copy of ``net`` in which every Conv2d and Linear has the quantizers that ``scheme`` gives it.

    ``net`` is float or already quantized; quantizers that the new scheme keeps, and ranges where only the bit-width
    changes, are carried over, new ones wait for :func:`paperlib.models.calibrate`.  InputError if the network has no
    such layer or cannot be traced.
    """
    net = unfuse(net)
    if scheme.fold_norms:
        net = fold(net)
    identities = {name: detach(block) for name, block in list(quantized_blocks(net))}
    floors, gates = input_floors(net), gate_layers(net)
    if not floors.layers:
        raise InputError(f"{type(net).__name__} has no Conv2d or Linear layer: there is nothing to quantize "
                         "(a layer by itself: put it into nn.Sequential)")
    missed = [name for name, m in net.named_modules()
              if isinstance(m, (nn.Conv2d, nn.Linear)) and name not in floors.layers]
    if missed:
        warnings.warn(f"forward does not call these layers, which stay float: {', '.join(missed)}", stacklevel=2)
    names = {}      # every name under which a layer is known: one layer may stand in several places
    for name, module in net.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    first = next(iter(floors.layers))
    for name, floor in floors.layers.items():
        layer = net.get_submodule(name)
        if not isinstance(layer, (QuantConv2d, QuantLinear)):
            old, cls = layer, QuantConv2d if isinstance(layer, nn.Conv2d) else QuantLinear
            try:
                layer = cls.from_float(old)
            except InputError as error:
                raise InputError(f"{name}: {error}") from None
            for place in names[old]:
                net.set_submodule(place, layer)
        layer.kind, layer.input_floor = kind(net, name, name == first, gates), floor
        a_bits, w_bits = scheme.input_bits(layer.kind), scheme.w_bits
        if name == first and not scheme.quantize_first or name == floors.last and not scheme.quantize_last:
            a_bits = w_bits = FLOAT
        layer.input_quantizer = _input_quantizer(layer.input_quantizer, scheme, a_bits, floor)
        layer.weight_quantizer = _weight_quantizer(layer.weight_quantizer, scheme, w_bits, layer.weight)
        if isinstance(layer, QuantConv2d):
            pad = _pad(floor) if layer.input_quantizer is None else layer.input_quantizer.floor
            layer.pad_value = pad if scheme.negative_padding else 0.0
        layer.to(layer.weight.device, layer.weight.dtype)       # new quantizers come as float32 on the CPU
    for name, floor in floors.blocks.items():
        block, like = net.get_submodule(name), net.get_submodule(first).weight
        quantizer = _input_quantizer(identities.get(name), scheme, scheme.input_bits("identity"), floor)
        if quantizer is not None:
            attach(block, name, quantizer.to(like.device, like.dtype))
    return net


def quantized_layers(net: nn.Module):
    found = [(n, m) for n, m in net.named_modules() if isinstance(m, (QuantConv2d, QuantLinear))]
    if not found:
        raise InputError("this network is not quantized: call models.quantize(net, scheme) first")
    return found


def plan(net: nn.Module) -> pd.DataFrame:
    """One row per quantized layer, in the network's order: kind, shape, bits, methods, levels, floor, padding.

    A block whose input is quantized before branch and identity part has a row of kind "identity" ahead of its layers.
    """
    def describe(q):
        return (FLOAT, "float", None) if q is None else (q.bits, type(q).__name__, q.grid.n_levels)

    net = unwrapped(net)
    rows, layers, blocks = [], dict(quantized_layers(net)), dict(quantized_blocks(net))
    for name, module in net.named_modules():
        if name in blocks:
            quantizer, row = module.identity_quantizer, {"layer": name, "kind": "identity"}
        elif name in layers:
            quantizer = module.input_quantizer
            w_bits, weight, w_levels = describe(module.weight_quantizer)
            row = {"layer": name, "kind": module.kind, "weight_shape": "x".join(map(str, module.weight.shape)),
                   "w_bits": w_bits, "weight": weight, "w_levels": w_levels,
                   "pad_value": module.pad_value if any(getattr(module, "padding", ())) else None}
        else:
            continue
        a_bits, activation, a_levels = describe(quantizer)
        rows.append(row | {
            "a_bits": a_bits, "activation": activation, "a_levels": a_levels,
            "input": None if quantizer is None else "signed" if quantizer.signed else f">= {quantizer.floor:g}"})
    columns = ["layer", "kind", "weight_shape", "w_bits", "weight", "w_levels", "a_bits", "activation", "a_levels",
               "input", "pad_value"]
    return pd.DataFrame(rows, columns=columns)
