"""What reaches the layers of a network."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from ..runs import Run, loading

EMBEDDED = 1000     # test images that come with the repository


def first_test_images(run: Run, net: nn.Module) -> Tensor:
    """The first test batch of a run, where ``net`` is."""
    return next(iter(loading.batches(run.recipe, next(net.parameters()).device)[1].epoch()))[0]


def test_batches(run: Run) -> loading.ImageBatches:
    """The test images of a run, in batches; of a recorded run those that are embedded here, which it has not seen."""
    recipe = run.recipe
    if run.folder is not None:
        recipe = dataclasses.replace(recipe, data="subset", train_images=10, test_images=EMBEDDED)
    return loading.batches(recipe, torch.device("cpu"))[1]


@torch.no_grad()
def look_at_inputs(net: nn.Module, images: Tensor, names: Iterable[str], look: Callable[[str, nn.Module, Tensor], None]
                   ) -> None:
    """Call ``look(name, layer, input)`` for each of the layers, in the order in which ``net`` (which is then in
    evaluation mode) comes to them with ``images``; nothing has a gradient."""
    def watch(name):
        return net.get_submodule(name).register_forward_pre_hook(lambda layer, args: look(name, layer, args[0]))

    hooks = [watch(name) for name in names]
    try:
        net.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
