"""ONNX operators for what lies between two layers."""
from __future__ import annotations

import numpy as np
import torch
from torch.nn.modules.utils import _pair

from ..errors import InputError
from ..models.operations import CLIPS, SAME, Operation

_PLAIN = {"hardswish": "HardSwish", "sigmoid": "Sigmoid", "add": "Add", "mul": "Mul", "sub": "Sub", "div": "Div",
          "neg": "Neg", "abs": "Abs", "maximum": "Max", "minimum": "Min"}
_RESHAPES = {"flatten", "view", "reshape", "squeeze", "unsqueeze"}
# never change the order of two numbers, nor make new ones: codes pass through them
KEPT = {*SAME, "max_pool2d", "flatten"}
_REFUSED = {"dropout": "training", "stochastic_depth": "training", "max_pool2d": "return_indices",
            "avg_pool2d": "divisor_override", "div": "rounding_mode", "mean": "dtype"}
KNOWN = {*CLIPS, *_PLAIN, *SAME, *_RESHAPES, "hardsigmoid", "silu", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d",
         "mean", "cat", "batch_norm", "layer", "quantizer"}


def clip_of(found: Operation | None) -> tuple[float, float] | None:
    """The (smallest, largest) number that an operation which clips to numbers gives; None for other operations."""
    if found is None or found.limits is None:
        return None
    low, high = found.limits
    low, high = -np.inf if low is None else low, np.inf if high is None else high
    return (low, high) if isinstance(low, (int, float)) and isinstance(high, (int, float)) else None


def refuse(node: torch.fx.Node, modules: dict):
    """InputError for a node without operators."""
    what = getattr(node.target, "__name__", node.target)
    if node.op == "call_module":
        what = f"{node.target} ({type(modules[node.target]).__name__})"
    raise InputError(f"{what} has no counterpart in ONNX here: replace it by layers or "
                     f"{', '.join(sorted(KNOWN - {'layer', 'quantizer'}))}")


def emit(writer, node: torch.fx.Node, found: Operation, inputs: list[str]) -> str:
    """Add the operators for a node to a Writer; returns the name of what they give."""
    name, settings, x = found.name, found.settings, inputs[0]
    where = node.target if node.op == "call_module" else node.name

    def cannot(why: str, cure: str):
        raise InputError(f"{where} ({name}): {why}, which cannot be exported: {cure}")

    def moved(y: str) -> str:
        """``y``, of the same numbers as ``x``."""
        if x in writer.coded:
            writer.coded.add(y)
        return y

    if settings.get(_REFUSED.get(name)):
        cannot(f"{_REFUSED[name]}={settings[_REFUSED[name]]}", "leave it out")
    if settings.get("alpha", 1) != 1:
        cannot(f"alpha={settings['alpha']}", "multiply first")
    if name in SAME or x in writer.coded and found.limits:      # codes are clipped where they come to be
        return x
    before, after = (list(n.meta["tensor_meta"].shape) if "tensor_meta" in n.meta else None for n in (
        next((i for i in found.inputs if isinstance(i, torch.fx.Node)), node), node))
    if name == "relu":
        return writer.add("Relu", x)
    if found.limits:
        if clip_of(found) is None:
            cannot("it clips to another tensor", "clip to numbers")
        return writer.add("Clip", x, *(writer.constant(end, np.float32) for end in clip_of(found)))
    if name in _RESHAPES:
        if len(after) < 2 or after[0] != before[0]:
            cannot(f"it makes {after} of {before}", "keep the first dimension, the images, apart")
        return moved(writer.add("Flatten", x, axis=1) if len(after) == 2 else
                     writer.add("Reshape", x, writer.constant([0, *after[1:]], np.int64)))
    if name in ("max_pool2d", "avg_pool2d"):
        window = {"kernel_shape": _pair(settings["kernel_size"]), "pads": _pair(settings["padding"]) * 2,
                  "strides": _pair(settings["stride"] or settings["kernel_size"])}
        if name == "max_pool2d":
            return moved(writer.add("MaxPool", x, **window, ceil_mode=int(settings["ceil_mode"]),
                                    dilations=_pair(settings["dilation"])))
        if settings["ceil_mode"]:
            cannot("ceil_mode=True", "leave it out")
        return writer.add("AveragePool", x, **window, count_include_pad=int(settings["count_include_pad"]))
    if name == "adaptive_avg_pool2d":
        return _adaptive(writer, where, x, before, after)
    if name == "mean":
        dims = settings["dim"] if settings["dim"] is not None else list(range(len(before)))
        axes = [d % len(before) for d in ([dims] if isinstance(dims, int) else dims)]
        return writer.add("ReduceMean", x, writer.constant(axes, np.int64), keepdims=int(settings["keepdim"]))
    if name == "cat":
        return writer.add("Concat", *inputs, axis=settings["dim"])
    if name == "batch_norm":
        norm = settings["norm"]
        if norm.running_mean is None:
            cannot("it takes its statistics from the batch", "let it track running statistics")
        ones = torch.ones_like(norm.running_var)
        values = (norm.weight if norm.affine else ones, norm.bias if norm.affine else 0 * ones, norm.running_mean,
                  norm.running_var)
        return writer.add("BatchNormalization", x, *(writer.constant(v.detach(), np.float32) for v in values),
                          epsilon=norm.eps)
    if name == "silu":
        return writer.add("Mul", x, writer.add("Sigmoid", x))
    return writer.add("HardSigmoid", x, alpha=1 / 6, beta=0.5) if name == "hardsigmoid" else writer.add(
        _PLAIN[name], *inputs)


def _adaptive(writer, where: str, x: str, before: list[int], after: list[int]) -> str:
    if before[2:] == [1, 1]:
        return writer.add("Expand", x, writer.constant([1, 1, *after[2:]], np.int64))
    kernel = [a // b for a, b in zip(before[2:], after[2:])]
    if any(a % b for a, b in zip(before[2:], after[2:])):
        raise InputError(f"{where}: pooling {tuple(before[2:])} to {tuple(after[2:])} has windows of several sizes, "
                         "which ONNX has no operator for: choose an input_size that divides evenly")
    return x if max(kernel) == 1 else writer.add("GlobalAveragePool", x) if max(after[2:]) == 1 else writer.add(
        "AveragePool", x, kernel_shape=kernel, strides=kernel)
