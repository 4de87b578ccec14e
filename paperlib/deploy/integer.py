"""Inference with integers: codes in, exact sums of products, a factor per channel, the next layer's codes out."""
from __future__ import annotations

import operator
from collections.abc import Callable

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..models.ranges import trace
from ..quantizers import Quantizer
from .fold import IntegerLayer, doubled, integers, spacing

RESCALINGS = ("float", "fixed")
LIMIT = 2**31       # everything fits int32 but the products of two such numbers


class IntegerNet(nn.Module):
    """A trained quantized network whose convolutions and fully connected layers compute with integers alone.

    Input: float images (N, C, H, W), normalized as the network was trained with; output: float64 logits (N, classes).
    Each layer turns its input into integer codes, sums products in int32 and multiplies the sums by one number per
    channel, which holds the steps of both grids and the batch norm.

    ``rescale="float"``: that factor and what lies between two layers (h-swish, residual additions, pooling,
    squeeze-and-excite) are float64.  The codes are those of the fake-quantized network in float64.

    ``rescale="fixed"``: nothing is float.  A number between layers is a 32-bit integer, in units of 2**-``fraction``;
    the factor is a 31-bit integer and a shift; codes come from comparing with a table of thresholds, so that any
    monotone quantizer is as exact as its input.  What this costs, :func:`paperlib.deploy.compare` counts.

    :meth:`codes` tells what the layers compute with.  InputError for what
    :func:`paperlib.deploy.integers` refuses; for sums that int32 could not hold; with "fixed" also for layers that
    were left in float, for an operation without an integer form, and for numbers beyond 32 bits.

    *Source*: PROFIT, supplement, section 5, whose batch norms are folded here with nothing quantized again; the
    factor as integer and shift is Jacob et al., CVPR 2018.
    """

    def __init__(self, net: nn.Module, rescale: str = "float", fraction: int = 20):
        super().__init__()
        if rescale not in RESCALINGS:
            raise InputError(f"rescale must be float or fixed, got {rescale!r}")
        if not 0 < fraction < 31:
            raise InputError(f"fraction must be a number of bits from 1 to 30, got {fraction}")
        net = doubled(net)
        self.layers, self.rescale, self.fraction = integers(net), rescale, fraction
        for name, layer in self.layers.items():
            if layer.largest >= LIMIT:
                raise InputError(f"{name}: a sum of products can reach {layer.largest}, which int32 does not hold")
        graph = torch.fx.GraphModule(net, trace(net))
        self.program = _Float(graph, self.layers) if rescale == "float" else _Fixed(graph, self.layers, fraction)

    @property
    def quantizers(self) -> list[str]:
        """Where codes appear: the integer layers, and quantizers of their own, in the order of the computation."""
        nodes = (node.target for node in self.program.module.graph.nodes if node.op == "call_module")
        return [name for name in nodes
                if name in self.layers or isinstance(self.program.fetch_attr(name), Quantizer)]

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        return self.program.run(images.double())

    def codes(self, images: Tensor) -> dict[str, Tensor]:
        """{layer, or quantizer of its own: the codes (int16) that it computes with}, in the order of the
        computation."""
        found: dict[str, Tensor] = {}
        self.program.watch = lambda name, codes: found.update({name: codes})
        try:
            self(images)
        finally:
            self.program.watch = None
        return found

    def extra_repr(self) -> str:
        unit = f", unit 2**-{self.fraction}" if self.rescale == "fixed" else ""
        return f"{len(self.layers)} integer layers, rescale={self.rescale}{unit}"


