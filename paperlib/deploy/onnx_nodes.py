"""The nodes of an ONNX file, layer by layer."""
from __future__ import annotations

import operator

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from ..errors import InputError
from ..models.graph import changed, foldable_norms, is_plain
from ..models.operations import operation
from ..quantizers import Quantizer
from .integer_layers import IntegerLayer, image_graph, integers, kind_of, norm_terms, note_shapes, spacing
from .onnx_operators import KEPT, KNOWN, clip_of, emit, refuse
from .onnx_requantize import headroom, requantize


class Writer:
    """The nodes and constants of a file while it grows; methods that add nodes return the name of the last output.

    ``codes``: {layer or quantizer: the output that holds the codes of its input}; ``integer``: the layers that compute
    with integers; ``coded``: outputs that hold codes of the quantizer that comes next.
    """

    def __init__(self, net: nn.Module, size: tuple[int, ...], carrier: str):
        self.nodes, self.constants, self.carrier = [], {}, carrier
        self.codes: dict[str, str] = {}
        self.integer: list[str] = []
        self.coded: set[str] = set()
        traced = image_graph(net)
        self.net, self.graph, self.modules = net, traced.graph, dict(net.named_modules(remove_duplicate=False))
        self.operations = {node: operation(node, self.modules) for node in self.graph.nodes}
        self.layers = integers(net) if any(isinstance(m, Quantizer) for m in net.modules()) else {}
        self.norms = foldable_norms(net, self.graph)
        result = next(node for node in self.graph.nodes if node.op == "output").args[0]
        if not isinstance(result, torch.fx.Node):
            raise InputError(f"forward returns a {kind_of(result)}, and a file has one output, the logits: put "
                             "the network into a module whose forward returns them alone")
        try:
            note_shapes(traced, size)
        except InputError:
            for node, found in self.operations.items():
                if node.op.startswith("call") and found is None:
                    refuse(node, self.modules)
            raise

    def add(self, op: str, *inputs: str, **attributes) -> str:
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def constant(self, value, dtype) -> str:
        """The name of a constant, which is there once; dtype: one of numpy's, or "int4"."""
        array = np.asarray(value)
        if isinstance(dtype, str):
            tensor = helper.make_tensor("", TensorProto.INT4, array.shape, array.ravel().tolist())
        else:
            tensor = numpy_helper.from_array(np.ascontiguousarray(array.astype(dtype)).reshape(array.shape))
        key = tensor.SerializeToString(deterministic=True)
        if key not in self.constants:
            tensor.name = f"constant_{len(self.constants)}"
            self.constants[key] = tensor
        return self.constants[key].name

    # -- quantizers ----------------------------------------------------------------------------------------------
    @staticmethod
    def zero_point(quantizer: Quantizer) -> int:
        """What stands for code 0: uint8 carries all codes, since ORT's QLinearConv wants one type on both sides."""
        return 128 if quantizer.grid.code_min < 0 else 0

    def zero(self, quantizer: Quantizer) -> str:
        return self.constant(self.zero_point(quantizer), np.uint8)

    def clip(self, codes: str, quantizer: Quantizer, low: int, top: int) -> str:
        zero = self.zero_point(quantizer)
        if (low + zero, top + zero) == (0, 255):
            return codes
        return self.add("Clip", codes, *(self.constant(code + zero, np.uint8) for code in (low, top)))

    def encode(self, x: str, quantizer: Quantizer, name: str) -> str:
        """The codes of ``x``, clipped, for the layer or block ``name``."""
        self.codes[name] = codes = x if x in self.coded else self.round(x, quantizer, name)
        return codes

    def round(self, x: str, quantizer: Quantizer, name: str) -> str:
        affine, grid = quantizer.float32_affine(), quantizer.grid
        if affine is None or type(quantizer).gain is not Quantizer.gain:
            raise InputError(f"{name}: {type(quantizer).__name__} does not round its input to an evenly spaced grid, "
                             "which is all that QuantizeLinear does: use another method for activations")
        scale = float(affine.in_scale) / grid.steps
        offset = float(affine.in_offset) - grid.zero * scale
        if offset:
            x = self.add("Sub", x, self.constant(offset, np.float32))
        codes = self.add("QuantizeLinear", x, self.constant(scale, np.float32), self.zero(quantizer))
        return self.clip(codes, quantizer, grid.code_min, grid.code_max)

    def decode(self, codes: str, quantizer: Quantizer, step: float, origin: float) -> str:
        x = self.add("DequantizeLinear", codes, self.constant(step, np.float32), self.zero(quantizer))
        return self.add("Add", x, self.constant(origin, np.float32)) if origin else x

    def next_quantizer(self, node: torch.fx.Node) -> tuple[Quantizer, int, int] | None:
        """The input quantizer that alone takes what ``node`` gives, and the lowest and the highest code that enter it.

        None unless only operations that never change the order of two values lie between.
        """
        low, top = -np.inf, np.inf
        while len(node.users) == 1:
            node = next(iter(node.users))
            found, limits = self.operations[node], clip_of(self.operations[node])
            if found and found.name == "layer":
                quantizer = getattr(self.modules[node.target], "input_quantizer", None)
                if (quantizer is None or quantizer.float32_affine() is None
                        or type(quantizer).gain is not Quantizer.gain):
                    return None
                low, top = quantizer.codes(torch.tensor([low, top]).double()).int().tolist()
                return quantizer, low, top
            if limits:
                low, top = (min(max(v, limits[0]), limits[1]) for v in (low, top))
            elif node.target not in self.norms.values() and (found is None or found.name not in KEPT):
                return None
        return None

    # -- layers --------------------------------------------------------------------------------------------------
    def layer(self, node: torch.fx.Node, x: str) -> str:
        name, layer = node.target, self.modules[node.target]
        if not is_plain(layer):
            raise InputError(f"{name}: {type(layer).__name__} may have a forward of its own, which the file would "
                             "drop: put a plain nn.Conv2d or nn.Linear in its place")
        is_conv, shape = isinstance(layer, nn.Conv2d), {}
        if is_conv:
            if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
                raise InputError(f"{name}: only numeric zero padding can be exported: pad before the layer instead")
            shape = {"kernel_shape": layer.kernel_size, "strides": layer.stride, "pads": layer.padding * 2,
                     "dilations": layer.dilation, "group": layer.groups}
        elif len(node.meta["tensor_meta"].shape) != 2:
            raise InputError(f"{name}: fully connected layers take one vector per image here: flatten before")
        found, quantizer = self.layers.get(name), getattr(layer, "input_quantizer", None)
        pad = getattr(layer, "pad_value", 0.0) if is_conv and any(layer.padding) else None
        ahead = self.next_quantizer(node)
        exact = requantize(found, *ahead) if found and is_conv and ahead else None
        if exact is not None:
            return self.integer_conv(found, *ahead, *exact, self.encode(x, quantizer, name), shape)
        if found and self.pointwise(layer, found):
            return self.product(found, self.encode(x, quantizer, name))
        weight, bias = (self.packed(found), found.bias) if found else self.real(node, layer, pad or 0.0)
        if quantizer is not None:
            step, origin = (float(value) for value in spacing(quantizer, name))
            apart = 0.0 if found and pad is None else origin - (pad or 0.0)
            x = self.decode(self.encode(x, quantizer, name), quantizer, step, apart)
        elif pad:
            x = self.add("Sub", x, self.constant(pad, np.float32))
        # apart from a bias that an optimizer would round to int32 with the weights
        inside = [] if ahead else [self.constant(bias, np.float32)]
        y = self.add("Conv", x, weight, *inside, **shape) if is_conv else self.add("Gemm", x, weight, *inside, transB=1)
        return self.add("Add", y, self.constant(bias.view(-1, *[1] * 2 * is_conv), np.float32)) if ahead else y

    def integer_conv(self, found: IntegerLayer, quantizer: Quantizer, low: int, top: int, weight: np.ndarray, room: int,
                     bias: np.ndarray, scale: np.ndarray, codes: str, shape: dict) -> str:
        """From codes to the codes of ``quantizer``, by what :func:`requantize` found."""
        one, zeros = self.constant(1, np.float32), np.zeros(len(scale))
        y = self.add("QLinearConv", codes, one, self.zero(found.layer.input_quantizer), self.int8(weight, room),
                     self.constant(scale, np.float32), self.constant(zeros, np.int8), one, self.zero(quantizer),
                     self.constant(bias, np.int32), **shape)
        y = self.clip(y, quantizer, low, top)
        self.integer.append(found.name)
        self.coded.add(y)
        return y

    def pointwise(self, layer: nn.Module, found: IntegerLayer) -> bool:
        """Whether it is a 1x1 convolution from many channels to few: MatMulInteger pays there, ConvInteger nowhere."""
        return (isinstance(layer, nn.Conv2d) and layer.kernel_size == layer.stride == (1, 1) and layer.groups == 1
                and not any(layer.padding) and layer.out_channels <= layer.in_channels and headroom(found) > 0)

    def product(self, found: IntegerLayer, codes: str) -> str:
        """Sums of products in int32, channels last, times scale plus bias."""
        weight = found.weight.numpy().reshape(len(found.weight), -1).T
        y = self.add("MatMulInteger", self.add("Transpose", codes, perm=[0, 2, 3, 1]), self.int8(weight),
                     self.zero(found.layer.input_quantizer))
        y = self.add("Mul", self.add("Cast", y, to=TensorProto.FLOAT), self.constant(found.scale, np.float32))
        y = self.add("Add", y, self.constant(found.bias, np.float32))
        self.integer.append(found.name)
        return self.add("Transpose", y, perm=[0, 3, 1, 2])

    def fits4(self, codes: np.ndarray) -> bool:
        return self.carrier == "int4" and codes.min() >= -8 and codes.max() <= 7

    def int8(self, codes: np.ndarray, times: int = 1) -> str:
        """codes * times as int8, made at load from 4 bits where they are stored so."""
        if not self.fits4(codes):
            return self.constant(codes * times, np.int8)
        stored = self.constant(codes, "int4")
        if times > 1:
            stored = self.add("Mul", self.add("Cast", stored, to=TensorProto.FLOAT), self.constant(times, np.float32))
        return self.add("Cast", stored, to=TensorProto.INT8)

    def packed(self, found: IntegerLayer) -> str:
        """Integer weights times a scale per channel, above 0."""
        unit, one = found.scale.numpy() / found.step, [1] * (found.weight.dim() - 1)
        codes = found.weight.numpy() * np.sign(unit).astype(np.int16).reshape(-1, *one)
        if codes.min() < -128 or codes.max() > 127:
            return self.constant(codes * np.abs(unit).reshape(-1, *one), np.float32)
        dtype = "int4" if self.fits4(codes) else np.int8
        scale = self.constant(np.where(unit == 0, 1, np.abs(unit)), np.float32)
        return self.add("DequantizeLinear", self.constant(codes, dtype), scale, axis=0)

    def real(self, node: torch.fx.Node, layer: nn.Module, pad: float) -> tuple[str, Tensor]:
        """Weight and bias of a layer of which input or weight is float, with the batch norm after it."""
        weight = layer.quantized_weight() if hasattr(layer, "quantized_weight") else layer.weight
        gain, shift = norm_terms(self.modules.get(self.norms.get(node.target)), len(weight))
        weight = weight * gain.reshape(-1, *[1] * (weight.dim() - 1))
        bias = shift + gain * (0 if layer.bias is None else layer.bias) + pad * weight.flatten(1).sum(1)
        return self.constant(weight, np.float32), bias

    # -- the whole network ---------------------------------------------------------------------------------------
    def write(self) -> None:
        """Add all nodes, from ``images`` to ``logits``."""
        made: dict[torch.fx.Node, str | None] = {}
        for node in self.graph.nodes:
            made[node] = self.call(node, made)

    def call(self, node: torch.fx.Node, made: dict) -> str | None:
        """Add what a node of the network's graph becomes; None for a size."""
        found = self.operations[node]
        if found is None and changed(node, self.modules):
            refuse(node, self.modules)
        if "clobbers" in node.meta:
            raise InputError(f"{node.name} changes numbers in place that {node.meta['clobbers'].name} has as well, "
                             "which cannot be exported: leave out inplace=True")
        if node.op == "placeholder":
            return "images"
        if node.op == "get_attr":
            value = operator.attrgetter(node.target)(self.net)
            if not value.is_floating_point():
                raise InputError(f"{node.target} holds whole numbers, which cannot be exported: make it float")
            return self.constant(value.detach(), np.float32)
        if node.op == "output":
            ends = [made[node.args[0]], self.not_finite(node)]
            self.nodes.append(helper.make_node("Add", ends, ["logits"], name="logits"))
            return "logits"
        if "tensor_meta" not in node.meta:
            return None
        if found is None or found.name not in KNOWN:
            refuse(node, self.modules)
        inputs = [made[x] if isinstance(x, torch.fx.Node) else self.constant(x, np.float32) for x in found.inputs]
        if None in inputs:
            raise InputError(f"forward computes with {found.inputs[inputs.index(None)].name}, a size, which cannot be "
                             "exported: write the number")
        if found.name == "layer":
            return self.layer(node, *inputs)
        if found.name == "quantizer":
            module = self.modules[node.target]
            step, origin = (float(value) for value in spacing(module, node.target))
            return self.decode(self.encode(*inputs, module, node.target), module, step, origin)
        return inputs[0] if node.target in self.norms.values() else emit(self, node, found, inputs)

    def not_finite(self, output: torch.fx.Node) -> str:
        """For each image 0, or NaN if it has a value that is not finite: rounding to codes would hide it."""
        zero = self.add("Flatten", self.add("Mul", "images", self.constant(0, np.float32)), axis=1)
        zero = self.add("ReduceSum", zero, self.constant([1], np.int64), keepdims=0)
        axes = list(range(1, len(output.args[0].meta["tensor_meta"].shape)))
        return self.add("Unsqueeze", zero, self.constant(axes, np.int64)) if axes else zero
