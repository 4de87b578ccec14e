"""The graph of a network with integer layers in it; what lies between two of them is float64."""
from __future__ import annotations

from collections.abc import Callable

import torch
import torch.fx
from torch import Tensor

from ..errors import InputError
from ..quantizers import Quantizer
from .integer_layers import IntegerLayer


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
