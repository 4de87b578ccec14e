"""Names of the quantizers.  A file in this folder with a ``@register``-ed class is all that a new method needs."""
from __future__ import annotations

from ..errors import InputError

_METHODS: dict[str, type] = {}


def register(name: str):
    """Class decorator: make a Quantizer known to :func:`build` under ``name``."""
    def add(cls):
        if _METHODS.setdefault(name, cls) is not cls:
            raise ValueError(f"two quantizers are called {name!r}")
        return cls
    return add


def names(role: str | None = None) -> list[str]:
    """All methods, or those that quantize ``role`` ("weight" or "activation")."""
    return sorted(n for n, cls in _METHODS.items() if role is None or role in cls.roles)


def build(name: str, *, role: str, bits: int, signed: bool | None = None, floor: float = 0.0, **options):
    """A quantizer by name; ``options`` are the method's own (SAWB: ``levels``).  InputError for unknown names."""
    if name not in _METHODS:
        raise InputError(f"unknown quantizer {name!r}: choose from {', '.join(names())}")
    try:
        return _METHODS[name](role=role, bits=bits, signed=signed, floor=floor, **options)
    except TypeError as error:
        raise InputError(f"quantizer {name!r} does not take these options: {error}") from None
