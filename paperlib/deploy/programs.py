"""The graph of a network with integer layers in it; what lies between two of them is float64, or fixed-point.

A fixed-point number is an integer in units of 2**-fraction, in an int64 tensor, and stays within 32 bits.
"""
from __future__ import annotations

import operator
from collections.abc import Callable

import numpy as np
import torch
import torch.fx
from torch import Tensor

from ..errors import InputError
from ..models.operations import operation
from ..quantizers import Quantizer
from .fixed_rules import COMPUTED, KNOWN, Factor, Refused, compute
from .integer_layers import IntegerLayer, kind_of, spacing

LIMIT = 2**31       # everything fits int32 but the products of two such numbers


class FloatProgram(torch.fx.Interpreter):
    """Runs the graph of a network with integer layers in it and without the batch norms that they hold.

    ``on_codes``: called with the name and the codes of each layer and quantizer, if not None.
    """

    def __init__(self, graph: torch.fx.GraphModule, layers: dict[str, IntegerLayer]):
        super().__init__(graph)
        self.extra_traceback = False        # errors stay as they are
        self.layers, self.norms = layers, {layer.norm for layer in layers.values()}
        self.on_codes: Callable[[str, Tensor], None] | None = None

    def call_module(self, target, args, kwargs):
        if target in self.norms:
            return args[0]
        module = self.fetch_attr(target)
        if target not in self.layers and not isinstance(module, Quantizer):
            return super().call_module(target, args, kwargs)
        x = args[0] if args else kwargs["input"]
        if x.is_floating_point() and x.isnan().any():
            raise InputError(f"what reaches {target} is not a number (NaN) at places, for which there is no code: look "
                             "for a division by 0 or a logarithm before it")
        codes = self.encode(target, getattr(module, "input_quantizer", module), x)
        if self.on_codes is not None:
            self.on_codes(target, codes)
        if isinstance(module, Quantizer):
            return self.decode(target, module, codes)
        layer = self.layers[target]
        if layer.norm is not None and codes.dim() != layer.weight.dim():
            raise InputError(f"{target}: the batch norm {layer.norm} behind it counts channels along another axis for "
                             f"inputs with {codes.dim()} axes: flatten before the layer")
        return self.rescale(target, layer, codes)

    # -- what fixed-point arithmetic does otherwise ---------------------------------------------------------------
    def encode(self, target: str, quantizer: Quantizer, x: Tensor) -> Tensor:
        return quantizer.encode(x)

    def decode(self, target: str, quantizer: Quantizer, codes: Tensor) -> Tensor:
        return quantizer.decode(codes)

    def rescale(self, target: str, layer: IntegerLayer, codes: Tensor) -> Tensor:
        return layer.scale.view(layer.spatial) * layer.accumulate(codes) + layer.offset(codes)


