"""What reaches the layers of a run's networks."""
from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from . import sources
from .runs import Run


def look_at_inputs(run: Run, net: nn.Module, names: Iterable[str], look: Callable[[str, nn.Module, Tensor], None]
                   ) -> None:
    """Call ``look(name, layer, input)`` for each of the layers, in the order in which ``net`` (which is then in
    evaluation mode) comes to them with the first test batch of the run; nothing has a gradient."""
    def watch(name):
        return net.get_submodule(name).register_forward_pre_hook(lambda layer, args: look(name, layer, args[0]))

    images = next(iter(sources.batches(run.recipe, next(net.parameters()).device)[1].epoch()))[0]
    hooks = [watch(name) for name in names]
    try:
        with torch.no_grad():
            net.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
