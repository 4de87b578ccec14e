"""One trained network in all the forms that it can be deployed in, side by side."""
from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from torch import Tensor, nn

from ..models import cost
from .compare import Batches, compare, predictions
from .integer_net import IntegerNet
from .npz_program import export
from .pack import load, pack


class Form(NamedTuple):
    """A file's size in bytes, and what computes logits from images (N, 3, size, size)."""

    bytes: int
    run: Callable[[Tensor], Tensor]


def forms(net: nn.Module, folder: str | os.PathLike, *, build: dict, fraction: int = 20) -> dict[str, Form]:
    """The network as trained (its size: all parameters in float32), and each form of paperlib.deploy, written to
    ``folder`` and read from there.  ``build``: as in :func:`paperlib.deploy.pack`."""
    from .onnx_export import runner, to_onnx  # the package onnx is not there wherever one trains

    folder, size = Path(folder), build["input_size"]
    packed = pack(net, folder / "net.packed", build=build)
    again = load(packed)
    program = export(net, folder / "net.npz", input_size=size, fraction=fraction)
    found = {"fake-quantized, float32": Form(4 * int(cost.table(net, size).params.sum()), net.eval()),
             "packed": Form(packed.stat().st_size, again),
             "integers, float factors": Form(program.stat().st_size, IntegerNet(again)),
             "integers alone": Form(program.stat().st_size, IntegerNet(again, "fixed", fraction))}
    for carrier in ("int8", "int4"):
        file = to_onnx(net, folder / f"net_{carrier}.onnx", input_size=size, carrier=carrier)
        found[f"ONNX, {carrier}"] = Form(file.stat().st_size, runner(file))
    return found


def side_by_side(found: dict[str, Form], batches: Batches) -> pd.DataFrame:
    """One row per form: ``bytes``, ``smaller`` (how many times smaller than the first form's) and the columns of
    :func:`paperlib.deploy.predictions`."""
    table = predictions({name: form.run for name, form in found.items()}, batches)
    table.insert(1, "bytes", [form.bytes for form in found.values()])
    table.insert(2, "smaller", table.bytes[0] / table.bytes)
    return table


def by_fraction(net: nn.Module, batches: Sequence[tuple[Tensor, Tensor]], fractions: Sequence[int]) -> pd.DataFrame:
    """What bits after the point are worth: columns ``fraction``, ``fixed`` (share of codes that differ from exact
    arithmetic) and ``float32`` (the same for the network as trained: its own rounding)."""
    exact, wrong = IntegerNet(net), dict.fromkeys(fractions, 0)
    fixed = {fraction: IntegerNet(net, "fixed", fraction) for fraction in fractions}
    for images, _ in batches:
        codes = exact.codes(images)
        for fraction, form in fixed.items():
            wrong[fraction] += sum(int((c != codes[name]).sum()) for name, c in form.codes(images).items())
    sums = compare(net, batches)[["codes", "float32"]].sum()
    table = pd.DataFrame({"fraction": wrong.keys(), "fixed": wrong.values(), "float32": sums.float32})
    return table.assign(fixed=table.fixed / sums.codes, float32=table.float32 / sums.codes)
