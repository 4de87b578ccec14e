"""A trained, quantized network in one file: weights as packed n-bit codes, everything else as plain numbers.

The format, version 1.  All numbers are little-endian; nothing in the file executes when it is read::

    8 bytes     93 4E 42 49 54 4E 45 54 (hexadecimal; the last seven are "NBITNET")
    uint32      version of the format
    uint64      length of the header in bytes
    header      JSON in UTF-8: keys sorted, no spaces, no NaN, every field named below and no other
    payload     the parts, without gaps, in the order of the header
    32 bytes    SHA-256 of everything before it

Header: ``build``, the arguments of ``models.build`` for the float network, or null; ``layers``, ``blocks``, ``parts``.

- ``layers``: the quantized layers.  ``name``; ``kind`` as in ``models.plan``; ``pad_value`` (null: fully connected);
  ``channels_last``: how the weight lies in memory when computed with, which can change the last bit of a result;
  ``input`` and ``weight``: their quantizers, or null where they are float.
- ``blocks``: blocks that quantize their input before branch and identity part: ``name`` and ``quantizer``.
- a quantizer: ``method``, ``bits``, ``signed``, ``floor``, ``shape`` (of its range: [] or [channels, 1, ...]),
  ``codes`` (the least and the greatest), ``options`` (the method's own).  Its parameters are parts of the layer.
- ``parts``: lists of seven: layer and part, which together are the name in the state dict; kind, "codes" or numpy's
  name of a number; bits of one number; shape; offset from the start of the payload, and length, in bytes.

Numbers of a part are in C order.  A part of n-bit codes is a string of bits: code number i, less the least code, has
the bits i*n to i*n + n - 1, the lowest first; bit b of the string is bit b % 8 (1 << b % 8) of byte b // 8; the last
byte is filled up with zeros.  With numpy::

    bits = np.unpackbits(part, count=size * n, bitorder="little").reshape(size, n)
    code = np.packbits(bits, axis=1, bitorder="little")[:, 0].reshape(shape).astype(int) + least

What a weight's code k, with K the greatest code, stands for in float32 (parameters are parts "weight_quantizer.c")::

    duq         k * (log(1 + exp(c)) / K)
    lsq, lsq+   k * max(s, 1e-8)
    sawb        k * (clip / K); if the least code is 0, (k - K/2) * (2 clip / K)
    dorefa      (k - K/2) * (2 scale / K)
    qil         k * (M / K), M = max(c + d - d/K, 1e-6); M = 1 if normalized or of version "cvpr"
    twn         k * alpha
    ttq         max(Wp, 1e-8) for k = 1, -max(Wn, 1e-8) for k = -1
    bc, bwn     (2k - 1) * alpha
"""
from __future__ import annotations

import hashlib
import inspect
import json
import os
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from .. import models
from ..errors import InputError
from ..models.quantize import quantized_layers
from ..system.paths import atomic, opened
from .packed_format import (
    NUMBERS,
    fill,
    fit,
    header_of,
    methods_of,
    pack_bits,
    size_of,
    tensors,
)
from .packed_quantizer import StoredCodes, canonical_json, check_reproducible, require

__all__ = ["StoredCodes", "contents", "load", "pack"]
MAGIC, VERSION, DIGEST = b"\x93NBITNET", 1, 32
PREAMBLE = struct.Struct("<8sIQ")
# the fields of the header, and the types that each may have
NONE = type(None)
HEADER = {"build": (dict, NONE), "layers": (list,), "blocks": (list,), "parts": (list,)}
BUILD = {"name": (str,), "num_classes": (int,), "width": (float,), "input_size": (int,)}
LAYER = {"name": (str,), "kind": (str,), "pad_value": (float, NONE), "channels_last": (bool,), "input": (dict, NONE),
         "weight": (dict, NONE)}
BLOCK = {"name": (str,), "quantizer": (dict,)}
QUANTIZER = {"method": (str,), "bits": (int,), "signed": (bool,), "floor": (float,), "shape": (list,),
             "codes": (list,), "options": (dict,)}
PART = (str, str, str, int, list, int, int)     # layer, part, kind, bits, shape, offset, bytes


def pack(net: nn.Module, path: str | os.PathLike, *, build: dict | None = None) -> Path:
    """Write a network that ``models.quantize`` made, trained and maybe fused, to ``path``; returns the path.

    ``build``: the arguments of ``models.build`` that give its float network (``weights`` is left out, the file has
    them); without it :func:`load` must be given that network.  The same network gives the same bytes, and stays as it
    is.  InputError for a network that is not quantized, has quantizers without range, is not in float32, whose
    quantized weights are not finite, or that ``build`` does not give; and for a path that cannot be written.
    """
    net, codes = models.unfuse(net).eval(), {}
    _refuse_meta(net)
    for name, layer in quantized_layers(net):
        if layer.weight_quantizer is not None:
            require(layer.weight.isfinite().all(), f"the weight of {name} is not finite: train again, with a lower "
                    "learning rate")
            codes[name] = layer.weight_quantizer.encode(layer.weight).cpu()
    header = header_of(net.cpu(), None if build is None else _arguments(build))
    for name, quantizer in methods_of(net).items():
        check_reproducible(name, quantizer)
    if build is not None:
        try:
            fit(_built(header["build"]), header, "meta")
        except InputError as error:
            raise InputError(f"build={build} does not give this network ({error}): pass the arguments that it was "
                             "built with, or leave build out") from None
    text, parts = canonical_json(header), []
    for (name, _, tensor, quantizer), (_, _, kind, *_) in zip(tensors(net), header["parts"]):
        parts.append(tensor.detach().numpy().astype(NUMBERS[kind]).tobytes() if quantizer is None else
                     pack_bits(codes[name].numpy() - quantizer.grid.code_min, quantizer.bits))
    data = b"".join((PREAMBLE.pack(MAGIC, VERSION, len(text)), text, *parts))
    with atomic(path) as temp:
        temp.write_bytes(data + hashlib.sha256(data).digest())
    return Path(path)


