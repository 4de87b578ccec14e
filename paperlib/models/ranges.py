"""Which values can reach a layer?  Interval arithmetic over the network's graph.

A quantizer must know whether its input has both signs, starts at 0 (ReLU) or at -3/8 (h-swish).  Instead of asking
the reader of every network, :func:`input_floors` follows lower and upper bounds through the graph that ``torch.fx``
traces.  It is exact for what MobileNets are made of and safe elsewhere: an operation that it doesn't know has no
bounds, which means a signed quantizer, and after a change in place nothing found before it is relied on.  (Activations
may work in place: they make no lower bound wrong.)
"""
from __future__ import annotations

import inspect
import math
import operator
from typing import NamedTuple

import torch
import torch.fx
import torch.nn.functional as F
from torch import nn

from ..errors import InputError

ANY = (-math.inf, math.inf)
HARDSWISH_MIN = -3 / 8           # at x = -1.5


def _relu(r):
    return (max(r[0], 0.0), max(r[1], 0.0))


def _relu6(r):
    return (min(max(r[0], 0.0), 6.0), min(max(r[1], 0.0), 6.0))


def _hardswish(r):
    return (0.0 if r[0] >= 0 else HARDSWISH_MIN, max(r[1], 0.0))


def _unit(r):
    return (0.0, 1.0)


def _keep(r):
    return r


# pooling without a pad, reshaping and dropout (off when it matters) keep the bounds; padding brings in 0
_BY_MODULE = {nn.ReLU: _relu, nn.ReLU6: _relu6, nn.Hardswish: _hardswish, nn.Hardsigmoid: _unit, nn.Sigmoid: _unit,
              nn.AdaptiveAvgPool2d: _keep, nn.Dropout: _keep, nn.Flatten: _keep, nn.Identity: _keep,
              nn.MaxPool2d: _keep}
_BY_FUNCTION = {F.relu: _relu, torch.relu: _relu, F.relu6: _relu6, F.hardswish: _hardswish, F.hardsigmoid: _unit,
                torch.sigmoid: _unit, F.adaptive_avg_pool2d: _keep, F.dropout: _keep, torch.flatten: _keep,
                F.max_pool2d: _keep}
_BY_METHOD = {"relu": _relu, "flatten": _keep, "view": _keep, "reshape": _keep, "mean": _keep, "contiguous": _keep}


def _times(p, q):
    products = [0.0 if 0.0 in (a, b) else a * b for a in p for b in q]     # 0 * inf is 0 here
    return (min(products), max(products))


def _plus(p, q):
    return (p[0] + q[0], p[1] + q[1])


_PAIRS = {operator.mul: _times, operator.imul: _times, torch.mul: _times,
          operator.add: _plus, operator.iadd: _plus, torch.add: _plus}
_ADDITIONS = {operator.add, operator.iadd, torch.add, "add", "add_"}


_IN_PLACE = {f for name, f in vars(operator).items() if name.startswith("i") and name[1:] in vars(operator)}


class _Proxy(torch.fx.Proxy):
    """A stand-in for a tensor that records ``y += x`` as what it is; torch.fx's own would record ``y = y + x``."""


for _f in _IN_PLACE:
    setattr(_Proxy, f"__{_f.__name__}__", lambda self, other, _f=_f: self.tracer.create_proxy(
        "call_function", _f, (self, other), {}))


class _Leaves(torch.fx.Tracer):
    def is_leaf_module(self, module, name):
        return not list(module.children()) or isinstance(module, (nn.Conv2d, nn.Linear))

    def proxy(self, node):
        return _Proxy(node, self)

    def call_module(self, module, forward, args, kwargs):
        """Note at a node which modules have it as their first argument."""
        if args and isinstance(args[0], torch.fx.Proxy):
            args[0].node.meta.setdefault("enters", set()).add(self.path_of_module(module))
        return super().call_module(module, forward, args, kwargs)