class _Float(torch.fx.Interpreter):
    """The network's graph, with integer layers in it and without the batch norms that they hold."""

    def __init__(self, graph: torch.fx.GraphModule, layers: dict[str, IntegerLayer]):
        super().__init__(graph)
        self.extra_traceback = False        # errors stay as they are
        self.layers, self.norms = layers, {layer.norm for layer in layers.values()}
        self.watch: Callable[[str, Tensor], None] | None = None

    def call_module(self, target, args, kwargs):
        if target in self.norms:
            return args[0]
        module = self.fetch_attr(target)
        if target not in self.layers and not isinstance(module, Quantizer):
            return self.between(target, module, *args, **kwargs)
        codes = self.encode(target, getattr(module, "input_quantizer", module), args[0])
        if self.watch is not None:
            self.watch(target, codes)
        if isinstance(module, Quantizer):
            return self.decode(target, module, codes)
        return self.scaled(target, self.layers[target], codes)

    def between(self, target, module, *args, **kwargs):
        return super().call_module(target, args, kwargs)

    def encode(self, target: str, quantizer: Quantizer, x: Tensor) -> Tensor:
        return quantizer.encode(x)

    def decode(self, target: str, quantizer: Quantizer, codes: Tensor) -> Tensor:
        return quantizer.decode(codes)

    def scaled(self, target: str, layer: IntegerLayer, codes: Tensor) -> Tensor:
        return layer.scale.view(layer.spatial) * layer.accumulate(codes) + layer.offset(codes)


