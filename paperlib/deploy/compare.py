"""Does the integer network compute what was trained?  Code by code, and answer by answer."""
from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Mapping

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..errors import InputError
from ..models.fuse import unfuse
from ..quantizers.functional import position
from .integer_layers import float64_copy
from .integer_net import IntegerNet

Batches = Iterable[tuple[Tensor, Tensor]]


def compare(net: nn.Module, batches: Batches, fraction: int = 20) -> pd.DataFrame:
    """Compare the codes that enter each layer, over batches (images, labels) as the network takes them.

    The measure is the fake-quantized network in float64, with the weights' codes as they were trained.  One row per
    layer (and identity quantizer), in their order:

    - ``codes``: how many there were;
    - ``integer``: how many differ with ``IntegerNet(net)``; 0, as both compute the same but for 1e-15;
    - ``float32``: how many differ with the fake-quantized network as it was trained, in float32;
    - ``ties``: how many of those were the first of their image to differ: nothing before them did, so float32's
      rounding alone decided, the others follow from these;
    - ``furthest``: how far from half-way between two codes the furthest of these lay, in steps: as small as float32's
      error, or the difference has another reason (NaN where there are none);
    - ``fixed``: how many differ with ``IntegerNet(net, "fixed", fraction)``; NaN where that does not exist, because
      layers stayed in float.
    """
    single, double, integer = unfuse(net).eval(), float64_copy(net), IntegerNet(net)
    try:
        fixed = IntegerNet(net, "fixed", fraction)
    except InputError:
        fixed = None
    rows = []
    for images, _ in batches:
        others = {"integer": integer.codes(images)}
        exact, places = _observe(double, images.double(), others["integer"])
        others["float32"], _ = _observe(single, images, others["integer"])
        if fixed is not None:
            others["fixed"] = fixed.codes(images)
        untouched = torch.ones(len(images), dtype=torch.bool)
        for name, codes in exact.items():
            differs = {form: found[name] != codes for form, found in others.items()}
            first = differs["float32"] & untouched.view(-1, *[1] * (codes.dim() - 1))
            untouched &= ~differs["float32"].flatten(1).any(1)
            from_tie = (places[name][first] % 1 - 0.5).abs()
            rows.append({"layer": name, "codes": codes.numel(), "integer": 0, "float32": 0, "ties": int(first.sum()),
                         "furthest": from_tie.max().item() if len(from_tie) else math.nan, "fixed": math.nan}
                        | {form: int(different.sum()) for form, different in differs.items()})
    sums = pd.DataFrame(rows).groupby("layer", sort=False)
    return sums.sum(min_count=1).assign(furthest=sums.furthest.max()).reset_index()


@torch.no_grad()
def _observe(net: nn.Module, images: Tensor, names: Iterable[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """({name: codes}, {name: their places on the code axis before rounding}) in a fake-quantized network."""
    codes, places = {}, {}

    def look(module: nn.Module, args: tuple, name: str) -> None:
        quantizer = getattr(module, "input_quantizer", module)
        codes[name], affine = quantizer.encode(args[0]), quantizer.float32_affine()
        places[name] = (torch.full_like(args[0], math.nan) if affine is None else
                        position(args[0], affine, quantizer.grid))

    with contextlib.ExitStack() as hooks:
        for name in names:
            hooks.enter_context(net.get_submodule(name).register_forward_pre_hook(functools.partial(look, name=name)))
        net(images)
    return codes, places


@torch.no_grad()
def predictions(forms: Mapping[str, Callable[[Tensor], Tensor]], batches: Batches) -> pd.DataFrame:
    """The answers of several forms of a network, each a function from images to logits, over batches (images, labels).

    One row per form: ``accuracy`` (top-1, in percent), ``loss`` (mean cross-entropy), and against the first form
    ``other_answers`` (images with another top-1) and ``logit_difference`` (the largest).
    """
    sums = {name: dict(images=0, accuracy=0.0, loss=0.0, other_answers=0, logit_difference=0.0) for name in forms}
    for images, labels in batches:
        first = None
        for name, form in forms.items():
            logits, row = form(images).double(), sums[name]
            first = logits if first is None else first
            row["images"] += len(labels)
            row["accuracy"] += 100 * (logits.argmax(1) == labels).sum().item()
            row["loss"] += cross_entropy(logits, labels, reduction="sum").item()
            row["other_answers"] += (logits.argmax(1) != first.argmax(1)).sum().item()
            row["logit_difference"] = max(row["logit_difference"], (logits - first).abs().max().item())
    table = pd.DataFrame.from_dict(sums, "index").rename_axis("form").reset_index()
    table[["accuracy", "loss"]] = table[["accuracy", "loss"]].div(table.images, axis=0)
    return table
