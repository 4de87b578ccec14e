"""The integer network as a file for other machines: a list of steps and arrays of integers, nothing else.

:func:`export` writes a ``.npz`` (a zip of ``.npy`` files, no pickles).  Its array ``program`` is a JSON text in UTF-8
bytes, an object with

- ``fraction``: numbers between layers are integers in units of 2**-fraction, 32 bits with sign;
- ``input``: the program begins with ``codes``, not with an image; a real x of the normalized image has the code
  clip(round((x - offset) / step), code_min, code_max), half to even;
- ``steps``, in their order, each with ``op``, ``inputs`` (names of results), ``name`` (of its own result, and of its
  arrays NAME.thresholds and so on) and what the op needs.  The last result are the logits.

The ops: ``codes``: ``code_min`` plus how many of the thresholds are at most the number.  ``convolve`` and ``product``
(fully connected): sums of codes, padded with code 0, times ``weight``, in int32; then for each channel
(sum * multiplier + 2**(shift - 1)) >> shift, in 64 bits, plus ``bias`` (numbers, or a map of them).  ``numbers``: the
same of single codes, without a weight.  ``clip``: to ``low`` and ``high`` (null: none).  ``multiply``:
(a * b + 2**(fraction - 1)) >> fraction.  With c = clip(x + 3, 0, 6), where 3 and 6 are in units of 2**-fraction,
``hardsigmoid`` is c / 6 and ``hardswish`` x * c / (6 * 2**fraction), rounded half up.  ``average``: to ``size``
windows as torch's adaptive pooling, rounded half up.  ``max``: pooling with ``kernel``, ``stride`` and
``padding``, which is less than every number.  ``add``, ``flatten`` (all but the first axis).
"""
from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import torch
import torch.fx
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from ..errors import InputError
from ..models.operations import SAME, Operation
from ..quantizers import Quantizer
from ..system.paths import atomic
from .fixed_rules import Factor, clip_ends
from .integer_layers import note_shapes, spacing
from .integer_net import IntegerNet
from .programs import thresholds


@torch.no_grad()
def export(net: nn.Module, path: str | os.PathLike, *, input_size: int, fraction: int = 20) -> Path:
    """Write ``IntegerNet(net, "fixed", fraction)`` to ``path`` as steps and arrays, and return it.

    ``input_size``: pixels of the square images.  The format is described at the top of this file.  InputError for what
    the integer network refuses, and for a first layer whose quantizer is not evenly spaced.
    """
    writer = Steps(IntegerNet(net, "fixed", fraction), input_size)
    head = {"fraction": fraction, "input": writer.input, "steps": writer.steps}
    program = np.frombuffer(json.dumps(head, indent=1).encode(), np.uint8)
    with atomic(Path(path)) as temp, open(temp, "wb") as file:
        np.savez(file, program=program, **writer.arrays)
    return Path(path)