class FixedProgram(FloatProgram):
    """Runs the graph in fixed point; what is float until then, the image and constants, is brought into it where used.

    ``fraction``: bits after the point; ``one`` stands for 1.  InputError for a network that this cannot compute.
    """

    def __init__(self, graph: torch.fx.GraphModule, layers: dict[str, IntegerLayer], fraction: int):
        super().__init__(graph, layers)
        self.fraction, self.one = fraction, 1 << fraction
        modules = dict(graph.named_modules(remove_duplicate=False))
        self.operations = {node: operation(node, modules) for node in graph.graph.nodes}
        self.check(graph.graph)
        self.factors = {name: Factor(layer.scale * self.one) for name, layer in layers.items()}
        self.biases = {name: self.fixed(layer.bias) for name, layer in layers.items()}
        self.edges = {name: Factor(layer.edge * self.one) for name, layer in layers.items() if layer.edge is not None}
        self.tables: dict[str, Tensor] = {}

    def check(self, graph: torch.fx.Graph) -> None:
        """InputError for a network that this cannot compute, by the name of what is in the way."""
        left = [node.target for node, found in self.operations.items()
                if found and found.name == "layer" and node.target not in self.layers]
        if left:
            raise InputError(f"{', '.join(left[:3])}{' ...' if left[3:] else ''} stayed in float (models.plan shows "
                             "the bits of each layer), so integers alone cannot compute this network: quantize every "
                             "layer, or use rescale='float'")
        for node, found in self.operations.items():
            name, what = node.name, getattr(node.target, "__name__", node.target)
            if node.op == "call_module":
                what = f"{node.target}: {type(self.fetch_attr(node.target)).__name__}"
            if node.op == "get_attr" and not self.fetch_attr(node.target).is_floating_point() and any(
                    user.target is not operator.getitem or user.args[0] is node for user in node.users):
                raise InputError(f"{node.target} holds whole numbers, which would be taken for fixed-point ones: "
                                 "make it float, or use rescale='float'")
            if node.op.startswith("call") and (found is None or found.name not in KNOWN):
                raise InputError(f"{what} has no form in integers: use rescale='float'")
            if "clobbers" in node.meta:
                raise InputError(f"{what} ({name}) changes numbers in place that {node.meta['clobbers'].name} "
                                 "has as well: leave out inplace=True, or use rescale='float'")
            if node.op == "output" and not isinstance(node.args[0], torch.fx.Node):
                raise InputError(f"forward returns a {kind_of(node.args[0])}, and integers are computed for one "
                                 "tensor: return the logits alone, or use rescale='float'")

    def fixed(self, x: Tensor) -> Tensor:
        x = (x.double() * self.one).round()
        if not (x.abs() < LIMIT).all():
            raise InputError(f"{x.abs().max() / self.one:.3g} needs more than 32 bits with {self.fraction} bits behind "
                             "the point: use a smaller fraction")
        return x.long()

    def number(self, x: Tensor | float) -> Tensor:
        """In fixed point: numbers of the program as they are, the image and constants scaled."""
        x = torch.as_tensor(x, dtype=None if isinstance(x, Tensor) else torch.float64)
        return self.fixed(x) if x.is_floating_point() else x

    def run_node(self, node: torch.fx.Node):
        found = self.operations[node]
        inputs, settings = self.map_nodes_to_values((found.inputs, found.settings), node) if found else ((), {})
        # numbers that are computed from sizes alone have no tensor among them
        computes = any(isinstance(x, (Tensor, tuple, list)) for x in inputs) and found.name in COMPUTED
        if not computes or node.target in self.norms:
            result = super().run_node(node)
        else:
            try:
                result = compute(self, found, inputs, settings)
            except Refused as error:
                raise InputError(f"{node.target if node.op == 'call_module' else node.name}: {found.name} {error}: use "
                                 "rescale='float'") from None
        if isinstance(result, Tensor) and result.dtype == torch.int64 and result.numel() and (
                result.abs().max() >= LIMIT):
            raise InputError(f"a number at {node.name} needs more than 32 bits with {self.fraction} bits behind the "
                             "point: use a smaller fraction")
        return result

    def output(self, target, args, kwargs):
        return self.number(super().output(target, args, kwargs)).double() / self.one

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

    def rescale(self, target: str, layer: IntegerLayer, codes: Tensor) -> Tensor:
        output = self.factors[target](layer.accumulate(codes), layer.spatial) + self.biases[target].view(layer.spatial)
        if target in self.edges:
            output += self.edges[target](layer.accumulate(torch.ones_like(codes[:1])), layer.spatial)
        return output


def thresholds(quantizer: Quantizer, fraction: int) -> Tensor:
    """For each code but the lowest: the smallest integer n whose real number n * 2**-fraction gets that code or a
    higher one, int64; 2**31 where none does."""
    wanted = np.arange(quantizer.grid.code_min + 1, quantizer.grid.code_max + 1)

    def reached(n: np.ndarray) -> np.ndarray:
        return quantizer.encode(torch.from_numpy(n).double() * 2.0**-fraction).numpy() >= wanted

    return torch.from_numpy(least(reached, np.full_like(wanted, -LIMIT), np.full_like(wanted, LIMIT)))


def least(holds: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The smallest integers from low to high from which on a condition holds; high where there are none.

    By bisection; ``holds`` takes and gives arrays of the limits' shape.
    """
    while (low < high).any():
        middle = (low + high) >> 1
        held = holds(middle)
        low, high = np.where(held, low, np.minimum(middle + 1, high)), np.where(held, middle, high)
    return low
