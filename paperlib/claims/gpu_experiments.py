"""What a GPU should train in half an hour: the papers at full size, which two cores cannot, most worth a minute first.

Schedules are the papers' in shape and shorter in length, the same for all that is compared.
"""
from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

from ..data import cifar10_images
from ..models import Scheme
from ..recipes import Recipe, profiles, profit, qil, vgg7, weights_alone
from ..training.phases import Phase
from .recording import Task

QIL = profiles.changed("cifar10", paper=False, stage_epochs=40, float_epochs=20)       # 40 of the float VGG-7 as well
MOBILE = profiles.changed("cifar10", float_epochs=60, step_epochs=3, round_epochs=5, sample_epochs=1, bn_epochs=1,
                          warmup_epochs=1, float_lr=0.2)
PHOTOGRAPHS = profiles.changed("imagenette", train_images=1920, test_images=500, batch_size=64, step_epochs=3,
                               round_epochs=5, lr=0.001)
SEEDS = range(3)


def tasks(**changes) -> list[Task]:
    """List all runs, best first; seeds of one comparison are together.  ``changes``: how they are computed
    (selftest.Choice), with one thread of the CPU each, since several train side by side."""
    return [_computed(task, changes) for group in (_qil, _float_networks, _ladder, _orders) for task in group()]


def trial(**changes) -> list[Task]:
    """List runs of the same shape that take seconds: a float network, a quantized one from it, and one that does not
    begin with it."""
    here = "cifar10" if cifar10_images.cache_file().exists() else "subset"        # a bundle brings no subset
    tiny = profiles.changed("smoke", data=here, train_images=200, test_images=100, batch_size=50, float_epochs=1)
    recipe = weights_alone(4, model="mobilenet_v2", profile=tiny)
    alone = Recipe.of(tiny, "float", "mobilenet_v2", 1, [Phase("float", 1, 0.1), Phase(
        "as long", 1, 0.1, scheme=Scheme(w_bits=32, a_bits=32))])
    return [_computed(task, changes) for task in (
        Task(_float_network(recipe), ["a trial"], packed=True), Task(recipe, ["a trial"]), Task(alone, ["a trial"]))]


def _computed(task: Task, changes: dict) -> Task:
    return dataclasses.replace(task, recipe=dataclasses.replace(task.recipe, threads=1, **changes))


def _float_network(recipe: Recipe) -> Recipe:
    return dataclasses.replace(recipe, label="float", phases=recipe.phases[:1])


def _qil() -> Iterator[Task]:
    """QIL, Table 1: VGG-7 at full width; the float network is trained once more as long, for the loss in accuracy."""
    why = ["QIL, Table 1, at full width"]
    for seed in SEEDS:
        yield Task(vgg7("float", profile=QIL, seed=seed), why)
        for share, (w_bits, a_bits) in itertools.product((0.5, 0.0), ((2, 2), (2, 1), (3, 3))):
            yield Task(qil("vgg7", w_bits=w_bits, a_bits=a_bits, distillation=share, profile=QIL, seed=seed), why)


def _float_networks() -> Iterator[Task]:
    """The networks that PROFIT begins with."""
    for model in ("mobilenet_v3_large", "mobilenet_v2", "mobilenet_v1"):
        yield Task(_float_network(profit(model, profile=MOBILE)), ["float networks at full width"], packed=True)


def _ladder() -> Iterator[Task]:
    """PROFIT's parts, one after the other, and nothing frozen beside them."""
    for bits in (4, 3):
        for seed in SEEDS:
            for model in ("mobilenet_v3_large", "mobilenet_v2", "mobilenet_v1")[:1 if seed else 3]:
                for parts in ({}, {"order": "none"}, {"order": "none", "teacher": False},
                              {"order": "none", "teacher": False, "progressive": False}):
                    yield Task(profit(model, w_bits=bits, a_bits=bits, profile=MOBILE, seed=seed, **parts),
                               [f"PROFIT's ladder at full width, {bits} bits"])


def _orders() -> Iterator[Task]:
    """Which layers freeze first, with and without stages of batch norms alone: ImageNet's v2, 224 pixels."""
    for bits, seed, norms, order in itertools.product((4, 3), SEEDS, (False, True),
                                                      ("aiwq", "none", "random", "reverse")):
        yield Task(profit("mobilenet_v2", w_bits=bits, a_bits=bits, profile=PHOTOGRAPHS, seed=seed, order=order,
                          bn_stages=norms, progressive=False), [f"freezing orders on photographs, {bits} bits"])
