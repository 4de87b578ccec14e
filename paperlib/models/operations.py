"""One name for each operation of a network's graph, whether it is a module, a function or a method."""
from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.fx
import torch.nn.functional as F
from torch import nn

from ..quantizers import Quantizer

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)
_WINDOW = {"kernel_size": None, "stride": None, "padding": 0}
_PADDED = {"pad": None, "mode": "constant", "value": None}
# what follows the input or inputs, in torch's order, with its defaults
SETTINGS: dict[str, dict] = {
    "relu": {"inplace": False}, "relu6": {"inplace": False}, "hardswish": {"inplace": False},
    "silu": {"inplace": False}, "mish": {"inplace": False}, "gelu": {"approximate": "none"}, "selu": {"inplace": False},
    "elu": {"alpha": 1.0, "inplace": False}, "celu": {"alpha": 1.0, "inplace": False},
    "hardsigmoid": {"inplace": False}, "hardtanh": {"min_val": -1.0, "max_val": 1.0, "inplace": False}, "sigmoid": {},
    "clamp": {"min": None, "max": None}, "clamp_min": {"min": None}, "clamp_max": {"max": None},
    "max_pool2d": _WINDOW | {"dilation": 1, "ceil_mode": False, "return_indices": False},
    "avg_pool2d": _WINDOW | {"ceil_mode": False, "count_include_pad": True, "divisor_override": None},
    "adaptive_avg_pool2d": {"output_size": None}, "adaptive_max_pool2d": {"output_size": None, "return_indices": False},
    "mean": {"dim": None, "keepdim": False, "dtype": None}, "flatten": {"start_dim": 0, "end_dim": -1}, "identity": {},
    "dropout": {"p": 0.5, "training": True, "inplace": False}, "pad": _PADDED,
    "stochastic_depth": {"p": 0.5, "mode": "row", "training": True},
    "interpolate": {"size": None, "scale_factor": None, "mode": "nearest", "align_corners": None,
                    "recompute_scale_factor": None, "antialias": False},
    "add": {"alpha": 1}, "sub": {"alpha": 1}, "mul": {}, "div": {"rounding_mode": None}, "neg": {}, "abs": {},
    "cat": {"dim": 0}, "stack": {"dim": 0}, "maximum": {}, "minimum": {}, "floordiv": {}}
PAIRS = {"add", "sub", "mul", "div", "maximum", "minimum", "floordiv"}
# the same numbers at other places, or some of them: whatever arguments say where
MOVES = {"view", "reshape", "permute", "transpose", "movedim", "squeeze", "unsqueeze", "contiguous", "clone", "detach",
         "chunk", "split", "unbind", "getitem", "expand", "expand_as", "view_as", "narrow", "select", "flip", "roll",
         "repeat", "repeat_interleave", "tile", "swapaxes", "unflatten", "channel_shuffle", "pixel_shuffle",
         "pixel_unshuffle", "reflection_pad", "replication_pad"}
# the same numbers at the same places, in evaluation mode
SAME = {"identity", "dropout", "stochastic_depth", "contiguous", "clone", "detach"}
# what clips, and where: a number, a setting, or None where that end is open
CLIPS = {"relu": (0.0, None), "relu6": (0.0, 6.0), "hardtanh": ("min_val", "max_val"), "clamp": ("min", "max"),
         "clamp_min": ("min", None), "clamp_max": (None, "max")}
# the greatest or least of some numbers, or functions that send no number from 0 upwards below 0
KEEPERS = {"amax", "amin", "median"}
SIGNED = {"sum", "prod", "tanh", "leaky_relu", "prelu", "rrelu", "softsign", "log1p", "local_response_norm"}
POSITIVE = {"exp", "sqrt", "softplus", "square", "abs"}
UNIT = {"softmax", "sigmoid", "hardsigmoid"}
SIZES = {"size", "dim", "numel", "ndim", "shape"}
_SAME_NAMES = {"iadd": "add", "isub": "sub", "imul": "mul", "itruediv": "div", "truediv": "div", "true_divide": "div",
               "divide": "div", "multiply": "mul", "subtract": "sub", "clip": "clamp", "concat": "cat",
               "concatenate": "cat", "negative": "neg", "absolute": "abs",
               "dropout1d": "dropout", "dropout2d": "dropout", "dropout3d": "dropout", "feature_dropout": "dropout",
               "ifloordiv": "floordiv", "upsample": "interpolate"}
