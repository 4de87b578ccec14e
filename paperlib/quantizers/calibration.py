"""How data set a range: methods of their own, under every quantizer.

All of them look for the *span* of a grid, the distance from its offset to its far end, in the data above that offset
(in ``|x|`` for a grid with both signs).  ``METHODS`` lists them; a quantizer's ``calibrate(data, method, **options)``
calls them by name::

    max         fraction * max                                  (fraction=1; DuQ's weights: 0.9)
    percentile  nearest rank from above, over positive values   (percent=99)
    mse         the span whose grid has the smallest squared error
    lsq         2 E|x| / sqrt(Q) per step, Q the highest code   (Esser et al., LSQ, ICLR 2020)
    sawb        c1 sqrt(E[x^2]) + c2 E|x|                       (Choi et al., PACT-SAWB, 2019)
"""
from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from .functional import Affine, Grid, codes_, position, values_

# levels -> (c1, c2) of clip = c1 sqrt(E[w^2]) + c2 E|w|: the least-squares-optimal clip, regressed over distributions
SAWB_COEFFICIENTS = {3: (2.6, -1.71), 4: (3.12, -2.064), 8: (7.509, -6.892), 15: (12.035, -12.03),
                     16: (12.68, -12.80), 32: (17.74, -18.64), 256: (31.76, -35.04)}
_BITS = 20      # of a float32 that a stream keeps: sign, exponent and 11 of 23 digits


@dataclass
class Sample:
    """Values with how often they occur (``counts``; booleans where each occurs once); rows are channels.

    A tensor is kept as it is, a stream in :class:`Counts`.
    """

    values: Tensor      # (rows, n); one row without shape
    counts: Tensor      # broadcasts against values
    shape: tuple[int, ...] = ()

    @classmethod
    def of(cls, data: Tensor | Iterable[Tensor], shape: tuple[int, ...] = ()) -> "Sample":
        """InputError where there is nothing to look at, or something that is not finite."""
        if not isinstance(data, Tensor):
            if shape:
                raise InputError("a stream of batches sets one range per tensor: pass the weight itself")
            return (data if isinstance(data, Counts) else Counts(data)).sample()
        _check(data)
        if shape and data.shape[0] != shape[0]:
            raise InputError(f"this quantizer has {shape[0]} channels, the tensor has shape {tuple(data.shape)}")
        data = data.detach().float() if data.dtype.itemsize < 4 else data.detach()
        once = torch.ones(1, 1, dtype=torch.bool, device=data.device)
        return cls(data.reshape(shape[0] if shape else 1, -1), once, shape)

    def above(self, offset: float | Tensor, signed: bool) -> "Sample":
        """Distances from the offset; those below it, where there should be nothing, do not count."""
        if signed:
            return Sample(self.values.abs(), self.counts, self.shape)
        values = self.values - offset
        return Sample(values, self.counts * (values >= 0), self.shape)

    def mean(self, values: Tensor) -> Tensor:
        if self.counts.numel() == 1:
            return values.mean(1)
        return ((values * self.counts).sum(1) / self.counts.sum(1).clamp_min(1)).to(values.dtype)

    def top(self) -> Tensor:
        return torch.where(self.counts > 0, self.values, 0).amax(1)

    def unit(self) -> tuple["Sample", Tensor]:
        """The sample with values up to 1, whose squares don't overflow, and the power of two that it was divided by."""
        scale = 2.0 ** torch.frexp(self.top()).exponent.clamp(-126, 127)
        return Sample(self.values / scale[:, None], self.counts, self.shape), scale


class Counts:
    """Values of a stream of batches, counted in bins of float32 numbers that agree in their first 20 bits.

    However long the stream, at most 16 MB, and less than 1 MB where values have some 15 magnitudes.  Zeros and the
    extremes are exact, all else is within 1/4096 of its value.
    """

    def __init__(self, batches: Iterable[Tensor] = ()):
        self.bins = self.counts = torch.zeros(0, dtype=torch.int64)
        self.ends, self.device = [], None
        for batch in batches:
            self.add(batch)

    def add(self, batch: Tensor) -> None:
        _check(batch)
        flat = batch.detach().float().cpu().flatten()
        _check(flat)        # float64 may hold more
        new = torch.bincount((flat.view(torch.int32) >> 32 - _BITS) & 2**_BITS - 1)
        full = new.nonzero().flatten()
        self.bins, place = torch.cat([self.bins, full]).unique(return_inverse=True)
        self.counts = torch.zeros_like(self.bins).index_add_(0, place, torch.cat([self.counts, new[full]]))
        ends = [*self.ends, flat.min(), flat.max()]
        self.ends, self.device = [min(ends), max(ends)], batch.device

    def sample(self) -> Sample:
        if not self.ends:
            raise InputError("cannot calibrate on an empty stream: pass at least one batch of data")
        values = ((self.bins.to(torch.int32) << 32 - _BITS) + 2**(31 - _BITS)).view(torch.float32)
        values[values.abs() < 1e-37] = 0
        values[values.argmin()], values[values.argmax()] = self.ends
        return Sample(values[None].to(self.device), self.counts[None].to(self.device, torch.float64))