def load(path: str | os.PathLike, net: nn.Module | None = None) -> nn.Module:
    """The network in the file, on the CPU and in evaluation mode, with the packed network's quantized weights and
    outputs to the bit.

    ``net``: a float network of the same architecture, for a file without ``build``; it stays as it is.  The quantizers
    of weights are :class:`StoredCodes` and cannot be trained; biases, batch norms and ranges of inputs can.  InputError
    for a file that is missing, foreign, damaged, newer or contradictory, and for a network that does not fit it.
    """
    header, data, start = _read(path)
    try:
        if net is not None:
            _refuse_meta(net)
            net = fit(net, header, "cpu").cpu()
        else:
            require(header["build"], "it does not say how its network is built: pass the float network as net")
            net = fit(_built(header["build"]), header, "meta").to_empty(device="cpu")
        return fill(net, header, data, start).eval()
    except InputError as error:
        raise InputError(f"cannot load {path}: {error}") from None


def contents(path: str | os.PathLike) -> pd.DataFrame:
    """What is in the file, in its order: columns layer, part, kind, bits (of one number), bytes (in all: the file's).

    InputError as for :func:`load`, networks apart.
    """
    header, _, start = _read(path)
    rows = [("", "preamble", "binary", None, PREAMBLE.size), ("", "header", "json", None, start - PREAMBLE.size),
            *((layer, part, kind, bits, size) for layer, part, kind, bits, _, _, size in header["parts"]),
            ("", "checksum", "sha256", None, DIGEST)]
    return pd.DataFrame(rows, columns=["layer", "part", "kind", "bits", "bytes"]).astype({"bits": "Int64"})


def _refuse_meta(net: nn.Module) -> None:
    require(not any(t.is_meta for t in (*net.parameters(), *net.buffers())),
            f"this {type(net).__name__} is on the meta device and has no numbers: put it on the CPU")


def _read(path: str | os.PathLike) -> tuple[dict, bytes, int]:
    """(header, all bytes, start of the payload) of a file that is whole and consistent in itself."""
    try:
        with opened(path) as file:
            data = file.read(PREAMBLE.size)
            data += file.read() if data.startswith(MAGIC) else b""
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}): give a file that deploy.pack wrote") from error
    require(data.startswith(MAGIC), f"{path} is no packed network: give a file that deploy.pack wrote")
    size, again = len(data) - DIGEST, "copy or pack it again"
    require(size > PREAMBLE.size, f"{path} is cut short: {again}")
    _, version, length = PREAMBLE.unpack_from(data)
    require(version <= VERSION, f"{path} is of format {version}, newer than {VERSION}: update this program, or {again}")
    require(hashlib.sha256(memoryview(data)[:size]).digest() == data[size:],
            f"{path} is damaged or cut short (its checksum differs): {again}")
    start = PREAMBLE.size + length
    try:
        require(version == VERSION and start <= size, "version or length of the header")
        header = json.loads(data[PREAMBLE.size:start])
        require(canonical_json(header) == data[PREAMBLE.size:start], "header not in its one form")
        _check(header, size - start)
    except (ValueError, RecursionError) as error:       # InputError is one
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path} contradicts the format ({reason}): pack the network again") from None
    return header, data, start


def _check(header: dict, payload: int) -> None:
    """InputError unless the parts fill the payload and all has the right type; nothing is made of it yet."""
    _typed(header, HEADER, "header")
    if header["build"] is not None:
        _typed(header["build"], BUILD, "build")
    for layer in header["layers"]:
        _typed(layer, LAYER, "a layer")
    for block in header["blocks"]:
        _typed(block, BLOCK, "a block")
    described = [x.get(key) for x in header["layers"] + header["blocks"] for key in ("input", "weight", "quantizer")]
    for quantizer in described:
        if quantizer is not None:
            _typed(quantizer, QUANTIZER, "a quantizer")
    end = 0
    for row in header["parts"]:
        require(type(row) is list and [type(value) for value in row] == [*PART], "fields of a part")
        layer, part, kind, bits, shape, offset, size = row
        widths = range(1, 9) if kind == "codes" else [8 * np.dtype(NUMBERS[kind]).itemsize] if kind in NUMBERS else []
        require(bits in widths and len(shape) < 9 and all(type(n) is int and n >= 0 for n in shape),
                f"kind or shape of {layer}.{part}")
        require(offset == end and size == size_of(shape, bits), f"offset or size of {layer}.{part}")
        end += size
    require(end == payload, f"parts of {end} bytes in {payload}")


def _typed(value: dict, fields: dict, what: str) -> None:
    require(type(value) is dict and value.keys() == fields.keys() and all(
        type(value[name]) in types for name, types in fields.items()), f"fields of {what}")


def _arguments(build: dict) -> dict:
    """All arguments of models.build but weights, as the header has them."""
    try:
        bound = inspect.signature(models.build).bind(**build)
        bound.apply_defaults()
        return {**{name: bound.arguments[name] for name in BUILD}, "width": float(bound.arguments["width"])}
    except (TypeError, ValueError) as error:
        raise InputError(f"build={build!r} cannot be arguments of models.build ({error}): pass such a dict") from None


def _built(build: dict) -> nn.Module:
    """The float network, on the meta device: whatever size it is, it takes no memory."""
    _typed(build, BUILD, "build")
    require(build["num_classes"] <= 2**24 and build["width"] <= 64 and build["input_size"] <= 2**16,
            f"build={build} is beyond all networks: correct it")
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return models.build(**build).float()
