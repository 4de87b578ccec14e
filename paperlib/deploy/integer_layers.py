"""Trained layers as integers: batch norm goes into a scale and a bias per channel, the weights' codes stay."""
from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

import torch
import torch.fx
from torch import Tensor, nn
from torch.fx.passes.shape_prop import ShapeProp

from ..errors import InputError
from ..models.fuse import unfuse
from ..models.graph import foldable_norms, trace
from ..models.layers import QuantConv2d, QuantLinear
from ..models.residual import quantize_input
from ..quantizers import Quantizer
from .packed_quantizer import StoredCodes


@dataclass
class IntegerLayer:
    """A quantized layer, and the batch norm after it, as integers and two real numbers per output channel.

    With ``x`` the integer codes of the input, padded with 0, and ``*`` the layer's convolution or product::

        output = scale * (x * weight) + bias + edge * (1 * weight)

    ``weight``: int16, of the layer's shape (out, in / groups, ...).  ``scale``, ``bias``: float64 (out,).  ``edge``:
    float64 (out,), or None where a padded 0 stands for what the layer pads with, as it does with negative padding; the
    ones are padded with 0, so they differ from a constant at the border alone.  ``step``, ``origin``: what an input's
    code c stands for, step * c + origin.  ``weight_step``: float64, () or (out,), what the weight's code 1 stands for.
    ``norm``: name of the batch norm, or None.

    *Source*: PROFIT, supplement, equations 1 and 2, applied to the quantized weight instead of the float one, so that
    nothing is quantized twice.
    """

    name: str
    layer: QuantConv2d | QuantLinear
    norm: str | None
    weight: Tensor
    scale: Tensor
    bias: Tensor
    edge: Tensor | None
    step: float
    origin: float
    weight_step: Tensor

    @property
    def largest(self) -> int:
        """The largest magnitude that a sum of products can have: below 2**31, int32 holds it."""
        grid = self.layer.input_quantizer.grid
        return max(abs(grid.code_min), abs(grid.code_max)) * int(self.weight.long().abs().flatten(1).sum(1).max())

    @property
    def spatial(self) -> tuple[int, ...]:
        """The shape that a value per channel takes against the output: (out, 1, 1) for convolutions, (out,) else."""
        return (-1, 1, 1) if isinstance(self.layer, nn.Conv2d) else (-1,)

    def accumulate(self, codes: Tensor) -> Tensor:
        """The sums of products, int32, of integer codes (N, ...).

        They are added up in float64, since torch has no dilated convolution of integers, and none on a GPU; that is
        exact, as every sum is a whole number below 2**53.
        """
        layer, codes, weight = self.layer, codes.double(), self.weight.double()
        if isinstance(layer, nn.Linear):
            return (codes @ weight.T).int()
        return nn.functional.conv2d(codes, weight, None, layer.stride, layer.padding, layer.dilation,
                                    layer.groups).int()

    def offset(self, codes: Tensor) -> Tensor:
        """What is added to the scaled sums: float64, (out, 1, 1), (out,) or (out, height, width)."""
        bias = self.bias.view(self.spatial)
        if self.edge is None:
            return bias
        return bias + self.edge.view(self.spatial) * self.accumulate(torch.ones_like(codes[:1]))[0]


@torch.no_grad()
def float64_copy(net: nn.Module) -> nn.Module:
    """A copy in float64 and evaluation mode, whose weights keep the codes that they have as the network is.

    (In float64 a weight close to half-way between two levels could get another.)
    """
    net = unfuse(net).eval()
    for layer in net.modules():
        if isinstance(layer, (QuantConv2d, QuantLinear)) and layer.weight_quantizer is not None:
            layer.weight_quantizer = StoredCodes(layer.weight_quantizer, layer.weight_quantizer.encode(layer.weight))
    return net.double()


def integers(net: nn.Module) -> dict[str, IntegerLayer]:
    """The layers of a trained network whose input and weight are both quantized, in the order of their first call.

    Numbers are computed in float64 from the parameters as they are, see :func:`float64_copy`.  Layers with a float
    input or a float weight are left out.  InputError for a quantizer without evenly spaced levels (TTQ), for one that
    scales the output by its input (XNOR), and for a network that cannot be traced.
    """
    net = float64_copy(net)
    graph, modules = trace(net), dict(net.named_modules(remove_duplicate=False))
    norms, found = foldable_norms(net, graph), {}
    for node in graph.nodes:
        layer = modules.get(node.target) if node.op == "call_module" else None
        if not isinstance(layer, (QuantConv2d, QuantLinear)) or not layer.input_quantizer or not layer.weight_quantizer:
            continue
        if node.target in found:
            raise InputError(f"{node.target} is called more than once: integers need a layer of its own for each call")
        norm = norms.get(node.target)
        found[node.target] = _integers(node.target, layer, norm, modules.get(norm))
    return found


