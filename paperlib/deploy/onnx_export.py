"""A trained network as an ONNX file of standard operators, and the file in ONNX Runtime.

Layers are emitted from the graph that ``torch.fx`` traces, batch norm folded, weights as integers.  A layer of which
input and weight are quantized takes one of three forms, all of which compute what the network computes:

- QLinearConv, codes to codes, where nothing but batch norm, ReLU, ReLU6 and max pooling lies between a convolution and
  the next quantizer, and onnx_requantize.py finds integers that give the right code for every sum (up to 4 bits).
- MatMulInteger, Mul and Add, for 1x1 convolutions to no more channels than they see.
- DequantizeLinear of codes and weight, then Conv or Gemm in float.  It gives the same codes, but at 224x224 a 4-bit
  MobileNet-v2 takes two to three times as long without QLinearConv, and 1.4 times without MatMulInteger.
"""
from __future__ import annotations

import json
from collections.abc import Callable
from os import PathLike
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from ..errors import InputError
from ..system.paths import atomic
from .integer_layers import float64_copy
from .onnx_nodes import Writer

OPSET, IR_VERSION = 21, 10      # the first with 4-bit integers


def to_onnx(net: nn.Module, path: str | PathLike, *, input_size: int | tuple[int, int, int],
            carrier: str = "int8") -> Path:
    """Write a network, float or quantized and calibrated, to an ONNX file; returns its path.

    ``input_size``: pixels of a square RGB image, or (channels, height, width).  The file takes ``images``, float32
    (batch, channels, height, width) with any batch, and gives ``logits``, float32 (batch, classes), with operators of
    opset 21 and no others; the same network gives the same bytes.  ``metadata_props`` hold the bits of each layer and
    which of them compute with integers.

    ``carrier``: "int8" stores weights in 8 bits; "int4" weights of up to 4 bits in 4, and a runtime widens them when it
    loads the file.  Activations are carried by uint8, with 128 for code 0 where a quantizer has both signs.  InputError
    for an operation that has no counterpart here, for a network with other inputs or outputs than these, and for
    quantizers whose levels are not evenly spaced.  An image with a value that is not finite has NaN as its logits.
    """
    if carrier not in ("int8", "int4"):
        raise InputError(f"carrier must be 'int8' or 'int4', got {carrier!r}")
    size = (3, input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    net = float64_copy(net).cpu()
    writer = Writer(net, size, carrier)
    with torch.no_grad():
        writer.write()
    classes = next(n for n in writer.graph.nodes if n.op == "output").args[0].meta["tensor_meta"].shape[1:]
    bits = {name: [getattr(q, "bits", 32) for q in (m.weight_quantizer, m.input_quantizer)]
            for name, m in net.named_modules() if hasattr(m, "weight_quantizer")}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
            for name, shape in (("images", size), ("logits", classes))]
    graph = helper.make_graph(writer.nodes, type(net).__name__, ends[:1], ends[1:], list(writer.constants.values()),
                              doc_string="Images to logits; integers are codes of quantizers.")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
                              producer_name="paperlib")
    helper.set_model_props(model, {"bits of weight and input": json.dumps(bits), "carrier": carrier,
                                   "codes of the input": json.dumps(writer.codes),
                                   "integer convolutions": json.dumps(writer.integer)})
    onnx.checker.check_model(model, full_check=True)
    with atomic(path) as temp:
        temp.write_bytes(model.SerializeToString(deterministic=True))
    return Path(path)


def session(path: str | PathLike, *, threads: int = 0):
    """Open an ``onnxruntime.InferenceSession`` on the CPU, quiet and deterministic; threads: 0 for all cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads, options.use_deterministic_compute = 3, threads, True
    # weights are made float once and not in every run; integer convolutions are in the file as such
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def runner(path: str | PathLike, *, threads: int = 0) -> Callable[[Tensor], Tensor]:
    """Open the file in ONNX Runtime, as a function from images (N, C, H, W) to logits (N, classes), float32."""
    run = session(path, threads=threads)
    return lambda images: torch.from_numpy(run.run(None, {"images": images.detach().float().cpu().numpy()})[0])
