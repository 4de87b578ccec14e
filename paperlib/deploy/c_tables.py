"""Weights, thresholds and text as the C file of c_program.py has them."""
from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .programs import least

_SOURCE, _, _MAIN = Path(__file__).with_name("network.c").read_text(encoding="utf-8").partition("#ifndef NET_LIBRARY")
BLOCKS, MAIN = _SOURCE.strip().split("\n\n")[1:], f"#ifndef NET_LIBRARY{_MAIN}"
LANES, PIXELS = map(int, re.search(r"LANES = (\d+), PIXELS = (\d+)", _SOURCE).groups())


class Table(NamedTuple):
    """A constant of the C program: an array, or a struct of network.c (Layer or Stairs).

    ``values``: an array of integers of the type ``kind``, or the struct's fields: numbers, pairs of them, and names of
    arrays or NULL.
    """

    kind: str
    name: str
    values: np.ndarray | list

    def __str__(self) -> str:
        array = isinstance(self.values, np.ndarray)
        values = map(literal, self.values.tolist()) if array else (
            f"{{{value[0]}, {value[1]}}}" if isinstance(value, tuple) else str(value) for value in self.values)
        text = f"static const {self.kind} {self.name}{'[]' * array} = {{{', '.join(values)}}};"
        return textwrap.fill(text, 120, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


class Jumps(NamedTuple):
    """How numbers become codes: ``start``, then 1 less at each of the first ``falls`` of ``at``, 1 more at the rest."""

    at: np.ndarray
    start: int
    falls: int


def needed(text: str) -> list[str]:
    """The blocks of network.c, in their order, without the functions that neither ``text`` nor a needed one calls."""
    found: list[str] = []
    for block in reversed(BLOCKS):          # what a function calls comes before it
        name = re.search(r"^static [^;]*?(\w+)\(", block, re.MULTILINE)
        if name is None or re.search(rf"\b{name[1]}\(", "\n".join([text, *found])):
            found.insert(0, block)
    return found


def packed(weight: np.ndarray, together: int) -> tuple[int, int, int, np.ndarray]:
    """(bits, times, lowest, words): weights (out, depth) as ``times`` * code + ``lowest``, codes in 16-bit words.

    Words have 16 // bits codes along the depth; the words of LANES channels, of ``together`` that belong together, lie
    side by side.
    """
    lowest = int(weight.min())
    times = int(np.gcd.reduce(weight - lowest, None)) or 1
    code = (weight - lowest) // times
    bits = max(1, int(code.max()).bit_length())
    per_word = 16 // bits
    code = np.pad(code, ((0, 0), (0, -code.shape[1] % per_word))).reshape(len(code), -1, per_word)
    words = (code << bits * np.arange(per_word)).sum(2)
    return bits, times, lowest, _side_by_side(words, together)


def factor(multiplier: np.ndarray, shift: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same with multipliers below 2**31, which int32 does not hold."""
    whole = multiplier == 2**31
    return np.where(whole, 2**30, multiplier), shift - whole, bias


def jumps(code: Callable[[np.ndarray], np.ndarray], first: int, last: int) -> np.ndarray:
    """The numbers from which on a monotone function of integers has another value, first < n <= last; as many times as
    the value changes by."""
    start, end = code(np.array([first, last])).tolist()
    sign = 1 if end > start else -1
    wanted = np.arange(start + sign, end + sign, sign)
    return least(lambda n: sign * code(n) >= sign * wanted, np.full_like(wanted, first + 1), np.full_like(wanted, last))


def reaches(at: np.ndarray, start: int, falls: int, multiplier: np.ndarray, shift: np.ndarray, bias: np.ndarray,
            together: int) -> np.ndarray:
    """The table ``reach`` of network.c, int16, from stairs and from what makes a number of a channel's sum."""
    def number(total: np.ndarray) -> np.ndarray:
        return ((total * multiplier + (1 << (shift - 1))) >> shift) + bias

    at, sign = at[:, None], np.where(multiplier < 0, -1, 1)
    full = np.full((len(at), len(multiplier)), 2**15)
    sums = least(lambda n: np.where(sign > 0, number(n) >= at, number(n) < at), -full, full - 1)
    first = np.where(sign > 0, start, start + len(at) - 2 * falls)
    return _side_by_side(np.concatenate([[first], [sign], sums]).T, together)


def _side_by_side(rows: np.ndarray, together: int) -> np.ndarray:
    """Rows of channels, transposed for LANES channels after LANES channels, of ``together`` that belong together; and
    zeros, so that LANES numbers can be read from the last row on."""
    tiles = [rows[group + first: group + min(first + LANES, together)].T.ravel()
             for group in range(0, len(rows), together) for first in range(0, together, LANES)]
    return np.pad(np.concatenate(tiles), (0, -together % LANES))


def literal(number: int) -> str:
    """A number of 32 bits in C, which has no literal for the smallest."""
    return "INT32_MIN" if number == -2**31 else str(number)
