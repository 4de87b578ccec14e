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
windows as torch's adaptive pooling, rounded half up.  ``max``: pooling with ``kernel`` and ``stride``.  ``add``,
``flatten`` (all but the first axis).
"""
from __future__ import annotations

import json
import operator
import os
from pathlib import Path

import numpy as np
import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from ..errors import InputError
from ..paths import atomic
from ..quantizers import Quantizer
from .fold import spacing
from .integer import Factor, IntegerNet, thresholds

_SAME = (nn.Dropout, nn.Identity)
_PLAIN = {nn.Hardswish: "hardswish", nn.Hardsigmoid: "hardsigmoid", nn.Flatten: "flatten",
          operator.add: "add", operator.iadd: "add", torch.add: "add", torch.flatten: "flatten",
          operator.mul: "multiply", operator.imul: "multiply", torch.mul: "multiply"}


@torch.no_grad()
def export(net: nn.Module, path: str | os.PathLike, *, input_size: int, fraction: int = 20) -> Path:
    """Write ``IntegerNet(net, "fixed", fraction)`` to ``path`` as steps and arrays, and return it.

    ``input_size``: pixels of the square images.  The format is described at the top of this file.  InputError for what
    the integer network refuses, and for a first layer whose quantizer is not evenly spaced.
    """
    fixed = IntegerNet(net, "fixed", fraction)
    codes = fixed.codes(torch.zeros(1, 3, input_size, input_size))
    writer = _Writer(fixed, {name: c.shape[1:] for name, c in codes.items()})
    writer.run("codes")
    head = {"fraction": fraction, "input": writer.input, "steps": writer.steps}
    program = np.frombuffer(json.dumps(head, indent=1).encode(), np.uint8)
    with atomic(Path(path)) as temp, open(temp, "wb") as file:
        np.savez(file, program=program, **writer.arrays)
    return Path(path)


class _Writer(torch.fx.Interpreter):
    """Goes through the graph with the names of results in their places, and notes the steps."""

    def __init__(self, fixed: IntegerNet, shapes: dict[str, torch.Size]):
        super().__init__(fixed.program.module)
        self.extra_traceback = False        # errors stay as they are
        self.program, self.shapes, self.first = fixed.program, shapes, fixed.quantizers[0]
        self.steps: list[dict] = []
        self.arrays: dict[str, np.ndarray] = {}
        self.input: dict = {}

    def step(self, op: str, *inputs: str, arrays: dict[str, Tensor] | None = None, **needs) -> str:
        name = f"{op}_{len(self.steps)}"
        self.steps.append({"op": op, "name": name, "inputs": inputs, **needs})
        self.arrays |= {f"{name}.{key}": _smallest(array) for key, array in (arrays or {}).items()}
        return name

    def call_module(self, target, args, kwargs):
        module = self.fetch_attr(target)
        if target in self.program.norms or isinstance(module, _SAME):
            return args[0]
        if target in self.program.layers:
            return self.layer(target, self.codes(target, module.input_quantizer, args[0]))
        if isinstance(module, Quantizer):
            step, origin = spacing(module, target)
            factor = Factor(step.view(1) * self.program.one)
            return self.step("numbers", self.codes(target, module, args[0]), arrays={
                "multiplier": factor.multiplier, "shift": factor.shift, "bias": self.program.fixed(origin.view(1))})
        if isinstance(module, nn.AdaptiveAvgPool2d):
            return self.step("average", args[0], size=_pair(module.output_size))
        if isinstance(module, nn.MaxPool2d):
            return self.step("max", args[0], kernel=_pair(module.kernel_size), stride=_pair(module.stride))
        if isinstance(module, (nn.ReLU, nn.ReLU6, nn.Hardtanh)):
            low, high = (0, None) if isinstance(module, nn.ReLU) else (
                round(end * self.program.one) for end in (module.min_val, module.max_val))
            return self.step("clip", args[0], low=low, high=high)
        return self.step(_PLAIN[type(module)], args[0])

    def call_function(self, target, args, kwargs):
        if target is F.adaptive_avg_pool2d:
            return self.step("average", args[0], size=_pair(args[1]))
        return self.step(_PLAIN[target], *(a for a in args if isinstance(a, str)))

    def call_method(self, target, args, kwargs):
        return args[0] if target == "contiguous" else self.step("flatten", args[0])

    def codes(self, target: str, quantizer: Quantizer, numbers: str) -> str:
        grid = quantizer.grid
        if numbers != "codes":
            return self.step("codes", numbers, code_min=grid.code_min,
                             arrays={"thresholds": thresholds(quantizer, self.program.fraction)})
        affine = quantizer.placed()
        if affine is None or grid.zero or target != self.first:
            raise InputError(f"{target}: the image has to go to one layer, with an evenly spaced quantizer, got "
                             f"{type(quantizer).__name__}: use another method for activations")
        self.input = {"step": float(affine.in_scale) / grid.steps, "offset": float(affine.in_offset),
                      "code_min": grid.code_min, "code_max": grid.code_max}
        return numbers

    def layer(self, target: str, codes: str) -> str:
        part, factor = self.program.layers[target], self.program.factors[target]
        bias = self.program.biases[target].view(part.spatial)
        if part.edge is not None:
            ones = torch.ones(1, *self.shapes[target], dtype=torch.int16)
            bias = bias + self.program.edges[target](part.accumulate(ones)[0], part.spatial)
        arrays = {"weight": part.weight, "multiplier": factor.multiplier, "shift": factor.shift, "bias": bias}
        if isinstance(part.layer, nn.Linear):
            return self.step("product", codes, arrays=arrays)
        return self.step("convolve", codes, arrays=arrays, groups=part.layer.groups,
                         **{name: _pair(getattr(part.layer, name)) for name in ("stride", "padding", "dilation")})


def _smallest(array: Tensor) -> np.ndarray:
    """In the least of the signed integer types that holds it."""
    array = array.numpy()
    kinds = (np.int8, np.int16, np.int32, np.int64)
    return array.astype(next(k for k in kinds if array.min() >= np.iinfo(k).min and array.max() <= np.iinfo(k).max))