_MODULES: dict[type, str] = {
    **{getattr(nn, name): name.lower() for name in (
        "ReLU", "ReLU6", "Hardtanh", "Hardswish", "Hardsigmoid", "Sigmoid", "Flatten", "Identity", "Tanh", "ELU",
        "SELU", "CELU", "SiLU", "GELU", "PReLU", "RReLU", "Mish", "Softsign", "Softplus", "Softmax", "Unflatten")},
    nn.LeakyReLU: "leaky_relu", nn.LocalResponseNorm: "local_response_norm", nn.Softmax2d: "softmax",
    nn.MaxPool2d: "max_pool2d", nn.AvgPool2d: "avg_pool2d", nn.AdaptiveAvgPool2d: "adaptive_avg_pool2d",
    nn.AdaptiveMaxPool2d: "adaptive_max_pool2d", nn.Dropout: "dropout", nn.Dropout1d: "dropout",
    nn.Dropout2d: "dropout", nn.Dropout3d: "dropout", nn.ChannelShuffle: "channel_shuffle",
    nn.PixelShuffle: "pixel_shuffle", nn.PixelUnshuffle: "pixel_unshuffle", nn.ReflectionPad2d: "reflection_pad",
    nn.ReplicationPad2d: "replication_pad", nn.ZeroPad2d: "pad", nn.ConstantPad2d: "pad", nn.Upsample: "interpolate",
    nn.UpsamplingNearest2d: "interpolate", nn.UpsamplingBilinear2d: "interpolate",
    **dict.fromkeys(NORMS, "batch_norm")}
_DEPTH = "torchvision.ops.stochastic_depth"       # by the name of its file: torchvision is slow to import
_KNOWN = SETTINGS.keys() | MOVES | KEEPERS | SIGNED | POSITIVE | UNIT
# results that share no memory with what they were computed from
FRESH = (_KNOWN - MOVES - SAME - {"flatten"}) | {"layer", "batch_norm", "quantizer", "clone", "sizes"}


class Operation(NamedTuple):
    """What a node computes: a name of this file, or "layer" (Conv2d, Linear), "batch_norm", "quantizer", "sizes".

    ``inputs``: nodes and numbers; "cat" and "stack" have any number.  ``settings``: what else decides, by torch's names
    (none for operations that are called as they are: layers, moves and functions of one input).
    """

    name: str
    inputs: tuple
    settings: dict
    inplace: bool = False

    @property
    def limits(self) -> tuple | None:
        """(low, high) of an operation that clips, each a number, a node or None (no limit); None for all others."""
        ends = CLIPS.get(self.name)
        return ends and tuple(self.settings[end] if isinstance(end, str) else end for end in ends)


def operation(node: torch.fx.Node, modules: dict) -> Operation | None:
    """Find the operation of a node, or None for what is not known here."""
    if node.op == "call_module":
        return _of_module(modules[node.target], node)
    if node.op not in ("call_function", "call_method"):
        return None
    name = _name(node)
    if name is None:
        return None
    if name in SIZES:
        return Operation("sizes", node.args[:1], {})
    names = ["input", "other"] if name in PAIRS else ["input"]
    defaults = SETTINGS.get(name)
    if defaults is None:
        return Operation(name, node.args[:1], {}, bool(node.kwargs.get("inplace"))) if node.args else None
    given = dict(zip([*names, *defaults], node.args)) | {k: v for k, v in node.kwargs.items() if k != "out" or v}
    if name in ("cat", "stack"):
        given["input"] = given.pop("tensors", given.get("input"))
    if len(node.args) > len(names) + len(defaults) or not given.keys() <= {*names, *defaults} or (
            not all(n in given for n in names)):
        return None
    inputs = tuple(given.pop(n) for n in names)
    if name in ("cat", "stack"):
        inputs = tuple(inputs[0]) if isinstance(inputs[0], Iterable) else inputs
    settings = defaults | given
    inplace = settings.pop("inplace", False) is True
    return Operation(name, inputs, settings, inplace)


def _name(node: torch.fx.Node) -> str | None:
    """The name of a function or method of torch's, without the underscore of changes in place; None if unknown."""
    target = node.target
    if target is getattr:
        return node.args[1] if node.args[1] in SIZES else None
    name = target if isinstance(target, str) else target.__name__
    if not isinstance(target, str) and not any(getattr(space, name, None) is target for space in (
            torch, F, operator, torch._C._nn)) and getattr(target, "__module__", None) != _DEPTH:
        return None
    name = name.rstrip("_") if not name.startswith("_") else name
    name = _SAME_NAMES.get(name, name)
    return name if name in _KNOWN or name in SIZES else None


def _of_module(module: nn.Module, node: torch.fx.Node) -> Operation | None:
    inputs = node.args[:1] or tuple(node.kwargs.values())[:1]
    if isinstance(module, (Quantizer, nn.Conv2d, nn.Linear)):
        return Operation("quantizer" if isinstance(module, Quantizer) else "layer", inputs, {})
    name = "stochastic_depth" if type(module).__module__ == _DEPTH else _MODULES.get(type(module))
    if name is None:
        return None
    settings = {key: getattr(module, key, default) for key, default in SETTINGS.get(name, {}).items()}
    if name == "pad":
        settings |= {"pad": module.padding}
    if name == "batch_norm":
        settings |= {"norm": module}
    inplace = settings.pop("inplace", False) is True
    return Operation(name, inputs, settings, inplace)