def _check(batch: Tensor) -> None:
    if batch.numel() == 0:
        raise InputError("cannot calibrate on an empty tensor: pass a batch of data")
    if not torch.isfinite(batch).all():
        raise InputError("cannot calibrate on NaN or infinite values: look at the layer before this quantizer")


def maximum(sample: Sample, grid: Grid, *, fraction: float = 1.0) -> Tensor:
    if not (isinstance(fraction, (int, float)) and 0 < fraction < math.inf):
        raise InputError(f"fraction must be a positive number, got {fraction!r}")
    return fraction * sample.top()


def percentile(sample: Sample, grid: Grid, *, percent: float = 99.0) -> Tensor:
    if not 0 < percent <= 100:
        raise InputError(f"percent must be above 0 and at most 100, got {percent}")
    if len(sample.values) == 1 and sample.counts.dtype == torch.bool:
        values = sample.values[sample.values > 0]       # a selection is much faster than sorting
        rank = math.ceil(values.numel() * percent / 100)
        return values.kthvalue(max(1, rank)).values[None] if rank else sample.top()
    counts = torch.where(sample.values > 0, sample.counts, 0).double()
    values, order = sample.values.sort(1)
    reached = counts.gather(1, order).cumsum(1)
    rank = (reached[:, -1:] * percent / 100).ceil().clamp_min(1)
    return values.gather(1, torch.searchsorted(reached, rank).clamp_max(values.shape[1] - 1))[:, 0]


def mse(sample: Sample, grid: Grid) -> Tensor:
    """The best of 64 spans from 1/64 of the maximum up, then of ever finer ones around it (to 1e-4 of itself)."""
    def error(spans: Tensor) -> Tensor:
        scale = spans[:, None] * grid.steps / (grid.code_max - grid.zero)
        affine = Affine(scale, scale)
        y = values_(codes_(position(sample.values, affine, grid), grid), affine, grid)
        return sample.mean((y - sample.values).square())

    sample, scale = sample.unit()
    top = sample.top()
    if len(top) == 1 and top > 0 and sample.counts.dtype == torch.bool:
        sample = Counts([sample.values[sample.counts.expand_as(sample.values)]]).sample()
    best = torch.where(top > 0, top, 1)
    low, high = best / 64, best * 1.0
    while ((high - low) > 1e-4 * best).any():
        spans = [low + (high - low) * i / 63 for i in range(64)]
        errors = torch.stack([error(s) for s in spans])
        best = torch.stack(spans).gather(0, errors.argmin(0)[None])[0]
        width = (high - low) / 63
        low, high = torch.maximum(best - width, low), torch.minimum(best + width, high)
    return torch.where(top > 0, best * scale, 0)


def lsq(sample: Sample, grid: Grid) -> Tensor:
    sample, scale = sample.unit()
    return 2 * sample.mean(sample.values) * (grid.code_max - grid.zero) ** 0.5 * scale


def sawb(sample: Sample, grid: Grid) -> Tensor:
    if grid.n_levels not in SAWB_COEFFICIENTS:
        raise InputError(f"SAWB has no coefficients for {grid.n_levels} levels; known: {sorted(SAWB_COEFFICIENTS)}")
    c1, c2 = SAWB_COEFFICIENTS[grid.n_levels]
    sample, scale = sample.unit()
    mean = sample.mean(sample.values)
    clip = c1 * sample.mean(sample.values.square()).sqrt() + c2 * mean
    return torch.where(clip < mean, sample.top(), clip) * scale


METHODS: dict[str, Callable[..., Tensor]] = {"max": maximum, "percentile": percentile, "mse": mse, "lsq": lsq,
                                             "sawb": sawb}


def known(method: str, options: dict) -> None:
    """InputError unless ``method`` is one of METHODS and takes these options."""
    if method not in METHODS:
        raise InputError(f"unknown calibration {method!r}: choose from {', '.join(METHODS)}")
    taken = [name for name, p in inspect.signature(METHODS[method]).parameters.items() if p.kind is p.KEYWORD_ONLY]
    if unknown := sorted(set(options) - set(taken)):
        raise InputError(f"calibration {method!r} does not take {', '.join(unknown)}; it takes "
                         f"{', '.join(taken) or 'no options'}")


def span(sample: Sample, grid: Grid, method: str, **options) -> Tensor:
    """Return the span that ``method`` finds, positive, in the sample's shape.

    Where no value lies above the offset (a layer whose ReLU never fires, a weight of zeros) any range will do: the
    result is 1.
    """
    known(method, options)
    result = METHODS[method](sample, grid, **options)
    if not torch.isfinite(result).all():
        raise InputError(f"calibration {method!r} finds a range beyond the numbers of {result.dtype}: scale the data")
    return torch.where(sample.top() > 0, result, 1).reshape(sample.shape)