def _rule(node: torch.fx.Node, modules: dict):
    if node.op == "call_module":
        return _BY_MODULE.get(type(modules[node.target]))
    return (_BY_METHOD if node.op == "call_method" else _BY_FUNCTION).get(node.target)


def _changes_its_input(node: torch.fx.Node, modules: dict) -> bool:
    """Is it in place, like ``y.sub_(1)``, ``y += 1``, ``y[0] = 1``, ``sub(y, 1, out=y)``, ``F.elu(y, 1., True)``?"""
    if node.op == "call_module":
        return getattr(modules[node.target], "inplace", False)
    if node.op not in ("call_method", "call_function"):
        return False
    name = node.target if isinstance(node.target, str) else node.target.__name__
    return (node.target in _IN_PLACE or node.target is operator.setitem or "out" in node.kwargs
            or bool(node.kwargs.get("inplace")) or any(a is True for a in node.args)
            or name.endswith("_") and not name.endswith("__"))


def trace(net: nn.Module) -> torch.fx.Graph:
    """The graph of ``net``, down to layers.  Arguments of ``forward`` that have a default keep it.

    InputError if the network cannot be traced.
    """
    defaults = {name: p.default for name, p in inspect.signature(net.forward).parameters.items()
                if p.default is not p.empty}
    try:
        return _Leaves().trace(net, concrete_args=defaults or None)
    except Exception as error:      # whatever a forward does with a stand-in for a tensor
        reason = " ".join(str(error).split()) or type(error).__name__
        cure = ("make every layer an attribute of its network, in nn.ModuleList instead of a list"
                if "not installed as a submodule" in reason else "keep control flow that depends on tensors out of it")
        raise InputError(f"cannot follow {type(net).__name__}.forward ({reason[:120]}): {cure}") from error


class Floors(NamedTuple):
    """Greatest known lower bounds of inputs, by name; ``-inf`` means that the input has both signs."""

    layers: dict[str, float]        # each Conv2d and Linear, in order of their first call
    blocks: dict[str, float]        # each module whose own forward adds its first argument to another tensor
    last: str | None                # the layer that is called last


def input_floors(net: nn.Module) -> Floors:
    """The floors of ``net``'s layers and residual blocks.  InputError if the network cannot be traced."""
    graph = trace(net)
    modules, bounds, layers, blocks, last = dict(net.named_modules(remove_duplicate=False)), {}, {}, {}, None
    for node in graph.nodes:
        inputs = [bounds.get(a, ANY) if isinstance(a, torch.fx.Node) else (a, a) for a in node.args
                  if isinstance(a, (torch.fx.Node, int, float))]
        if node.op == "call_module" and isinstance(modules[node.target], (nn.Conv2d, nn.Linear)):
            last, floor = node.target, inputs[0][0] if inputs else -math.inf    # called by keyword: signed
            layers[last] = min(floor, layers.get(last, math.inf))
        for block, (floor, _) in zip(_entered(node), inputs):
            if block is not None:
                blocks[block] = min(floor, blocks.get(block, math.inf))
        rule, result = _rule(node, modules), ANY
        if rule is not None and inputs:
            result = rule(inputs[0])
        elif node.target in _PAIRS and len(inputs) == 2 and not node.kwargs:
            result = _PAIRS[node.target](*inputs)
        if rule is None and _changes_its_input(node, modules):
            bounds.clear()      # other names may stand for the same memory: nothing known before can be relied on
        bounds[node] = result
    return Floors(layers, blocks, last)


def _entered(node: torch.fx.Node) -> list[str | None]:
    """For each term of a sum of two tensors: the module in whose forward the sum stands, if the term is its input."""
    if node.target not in _ADDITIONS or len(node.args) != 2 or not all(isinstance(a, torch.fx.Node) for a in node.args):
        return []
    owner = [name for name, _ in node.meta.get("nn_module_stack", {}).values()][-1:]
    return [name if name in term.meta.get("enters", ()) else None for term in node.args for name in owner]