def image_graph(net: nn.Module) -> torch.fx.GraphModule:
    """Trace a network that takes images alone; InputError for others, and for hooks, which a graph does not have."""
    for name, module in net.named_modules():
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values()):
            if hook is not quantize_input and getattr(hook, "call", hook) is not None:      # AIWQ's on a copy is idle
                raise InputError(f"{name or type(net).__name__} has a forward hook, which would not be called: remove "
                                 "it (handle.remove()), and write into forward what it changes, if anything")
    graph = trace(net)
    names = [node.name for node in graph.nodes if node.op == "placeholder"]
    if len(names) != 1:
        raise InputError(f"{type(net).__name__}.forward takes {len(names)} tensors ({', '.join(names)}), and can be "
                         "deployed with images alone: give the others a default, or make them attributes")
    return torch.fx.GraphModule(net, graph, type(net).__name__)


@torch.no_grad()
def note_shapes(net: torch.fx.GraphModule, size: tuple[int, ...]) -> None:
    """Note what each node gives for two images of ``size`` (channels, height, width), as ``meta["tensor_meta"]``."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):     # where torch prints a traceback
            ShapeProp(net).propagate(torch.zeros(2, *size).double())
    except RuntimeError as error:
        raise InputError(f"{type(net).__name__} cannot take images of shape {'x'.join(map(str, size))}: give "
                         "input_size as the network needs it") from error


def kind_of(result) -> str:
    """Name the type of what ``forward`` returns, as it was before torch.fx took it down."""
    return type(result).__name__.removeprefix("immutable_")


@torch.no_grad()
def norm_terms(norm: nn.Module | None, channels: int) -> tuple[Tensor, Tensor]:
    """What a batch norm in evaluation mode does, gain * x + shift: two tensors (channels,); 1 and 0 without one."""
    if norm is None:
        return torch.ones(channels).double(), torch.zeros(channels).double()
    gain = 1 / (norm.running_var + norm.eps).sqrt()
    if norm.affine:
        gain = gain * norm.weight
    return gain, (norm.bias if norm.affine else 0) - gain * norm.running_mean


@torch.no_grad()
def _integers(name: str, layer: nn.Module, norm_name: str | None, norm: nn.Module | None) -> IntegerLayer:
    quantizer = layer.input_quantizer
    if type(quantizer).gain is not Quantizer.gain:
        raise InputError(f"{name}: {type(quantizer).__name__} multiplies the output by a factor that it takes from the "
                         "input, which no scale per channel can do: use another method")
    step, origin = (value.item() for value in spacing(quantizer, name))
    if not layer.weight.isfinite().all():
        raise InputError(f"the weight of {name} is not finite: train again, with a lower learning rate")
    codes = layer.weight_quantizer.encode(layer.weight).double()
    weight_step, weight_origin = spacing(layer.weight_quantizer, name)
    halves = (2 * weight_origin / weight_step).round()          # codes of +-1/2, +-3/2 ... are doubled
    if (halves % 2).any():
        weight_step, halves, codes = weight_step / 2, 2 * halves, 2 * codes
    codes = codes + (halves / 2).reshape(layer.weight_quantizer.shape)
    gain, shift = norm_terms(norm, len(codes))
    pad = layer.pad_value if isinstance(layer, nn.Conv2d) and any(layer.padding) else origin
    total, unit = codes.flatten(1).sum(1), gain * weight_step
    bias = unit * pad * total + gain * (0 if layer.bias is None else layer.bias) + shift
    return IntegerLayer(name, layer, norm_name, codes.to(torch.int16), step * unit, bias,
                        None if pad == origin else unit * (origin - pad), step, origin, weight_step)


@torch.no_grad()
def spacing(quantizer: Quantizer, name: str = "this layer") -> tuple[Tensor, Tensor]:
    """(step, origin), float64 of () or (channels,): code c stands for step * c + origin.

    InputError if the levels are not evenly spaced.
    """
    grid, levels = quantizer.grid, quantizer.levels().double()
    step = (levels[..., -1] - levels[..., 0]) / (grid.n_levels - 1)
    affine = quantizer.float32_affine()
    origin = levels[..., 0] - grid.code_min * step
    if affine is not None and not grid.zero:        # without the rounding of the difference
        origin = torch.as_tensor(affine.out_offset, dtype=torch.float64).expand_as(step)
    codes = torch.arange(grid.code_min, grid.code_max + 1, device=levels.device)
    if not torch.allclose(step[..., None] * codes + origin[..., None], levels, rtol=1e-6, atol=0):
        raise InputError(f"{name}: the levels of {type(quantizer).__name__} are not evenly spaced, so integers cannot "
                         "stand for them: use another method")
    return step, origin
