"""Squeeze-and-excite, found by what it does: layers between a global pool and a product with a feature map."""
from __future__ import annotations

import torch.fx
from torch import nn

from ..errors import InputError
from .graph import trace
from .operations import Operation, operation

_POOLS = ("adaptive_avg_pool2d", "adaptive_max_pool2d")
_REDUCTIONS = ("mean", "amax", "amin", "sum")


def gate_layers(net: nn.Module) -> set[str]:
    """The names of the layers in ``net`` whose result, computed from nothing but global pools, is multiplied onto a
    feature map that is not; none in a network that cannot be traced."""
    try:
        graph, modules = trace(net), dict(net.named_modules(remove_duplicate=False))
    except InputError:
        return set()
    behind: dict[torch.fx.Node, set[str] | None] = {}       # layers since the pools; None: not from pools alone
    gates: set[str] = set()
    for node in graph.nodes:
        found = operation(node, modules)
        sources = [behind[n] for n in _sources(node, found)]
        if found and _is_global(found, node, modules):
            behind[node] = set()
            continue
        if found and found.name == "mul" and len(sources) == 2 and (sources[0] is None) != (sources[1] is None):
            gates |= sources[0] or sources[1] or set()
        if not sources or None in sources:
            behind[node] = None
        else:
            behind[node] = set().union(*sources)
            if found and found.name == "layer":
                behind[node].add(node.target)
    return gates


def _sources(node: torch.fx.Node, found: Operation | None) -> list[torch.fx.Node]:
    """Find what decides a node's numbers: not the sizes that a reshape takes from elsewhere, nor constants."""
    inputs = node.all_input_nodes if found is None else [n for n in found.inputs if isinstance(n, torch.fx.Node)]
    return [n for n in inputs if n.op != "get_attr"]


def _is_global(found: Operation, node: torch.fx.Node, modules: dict) -> bool:
    """Say whether it makes one number of each channel."""
    settings = found.settings
    if found.name in _POOLS:
        return settings["output_size"] in (1, (1, 1), [1, 1])
    if found.name in ("avg_pool2d", "max_pool2d"):      # a window that forward takes from the map's size
        size = settings["kernel_size"]
        return any(isinstance(n, torch.fx.Node) for n in (size if isinstance(size, (tuple, list)) else [size]))
    if found.name not in _REDUCTIONS:
        return False
    dims = settings.get("dim", node.kwargs.get("dim", node.args[1:2]))
    dims = {dims} if isinstance(dims, int) else set(dims[0] if dims and not isinstance(dims[0], int) else dims or ())
    if dims in ({2, 3}, {-1, -2}):
        return True
    source = found.inputs[0]
    before = operation(source, modules) if isinstance(source, torch.fx.Node) else None
    return dims in ({2}, {-1}) and before is not None and before.name in ("flatten", "view", "reshape")
