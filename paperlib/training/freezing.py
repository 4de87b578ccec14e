"""PROFIT's central step: from AIWQ to layers that no longer train."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import pandas as pd
import torch
from torch import nn

from ..errors import InputError
from ..models.graph import trace
from ..models.layers import QuantConv2d, QuantLinear
from .phases import Freeze, Phase


class Finished(Protocol):
    """An earlier phase of a run: ``instability`` is its AIWQ table, if it measured one."""

    phase: Phase
    instability: pd.DataFrame | None

    def network(self) -> nn.Module: ...


def frozen_in(phase: Phase, net: nn.Module, before: Sequence[Finished], seed: int) -> list[str]:
    """Choose the layers of ``net`` that rest in ``phase``, by what the phases ``before`` it have measured."""
    if phase.freeze is None:
        return []
    measured = next((b.instability for b in before if b.phase.name == phase.freeze.measured_in), None)
    return choose(phase.freeze, layers(net), measured, seed)


def choose(freeze: Freeze, layers: list[str], measured: pd.DataFrame | None = None, seed: int = 0) -> list[str]:
    """Choose the layers that ``freeze`` freezes out of ``layers``, by name.

    ``measured``: the table of :class:`paperlib.training.aiwq.Aiwq`; layers whose AIWQ is not known (NaN) count as the
    most stable.  InputError for names that are not in ``layers`` and for an order that has nothing to go by.
    """
    unknown = [name for name in freeze.layers if name not in layers]
    if unknown:
        raise InputError(f"cannot freeze {', '.join(unknown[:3])}: the network's layers are {', '.join(layers[:6])}"
                         f"{', ...' if len(layers) > 6 else ''}")
    count = round(freeze.share * len(layers))
    if freeze.order == "random":
        order = torch.randperm(len(layers), generator=torch.Generator().manual_seed(seed)).tolist()
    elif 0 < count < len(layers):
        if measured is None:
            raise InputError(f"phase {freeze.measured_in!r} has measured no AIWQ: give it measure=True")
        values = measured.set_index("layer").aiwq.reindex(layers).fillna(-1.0).reset_index(drop=True)
        order = list(values.sort_values(ascending=freeze.order == "reverse", kind="stable").index)
    else:
        order = range(len(layers))
    chosen = {layers[i] for i in order[:count]} | set(freeze.layers)
    return [name for name in layers if name in chosen]


def layers(net: nn.Module) -> list[str]:
    """List the names of all layers that can be frozen, in the network's order."""
    return [name for name, m in net.named_modules() if isinstance(m, (QuantConv2d, QuantLinear))]


def norms_behind(net: nn.Module) -> dict[str, str]:
    """Find {layer: the batch norm that its output goes to}, for the quantized layers that have one."""
    modules = dict(net.named_modules(remove_duplicate=False))
    return {node.args[0].target: node.target for node in trace(net).nodes
            if node.op == "call_module" and isinstance(modules[node.target], nn.modules.batchnorm._BatchNorm)
            and isinstance(node.args[0], torch.fx.Node) and node.args[0].op == "call_module"
            and isinstance(modules[node.args[0].target], (QuantConv2d, QuantLinear))}


def apply(net: nn.Module, freeze: Freeze, names: Iterable[str]) -> list[nn.Module]:
    """Stop the training of these layers, in place; returns the batch norms that must stay in evaluation mode."""
    behind, frozen_norms = {} if freeze.norms else norms_behind(net), []
    for name in names:
        layer = net.get_submodule(name)
        for parameter in layer.parameters(recurse=not freeze.quantizers):
            parameter.requires_grad_(False)
        if name in behind:
            frozen_norms.append(net.get_submodule(behind[name]).requires_grad_(False))
    return frozen_norms
