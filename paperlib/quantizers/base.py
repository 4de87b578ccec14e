"""What every quantizer is: a module that maps reals to a finite grid and can say so in integers."""
from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor, nn

from ..errors import InputError
from .functional import Grid, codes, fake_quantize, values

BITS = range(1, 9)


class Quantizer(nn.Module):
    """A uniform grid with an input scale and an output scale (equal in most methods).

    A method subclasses this, names its ``roles``, builds its ``grid`` and says in :meth:`scales` how its parameters
    make the two scales and in :meth:`set_range` how data set the parameters.

    ``role``: "weight" or "activation".  ``bits``: 1 to 8.  ``signed``: whether the grid reaches below ``floor``;
    weights are always signed.  ``floor``: the least value that the input can take (0 after ReLU, -3/8 after h-swish).
    """

    roles: tuple[str, ...] = ("weight", "activation")
    weight_decay = False    # whether training applies L2 to the parameters

    def __init__(self, *, role: str, bits: int, signed: bool | None = None, floor: float = 0.0):
        super().__init__()
        method = type(self).__name__
        if role not in self.roles:
            raise InputError(f"{method} quantizes {' and '.join(self.roles)}s, not {role!r}: choose another method")
        if isinstance(bits, bool) or not isinstance(bits, int) or bits not in BITS:
            raise InputError(f"bits must be a whole number from 1 to 8, got {bits!r}")
        self.role, self.bits = role, bits
        self.signed = (role == "weight") if signed is None else signed
        if role == "weight" and not self.signed:
            raise InputError("weights have both signs: leave out signed=False")
        if not math.isfinite(floor):
            raise InputError(f"floor must be a finite number, got {floor}: inputs without one are signed=True")
        if self.signed and floor:
            raise InputError(f"a signed grid has no floor: leave out floor={floor} or signed=True")
        self.floor = float(floor)
        self.calibrated = False

    def symmetric_or_unsigned_grid(self) -> Grid:
        """2**bits codes from 0 upwards, or the 2**bits - 1 codes that are symmetric around 0."""
        if not self.signed:
            return Grid(2**self.bits - 1, 0, 2**self.bits - 1, floor=self.floor)
        k = 2 ** (self.bits - 1) - 1
        if k == 0:
            raise InputError(f"{type(self).__name__} with a signed grid needs at least 2 bits, got 1: "
                             "use a binary method")
        return Grid(k, -k, k)

    # -- to be written by each method ---------------------------------------------------------------------------
    grid: Grid

    def scales(self) -> tuple[Tensor, Tensor]:
        """(in_scale, out_scale), 0-d and positive, as functions of the parameters."""
        raise NotImplementedError

    def set_range(self, x: Tensor) -> None:
        """Set the parameters from ``x`` (finite, not empty)."""
        raise NotImplementedError

    # -- the public face ----------------------------------------------------------------------------------------
    def calibrate(self, x: Tensor) -> "Quantizer":
        """Set the range from data, in place; returns self.  InputError for empty or non-finite data."""
        x = x.detach()
        if x.numel() == 0:
            raise InputError("cannot calibrate on an empty tensor: pass a batch of data")
        if not torch.isfinite(x).all():
            raise InputError("cannot calibrate on NaN or infinite values: look at the layer before this quantizer")
        with torch.no_grad():
            self.set_range(x)
        self.calibrated = True
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Fake-quantize ``x``: same shape and dtype, values from :meth:`levels`; differentiable."""
        self._require_calibrated()
        return fake_quantize(x, *self.scales(), self.grid)

    def encode(self, x: Tensor) -> Tensor:
        """Integer codes (int16) of ``x``; ``decode(encode(x))`` equals ``forward(x)`` to the bit."""
        self._require_calibrated()
        with torch.no_grad():
            return codes(x, self.scales()[0], self.grid).to(torch.int16)

    def decode(self, code: Tensor) -> Tensor:
        """The reals that integer codes stand for, in the dtype of the parameters."""
        self._require_calibrated()
        with torch.no_grad():
            out_scale = self.scales()[1]
            return values(code.to(out_scale.dtype), out_scale, self.grid)

    def levels(self) -> Tensor:
        """All reconstruction values, ascending, 1-D."""
        return self.decode(torch.arange(self.grid.code_min, self.grid.code_max + 1, device=self.scales()[1].device))

    def extra_repr(self) -> str:
        return f"{self.role}, bits={self.bits}, signed={self.signed}, floor={self.floor:g}, levels={self.grid.n_levels}"

    # -- what calibration shares --------------------------------------------------------------------------------
    def positive_percentile(self, x: Tensor, percent: float) -> Tensor:
        """The ``percent``-th percentile of the positive part of ``x - floor`` (of ``|x|`` for a signed grid).

        The nearest rank from above, over the positive values only.  Where nothing is positive (a layer whose ReLU
        never fires on this batch) there is no range to find: the result is 1, and a warning says so.
        """
        x = x.abs() if self.signed else x - self.floor
        x = x[x > 0]
        if x.numel() == 0:
            warnings.warn(f"{type(self).__name__}: no value of the calibration batch lies above "
                          f"{self.floor:g}; the range is set to 1", RuntimeWarning, stacklevel=4)
            return torch.ones((), dtype=x.dtype, device=x.device)
        rank = max(1, -(-int(x.numel() * percent) // 100))
        return x.kthvalue(rank).values

    def _require_calibrated(self) -> None:
        if not self.calibrated:
            raise InputError(f"this {type(self).__name__} has no range yet: call calibrate(x) with data first "
                             "(models.calibrate for a whole network)")

    def get_extra_state(self) -> dict:
        return {"calibrated": self.calibrated}

    def set_extra_state(self, state: dict) -> None:
        self.calibrated = bool(state["calibrated"])