class Factor:
    """Multiplication by real numbers (out,) in integers: a multiplier of 31 bits and a shift to the right for each.

    Called with integers (int64, below 2**31 in magnitude), returns their rounded products, half-way cases upwards.
    """

    def __init__(self, real: Tensor):
        mantissa, exponent = torch.frexp(real)
        self.shift = (31 - exponent.long()).clamp(max=62)
        if (self.shift < 1).any():
            raise InputError(f"a factor of {real.abs().max():.3g} is too large for 32 bits: use a smaller fraction")
        self.multiplier = torch.ldexp(real, self.shift).round().long()

    def __call__(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        multiplier, shift = self.multiplier.view(shape), self.shift.view(shape)
        return (x.long() * multiplier + (1 << (shift - 1))) >> shift


class _Fixed(_Float):
    """The same with fixed-point numbers, int64 tensors that stay within 32 bits, in units of 2**-fraction."""

    def __init__(self, graph: torch.fx.GraphModule, layers: dict[str, IntegerLayer], fraction: int):
        super().__init__(graph, layers)
        self.fraction, self.one = fraction, 1 << fraction
        left = [node.target for node in graph.graph.nodes if node.op == "call_module" and node.target not in layers
                and isinstance(self.fetch_attr(node.target), (nn.Conv2d, nn.Linear))]
        if left:
            raise InputError(f"{', '.join(left[:3])}{' ...' if left[3:] else ''} stayed in float, so integers alone "
                             "cannot compute this network: quantize every layer, or use rescale='float'")
        self.factors = {name: Factor(layer.scale * self.one) for name, layer in layers.items()}
        self.biases = {name: self.fixed(layer.bias) for name, layer in layers.items()}
        self.edges = {name: Factor(layer.edge * self.one) for name, layer in layers.items() if layer.edge is not None}
        self.tables: dict[str, Tensor] = {}

    def fixed(self, x: Tensor) -> Tensor:
        return (x * self.one).round().long()

    def run_node(self, node: torch.fx.Node):
        result = super().run_node(node)
        if isinstance(result, Tensor) and result.dtype == torch.int64 and result.numel() and (
                result.abs().max() >= LIMIT):
            raise InputError(f"a number at {node.name} needs more than 32 bits with {self.fraction} bits behind the "
                             "point: use a smaller fraction")
        return result

    def output(self, target, args, kwargs):
        return super().output(target, args, kwargs).double() / self.one

    def encode(self, target: str, quantizer: Quantizer, x: Tensor) -> Tensor:
        if x.is_floating_point():       # the image itself
            return super().encode(target, quantizer, x)
        if target not in self.tables:
            self.tables[target] = thresholds(quantizer, self.fraction)
        codes = torch.bucketize(x.contiguous(), self.tables[target], right=True)
        return codes.add_(quantizer.grid.code_min).to(torch.int16)

    def decode(self, target: str, quantizer: Quantizer, codes: Tensor) -> Tensor:
        step, origin = spacing(quantizer, target)
        return Factor(step.view(1) * self.one)(codes, (1,)) + self.fixed(origin)

    def scaled(self, target: str, layer: IntegerLayer, codes: Tensor) -> Tensor:
        output = self.factors[target](layer.accumulate(codes), layer.spatial) + self.biases[target].view(layer.spatial)
        if target in self.edges:
            output += self.edges[target](layer.accumulate(torch.ones_like(codes[:1])), layer.spatial)
        return output

    def between(self, target, module, x, *args):
        rule = _MODULES.get(type(module))
        if rule is None:
            raise InputError(f"{target}: {type(module).__name__} has no form in integers: use rescale='float'")
        return rule(self, module, self.fixed(x) if x.is_floating_point() else x)

    def call_function(self, target, args, kwargs):
        if target in (torch.flatten, torch.add, operator.add, operator.iadd):
            return super().call_function(target, args, kwargs)
        if target in (torch.mul, operator.mul, operator.imul):
            return (args[0] * args[1] + (self.one >> 1)) >> self.fraction
        if target is F.adaptive_avg_pool2d:
            return _average(args[0], args[1])
        raise InputError(f"{getattr(target, '__name__', target)} has no form in integers: use rescale='float'")

    def call_method(self, target, args, kwargs):
        if target not in ("flatten", "view", "reshape", "contiguous"):
            raise InputError(f"{target} has no form in integers: use rescale='float'")
        return super().call_method(target, args, kwargs)


def thresholds(quantizer: Quantizer, fraction: int) -> Tensor:
    """For each code but the least: the least integer n whose real number n * 2**-fraction gets that code or a higher
    one, int64, by bisection; 2**31 where none does."""
    wanted = torch.arange(quantizer.grid.code_min + 1, quantizer.grid.code_max + 1)
    low, high = torch.full_like(wanted, -LIMIT), torch.full_like(wanted, LIMIT)
    while (low < high).any():
        middle = (low + high) >> 1
        reached = quantizer.encode(middle.double() * 2.0**-fraction) >= wanted
        low, high = torch.where(reached, low, middle + 1), torch.where(reached, middle, high)
        low = torch.minimum(low, high)
    return low


def _average(x: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Adaptive average pooling of integers, rounded, half-way cases upwards; as torch's, windows may overlap."""
    height, width = x.shape[-2:]
    rows, columns = (size, size) if isinstance(size, int) else size

    def window(i, n, length):
        return slice(i * length // n, -(-(i + 1) * length // n))

    def mean(i, j):
        part = x[..., window(i, rows, height), window(j, columns, width)]
        count = part.shape[-1] * part.shape[-2]
        return torch.div(part.sum((-2, -1)) + count // 2, count, rounding_mode="floor")

    return torch.stack([mean(i, j) for i in range(rows) for j in range(columns)], -1).unflatten(-1, (rows, columns))


def _sixths(program: _Fixed, x: Tensor, of: int | Tensor) -> Tensor:
    """``of`` times clip(x + 3, 0, 6) / 6, with one rounding; ``of`` is a number of the program or 1."""
    product = (x + 3 * program.one).clamp(0, 6 * program.one) * of
    whole = 6 * (program.one if isinstance(of, Tensor) else 1)
    return torch.div(product + whole // 2, whole, rounding_mode="floor")


_MODULES: dict[type, Callable[[_Fixed, nn.Module, Tensor], Tensor]] = {
    nn.ReLU: lambda program, module, x: x.clamp(min=0),
    nn.ReLU6: lambda program, module, x: x.clamp(0, 6 * program.one),
    nn.Hardtanh: lambda program, module, x: x.clamp(*(round(end * program.one) for end in
                                                      (module.min_val, module.max_val))),
    nn.Hardswish: lambda program, module, x: _sixths(program, x, x),
    nn.Hardsigmoid: lambda program, module, x: _sixths(program, x, 1),
    nn.AdaptiveAvgPool2d: lambda program, module, x: _average(x, module.output_size),
    nn.MaxPool2d: lambda program, module, x: module(x),
    nn.Flatten: lambda program, module, x: module(x),
    nn.Dropout: lambda program, module, x: x,
    nn.Identity: lambda program, module, x: x,
}