class Steps:
    """Goes through the graph and notes the steps; results are known by their names.

    ``arrays``: NAME.thresholds and so on; ``coded``: {result that holds codes: (layer that it enters, quantizer)}.
    """

    def __init__(self, fixed: IntegerNet, input_size: int, channels: int = 3):
        self.program = fixed.program
        self.steps: list[dict] = []
        self.arrays: dict[str, np.ndarray] = {}
        self.input: dict = {}
        self.coded: dict[str, tuple[str, Quantizer]] = {}
        self.size = (channels, input_size, input_size)
        note_shapes(self.program.module, self.size)
        names: dict[torch.fx.Node, str | None] = {}
        for node in self.program.module.graph.nodes:
            if node.op == "placeholder":
                names[node] = "codes"
            elif node.op.startswith("call") and _shape(node) is not None:
                found = self.program.operations[node]
                inputs = [names[x] if isinstance(x, torch.fx.Node) else x for x in found.inputs]
                names[node] = self.call(node, found, *inputs)
            else:           # a size, several tensors, a constant, the end
                names[node] = None

    def call(self, node: torch.fx.Node, found: Operation, x, *others) -> str:
        """Note the steps of a node; the name of its result."""
        if node.target in self.program.norms:
            return x
        if found.name in ("layer", "quantizer"):
            module = self.program.fetch_attr(node.target)
            codes = self.codes(node.target, getattr(module, "input_quantizer", module), x)
            if found.name == "layer":
                return self.layer(node, codes)
            step, origin = spacing(module, node.target)
            return self.times(codes, step * self.program.one, origin)
        y = None if {"codes", None} & {x, *others} else self.between(node, found, x, *others)
        if y is None:
            where = node.target if node.op == "call_module" else node.name
            raise InputError(f"{where}: {found.name} as it stands here has no step in a program: use IntegerNet, or "
                             "to_onnx")
        return y

    def step(self, op: str, *inputs: str, arrays: dict[str, Tensor] | None = None, **needs) -> str:
        name = f"{op}_{len(self.steps)}"
        self.steps.append({"op": op, "name": name, "inputs": inputs, **needs})
        self.arrays |= {f"{name}.{key}": _smallest(array) for key, array in (arrays or {}).items()}
        return name

    def between(self, node: torch.fx.Node, found: Operation, x, other=None) -> str | None:
        """Note what lies between two layers; None where the format has no step for it."""
        name, settings = found.name, found.settings
        before, after = (_shape(n) if isinstance(n, torch.fx.Node) else None for n in (found.inputs[0], node))
        if name in SAME or name in ("view", "reshape") and before == after:
            return x
        if name in ("flatten", "view", "reshape"):
            return self.step("flatten", x) if after == (before[0], before[1:].numel()) else None
        if found.limits:
            low, high = clip_ends(self.program.one, *found.limits)
            return self.step("clip", x, low=low, high=high)
        if name in ("hardswish", "hardsigmoid"):
            return self.step(name, x)
        if name == "adaptive_avg_pool2d" or name == "mean" and {d % 4 for d in _pair(settings["dim"])} == {2, 3}:
            y = self.step("average", x, size=list(after[2:]) if len(after) == 4 else [1, 1])
            return y if len(after) == 4 else self.step("flatten", y)
        if name == "max_pool2d" and not settings["ceil_mode"] and _pair(settings["dilation"]) == (1, 1):
            kernel, stride = settings["kernel_size"], settings["stride"] or settings["kernel_size"]
            return self.step("max", x, kernel=_pair(kernel), stride=_pair(stride), padding=_pair(settings["padding"]))
        if name in ("add", "sub") and settings["alpha"] == 1:
            sign = -1 if name == "sub" else 1
            if isinstance(x, str) and isinstance(other, str):
                return self.step("add", x, other if sign > 0 else self.times(other, -1))
            return self.times(x, 1, sign * other) if isinstance(x, str) else self.times(other, sign, x)
        if name == "mul":
            x, other = (x, other) if isinstance(x, str) else (other, x)
            return self.step("multiply", x, other) if isinstance(other, str) else self.times(x, other)
        if name == "div" and not isinstance(other, str) and settings["rounding_mode"] is None:
            return self.times(x, 1 / other)
        return self.times(x, -1) if name == "neg" else None

    def times(self, x: str, real: float | Tensor, more: float | Tensor = 0.0) -> str:
        """Note real * x + more; ``more`` is in fixed point then, whatever ``x`` is."""
        real, more = (torch.as_tensor(value, dtype=torch.float64).view(1) for value in (real, more))
        return self.step("numbers", x, arrays=_rescaling(Factor(real), self.program.fixed(more)))

    def codes(self, target: str, quantizer: Quantizer, numbers: str) -> str:
        grid = quantizer.grid
        if numbers != "codes":
            codes = self.step("codes", numbers, code_min=grid.code_min,
                              arrays={"thresholds": thresholds(quantizer, self.program.fraction)})
            self.coded[codes] = target, quantizer
            return codes
        affine = quantizer.float32_affine()
        if affine is None or grid.zero or self.input:
            raise InputError(f"{target}: the image has to go to one layer, with an evenly spaced quantizer, got "
                             f"{type(quantizer).__name__}: use another method for activations")
        self.input = {"step": float(affine.in_scale) / grid.steps, "offset": float(affine.in_offset),
                      "code_min": grid.code_min, "code_max": grid.code_max}
        self.coded[numbers] = target, quantizer
        return numbers

    def layer(self, node: torch.fx.Node, codes: str) -> str:
        layer, bias = self.program.layers[node.target], self.program.biases[node.target]
        bias = bias.view(layer.spatial)
        if layer.edge is not None:
            ones = torch.ones(1, *_shape(node.args[0])[1:], dtype=torch.int16)
            bias = bias + self.program.edges[node.target](layer.accumulate(ones)[0], layer.spatial)
        arrays = {"weight": layer.weight, **_rescaling(self.program.factors[node.target], bias)}
        if isinstance(layer.layer, nn.Linear):
            return self.step("product", codes, arrays=arrays)
        return self.step("convolve", codes, arrays=arrays, groups=layer.layer.groups,
                         **{name: _pair(getattr(layer.layer, name)) for name in ("stride", "padding", "dilation")})


def _shape(node: torch.fx.Node) -> torch.Size | None:
    """The shape of the one tensor that a node gives."""
    return getattr(node.meta.get("tensor_meta"), "shape", None)


def _rescaling(factor: Factor, bias: Tensor) -> dict[str, Tensor]:
    return {"multiplier": factor.multiplier, "shift": factor.shift, "bias": bias}


def _smallest(array: Tensor) -> np.ndarray:
    """In the least of the signed integer types that holds it."""
    array = array.numpy()
    kinds = (np.int8, np.int16, np.int32, np.int64)
    return array.astype(next(k for k in kinds if array.min() >= np.iinfo(k).min and array.max() <= np.iinfo(k).max))
