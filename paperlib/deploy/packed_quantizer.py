"""Quantizers as plain data, and the quantizer of a weight whose codes came out of a file (pack.py)."""
from __future__ import annotations

import json

import torch
from torch import Tensor

from .. import quantizers
from ..errors import InputError
from ..quantizers import Quantizer

FITS = "pass the float network that it was packed from"
# a method's own options, seen on the quantizer
OPTIONS = {"duq": {"learn_offset": lambda q: bool(q.learn_offset)},
           "sawb": {"levels": lambda q: int(q.grid.n_levels)},
           "qil": {"version": lambda q: "v1" if q.gamma is None else "cvpr",
                   "normalized": lambda q: q.role == "weight" and q.gamma is None and q.shrink is None}}


class StoredCodes(Quantizer):
    """The quantizer of a weight that is integer codes already.

    ``encode`` gives the codes; ``forward`` gives what ``method``, the quantizer that made them, says they stand for,
    whatever the layer's ``weight`` holds.  The method's parameters do not train, and backward to the weight is an
    InputError.
    """

    roles = ("weight",)
    range_from = None

    def __init__(self, method: Quantizer, code: Tensor):
        super().__init__(role="weight", bits=method.bits, shape=method.shape)
        self.method, self.grid, self.calibrated = method.requires_grad_(False), method.grid, True
        self.register_buffer("code", code)      # int16, of the weight's shape

    def affine(self):
        return self.method.affine()

    def codes(self, x: Tensor) -> Tensor:
        require(x.shape == self.code.shape, f"these codes are of a weight of shape {tuple(self.code.shape)}, not "
                f"{tuple(x.shape)}: load the file again")
        return self.code.to(x.dtype)

    def values(self, code: Tensor) -> Tensor:
        return self.method.values(code)

    def quantize_with_offset(self, x: Tensor, together: bool = False) -> tuple[Tensor, float]:
        with torch.no_grad():
            y = self.values(self.codes(x.float() if x.dtype.itemsize < 4 else x)).to(x.dtype)
        return _Fixed.apply(x, y) if torch.is_grad_enabled() and x.requires_grad else y, 0.0

    def _dtype(self) -> torch.dtype:
        return self.method._dtype()


class _Fixed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        return y.view_as(y)

    @staticmethod
    def backward(ctx, grad):
        raise InputError("the weights of a packed network are codes and cannot be trained: train the network that was "
                         "packed, or take the other gradients after requires_grad_(False) on these weights")


def require(condition, what: str) -> None:
    """InputError that says ``what`` unless the condition holds."""
    if not condition:
        raise InputError(what)


def describe(q: Quantizer | None) -> dict | None:
    """Say in plain data what a quantizer is; its parameters apart."""
    if q is None:
        return None
    method = next((n for n in quantizers.names(q.role) if quantizers.find(n, q.role) is type(q)), None)
    require(method, f"{type(q).__name__} has no name that a file could give: register it (quantizers.register)")
    return {"method": method, "bits": q.bits, "signed": q.signed, "floor": q.floor, "shape": list(q.shape),
            "codes": [q.grid.code_min, q.grid.code_max],
            "options": {name: see(q) for name, see in OPTIONS.get(method, {}).items()}}


def finite(q: Quantizer) -> bool:
    return all(bool(t.isfinite().all()) for t in (q.levels(), *q.parameters(), *q.buffers()))


def check_reproducible(name: str, q: Quantizer) -> None:
    """Check that description and parameters give the quantizer again; InputError where they do not."""
    levels = q.levels()
    require(finite(q), f"the range of {name} is not finite: calibrate or train again")
    twin = rebuild(describe(q), q.role, q.shape)
    probe = torch.linspace(-2, 2, 1001) * levels.abs().max()
    try:
        twin.load_state_dict(q.state_dict())
        same = torch.equal(twin.levels(), levels) and (
            q.role == "weight" or torch.equal(twin.encode(probe), q.encode(probe)))
    except (RuntimeError, InputError):
        same = False
    require(same, f"{name}: {type(q).__name__} has options that pack does not know: add them to OPTIONS in "
            "paperlib/deploy/packed_quantizer.py")


def canonical_json(header: dict) -> bytes:
    return json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def rebuild(about: dict | None, role: str, channels: tuple[int, ...]) -> Quantizer | None:
    """Build a quantizer of a description; ``channels``: the shape that its range may have beside ()."""
    if about is None:
        return None
    shape = tuple(about["shape"])
    require(shape in ((), channels), f"{about['shape']} is not the shape of a range here: {FITS}")
    method, options = about["method"], about["options"]
    require(options.keys() == OPTIONS.get(method, {}).keys(), f"{method!r} has no such options: pack again")
    settings = {name: about[name] for name in ("bits", "signed", "floor")}
    return quantizers.build(method, role=role, shape=shape, **settings, **options).float()
