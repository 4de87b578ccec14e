"""Which values can a layer get?  Interval arithmetic over the network's graph.

A quantizer must know whether its input has both signs, starts at 0 (ReLU) or at -3/8 (h-swish), or at the minimum of
another activation that has one: SiLU, GELU, Mish, ELU, CELU and SELU.  Instead of asking
the reader of every network, :func:`input_floors` follows lower and upper bounds through the graph that ``torch.fx``
traces.  It is exact for what MobileNets are made of and safe elsewhere: an operation that it doesn't know has no
bounds, which means a signed quantizer, and so has everything before a change in place that other names may see.

A bound below 0 comes from such activations and from sums and products with constants alone.  Clipping to both signs, as
Hardtanh(-1, 1) does, gives none: the middle of such a grid is 0, and so is the border.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.fx
from torch import nn

from .graph import changed, trace
from .operations import KEEPERS, MOVES, POSITIVE, SIGNED, UNIT, Operation, operation

ANY = (-math.inf, math.inf)
HARDSWISH_MIN = -3 / 8           # at x = -1.5
SILU_MIN = -0.2784645427610738   # at x = -1.27846...
GELU_MIN = {"none": -0.16997120747990366, "tanh": -0.17004075057125406}      # at x = -0.75179... and -0.75246...
MISH_MIN = -0.30884341301725043  # at x = -1.19243...
SELU = 1.0507009873554805, 1.6732632423543772       # scale and alpha

Bounds = tuple[float, float]


def _keep(r: Bounds, return_indices: bool = False, **settings) -> Bounds:
    return ANY if return_indices else r


def _sign(r: Bounds, **settings) -> Bounds:
    return (0.0, math.inf) if r[0] >= 0 else ANY


def _dip(least: float, r: Bounds) -> Bounds:
    """Of a function that falls to ``least`` below 0 and rises from there to 0 at 0 and on, never above its input."""
    return (0.0 if r[0] >= 0 else least, max(r[1], 0.0))


def _gelu(r: Bounds, approximate: str) -> Bounds:
    return _dip(GELU_MIN[approximate], r) if approximate in GELU_MIN else _sign(r)


def _elu(r: Bounds, alpha: float, scale: float = 1.0, stretch: float = 1.0) -> Bounds:
    """Of scale * x from 0 upwards and scale * alpha * (exp(x / stretch) - 1) below."""
    if not isinstance(alpha, (int, float)) or not alpha >= 0 or not stretch > 0:
        return _sign(r)
    low, high = (scale * (x if x >= 0 else alpha * math.expm1(x / stretch)) for x in r)
    return (low, high)


def _clip(r: Bounds, low: float | None, high: float | None) -> Bounds:
    if not all(end is None or isinstance(end, (int, float)) for end in (low, high)):
        return ANY
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    least = max(r[0], low) if low >= 0 or r[0] > -math.inf else -math.inf
    return (min(least, high), min(max(r[1], low), high))


def _times(p: Bounds, q: Bounds) -> Bounds:
    products = [0.0 if 0.0 in (a, b) else a * b for a in p for b in q]     # 0 * inf is 0 here
    return (min(products), max(products))


def _plus(p: Bounds, q: Bounds, alpha=1) -> Bounds:
    return (p[0] + q[0], p[1] + q[1]) if alpha == 1 else ANY


def _minus(p: Bounds, q: Bounds, alpha=1) -> Bounds:
    r = _plus(p, _times(q, (-1.0, -1.0)), alpha)
    return r if r[0] >= 0 else ANY


def _over(p: Bounds, q: Bounds, rounding_mode=None) -> Bounds:
    return _times(p, (1 / q[0], 1 / q[0])) if q[0] == q[1] != 0 and rounding_mode is None else ANY


def _hull(*parts: Bounds) -> Bounds:
    return (min(r[0] for r in parts), max(r[1] for r in parts))


def _pad(r: Bounds, pad, mode="constant", value=None) -> Bounds:
    value = 0.0 if value is None else value
    if mode != "constant":
        return r
    return _hull(r, (value, value)) if isinstance(value, (int, float)) and value >= min(r[0], 0.0) else ANY


def _average(r: Bounds, padding=0, count_include_pad=True, divisor_override=None, **settings) -> Bounds:
    if divisor_override is not None:
        return _sign(r)
    return _hull(r, (0.0, 0.0)) if count_include_pad and padding not in (0, (0, 0), [0, 0]) else r


# what an operation does to bounds; the two of pooling without a pad, reshaping, dropout (off when it matters) stay
_RULES: dict[str, Callable[..., Bounds]] = {
    "hardswish": lambda r: _dip(HARDSWISH_MIN, r), "silu": lambda r: _dip(SILU_MIN, r),
    "mish": lambda r: _dip(MISH_MIN, r), "gelu": _gelu, "elu": _elu, "selu": lambda r: _elu(r, SELU[1], SELU[0]),
    "celu": lambda r, alpha: _elu(r, alpha, stretch=alpha) if isinstance(alpha, (int, float)) else _sign(r),
    "abs": lambda r: (max(r[0], -r[1], 0.0), max(-r[0], r[1])),
    "maximum": lambda p, q: (max(p[0], q[0]), max(p[1], q[1])),
    "minimum": lambda p, q: (min(p[0], q[0]), min(p[1], q[1])),
    "add": _plus, "sub": _minus, "mul": _times, "div": _over, "cat": lambda *r, dim: _hull(*r),
    "stack": lambda *r, dim: _hull(*r), "pad": _pad, "avg_pool2d": _average,
    "interpolate": lambda r, mode, **settings: ANY if mode == "bicubic" else r,
    **dict.fromkeys(("max_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "mean", "flatten", "identity",
                     "dropout", "stochastic_depth", *MOVES, *KEEPERS), _keep),
    **dict.fromkeys(SIGNED, _sign), **dict.fromkeys(POSITIVE - {"abs"}, lambda r: (0.0, math.inf)),
    **dict.fromkeys(UNIT, lambda r: (0.0, 1.0))}


class Floors(NamedTuple):
    """Largest known lower bounds of inputs, by name; ``-inf`` means that the input has both signs."""

    layers: dict[str, float]        # each Conv2d and Linear, in order of their first call
    blocks: dict[str, float]        # each module whose own forward adds its first argument to another tensor
    last: str | None                # the layer that is called last


def input_floors(net: nn.Module) -> Floors:
    """Find the floors of ``net``'s layers and residual blocks.  InputError if the network cannot be traced."""
    graph = trace(net)
    modules, bounds, layers, blocks, last = dict(net.named_modules(remove_duplicate=False)), {}, {}, {}, None
    for node in graph.nodes:
        found, result = operation(node, modules), ANY
        if node.op == "call_module" and isinstance(modules[node.target], (nn.Conv2d, nn.Linear)):
            last, floor = node.target, bounds.get(node.args[0], ANY)[0] if node.args else -math.inf    # by keyword
            layers[last] = min(floor, layers.get(last, math.inf))
        for block, term in zip(_entered(node, found), found.inputs if found else ()):
            if block is not None:
                blocks[block] = min(bounds.get(term, ANY)[0], blocks.get(block, math.inf))
        known = found and (found.limits or found.name in _RULES)
        if known:
            inputs = [bounds.get(x, ANY) if isinstance(x, torch.fx.Node) else
                      (x, x) if isinstance(x, (int, float)) else ANY for x in found.inputs]
            result = (_clip(*inputs, *found.limits) if found.limits else
                      _RULES[found.name](*inputs, **found.settings))
        if node.meta.get("clobbers") or not known and changed(node, modules):
            bounds.clear()      # other names may stand for the same memory: nothing known before can be relied on
        bounds[node] = result
    return Floors(layers, blocks, last)


def _entered(node: torch.fx.Node, found: Operation | None) -> list[str | None]:
    """For each term of a sum of two tensors: the module in whose forward the sum stands, if the term is its input."""
    if found is None or found.name != "add" or not all(isinstance(a, torch.fx.Node) for a in found.inputs):
        return []
    owner = [name for name, _ in node.meta.get("nn_module_stack", {}).values()][-1:]
    return [name if name in {entered for entered, _ in term.meta.get("enters", ())} else None
            for term in found.inputs for name in owner]
