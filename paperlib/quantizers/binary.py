"""Binary weights and activations: BC, BWN and XNOR."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..errors import InputError
from .base import Quantizer
from .functional import Grid
from .registry import register


class _Binary(Quantizer):
    """Codes 0 and 1 for -alpha and alpha; 0 itself counts as positive."""

    bit_widths = (1,)
    disturbs_norms = True   # BC's -1 and 1 are far off the weight; E|w| keeps its mean magnitude, 64 % of its energy
    range_from = None
    grid = Grid(1, 0, 1, zero=0.5)

    def __init__(self, **settings):
        super().__init__(**settings)
        self.register_buffer("alpha", torch.ones(self.shape))

    def codes(self, x: Tensor) -> Tensor:
        return (x >= 0).to(x.dtype)

    def values(self, code: Tensor) -> Tensor:
        return (2 * code - 1) * self.alpha

    def surrogate(self, x: Tensor) -> Tensor:
        return F.hardtanh(x)


@register("bc")
class BC(_Binary):
    """BinaryConnect (deterministic).

    *Forward*::  y = sign(w), with sign(0) = 1

    *Gradient*: dy/dw = 1.

    *Initialisation*: none.  The latent weight itself is clipped to [-1, 1] at each training step, as in the paper: a
    Parameter in training mode is changed in place.

    *Reference*: Courbariaux et al., BinaryConnect, NeurIPS 2015 (arXiv 1511.00363).

    *Differences*: the paper clips after the update, here it happens before the next use, which is the same.  The
    stochastic variant is left out.

    >>> BC(role="weight", bits=1)(torch.tensor([-0.3, 0.0, 2.0]))
    tensor([-1.,  1.,  1.])
    """

    roles = ("weight",)

    def __init__(self, **settings):
        super().__init__(**settings)
        self.calibrated = True

    def quantize_with_offset(self, x: Tensor, together: bool = False) -> tuple[Tensor, Tensor | float]:
        if self.training and isinstance(x, nn.Parameter):
            with torch.no_grad():
                x.clamp_(-1, 1)
        return super().quantize_with_offset(x, together)

    def surrogate(self, x: Tensor) -> Tensor:
        return x


class _ScaledSign(torch.autograd.Function):
    """alpha * sign(x) with the gradients of BWN; alpha is the mean of |x| over a filter."""

    @staticmethod
    def forward(ctx, x, alpha):
        ctx.save_for_backward(x, alpha)
        return torch.where(x >= 0, alpha, -alpha)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, alpha = ctx.saved_tensors
        sign = torch.where(x >= 0, 1.0, -1.0).to(x.dtype)
        through_alpha = (grad * sign).sum_to_size(alpha.shape) * (alpha.numel() / max(1, x.numel()))
        return through_alpha * sign + grad * alpha * (x.abs() < 1), None


@register("bwn")
class BWN(_Binary):
    """Binary weight networks: the sign of the weight, times the mean magnitude of its filter.

    *Forward*::  y = alpha * sign(w), with alpha = E|w|, of each filter where ``shape`` says so, and sign(0) = 1

    *Gradient*: through alpha exactly, and alpha straight through the sign for |w| < 1.

    *Initialisation*: none, alpha follows the weight at every call.

    *Reference*: Rastegari et al., XNOR-Net, ECCV 2016 (arXiv 1603.05279).

    *Differences*: of the gradient through alpha the paper keeps only the term of the weight itself, 1/n.

    >>> BWN(role="weight", bits=1)(torch.tensor([-1.0, 2.0, 3.0]))
    tensor([-2.,  2.,  2.])
    """

    roles = ("weight",)
    per_channel = True
    follows = True

    def update_range_from_weight(self, x: Tensor) -> None:
        self.alpha.copy_(self.rows(x.abs()).mean(1, dtype=torch.float64).reshape(self.shape))

    def surrogate(self, x: Tensor) -> Tensor:
        return _ScaledSign.apply(x, self.alpha.clone())


@register("xnor")
class XNOR(_Binary):
    """XNOR-Net's activations; ``build("xnor", role="weight")`` gives BWN, its weights.

    *Forward*::  y = sign(x), with sign(0) = 1

    and the layer multiplies its output, before the bias, by K, the mean of |x| over the input channels, averaged over
    the kernel's window (zeros of the padding included): :meth:`gain`.

    *Gradient*: dy/dx = 1 strictly between -1 and 1, else 0; through K exactly.

    *Initialisation*: none.

    *Reference*: Rastegari et al., XNOR-Net, ECCV 2016 (arXiv 1603.05279).

    *Differences*: input that is never negative has one sign only, so it is refused (the paper puts batch norm before
    the sign).  The border is padded with 0, as in the paper, which is not a level.

    >>> XNOR(role="activation", bits=1, signed=True)(torch.tensor([-0.3, 0.0, 2.0]))
    tensor([-1.,  1.,  1.])
    """

    roles = ("activation",)

    def __init__(self, **settings):
        super().__init__(**settings)
        if not self.signed:
            raise InputError("XNOR takes the sign of its input: one that is never negative (after ReLU, say) needs "
                             "another method")
        self.calibrated = True

    def gain(self, x: Tensor, layer: nn.Module) -> Tensor:
        if isinstance(layer, nn.Linear):
            return x.abs().mean(-1, keepdim=True)
        groups = layer.groups
        mean = x.abs().unflatten(1, (groups, layer.in_channels // groups)).mean(2)
        box = mean.new_full((groups, 1, *layer.kernel_size), 1 / (layer.kernel_size[0] * layer.kernel_size[1]))
        gain = F.conv2d(mean, box, None, layer.stride, layer.padding, layer.dilation, groups)
        return gain.repeat_interleave(layer.out_channels // groups, 1)


register("xnor", role="weight")(BWN)
