"""The inputs of a network's layers."""
from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable

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
def capture_inputs(net: nn.Module, images: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
    """Return {name: input} of these layers for ``images`` (N, C, H, W), in the order in which ``net`` comes to them.

    ``net`` is in evaluation mode afterwards; the inputs carry no gradient.
    """
    inputs = {}
    with contextlib.ExitStack() as hooks:
        for name in names:
            hooks.enter_context(net.get_submodule(name).register_forward_pre_hook(
                lambda _, args, name=name: inputs.update({name: args[0]})))
        net.eval()(images)
    return inputs
