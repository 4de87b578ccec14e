"""The integer network for a browser: the C file's tables as bytes of memory, and its calls as a list.

The functions of network.c are compiled to WebAssembly once, for all networks; the file lies beside this one, and has
the beginning of its source's hash in its name.  A network is then plain data: :func:`browser_program` writes it, and
in_the_browser.js of the site goes through its calls.
"""
from __future__ import annotations

import hashlib
import itertools
import math
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..system.paths import atomic
from .c_calls import Writer
from .c_program import cifar10_pixels
from .c_tables import BLOCKS, LANES
from .integer_net import IntegerNet
from .npz_program import Steps

FRACTION, FREE, ALIGNED = 20, 1 << 17, 16       # memory is free from FREE on: the stack lies before it
FLAGS = ("--target=wasm32", "-std=c99", "-O3", "-msimd128", "-mbulk-memory", "-ffreestanding", "-nostdlib",
         "-fvisibility=default", "-Wl,--no-entry,--export-dynamic,--strip-all,-z,stack-size=65536")
HEAD = f"""\
#include <stdint.h>

#define memcpy __builtin_memcpy
#define memset __builtin_memset
#define ONE ((int64_t)1 << FRACTION)
#define NULL ((void *)0)

enum {{ FRACTION = {FRACTION} }};
static int16_t *kernel, *patches;

void workspace(int16_t *for_kernel, int16_t *for_patches)
{{
    kernel = for_kernel;
    patches = for_patches;
}}"""
_CODE = re.sub(r" *//.*\n", "\n", "\n\n".join([HEAD, *BLOCKS, ""]))         # other comments need no other file
SOURCE = re.sub(r"^static void", "void", _CODE, flags=re.MULTILINE)
_HASH = hashlib.sha256("\n".join([SOURCE, *FLAGS]).encode()).hexdigest()
COMPILED = Path(__file__).with_name(f"network-{_HASH[:8]}.wasm")


class BrowserProgram(NamedTuple):
    """``tables``: the bytes of memory from the address ``start`` to the end; no more is needed.

    ``calls``: (function, number or address, ...) each, in their order; calls of "see" have a layer's name, the address
    of its codes (int16), height, width and channels.  ``image`` and ``logits``: the addresses of the image's bytes, row
    by row, and of ``classes`` logits (int32) in units of 1 / ``one``.
    """

    tables: bytes
    start: int
    calls: list[tuple[int | str, ...]]
    image: int
    logits: int
    classes: int
    one: int


@torch.no_grad()
def browser_program(net: nn.Module, *, input_size: int, pixels: Tensor | None = None) -> BrowserProgram:
    """What the functions in ``COMPILED`` need to compute ``IntegerNet(net, "fixed")``, code for code.

    ``input_size``, ``pixels`` and InputError: as of :func:`paperlib.deploy.to_c`, whose tables and calls these are.
    """
    pixels = cifar10_pixels() if pixels is None else pixels
    writer = Writer(Steps(IntegerNet(net, "fixed", FRACTION), input_size, len(pixels)), pixels)
    writer.write()
    memory = _Memory(writer)
    for table in writer.tables:
        memory.add(table.name, table.values)
    calls = [("workspace", memory.places["kernel"], memory.places["patches"])]
    for function, *arguments in writer.calls:
        name = [arguments.pop(0)] if function == "see" else []
        calls.append((function, *name, *map(memory.word, arguments)))
    return BrowserProgram(bytes(memory.tables), memory.start, calls, memory.places["image"],
                          memory.word(writer.at(writer.result)), writer.shape[writer.result][2], writer.one)


class _Memory:
    """Where in memory lies what calls and structs name."""

    def __init__(self, writer: Writer):
        sizes = {"image": math.prod(writer.shape["codes"]), "kernel": 2 * writer.kernel, "patches": 2 * writer.patches,
                 "numbers": 4 * writer.size["numbers"], "codes": 2 * (writer.size["codes"] + LANES)}
        ends = itertools.accumulate((size + -size % ALIGNED for size in sizes.values()), initial=FREE)
        self.places = {"NULL": 0, **dict(zip([*sizes, "tables"], ends))}
        self.start, self.tables = self.places["tables"], bytearray()

    def add(self, name: str, values: np.ndarray | Sequence) -> int:
        """Append an array, or the fields of a struct, of 32 bits each."""
        if not isinstance(values, np.ndarray):
            flat = itertools.chain.from_iterable(v if isinstance(v, tuple) else [v] for v in values)
            values = np.array([self.word(field) for field in flat], np.int32)
        self.places[name] = self.start + len(self.tables)
        self.tables += values.astype(values.dtype.newbyteorder("<")).tobytes()
        self.tables += bytes(-len(self.tables) % ALIGNED)
        return self.places[name]

    def word(self, argument: int | tuple[int, int] | str) -> int:
        """The 32 bits of an argument: a number, or the address of a pair or of what has a name."""
        if isinstance(argument, int):
            return argument
        if isinstance(argument, tuple):
            return self.add(str(argument), argument)
        name, _, offset = argument.removeprefix("&").partition(" + ")
        return self.places[name] + int(offset or 0) * {"codes": 2, "numbers": 4}.get(name, 0)


def compile_functions(path: Path = COMPILED) -> Path:
    """Compile network.c's functions to WebAssembly, in place of the former ones beside ``path``; InputError without
    clang and wasm-ld, or where they find faults."""
    if not (shutil.which("clang") and shutil.which("wasm-ld")):
        raise InputError("compiling network.c for browsers takes clang and wasm-ld (Debian: apt install clang lld)")
    with atomic(path) as temp:
        done = subprocess.run(["clang", *FLAGS, "-Wall", "-Wextra", "-Werror", "-x", "c", "-", "-o", temp],
                              input=SOURCE, capture_output=True, text=True)
        if done.returncode:
            raise InputError(f"clang: {done.stderr}")
    for file in path.parent.glob("network-*.wasm"):
        if file != path:
            file.unlink()
    return path
