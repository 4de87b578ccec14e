"""A trained, quantized network in one file: weights as packed n-bit codes, everything else as plain numbers.

Why not safetensors: it knows no numbers of 1 to 7 bits and has no checksum (a flipped bit of a tensor goes unseen, and
two in five of its header's), and its file of a 4-bit MobileNet is 4.5 % larger; all of this would stay ours.

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
  ``codes`` (the lowest and the highest), ``options`` (the method's own).  Its parameters are parts of the layer.
- ``parts``: lists of seven: layer and part, which together are the name in the state dict; kind, "codes" or numpy's
  name of a number; bits of one number; shape; offset from the start of the payload, and length, in bytes.

Numbers of a part are in C order.  A part of n-bit codes is a string of bits: code number i, less the lowest code, has
the bits i*n to i*n + n - 1, the lowest first; bit b of the string is bit b % 8 (1 << b % 8) of byte b // 8; the last
byte is filled up with zeros.  With numpy::

    bits = np.unpackbits(part, count=size * n, bitorder="little").reshape(size, n)
    code = np.packbits(bits, axis=1, bitorder="little")[:, 0].reshape(shape).astype(int) + lowest

What a weight's code k, with K the highest code, stands for in float32 (parameters are parts "weight_quantizer.c")::

    duq         k * (log(1 + exp(c)) / K)
    lsq, lsq+   k * max(s, 1e-8)
    sawb        k * (clip / K); if the lowest code is 0, (k - K/2) * (2 clip / K)
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
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from .. import models
from ..errors import InputError
from ..models.quantize import quantized_layers
from ..quantizers import Quantizer
from ..system.paths import atomic, opened
from .packed_format import NUMBERS, Part, fill, fit, header_of, pack_bits, size_of, tensors
from .packed_quantizer import canonical_json, check_reproducible, require

MAGIC, VERSION, DIGEST = b"\x93NBITNET", 1, 32
PREAMBLE = struct.Struct("<8sIQ")
# the form of the header, as has_form reads it
BUILD = {"name": str, "num_classes": int, "width": float, "input_size": int}
QUANTIZER = {"method": str, "bits": int, "signed": bool, "floor": float, "shape": [int], "codes": [int],
             "options": dict}
LAYER = {"name": str, "kind": str, "pad_value": (float, None), "channels_last": bool, "input": (QUANTIZER, None),
         "weight": (QUANTIZER, None)}
HEADER = {"build": (BUILD, None), "layers": [LAYER], "blocks": [{"name": str, "quantizer": QUANTIZER}],
          "parts": [list]}
PART = [str, str, str, int, list, int, int]     # the types of a Part


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
        if (quantizer := layer.weight_quantizer) is not None:
            require(layer.weight.isfinite().all(), f"the weight of {name} is not finite: train again, with a lower "
                    "learning rate")
            codes[name] = quantizer.encode(layer.weight).cpu().numpy()
            layer.weight_quantizer = getattr(quantizer, "method", quantizer)    # of a network that was loaded
    header = header_of(net.cpu(), None if build is None else _arguments(build))
    for name, quantizer in net.named_modules():
        if isinstance(quantizer, Quantizer):
            check_reproducible(name, quantizer)
    if build is not None:
        try:
            fit(_built(header["build"]), header, "meta")
        except InputError as error:
            raise InputError(f"build={build} does not give this network ({error}): pass the arguments that it was "
                             "built with, or leave build out") from None
    text = canonical_json(header)
    parts = [tensor.detach().numpy().astype(NUMBERS[part.kind]).tobytes() if quantizer is None else
             pack_bits(codes[part.layer] - quantizer.grid.code_min, quantizer.bits)
             for (*_, tensor, quantizer), part in zip(tensors(net), header["parts"])]
    data = b"".join((PREAMBLE.pack(MAGIC, VERSION, len(text)), text, *parts))
    with atomic(path) as temp:
        temp.write_bytes(data + hashlib.sha256(data).digest())
    return Path(path)


def load(path: str | os.PathLike, net: nn.Module | None = None) -> nn.Module:
    """The network in the file, on the CPU and in evaluation mode, with the packed network's quantized weights and
    outputs to the bit.

    ``net``: a float network of the same architecture, for a file without ``build``; it stays as it is.  The quantizers
    of weights are ``StoredCodes`` (packed_quantizer.py) and cannot be trained; biases, batch norms and ranges of inputs
    can.  InputError for a file that is missing, foreign, damaged, newer or contradictory, and for a network that does
    not fit it.
    """
    header, data, start = _read(path)
    try:
        if net is not None:
            _refuse_meta(net)
            net = fit(net, header, "cpu").cpu()
        else:
            require(header["build"], "it does not say how its network is built: pass the float network as net")
            net = fit(_built(header["build"]), header, "meta").to_empty(device="cpu")
        return fill(net, header, memoryview(data)[start:]).eval()
    except InputError as error:
        raise InputError(f"cannot load {path}: {error}") from None


def contents(path: str | os.PathLike) -> pd.DataFrame:
    """What is in the file, in its order: columns layer, part, kind, bits (of one number), bytes (in all: the file's).

    InputError as for :func:`load`, networks apart.
    """
    header, _, start = _read(path)
    rows = [("", "preamble", "binary", None, PREAMBLE.size), ("", "header", "json", None, start - PREAMBLE.size),
            *((p.layer, p.part, p.kind, p.bits, p.bytes) for p in header["parts"]),
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
        require(has_form(header, HEADER), "fields of the header")
        header["parts"] = list(_parts(header["parts"], size - start))
    except (ValueError, RecursionError) as error:       # InputError is one
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path} contradicts the format ({reason}): pack the network again") from None
    return header, data, start


def has_form(value, form) -> bool:
    """Whether JSON data has a form: a type, None, (one of several), {field: form} or [form of each]."""
    if isinstance(form, tuple):
        return any(has_form(value, each) for each in form)
    if isinstance(form, dict):
        return type(value) is dict and value.keys() == form.keys() and all(
            has_form(value[name], each) for name, each in form.items())
    if isinstance(form, list):
        return type(value) is list and all(has_form(each, form[0]) for each in value)
    return value is None if form is None else type(value) is form


def _parts(rows: list, payload: int) -> Iterator[Part]:
    """The parts; InputError unless each is what it says and they fill the payload."""
    end = 0
    for row in rows:
        require([type(value) for value in row] == PART, "fields of a part")
        part = Part(*row)
        widths = (range(1, 9) if part.kind == "codes" else
                  [8 * np.dtype(part.kind).itemsize] if part.kind in NUMBERS else [])
        require(part.bits in widths and len(part.shape) < 9 and all(type(n) is int and n >= 0 for n in part.shape),
                f"kind or shape of {part.name}")
        require(part.offset == end and part.bytes == size_of(part.shape, part.bits), f"offset or size of {part.name}")
        end += part.bytes
        yield part
    require(end == payload, f"parts of {end} bytes in {payload}")


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
    require(has_form(build, BUILD) and build["num_classes"] <= 2**24 and build["width"] <= 64
            and build["input_size"] <= 2**16, f"build={build} is beyond all networks: correct it")
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return models.build(**build).float()
