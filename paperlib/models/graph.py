"""A network's graph as ``torch.fx`` traces it, down to layers, with every change in place made visible."""
from __future__ import annotations

import inspect
import operator
from collections import Counter

import torch
import torch.fx
from torch import nn
from torch.nn.utils.parametrize import is_parametrized
from torch.optim.swa_utils import AveragedModel

from ..errors import InputError, brief
from .layers import QuantConv2d, QuantLinear
from .operations import FRESH, NORMS, operation

_IN_PLACE = {f for name, f in vars(operator).items() if name.startswith("i") and name[1:] in vars(operator)}
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
_CURES = {      # by a part of what torch.fx says
    "not installed as a submodule": "make every layer an attribute of its network, in nn.ModuleList instead of a list",
    "dynamo-optimized": "call torch.compile on the whole network, not on parts of it",
    "ScriptM": "pass the network that TorchScript was made from",
    "": "keep control flow that depends on tensors out of it"}


class _Proxy(torch.fx.Proxy):
    """A stand-in for a tensor that records ``y += x`` and ``y[0] = x`` as what they are; torch.fx's own would record
    ``y = y + x``, and refuse."""

    def __getattr__(self, name):
        return _Attribute(self, name)

    def __setitem__(self, where, value):
        self.tracer.create_proxy("call_function", operator.setitem, (self, where, value), {})


class _Attribute(torch.fx.proxy.Attribute, _Proxy):
    """The same of ``y.data`` and the like."""


for _f in _IN_PLACE:
    setattr(_Proxy, f"__{_f.__name__}__", lambda self, other, _f=_f: self.tracer.create_proxy(
        "call_function", _f, (self, other), {}))


class _Leaves(torch.fx.Tracer):
    def is_leaf_module(self, module, name):
        """Layers, and torch's own modules with layers inside (attention), which run as they are; no nn.Sequential, even
        without children."""
        if isinstance(module, _CONTAINERS):
            return False
        own = type(module).__module__.startswith("torch.nn.modules.") or is_parametrized(module)
        return own or not list(module.children()) or isinstance(module, (nn.Conv2d, nn.Linear))

    def proxy(self, node):
        return _Proxy(node, self)

    def call_module(self, module, forward, args, kwargs):
        """Note at a node which modules have it as their first argument, and after how many nodes."""
        if args and isinstance(args[0], torch.fx.Proxy):
            args[0].node.meta.setdefault("enters", set()).add((self.path_of_module(module), len(self.graph.nodes)))
        return super().call_module(module, forward, args, kwargs)


def trace(net: nn.Module) -> torch.fx.Graph:
    """Trace the graph of ``net``, down to layers.  Arguments of ``forward`` that have a default keep it.

    What an operation changes in place (``relu_(y)``, ``y += 1``) is, from there on, that operation's result: later
    users of ``y`` become users of the result.  Where the same memory has another name that is used later,
    ``node.meta["clobbers"]`` has that name's node.  InputError if the network cannot be traced.
    """
    try:
        defaults = {name: p.default for name, p in inspect.signature(net.forward).parameters.items()
                    if p.default is not p.empty}
        graph = _Leaves().trace(net, concrete_args=defaults or None)
    except Exception as error:      # whatever a forward does with a stand-in for a tensor
        cure = next(cure for part, cure in _CURES.items() if part in " ".join(str(error).split()))
        raise InputError(f"cannot follow {type(net).__name__}.forward ({brief(error)}): {cure}") from error
    _make_changes_visible(graph, dict(net.named_modules(remove_duplicate=False)))
    for node in [n for n in graph.nodes if n.op == "placeholder" and n.args]:
        _erase(graph, node)         # an argument with a default, and torch.fx's assertions about it
    return graph


def _erase(graph: torch.fx.Graph, node: torch.fx.Node) -> None:
    for user in list(node.users):
        _erase(graph, user)
    graph.erase_node(node)


