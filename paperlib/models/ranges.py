"""Which values can reach a layer?  Interval arithmetic over the network's graph.

A quantizer must know whether its input has both signs, starts at 0 (ReLU) or at -3/8 (h-swish).  Instead of asking
the reader of every network, :func:`input_floors` follows lower and upper bounds through the graph that ``torch.fx``
traces.  It is exact for what MobileNets are made of and safe elsewhere: an operation that it doesn't know has no bounds,
which means a signed quantizer.
"""
from __future__ import annotations

import math
import operator

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


class _Leaves(torch.fx.Tracer):
    def is_leaf_module(self, module, name):
        return not list(module.children()) or isinstance(module, (nn.Conv2d, nn.Linear))


def input_floors(net: nn.Module) -> dict[str, float]:
    """{layer name: greatest known lower bound of its input} for each Conv2d and Linear, in order of execution.

    ``-inf`` means that the input has both signs.  InputError if the network cannot be traced.
    """
    try:
        graph = _Leaves().trace(net)
    except (torch.fx.proxy.TraceError, TypeError, ValueError) as error:
        raise InputError(f"cannot follow {type(net).__name__}.forward ({str(error).splitlines()[0]}): keep control "
                         "flow that depends on tensor values out of forward") from error
    modules, bounds, floors = dict(net.named_modules()), {}, {}
    for node in graph.nodes:
        inputs = [bounds.get(a, ANY) if isinstance(a, torch.fx.Node) else (a, a) for a in node.args
                  if isinstance(a, (torch.fx.Node, int, float))]
        if node.op == "call_module":
            module = modules[node.target]
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                floors[node.target] = min(inputs[0][0], floors.get(node.target, math.inf))
            rule = _BY_MODULE.get(type(module))
        elif node.op == "call_method":
            rule = _BY_METHOD.get(node.target)
        else:
            rule = _BY_FUNCTION.get(node.target)
        if rule is not None:
            bounds[node] = rule(inputs[0])
        elif node.target in _PAIRS and len(inputs) == 2:
            bounds[node] = _PAIRS[node.target](*inputs)
        else:
            bounds[node] = ANY
    return floors
