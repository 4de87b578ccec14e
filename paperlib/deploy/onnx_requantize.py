"""A convolution's whole way from integer sums to the next codes, in the integers that QLinearConv has."""
from __future__ import annotations

import numpy as np
import torch

from ..quantizers import Quantizer
from .integer_layers import IntegerLayer


@torch.no_grad()
def requantize(layer: IntegerLayer, quantizer: Quantizer, low: int, top: int) -> tuple | None:
    """Find (weight, room, bias, scale) with which integers give every code of ``quantizer`` after ``layer``, or None.

    QLinearConv rounds scale * (sum + bias) with an integer bias, which training knows nothing of.  But only the sums at
    which the code changes matter, weights of few bits leave room in 8 bits to be multiplied, which makes the bias's
    unit smaller, and scales are free.

    For all sums s of inputs times ``weight`` that can occur, clip(round(scale * (room * s + bias)), low, top) is the
    code of what ``layer`` gives, clipped to ``low`` to ``top``.  ``weight``: int64, the layer's own times the sign of
    its scale; ``room``: a whole number, room * weight fits 8 bits; ``bias``: int64 (out,); ``scale``: float64 (out,),
    above 0, in the middle of what is right and at least 5e-6 of itself from what is not.
    """
    grid, affine = quantizer.grid, quantizer.float32_affine()
    per_unit = grid.steps / float(affine.in_scale)
    slope = layer.scale.numpy() * per_unit
    shift = (layer.bias.numpy() - float(affine.in_offset)) * per_unit + grid.zero
    weight = layer.weight.numpy().astype(np.int64) * np.sign(slope + (slope == 0)).astype(int).reshape(
        -1, *[1] * (layer.weight.dim() - 1))
    slope, inputs, room = np.abs(slope), layer.layer.input_quantizer.grid, headroom(layer)
    if layer.edge is not None or room < 1:
        return None
    flat = weight.reshape(len(weight), -1)
    highest = np.where(flat > 0, flat * inputs.code_max, flat * inputs.code_min).sum(1)[:, None]
    lowest = np.where(flat > 0, flat * inputs.code_min, flat * inputs.code_max).sum(1)[:, None]
    edge = np.arange(low + 1, top + 1) - 0.5                   # where the code changes
    first = np.ceil((edge - shift[:, None]) / np.maximum(slope, 1e-300)[:, None])      # the least sum beyond an edge
    first = np.clip(first, lowest, highest + 1)
    above, below = first <= highest, first > lowest            # whether sums lie on either side
    fixed = ~(above & below).any(1)
    bias, scale = np.zeros(len(slope)), np.ones(len(slope))
    bias[fixed] = np.clip(np.rint(shift + slope * lowest[:, 0]), low, top)[fixed]
    weight[fixed], best = 0, np.where(fixed, 1.0, 1e-5)        # the relative room around a scale
    for step in range(-room, room + 1):
        candidate = np.rint(shift / np.where(fixed, 1, slope) * room) + step
        with np.errstate(divide="ignore", invalid="ignore"):
            up, down = first * room + candidate[:, None], (first - 1) * room + candidate[:, None]
            # scale * up >= edge and scale * down < edge
            least = np.maximum(np.where(above & (up > 0), edge / up, 0).max(1),
                               np.where(below & (down < 0), edge / down, 0).max(1))
            most = np.minimum(np.where(above & (up < 0), edge / up, np.inf).min(1),
                              np.where(below & (down > 0), edge / down, np.inf).min(1))
        possible = ~(above & (up == 0) & (edge > 0) | below & (down == 0) & (edge < 0)).any(1)
        most = np.minimum(most, 2 * least)
        width = np.where(possible & (least > 0) & (np.abs(candidate) < 2**23), most / np.maximum(least, 1e-300) - 1, 0)
        better = width > best
        bias, scale = np.where(better, candidate, bias), np.where(better, (least + most) / 2, scale)
        best = np.maximum(best, width)
    if (best <= 1e-5).any():
        return None
    return weight, room, bias.astype(np.int64), scale


def headroom(layer: IntegerLayer) -> int:
    """Say by how much weights may be multiplied to fit 8 bits, and two products 16, as some processors add them."""
    grid, largest = layer.layer.input_quantizer.grid, max(int(layer.weight.abs().max()), 1)
    return min(127 // largest, 32767 // (2 * largest * (255 if grid.code_min < 0 else grid.code_max)))
