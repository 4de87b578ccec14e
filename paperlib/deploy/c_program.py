"""The integer network as one file of C99 that needs nothing but a compiler.

:func:`to_c` writes the steps of npz_program.py as calls of the functions in network.c (c_calls.py), after the tables
that these read: weights packed in n bits, factors, biases, and where codes begin.  Products of small codes are summed
in 16 bits, so that a vector holds twice as many sums as floats; where a map is large, a table per channel leads from a
sum to the code at once.
"""
from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..data import cifar10_batches, image_arrays, imagenet_batches
from ..system.paths import atomic
from .c_calls import Writer
from .c_tables import LANES, MAIN, literal, needed
from .integer_net import IntegerNet
from .npz_program import Steps

HEAD = """\
// A quantized network in integers, {inputs} bytes in, {classes} logits out, written by paperlib.deploy.to_c.
//
//     cc -std=c99 -O3 -march=native {name} -o net
//     ./net < images      a line for each image: its logits, in units of 1 / {one}
//     ./net codes < images        and before it a line for each layer: its name, the shape and the codes that reach it
//
// An image is {height} x {width} pixels of {channels} bytes, row by row.  For a program of your own, compile with
// -DNET_LIBRARY, which leaves out main, and declare
//
//     void net(const uint8_t *image, int32_t *logits, See *see);       // see: NULL, or called with each layer's codes
//
// Tables take {tables} bytes, working memory {memory}; it is static, so one image at a time.
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum {{ HEIGHT = {height}, WIDTH = {width}, CHANNELS = {channels}, CLASSES = {classes}, FRACTION = {fraction} }};
#define ONE ((int64_t)1 << FRACTION)

static int32_t numbers[{numbers}];
static int16_t codes[{codes}], kernel[{kernel}], patches[{patches}];"""


@torch.no_grad()
def to_c(net: nn.Module, path: str | os.PathLike, *, input_size: int, fraction: int = 20,
         pixels: Tensor | None = None) -> Path:
    """Write ``IntegerNet(net, "fixed", fraction)`` to ``path`` as one C99 file, and return it; its head says its use.

    ``input_size``: pixels of the square images, which the C program takes as bytes.  ``pixels``: float32 (channels,
    256), what each byte of a channel is to the network; default: CIFAR-10's, normalized as in training.  Weights have
    16 // n codes of n bits in each 16-bit word.  Where a number needs more than 32 bits, IntegerNet refuses the image,
    and the C program takes the nearest number that fits.  InputError for what ``export_program`` refuses, and for
    products of two codes that could need more than 16 bits.
    """
    pixels = cifar10_pixels() if pixels is None else pixels
    writer = Writer(Steps(IntegerNet(net, "fixed", fraction), input_size, len(pixels)), pixels)
    writer.write()
    text = _text(writer, Path(path).name)
    with atomic(Path(path)) as temp:
        temp.write_text(text, encoding="utf-8")
    return Path(path)


def cifar10_pixels() -> Tensor:
    """What each byte of a CIFAR-10 image is to a network: float32 (3, 256), as the batches of its images have it."""
    every = torch.arange(1024, dtype=torch.uint8).view(1, 1, 32, 32).expand(1, 3, -1, -1)
    images = image_arrays.Images(every, torch.zeros(1, dtype=torch.long), "every byte")
    return next(cifar10_batches.Batches(images, 1, train=False).epoch())[0][0].flatten(1)[:, :256]


def imagenet_pixels() -> Tensor:
    """The same for photographs and networks of ImageNet."""
    from torchvision.transforms.v2 import functional  # takes a second to import

    every = torch.arange(256, dtype=torch.uint8).expand(3, 1, -1)
    return functional.normalize(functional.to_dtype(every, torch.float32, scale=True), imagenet_batches.MEAN,
                                imagenet_batches.STD)[:, 0]


def _text(writer: Writer, file: str) -> str:
    height, width, channels = writer.shape["codes"]
    classes = writer.shape[writer.result][2]
    codes = writer.size["codes"] + LANES          # the last vector of a map may reach beyond it
    tables = sum(table.values.nbytes for table in writer.tables if isinstance(table.values, np.ndarray))
    head = HEAD.format(
        name=file, inputs=height * width * channels, classes=classes, one=writer.one, height=height, width=width,
        channels=channels, fraction=writer.source.program.fraction, tables=tables, codes=codes,
        memory=4 * writer.size["numbers"] + 2 * (codes + writer.kernel + writer.patches),
        numbers=writer.size["numbers"], kernel=writer.kernel, patches=writer.patches)
    body = "\n    ".join([*(_call(*call) for call in writer.calls),
                          f"memcpy(logits, {writer.at(writer.result)}, sizeof *logits * CLASSES);"])
    signature = "void net(const uint8_t *image, int32_t *logits, See *see)"
    return "\n\n".join([head, *needed(body), *map(str, writer.tables), f"{signature};\n{signature}\n{{\n    {body}\n}}",
                        MAIN])


def _call(function: str, *arguments: int | tuple[int, int] | str) -> str:
    if function == "see":
        name, *rest = arguments
        return f'if (see)\n        see("{name}", {", ".join(map(str, rest))});'
    words = (literal(a) if isinstance(a, int) else f"(const int[]){{{a[0]}, {a[1]}}}" if isinstance(a, tuple) else a
             for a in arguments)
    return f"{function}({', '.join(words)});"
