"""The trainer of a phase: its recipe and what the phases before it left become network, data, teacher, frozen layers.

Whatever decides numbers is here or imported from here: ``provenance.code_version`` follows the imports.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from .. import models
from ..quantizers import Quantizer
from ..system import distributed
from ..training import freezing
from ..training.engine import Trainer, begin
from ..training.freezing import Finished
from ..training.phases import SHIPPED, TORCHVISION
from ..training.remembered import Remembered
from ..training.torch_settings import assumed
from . import loading

if TYPE_CHECKING:
    from ..recipes import Recipe
    from ..training.phases import Phase


def conditions(recipe: Recipe) -> AbstractContextManager:
    """Within the block torch computes as it does in every training of this recipe, whatever it was told before."""
    return assumed(recipe.threads)


def architecture(recipe: Recipe, phase: Phase, *, weights: bool = False) -> nn.Module:
    """The network of a phase, untrained, or with the weights that the run starts with.

    InputError if scheme, frozen layers and network do not fit.
    """
    with torch.random.fork_rng():       # leave the caller's random state as it is
        net = models.build(recipe.model, num_classes=recipe.num_classes, width=recipe.width,
                           input_size=recipe.input_size, weights=recipe.weights if weights else None)
    if phase.scheme is None:
        return net
    net = models.quantize(net, phase.scheme)
    if phase.freeze is not None:
        freezing.choose(dataclasses.replace(phase.freeze, share=0.0), freezing.layers(net))
    return net


def trainer(recipe: Recipe, phase: Phase, before: Sequence[Finished], remembered: Path | None = None) -> Trainer:
    """A trainer at the beginning of ``phase``, which comes after ``before``.

    ``remembered``: a folder for what the phase's teacher says (None: it is not kept).
    """
    device = distributed.device()
    train, test = loading.batches(recipe, device)
    torch.manual_seed(recipe.seed)
    net = (before[-1].network() if before else architecture(recipe, phase, weights=True)).to(device)
    fast = distributed.world() == 1 and recipe.precision == "float32" and not recipe.compiled
    net = begin(net, phase, loading.first_images(recipe, train) if phase.scheme else None, fast=fast)
    return Trainer(net, phase, train, test, seed=recipe.seed, first_epoch=epochs(before),
                   frozen=freezing.frozen_in(phase, net, before, recipe.seed),
                   oscillations=before[-1].final.get("oscillations") if before else None,
                   teacher=_teacher(recipe, phase.teacher, before, device, remembered), precision=recipe.precision,
                   compiled=recipe.compiled)


def epochs(before: Sequence[Finished]) -> int:
    """How many epochs these phases have: every phase sees the data in an order of its own."""
    return sum(link.phase.epochs for link in before)


def _teacher(recipe: Recipe, name: str | None, before: Sequence[Finished], device: torch.device,
             folder: Path | None) -> nn.Module | None:
    if name is None:
        return None
    kind = {"num_classes": recipe.num_classes, "input_size": recipe.input_size}
    if name.startswith(TORCHVISION):
        net = models.build(name.removeprefix(TORCHVISION), weights="IMAGENET1K_V1", **kind)
    elif name.startswith(SHIPPED):
        model, width, weights = name.removeprefix(SHIPPED).split("-")
        net = models.build(model, width=float(width), weights=weights, **kind)
    else:
        net = next(b for b in before if b.phase.name == name).network()
    if not any(isinstance(m, Quantizer) for m in net.modules()):
        net = models.fold(net)      # in evaluation mode the same, faster
    return (net if folder is None else Remembered(net, folder)).to(device)
