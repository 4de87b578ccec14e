"""The quantizer sheet: what every registered quantizer does to its input, as tables."""
from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Iterator

import pandas as pd
import torch

from .. import quantizers
from ..errors import InputError

H_SWISH = -0.375    # the least value that x * relu6(x + 3) / 6 takes


def sample(role: str, *, signed: bool = False, floor: float = 0.0) -> torch.Tensor:
    """What the drawn quantizers are calibrated on: 1024 standard normal numbers, the same at every call; for unsigned
    activations sent through h-swish (floor -3/8) or clipped at the floor (0: ReLU)."""
    x = torch.randn(1024, generator=torch.Generator().manual_seed(1)).double()
    unsigned = torch.nn.functional.hardswish(x) if floor == H_SWISH else x.clamp_min(floor)
    return x if role == "weight" or signed else unsigned


def build(name: str, role: str, bits: int | None = None, signed: bool | None = None, floor: float = 0.0):
    """As ``quantizers.build``; at 3 bits or the nearest there is, signed where a method has no other activations."""
    options = {"role": role, "bits": nearest(name, role) if bits is None else bits, "floor": floor}
    with contextlib.suppress(InputError):
        return quantizers.build(name, signed=signed, **options).double()
    return quantizers.build(name, signed=True if signed is None and not floor else signed, **options).double()


def widths(name: str, role: str) -> list[int]:
    """All bit-widths that the method has in this role."""
    found = set()
    for bits in quantizers.find(name, role).bit_widths:
        with contextlib.suppress(InputError):
            found.add(build(name, role, bits).bits)
    return sorted(found)


def nearest(name: str, role: str, bits: int = 3) -> int:
    """``bits``, or the bit-width of the method that comes nearest to it."""
    return min(widths(name, role), key=lambda b: abs(b - bits))


def curves(name: str, role: str, *, bits: int | None = None, signed: bool | None = None, floor: float = 0.0,
           n: int = 401) -> pd.DataFrame:
    """A calibrated quantizer at ``n`` inputs: columns x, y, gradient (of each y by its own x), error (y - x) and one
    ``dy/d...`` for each learned parameter.  InputError for what the method doesn't have."""
    q = build(name, role, bits, signed, floor)
    data = sample(role, signed=(both_signs := q.signed and not floor), floor=floor)
    q.calibrate(data).follows = False       # the range stays that of the sample
    low, high = (-data.abs().max(), data.abs().max()) if both_signs else data.aminmax()
    beyond = 0 if role == "weight" and q.range_from is None else 0.12 * (high - low)    # it may hang on the maximum
    x = torch.linspace(low - beyond, high + beyond, n).double().requires_grad_()
    y, learned, rows = q(x), dict(q.named_parameters()), []
    for i in range(n):
        slope, *slopes = torch.autograd.grad(y[i], (x, *learned.values()), retain_graph=True, materialize_grads=True)
        rows.append([v.sum().item() for v in (x[i], y[i], slope[i], y[i] - x[i], *slopes)])
    table = pd.DataFrame(rows, columns=["x", "y", "gradient", "error", *(f"dy/d{p}" for p in learned)])
    source = {0: "ReLU", H_SWISH: "h-swish"}.get(floor, f"a clip at {floor:g}")
    form = "weights" if role == "weight" else "signed activations" if both_signs else f"activations after {source}"
    label = name.upper() if (label := quantizers.find(name, role).__name__).lower() != name else label
    title = f"{label} · {form} · {q.bits} bit{'s' * (q.bits > 1)}"
    levels, (least, *_, most) = q.levels().tolist(), sorted(table.gradient)
    alt = (f"{title}: a staircase with {len(levels)} levels from {levels[0]:.2f} to {levels[-1]:.2f}; "
           f"dy/dx lies between {least:.2f} and {most:.2f}")
    table.attrs = {"name": name, "title": title, "alt": alt, "signed": both_signs, "levels": levels}
    return table


def sheet(role: str, n: int = 401) -> Iterator[pd.DataFrame]:
    """Curves of all methods in this role; after h-swish too, where that takes the grid below 0."""
    for name in quantizers.names(role):
        yield (drawn := curves(name, role, n=n))
        if role == "activation" and not drawn.attrs["signed"]:
            drawn = curves(name, role, floor=H_SWISH, n=n)
            if drawn.attrs["levels"][0] < 0:
                yield drawn


def about(name: str, role: str, part: str = "") -> str:
    """From the method's docstring: the first paragraph, or the one that is headed ``part``, say "Reference"."""
    text = inspect.cleandoc(quantizers.find(name, role).__doc__ or "")
    found = re.search((rf"\*{part}\*:\s*" if part else "") + r"(.+?)(\n\n|\Z)", text, re.S)
    return " ".join(found[1].split()) if found else ""
