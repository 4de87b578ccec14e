"""Inference with integers: codes in, exact sums of products, a factor per channel, the next layer's codes out."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import InputError
from .integer_layers import float64_copy, image_graph, integers
from .programs import LIMIT, FixedProgram, FloatProgram

RESCALINGS = ("float", "fixed")


class IntegerNet(nn.Module):
    """A trained quantized network whose convolutions and fully connected layers compute with integers alone.

    Input: float images (N, C, H, W), normalized as the network was trained with; output: float64 logits (N, classes).
    Each layer turns its input into integer codes, sums products in int32 and multiplies the sums by one number per
    channel, which holds the steps of both grids and the batch norm.

    ``rescale="float"``: that factor and what lies between two layers (h-swish, residual additions, pooling,
    squeeze-and-excite) are float64.  The codes are the same as in the fake-quantized network in float64.

    ``rescale="fixed"``: nothing is float.  A number between layers is a 32-bit integer, in units of 2**-``fraction``;
    the factor is a 31-bit integer and a shift; codes come from comparing with a table of thresholds, so that any
    monotone quantizer is as exact as its input.  What this costs, :func:`paperlib.deploy.compare` counts.

    InputError for what :func:`paperlib.deploy.integers` refuses, for sums that int32 could not hold and for images that
    are not finite; with "fixed" also for layers that stayed in float, operations without an integer form, changes in
    place that are seen under another name, and numbers beyond 32 bits.

    *Source*: PROFIT, supplement, section 5, whose batch norms are folded here with nothing quantized again; the
    factor as integer and shift is Jacob et al., CVPR 2018.
    """

    def __init__(self, net: nn.Module, rescale: str = "float", fraction: int = 20):
        super().__init__()
        if rescale not in RESCALINGS:
            raise InputError(f"rescale must be float or fixed, got {rescale!r}")
        if not 0 < fraction < 31:
            raise InputError(f"fraction must be a number of bits from 1 to 30, got {fraction}")
        net = float64_copy(net)
        self.layers, self.rescale, self.fraction = integers(net), rescale, fraction
        for name, layer in self.layers.items():
            if layer.largest >= LIMIT:
                raise InputError(f"{name}: a sum of products can reach {layer.largest}, which int32 does not hold")
        graph = image_graph(net)
        self.program = (FloatProgram(graph, self.layers) if rescale == "float" else
                        FixedProgram(graph, self.layers, fraction))

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        if not images.isfinite().all():
            raise InputError("these images have values that are infinite or not a number (NaN), for which there are no "
                             "codes: look at how they are read and normalized")
        return self.program.run(images.double())

    def codes(self, images: Tensor) -> dict[str, Tensor]:
        """Compute {integer layer, or quantizer of its own: the codes (int16) that enter it}, in the graph's order."""
        found: dict[str, Tensor] = {}
        self.program.on_codes = lambda name, codes: found.update({name: codes})
        try:
            self(images)
        finally:
            self.program.on_codes = None
        return found

    def extra_repr(self) -> str:
        unit = f", unit 2**-{self.fraction}" if self.rescale == "fixed" else ""
        return f"{len(self.layers)} integer layers, rescale={self.rescale}{unit}"
