"""Scheme: what each layer of a network gets, as plain data."""
from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field

from .. import quantizers
from ..errors import InputError
from ..system import kinds
from ..system.kinds import BitsOrFloat, Name

FLOAT = 32


@dataclass(frozen=True)
class Scheme:
    """What each layer gets.  Bits are 1 to 8, or 32 for float.

    The precision map is PROFIT's (supplement, section 5): ``w_bits``/``a_bits`` everywhere except an 8-bit input to
    the first convolution and 8-bit activations in squeeze-and-excite.  ``identity_bits=32`` is the paper's precision
    highway: in a block that adds its input to its output, only the branch's input is quantized; with fewer bits the
    input is quantized before branch and identity part.  With ``a_bits=32`` these three are float as well.
    ``quantize_first=False`` and ``quantize_last=False`` leave the first and the last layer in float, input and weight,
    as QIL does (section 4).

    ``fold_norms``: batch norms become part of the convolutions before them for good, and then the weights are quantized
    (fold-then-quantize, supplement, equation 3).

    ``per_channel``: whether each output channel of a weight has its own range (None: what the method's authors do);
    ``weight_options`` and ``activation_options`` go to the quantizers, e.g. ``{"levels": 15}`` to SAWB, or
    ``{"range_method": "mse"}``: at each new bit-width data set the range by the smallest squared error.
    """

    weight: Name = "duq"
    activation: Name = "duq"
    w_bits: BitsOrFloat = 4
    a_bits: BitsOrFloat = 4
    first_input_bits: BitsOrFloat = 8
    se_bits: BitsOrFloat = 8
    identity_bits: BitsOrFloat = FLOAT
    quantize_first: bool = True
    quantize_last: bool = True
    negative_padding: bool = True
    fold_norms: bool = False
    per_channel: bool | None = None
    weight_options: dict = field(default_factory=dict)
    activation_options: dict = field(default_factory=dict)

    def __post_init__(self):
        kinds.settle(self)
        for role, bits in (("weight", self.w_bits), ("activation", self.a_bits)):
            method, options = getattr(self, role), getattr(self, f"{role}_options")
            if method not in quantizers.names(role):
                raise InputError(f"{method!r} does not quantize {role}s: "
                                 f"choose from {', '.join(quantizers.names(role))}")
            if options:
                _check(role, method, options, quantizers.BITS if bits == FLOAT else [bits])

    def input_bits(self, kind: str) -> int:
        """Bits of the input of a layer of this kind ("first", "se", "identity", any other)."""
        special = {"first": self.first_input_bits, "se": self.se_bits, "identity": self.identity_bits}
        return FLOAT if self.a_bits == FLOAT else special.get(kind, self.a_bits)


def _check(role: str, method: str, options: dict, widths) -> None:
    """InputError unless ``options`` are plain data with which the method can be built in one of these widths."""
    given = [{"shape": ()}] if role == "weight" else [{"floor": 0.0, "signed": signed} for signed in (False, True)]
    reason = None
    try:
        if json.loads(json.dumps(options, allow_nan=False)) != options:
            raise ValueError("they are not plain data")
        for bits, settings in itertools.product(widths, given):
            try:
                quantizers.build(method, role=role, bits=bits, **settings, **options)
                return
            except (TypeError, ValueError) as error:
                reason = reason or error
    except (TypeError, ValueError) as error:
        reason = error
    raise InputError(f"{role}_options={options!r} do not suit {method!r} ({reason}): correct them")
