"""The header of a packed file and the network that it describes, each from the other (pack.py)."""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .. import models
from ..errors import InputError
from ..models.copying import copied
from ..models.graph import replace, unwrapped
from ..models.layers import QuantConv2d, QuantLinear
from ..models.quantize import quantized_layers
from ..models.residual import attach, quantized_blocks
from ..models.value_bounds import input_floors
from ..quantizers import Quantizer
from .packed_quantizer import FITS, StoredCodes, canonical_json, describe, finite, rebuild, require

# what is stored as it is
NUMBERS = {name: np.dtype(name).newbyteorder("<")
           for name in ("float32", "int64", "int32", "int16", "int8", "uint8", "bool")}
KINDS = ("first", "conv", "depthwise", "expand", "project", "se", "linear")


class Part(NamedTuple):
    """A tensor in the file: an item of the header's ``parts``."""

    layer: str
    part: str
    kind: str
    bits: int
    shape: list[int]
    offset: int
    bytes: int

    @property
    def name(self) -> str:
        return _join(self.layer, self.part)


def _join(*names: str) -> str:
    return ".".join(filter(None, names))


def size_of(shape: list[int], bits: int) -> int:
    return -(-math.prod(shape) * bits // 8)


def pack_bits(code: np.ndarray, n: int) -> bytes:
    """Put codes from 0 to 2**n - 1 into a string of bits, the lowest of each first."""
    bits = np.unpackbits(code.astype(np.uint8).reshape(-1, 1), axis=1, count=n, bitorder="little")
    return np.packbits(bits, bitorder="little").tobytes()


def unpack_bits(raw: np.ndarray, n: int, count: int) -> np.ndarray:
    """The ``count`` codes, uint8, that :func:`pack_bits` put into the bytes ``raw``."""
    bits = np.unpackbits(raw, count=count * n, bitorder="little")
    return np.packbits(bits.reshape(-1, n), axis=1, bitorder="little")[:, 0]


def tensors(net: nn.Module) -> Iterator[tuple[str, str, Tensor, Quantizer | None]]:
    """(layer, part, tensor, quantizer if it is stored as codes): what the state dict has, tied parameters once."""
    kept, seen = net.state_dict(keep_vars=True), set()
    for name, module in net.named_modules():
        if isinstance(module, Quantizer):
            continue
        for part, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            quantizer = getattr(module, "weight_quantizer", None) if part == "weight" else None
            if quantizer is not None:
                yield name, part, tensor, quantizer
            elif _join(name, part) in kept and id(tensor) not in seen:
                seen.add(id(tensor))
                yield name, part, tensor, None
        for which in ("weight_quantizer", "input_quantizer", "identity_quantizer"):
            if (quantizer := getattr(module, which, None)) is not None:
                for part, tensor in (*quantizer.named_parameters(), *quantizer.named_buffers()):
                    yield name, f"{which}.{part}", tensor, None


def header_of(net: nn.Module, build: dict | None) -> dict:
    """The header of a quantized network's file; InputError for what a file does not store."""
    layers = [{"name": name, "kind": layer.kind, "pad_value": getattr(layer, "pad_value", None),
               "channels_last": layer.weight.stride() == _like(layer.weight, True).stride(),
               "input": describe(layer.input_quantizer), "weight": describe(layer.weight_quantizer)}
              for name, layer in quantized_layers(net)]
    blocks = [{"name": n, "quantizer": describe(block.identity_quantizer)} for n, block in quantized_blocks(net)]
    for name, module in net.named_modules():
        require(isinstance(module, Quantizer) or type(module).get_extra_state is nn.Module.get_extra_state,
                f"{name} ({type(module).__name__}) has a get_extra_state of its own, and a packed file stores tensors "
                "alone: make what it keeps a buffer")
    parts, offset = [], 0
    for layer, part, tensor, quantizer in tensors(net):
        kind, bits = str(tensor.dtype).removeprefix("torch."), 8 * tensor.element_size()
        cure = ("call net.float() first" if tensor.is_floating_point() else
                "register it with persistent=False, or as a type that is stored")
        require(kind == "float32" or kind in NUMBERS and quantizer is None,
                f"{_join(layer, part)} is {kind}, and a packed file stores {', '.join(NUMBERS)}: {cure}")
        if quantizer is not None:
            kind, bits = "codes", quantizer.bits
        parts.append(Part(layer, part, kind, bits, list(tensor.shape), offset, size_of(tensor.shape, bits)))
        offset += parts[-1].bytes
    return {"build": build, "layers": layers, "blocks": blocks, "parts": parts}


def _like(weight: Tensor, channels_last: bool) -> Tensor:
    """Memory for a weight."""
    last = channels_last and weight.dim() == 4
    return torch.empty_like(weight, memory_format=torch.channels_last if last else torch.contiguous_format)


def fit(net: nn.Module, header: dict, device: str) -> nn.Module:
    """The float ``net`` or its folded form, quantized as the header says; the parts' numbers are missing."""
    with torch.device(device):
        try:
            return _quantize(copied(unwrapped(net)), header)
        except InputError as error:
            try:
                return _quantize(models.fold(net), header)
            except (InputError, TypeError):     # TypeError: a norm without statistics
                raise error from None


def _quantize(net: nn.Module, header: dict) -> nn.Module:
    """``net``, changed in place; InputError unless its header is ``header`` then."""
    modules = dict(net.named_modules())
    require(not any(isinstance(m, (QuantConv2d, QuantLinear)) for m in net.modules()),
            "the network that was passed is quantized: pass the float one")
    blocks = input_floors(net).blocks if header["blocks"] else {}
    for entry in header["layers"]:
        name, old = entry["name"], modules.pop(entry["name"], None)
        require(isinstance(old, (nn.Conv2d, nn.Linear)) and old is not net and entry["kind"] in KINDS,
                f"{name!r} is a layer of kind {entry['kind']!r} in the file, not in the network: {FITS}")
        layer = (QuantConv2d if isinstance(old, nn.Conv2d) else QuantLinear).from_float(old)
        replace(net, old, layer)
        layer.kind = entry["kind"]
        if isinstance(layer, QuantConv2d) and entry["pad_value"] is not None:
            layer.pad_value = entry["pad_value"]
        layer.input_quantizer = rebuild(entry["input"], "activation", ())
        layer.weight_quantizer = rebuild(entry["weight"], "weight", (len(old.weight), *[1] * (old.weight.dim() - 1)))
        if layer.weight_quantizer is not None:
            layer.weight = nn.Parameter(layer.weight.detach())      # no longer tied to another layer's
        layer.weight.data = _like(layer.weight.data, entry["channels_last"])
    for entry in header["blocks"]:
        require(entry["name"] in blocks, f"{entry['name']!r} is no block that adds its input to its output: {FITS}")
        del blocks[entry["name"]]
        attach(net.get_submodule(entry["name"]), entry["name"], rebuild(entry["quantizer"], "activation", ()))
    own = header_of(net, header["build"])
    if canonical_json(own) != canonical_json(header):
        theirs, ours = ({p.name: f"{p.kind} of shape {p.shape}" for p in h["parts"]} for h in (header, own))
        name = next((name for name in [*theirs, *ours] if theirs.get(name) != ours.get(name)), None)
        raise InputError("the header contradicts itself: pack the network again" if name is None else
                         f"{name} is {theirs.get(name, 'missing')} in the file and {ours.get(name, 'missing')} in the "
                         f"network: {FITS}")
    return net


def fill(net: nn.Module, header: dict, payload: memoryview) -> nn.Module:
    """``net`` with the numbers and codes of the payload."""
    codes = {}
    with torch.no_grad():
        for (name, _, tensor, quantizer), part in zip(list(tensors(net)), header["parts"]):
            raw = np.frombuffer(payload, np.uint8, part.bytes, part.offset)
            if quantizer is not None:
                code = unpack_bits(raw, part.bits, tensor.numel())
                require((code < quantizer.grid.n_levels).all() and pack_bits(code, part.bits) == raw.tobytes(),
                        f"{name} has a code beyond its {quantizer.grid.n_levels} levels: pack the network again")
                codes[name] = torch.from_numpy(code.astype(np.int16)).view(tensor.shape) + quantizer.grid.code_min
                continue
            require(part.kind != "bool" or (raw < 2).all(), f"{name} is neither true nor false: pack the network again")
            tensor.copy_(torch.from_numpy(raw.view(NUMBERS[part.kind]).astype(part.kind)).view(tensor.shape))
        for name, quantizer in net.named_modules():
            if isinstance(quantizer, Quantizer):
                quantizer.calibrated = True
                require(finite(quantizer), f"the range of {name} is not finite: pack again")
        for name, code in codes.items():
            layer = net.get_submodule(name)
            code = torch.empty_like(layer.weight, dtype=torch.int16).copy_(code)
            layer.weight_quantizer = StoredCodes(layer.weight_quantizer, code)
            layer.weight.copy_(layer.weight_quantizer(layer.weight))
    return net
