"""Layers that quantize their own input and weight, and pad with the smallest value that their input can take."""
from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..quantizers import Quantizer, kernels
from . import depthwise

OURS = {"kind", "input_floor", "input_quantizer", "weight_quantizer"}      # set on each layer


class LayerInput(NamedTuple):
    """A quantized input as a layer used it: x * unit + shift, with a border of ``shift``; the output's gain or None."""

    x: Tensor
    unit: float
    shift: Tensor | float
    gain: Tensor | None


class _Quantized:
    """What the two layers share: an input quantizer and a weight quantizer, each possibly None (float)."""

    input_quantizer: Quantizer | None
    weight_quantizer: Quantizer | None
    input_floor: float = -math.inf      # what the graph says that no input lies below, which a method may ignore
    # called in each forward with (self, quantized weight, output, what was quantized): see training/aiwq.py
    watch: Callable[[nn.Module, Tensor, Tensor, LayerInput], None] | None = None

    def __getstate__(self) -> dict:
        """Give copies and files all but ``watch``, which is for this very layer."""
        return {key: value for key, value in vars(self).items() if key != "watch"}

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        """Load as torch does; ranges of another weight, where the new one came without any, have to be set anew."""
        before = self.weight.detach().clone()
        super()._load_from_state_dict(state_dict, prefix, *args)
        for name in ("input_quantizer", "weight_quantizer"):
            quantizer = getattr(self, name)
            if quantizer is not None and next(quantizer.parameters(), None) is not None and not any(
                    key.startswith(f"{prefix}{name}.") for key in state_dict) and not before.equal(self.weight):
                quantizer.calibrated = False

    def quantized_weight(self) -> Tensor:
        return self.weight if self.weight_quantizer is None else self.weight_quantizer(self.weight)

    def gain(self, input: Tensor) -> Tensor | None:
        """Return what the output, before the bias, is multiplied by, if the input's quantizer asks for it (XNOR)."""
        return None if self.input_quantizer is None else self.input_quantizer.gain(input, self)


class QuantConv2d(_Quantized, nn.Conv2d):
    """A convolution with quantizers on its input and its weight.

    Input (N, C, H, W), float.  ``pad_value`` is what the border is filled with: the floor of the input (-3/8 after
    h-swish), which is the lowest level of the input quantizer, so that padding is a level of the grid ("negative
    padding", PROFIT and its supplement, sections 2 and 3).  Nothing is copied for it: the input is taken relative to
    the floor, which makes the border 0, and the floor's own share of every output is a constant per channel.
    """

    pad_value: float = 0.0

    @classmethod
    def from_float(cls, conv: nn.Conv2d) -> "QuantConv2d":
        """A QuantConv2d that shares ``conv``'s parameters, hooks and attributes and quantizes nothing yet."""
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise InputError(f"only convolutions with numeric zero padding can be quantized, got padding="
                             f"{conv.padding!r}, padding_mode={conv.padding_mode!r}: pad before the layer instead")
        return _from_float(cls, conv)

    def forward(self, input: Tensor) -> Tensor:
        q, weight = self.input_quantizer, self.quantized_weight()
        if not self.pad_value or not any(self.padding):
            x, shift = (input if q is None else q(input)), None
        else:
            x, shift = (input - self.pad_value, self.pad_value) if q is None else q.quantize_with_offset(input)
        gain, bias = self.gain(input), self.shifted_bias(weight, shift)
        output = self.convolve(x, weight, bias if gain is None else None)
        if gain is not None:
            output = output * gain if bias is None else output * gain + bias.view(-1, 1, 1)
        if self.watch is not None:
            self.watch(self, weight, output, LayerInput(x, 1.0, shift or 0.0, gain))
        return output

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.sees_one_pixel(x):
            return F.linear(x.flatten(1), weight.flatten(1), bias)[..., None, None]
        return depthwise.convolve(self, x, weight, bias)

    def sees_one_pixel(self, x: Tensor) -> bool:
        """Say whether to compute it as a fully connected layer, twice as fast on a CPU (squeeze-and-excite)."""
        return (x.is_cpu and x.shape[2:] == self.weight.shape[2:] == (1, 1) and self.groups == 1
                and not any(self.padding) and not kernels.recording())

    def shifted_bias(self, weight: Tensor, shift: Tensor | float | None) -> Tensor | None:
        """Add to the bias what an input of ``shift`` everywhere, the border included, gives in each output channel."""
        if shift is None:
            return self.bias
        constant = shift * weight.sum((1, 2, 3))
        return constant if self.bias is None else self.bias + constant

    def extra_repr(self) -> str:
        return super().extra_repr() + (f", pad_value={self.pad_value:g}" if self.pad_value else "")


class QuantLinear(_Quantized, nn.Linear):
    """A fully connected layer with quantizers on its input (..., in_features) and its weight."""

    @classmethod
    def from_float(cls, linear: nn.Linear) -> "QuantLinear":
        """A QuantLinear that shares ``linear``'s parameters, hooks and attributes and quantizes nothing yet."""
        return _from_float(cls, linear)

    def forward(self, input: Tensor) -> Tensor:
        x = input if self.input_quantizer is None else self.input_quantizer(input)
        weight, gain = self.quantized_weight(), self.gain(input)
        output = F.linear(x, weight, self.bias if gain is None else None)
        if gain is not None:
            output = output * gain if self.bias is None else output * gain + self.bias
        if self.watch is not None:
            self.watch(self, weight, output, LayerInput(x, 1.0, 0.0, gain))
        return output


def _from_float(cls, layer: nn.Module):
    plain = cls.__mro__[2]
    if nn.utils.parametrize.is_parametrized(layer):
        raise InputError(f"a parametrized {plain.__name__} (weight norm, say) cannot be quantized: remove the "
                         "parametrization first (torch.nn.utils.parametrize.remove_parametrizations)")
    if not isinstance(layer.weight, nn.Parameter):
        raise InputError(f"the weight of this {plain.__name__} is no nn.Parameter (something computes it, as pruning "
                         "does), so it cannot be quantized: make it one first")
    if {"forward", "_conv_forward"} & vars(layer).keys() or any(
            getattr(type(layer), name, None) is not getattr(plain, name, None)
            for name in ("forward", "_conv_forward", "__call__")):
        raise InputError(f"{type(layer).__name__} has a forward of its own, which quantization would drop: "
                         f"put a plain nn.{plain.__name__} in its place")
    taken = [name for name in (*vars(layer), *layer._buffers, *layer._modules)
             if name in OURS or hasattr(cls, name) and not hasattr(plain, name)]
    if taken:
        raise InputError(f"the attribute {taken[0]!r} of this {plain.__name__} has a name that quantized layers use "
                         "themselves: give it another")
    lost = [name for name in dir(type(layer)) if not hasattr(cls, name) and not name.startswith("__")]
    if lost:
        warnings.warn(f"a {type(layer).__name__} becomes a {cls.__name__}, without {', '.join(lost)}", stacklevel=2)
    new = adopt(cls, layer)
    new.input_quantizer = new.weight_quantizer = None
    return new


def adopt(cls, layer: nn.Module):
    """Make a ``cls`` of ``layer``, with the same parameters, quantizers, hooks and attributes."""
    new = cls.__new__(cls)      # all that __init__ would set comes from the layer
    for key, value in vars(layer).items():
        new.__dict__[key] = copy.copy(value) if key in ("_parameters", "_buffers", "_modules") else value
    return new
