"""What a network costs: multiply-accumulates, bit operations and bytes of weights, layer by layer."""
from __future__ import annotations

import math
import warnings

import pandas as pd
import torch
from torch import nn

from ..errors import InputError, brief
from ..quantizers import Quantizer
from . import unfuse
from .layers import QuantConv2d, QuantLinear
from .quantize import kind
from .residual import quantized_blocks
from .scheme import FLOAT
from .squeeze_excite import gate_layers

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def table(net: nn.Module, input_size: int | tuple[int, int, int]) -> pd.DataFrame:
    """One row per module with parameters of its own, in the network's order; ``net`` is float or quantized.

    ``input_size``: pixels of a square RGB image, or (channels, height, width).  Columns:

    - ``layer``, ``kind``: as in :func:`paperlib.models.plan`; "norm" for batch norm;
    - ``macs``: multiply-accumulates for one image, of convolutions and fully connected layers;
    - ``params``: parameters, quantizers' apart; one that several modules share counts where it comes first;
    - ``bops``: bit operations, macs * (a*w + a + w + log2(n)) with a bits of the input, w of the weight and n products
      in one output (channels it sees * kernel height * width); float counts as 32 bits (PROFIT, supplement, figure 4);
    - ``weight_bytes``: weights of these layers at w bits, packed; without biases and batch norm, whose share is small
      and which the supplement leaves out.

    Nothing is computed: shapes alone go through a copy of the network, which stays as it is.  InputError if it cannot
    take such an image.  Other layers with weights (recurrent ones, say) count 0 MACs, with a warning.
    """
    shape = (3, input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    macs, rows, seen, uncounted = _macs(net, shape), [], set(), []
    gates = gate_layers(net)
    first = next((name for name in macs if isinstance(net.get_submodule(name), nn.Conv2d)), None)
    for name, module in net.named_modules():
        own = [p for p in module.parameters(recurse=False) if id(p) not in seen]
        seen.update(map(id, own))
        if isinstance(module, Quantizer) or next(module.parameters(recurse=False), None) is None:
            continue
        row = {"layer": name, "kind": type(module).__name__.lower(), "macs": 0, "params": sum(p.numel() for p in own),
               "bops": 0.0, "weight_bytes": 0.0}
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            a, w = (FLOAT if q is None else q.bits for q in (
                getattr(module, "input_quantizer", None), getattr(module, "weight_quantizer", None)))
            products, count = module.weight[0].numel(), macs.get(name, 0)
            row |= {"kind": kind(net, name, name == first, gates), "macs": count,
                    "bops": count * (a * w + a + w + math.log2(products)),
                    "weight_bytes": sum(p.numel() for p in own if p is module.weight) * w / 8}
        elif isinstance(module, _NORMS):
            row["kind"] = "norm"
        elif any(p.ndim > 1 for p in own):
            uncounted.append(name)
        rows.append(row)
    if uncounted:
        warnings.warn(f"cost.table counts convolutions and fully connected layers only; these have weights but count 0 "
                      f"MACs: {', '.join(uncounted)}", stacklevel=2)
    return pd.DataFrame(rows, columns=["layer", "kind", "macs", "params", "bops", "weight_bytes"])


@torch.no_grad()
def _macs(net: nn.Module, shape: tuple[int, ...]) -> dict[str, int]:
    """Count {layer: multiply-accumulates for one image}, in order of the first call."""
    macs, copy = {}, unfuse(net).to("meta").eval()
    for _, block in quantized_blocks(copy):
        block.identity_quantizer = nn.Identity()
    for name, layer in copy.named_modules():
        if isinstance(layer, (QuantConv2d, QuantLinear)):
            layer.input_quantizer = layer.weight_quantizer = None       # shapes need no ranges
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            def count(layer, inputs, output, name=name):
                macs[name] = macs.get(name, 0) + output.numel() * layer.weight[0].numel()
            layer.register_forward_hook(count)
    dtype = next((p.dtype for p in copy.parameters()), None)
    try:
        copy(torch.empty(1, *shape, dtype=dtype, device="meta"))
    except (RuntimeError, NotImplementedError, TypeError) as error:
        raise InputError(f"cannot send an image of shape {'x'.join(map(str, shape))} through {type(net).__name__} "
                         f"({brief(error)}): give input_size as the network needs it") from error
    return macs