def changed(node: torch.fx.Node, modules: dict) -> torch.fx.Node | None:
    """What ``node`` changes in place: ``y`` in ``y.sub_(1)``, ``y += 1``, ``y[0] = 1``, ``sub(y, 1, out=y)``,
    ``F.elu(y, 1., True)``."""
    if node.op == "call_module":
        does = getattr(modules[node.target], "inplace", False) is True
    elif node.op in ("call_method", "call_function"):
        name = node.target if isinstance(node.target, str) else node.target.__name__
        found = operation(node, modules)
        does = (node.target in _IN_PLACE or node.target is operator.setitem or node.kwargs.get("out") is not None
                or name.endswith("_") and not name.endswith("__") or bool(node.kwargs.get("inplace"))
                or (found.inplace if found else any(a is True for a in node.args)))
    else:
        does = False
    what = (node.kwargs.get("out") or next(iter(node.args), node.kwargs.get("input"))) if does else None
    return what if isinstance(what, torch.fx.Node) else None


def _make_changes_visible(graph: torch.fx.Graph, modules: dict) -> None:
    order = {node: i for i, node in enumerate(graph.nodes)}
    numbers: set[torch.fx.Node] = set()         # sizes and what follows from them: nothing changes a number in place
    memory: dict[torch.fx.Node, set] = {}       # for each node those that may stand for the same memory
    for node in graph.nodes:
        found, sources = operation(node, modules), node.all_input_nodes
        if found and found.name == "sizes" or sources and numbers.issuperset(sources):
            numbers.add(node)
            continue
        what = changed(node, modules)
        if found is None or found.name not in FRESH:
            shared = sources
        else:
            shared = [] if what is None else [what]
        group = {node}.union(*(memory.get(source, ()) for source in shared))
        memory.update(dict.fromkeys(group, group))
        if what is None:
            continue
        if node.target is not operator.setitem:      # which returns None
            what.replace_all_uses_with(node, lambda user: order[user] > order[node])
            _hand_over(what, node, order[node])
        later = (m for m in group - {node} if any(order[user] > order[node] for user in m.users))
        if (seen := next(later, None)) is not None:
            node.meta["clobbers"] = seen


def _hand_over(old: torch.fx.Node, new: torch.fx.Node, since: int) -> None:
    """Modules that ``old`` enters after node number ``since`` take ``new``."""
    entries = old.meta.get("enters", set())
    new.meta["enters"] = new.meta.get("enters", set()) | {entry for entry in entries if entry[1] > since}
    old.meta["enters"] = {entry for entry in entries if entry[1] <= since}


def foldable_norms(net: nn.Module, graph: torch.fx.Graph) -> dict[str, str]:
    """Find {layer: the batch norm whose work the layer can do}.

    The norm alone takes what the layer gives, each of the two is called once, the norm's channels are the layer's and
    it has running statistics.  Layers are Conv2d and Linear, quantized or not, without a forward of their own.
    """
    modules = dict(net.named_modules(remove_duplicate=False))
    called = Counter(modules[node.target] for node in graph.nodes if node.op == "call_module")
    found = {}
    for node in graph.nodes:
        layer = modules[node.target] if node.op == "call_module" else None
        if not is_plain(layer) or called[layer] > 1 or len(node.users) != 1:
            continue
        after, kinds = next(iter(node.users)), NORMS[1:] if isinstance(layer, nn.Conv2d) else NORMS[::2]
        norm = modules[after.target] if after.op == "call_module" else None
        if (type(norm) in kinds and called[norm] == 1 and after.args == (node,) and norm.running_mean is not None
                and norm.num_features == len(layer.weight)):
            found[node.target] = after.target
    return found


def is_plain(layer: nn.Module | None) -> bool:
    """Say whether it is a Conv2d or Linear, quantized or not, and not a class of someone's own with another forward."""
    return type(layer) in (nn.Conv2d, nn.Linear, QuantConv2d, QuantLinear)


def replace(net: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put ``new`` wherever ``old`` is: one module may have several names."""
    for name, module in list(net.named_modules(remove_duplicate=False)):
        if module is old:
            net.set_submodule(name, new)


def unwrapped(net: nn.Module) -> nn.Module:
    """The network itself, out of what DataParallel, DistributedDataParallel, AveragedModel and torch.compile put around
    it."""
    while True:
        inner = getattr(net, "_orig_mod", None)
        if isinstance(net, _WRAPPERS):
            inner = net.module
        if inner is None:
            return net
        net = inner
