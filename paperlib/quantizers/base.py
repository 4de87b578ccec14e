"""What every quantizer is: a module that maps reals to a finite grid and can say so in integers."""
from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..system import kinds
from ..system.kinds import Bits, Count, Finite
from . import functional as F
from .calibration import Counts, Sample, known, span
from .functional import Affine, Grid
from .state import Stateful

BITS = range(1, 9)


class Quantizer(Stateful):
    """Maps reals to a finite grid.

    A method subclasses this, names its ``roles`` and ``bit_widths``, builds its ``grid`` and says in :meth:`affine`
    where the grid lies; a method whose levels are not evenly spaced in x writes :meth:`codes`, :meth:`values` and
    :meth:`surrogate` instead.  Data set its parameters in :meth:`set_span`, or, if its range is a function of the
    weight at hand, in :meth:`update_range_from_weight`.

    ``role``: "weight" or "activation".  ``bits``: one of the method's bit-widths.  ``signed``: whether the grid has
    both signs; weights always do.  ``floor``: the smallest value that an unsigned input can take (0 after ReLU, -3/8
    after h-swish).  ``shape``: the shape of the range parameters: () for one range per tensor; (C, 1, 1, 1) for one
    per output channel of a convolution's weight, (C, 1) of a linear one's.  ``range_method``: one of
    ``calibration.METHODS``, by which data set the range unless :meth:`calibrate` is told another (None: as the method's
    authors do).
    """

    roles: tuple[str, ...] = ("weight", "activation")
    bit_widths: Iterable[int] = BITS
    per_channel = False     # whether models.quantize gives each output channel its own range unless told otherwise
    weight_decay = False    # whether training applies L2 to the parameters
    clip_gradient = False   # PACT's rule for the gradient of its clip
    disturbs_norms = False  # whether values come out in another size, so that batch norms need new statistics
    ignores_floor = False   # whether h-swish's floor is beyond the method: what lies below 0 becomes 0
    follows = False         # whether the range is a function of the weight at hand, found anew at every call
    # the usual calibration of each role; None where data have no say, or the range follows the weight
    range_from: dict | None = {"weight": ("max", {}), "activation": ("percentile", {"percent": 99})}

    grid: Grid

    def __init__(self, *, role: str, bits: int, signed: bool | None = None, floor: float = 0.0,
                 shape: tuple[int, ...] = (), range_method: str | None = None):
        super().__init__()
        method = type(self).__name__
        if role not in list(self.roles):
            raise InputError(f"{method} quantizes {' and '.join(self.roles)}s, not {role!r}: choose another method")
        bits, floor = kinds.read("bits", bits, Bits), kinds.read("floor", floor, Finite)
        signed, shape = kinds.read("signed", signed, bool | None), kinds.read("shape", shape, tuple[Count, ...])
        if role == "activation" and self.ignores_floor:
            signed, floor = bool(signed) or floor < -0.5, 0.0
        if bits not in self.bit_widths:
            raise InputError(f"{method} has {_listed(self.bit_widths)}, not {bits}: choose another method")
        self.role, self.bits = role, bits
        self.signed = (role == "weight") if signed is None else signed
        if role == "weight" and not self.signed:
            raise InputError("weights have both signs: leave out signed=False")
        if self.signed and floor:
            raise InputError(f"a signed grid has no floor: leave out floor={floor} or signed=True")
        self.floor, self.shape = floor, shape
        if role == "activation" and self.shape:
            raise InputError("activations have one range per tensor: leave out shape")
        if self.shape and self.shape[0] < 1 or any(n != 1 for n in self.shape[1:]):
            raise InputError(f"shape is () or (channels, 1, ...), got {self.shape}")
        if range_method is not None:
            known(range_method, {})
            if self.range_from is None:
                raise InputError(f"{method} has no range to choose: leave out range_method")
        self.range_method = range_method
        self.calibrated = False

    def symmetric_or_unsigned_grid(self, **options) -> Grid:
        """Make a grid of 2**bits codes from 0 upwards, or the 2**bits - 1 codes that are symmetric around 0."""
        if not self.signed:
            return Grid(2**self.bits - 1, 0, 2**self.bits - 1, **options)
        k = 2 ** (self.bits - 1) - 1
        if k == 0:
            raise InputError(f"{type(self).__name__} with a signed grid needs at least 2 bits, got 1: "
                             "use a binary method")
        return Grid(k, -k, k, **options)

    # -- to be written by each method ---------------------------------------------------------------------------
    def affine(self) -> Affine | None:
        """Say where the evenly spaced grid lies, as functions of the parameters."""
        return None

    def before_softplus(self) -> Affine | None:
        """Return :meth:`affine` with scales that softplus makes its scales; None where it has other scales."""
        return None

    def codes(self, x: Tensor) -> Tensor:
        """Return the integer codes of ``x``, as floating-point numbers."""
        return F.codes_(F.position(x, self.float32_affine(), self.grid), self.grid)

    def values(self, code: Tensor) -> Tensor:
        """Return the reals that floating-point codes stand for."""
        return F.values_(code.clone(), self.float32_affine(), self.grid)

    def surrogate(self, x: Tensor) -> Tensor:
        """Compute a function of ``x`` and the parameters whose gradient takes the place of the staircase's."""
        raise NotImplementedError

    def stand_in(self, x: Tensor, y: Tensor) -> Tensor:
        """Return ``y``, the quantized ``x``, with the surrogate's gradient."""
        return F.straight_through(y, self.surrogate(x))

    def set_span(self, span: Tensor) -> None:
        """Set the parameters so that the grid extends ``span`` (of the quantizer's ``shape``) beyond its offset."""
        raise NotImplementedError

    def update_range_from_weight(self, x: Tensor) -> None:
        """Take the range from the weight ``x`` (not empty)."""
        raise NotImplementedError

    # -- the public face ----------------------------------------------------------------------------------------
    @torch.no_grad()
    def calibrate(self, data: Tensor | Iterable[Tensor] | Counts, method: str | None = None,
                  **options) -> "Quantizer":
        """Set the range from one batch or from a stream of batches, in place; returns self.

        ``method``: one of ``calibration.METHODS`` with its options, e.g. ``"percentile", percent=99.9``; by default
        the one that belongs to the quantizer.  InputError for empty or non-finite data.
        """
        name = type(self).__name__
        if self.follows and not isinstance(data, Tensor):
            raise InputError(f"the range of {name} follows the weight: pass the weight itself, not a stream")
        if self.range_from is None and (method is not None or options):
            raise InputError(f"{name} has no range to choose: leave out method and its options")
        sample = Sample.of(data, self.shape)
        if isinstance(data, Tensor):
            self.observe(data.float() if data.dtype.itemsize < 4 else data)
        if method is None and self.range_from is not None:
            method, defaults = (self.range_method, {}) if self.range_method else self.range_from[self.role]
            options = {**defaults, **options}
        self.set_range(sample, method, options)
        self.calibrated = True
        return self

    def set_range(self, sample: Sample, method: str | None, options: dict) -> None:
        if self.range_from is not None:
            self.set_span(self.find_span(sample.above(self.floor, self.signed), method, options))

    def find_span(self, sample: Sample, method: str, options: dict) -> Tensor:
        if self.role == "activation" and not sample.top() > 0:      # a layer whose ReLU never fires on this batch
            warnings.warn(f"{type(self).__name__}: no value of the calibration data lies above {self.floor:g}; "
                          "the range is set to 1", RuntimeWarning, stacklevel=5)
        return span(sample, self.grid, method, **options)

    def forward(self, x: Tensor) -> Tensor:
        """Fake-quantize ``x``: same shape and dtype, values from :meth:`levels`; differentiable."""
        y, shift = self.quantize_with_offset(x, together=True)
        return y

    def quantize_with_offset(self, x: Tensor, together: bool = False) -> tuple[Tensor, Tensor | float]:
        """Return (y, shift) with ``y + shift`` the quantized ``x``; shift is the level that stands for the floor.

        ``together``: y is the quantized x and shift is 0.
        """
        if x.dtype.itemsize < 4:
            y, shift = self.quantize_with_offset(x.float(), together)
            return y.to(x.dtype), shift
        affine, raw = self.learned(x)
        if affine is None:
            with torch.no_grad():
                y = self.values(self.codes(x))
            return self.stand_in(x, y), 0.0
        shift = 0.0 if together else affine.out_offset
        if not together:
            affine = affine._replace(out_offset=0.0)
        return F.fake_quantize(x, affine, self.grid, clip_gradient=self.clip_gradient, raw=raw), shift

    def gain(self, x: Tensor, layer: nn.Module) -> Tensor | None:
        """Return what the output of ``layer`` is multiplied by, if the method scales there (XNOR)."""
        return None

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Integer codes (int16) of ``x``; ``decode(encode(x))`` equals ``forward(x)`` to the bit."""
        x = x.float() if x.dtype.itemsize < 4 else x
        self.observe(x)
        self._require_calibrated()
        return self.codes(x).to(torch.int16)

    @torch.no_grad()
    def decode(self, code: Tensor) -> Tensor:
        """Return the reals that integer codes stand for, in the dtype of the parameters."""
        self._require_calibrated()
        dtype = self._dtype()
        return self.values(code.to(torch.promote_types(dtype, torch.float32))).to(dtype)

    def levels(self) -> Tensor:
        """Return all reconstruction values, ascending: (levels,), or (channels, levels) with one range per channel."""
        code = torch.arange(self.grid.code_min, self.grid.code_max + 1, device=self._device())
        levels = self.decode(code.reshape(-1, *[1] * len(self.shape)).expand(-1, *self.shape))
        return levels.flatten(1).T if self.shape else levels

    def extra_repr(self) -> str:
        return (f"{self.role}, bits={self.bits}, signed={self.signed}, floor={self.floor:g}, "
                f"levels={self.grid.n_levels}" + (f", channels={self.shape[0]}" if self.shape else ""))

    # -- inner workings -----------------------------------------------------------------------------------------
    def observe(self, x: Tensor) -> None:
        """Called with every input, before anything is done with it."""
        if self.follows and x.numel():
            with torch.no_grad():
                self.update_range_from_weight(x.detach())
            self.calibrated = self.calibrated or next(self.parameters(), None) is None

    def learned(self, x: Tensor) -> tuple[Affine | None, bool]:
        """Return where the grid lies for the input ``x``; with True, its scales are before softplus."""
        self.observe(x)
        self._require_calibrated()
        raw = self.before_softplus()
        if raw is None or raw.in_scale.dtype.itemsize < 4:
            return self.float32_affine(), False
        return raw, True

    def float32_affine(self) -> Affine | None:
        """Return :meth:`affine`, in float32 where the parameters have half precision."""
        affine = self.affine()
        if affine is None or affine.in_scale.dtype.itemsize >= 4:
            return affine
        return Affine(*(a.float() if isinstance(a, Tensor) else a for a in affine))

    def rows(self, x: Tensor) -> Tensor:
        """Reshape a weight to (channels, n), one row for each range."""
        return x.reshape(self.shape[0] if self.shape else 1, -1)

    def _dtype(self) -> torch.dtype:
        return next((t.dtype for t in (*self.parameters(), *self.buffers())), torch.get_default_dtype())

    def _device(self) -> torch.device | None:
        return next((t.device for t in (*self.parameters(), *self.buffers())), None)

    def _require_calibrated(self) -> None:
        if not self.calibrated:
            raise InputError(f"this {type(self).__name__} has no range yet: call calibrate(x) with data first "
                             "(models.calibrate for a whole network)")


def _listed(bits: Iterable[int]) -> str:
    bits = list(bits)
    return "1 bit" if bits == [1] else f"{', '.join(map(str, bits))} bits"
