"""Quantizers: what all methods promise, and each method's formulas written out a second time."""

import contextlib
import copy
import io
import itertools
import math
from collections import Counter
from typing import NamedTuple

import pytest
import torch
from torch.nn.functional import hardswish, softplus

from paperlib import quantizers
from paperlib.errors import InputError

FORMS = [("weight", True, 0.0), ("activation", False, 0.0), ("activation", False, -0.375), ("activation", True, 0.0)]
FORMS_OF = {"duq": [7, 8, 8, 7], "pact": [0, 8, 8, 7], "sawb": [5, 0, 0, 0]}      # how many bit-widths
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def normal(n, seed=0):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Case(NamedTuple):
    name: str
    role: str = "weight"
    signed: bool = True
    floor: float = 0.0
    bits: int = 4
    options: dict = {}

    def __str__(self):
        return "-".join(map(str, [*self[:5], *self.options.values()]))

    def build(self, dtype=torch.float64):
        name, role, signed, floor, bits, options = self
        return quantizers.build(name, role=role, bits=bits, signed=signed, floor=floor, **options).to(dtype)

    def data(self, n=400, seed=0):
        x = 2 * normal(n, seed)
        return x if self.signed else hardswish(x) if self.floor else x.relu()

    def calibrated(self, dtype=torch.float64):
        return self.build(dtype).calibrate(self.data().to(dtype))


CASES = [Case("sawb", options={"levels": 15}), Case("sawb", bits=2, options={"levels": 3})]
for form in FORMS:
    for case in itertools.starmap(Case, itertools.product(quantizers.names(form[0]), *([f] for f in form), range(1, 9))):
        with contextlib.suppress(InputError):       # the first test says what must be there
            case.build()
            CASES.append(case)
