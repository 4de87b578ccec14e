"""Names of the quantizers.  A file in this folder with a ``@register``-ed class is all that a new method needs."""
from __future__ import annotations

from ..errors import InputError

_METHODS: dict[str, dict[str, type]] = {}      # name -> role -> class


def register(name: str, role: str | None = None):
    """Class decorator: make a Quantizer known to :func:`build` under ``name``, for ``role`` or all that it has."""
    def add(cls):
        for r in cls.roles if role is None else (role,):
            if _METHODS.setdefault(name, {}).setdefault(r, cls) is not cls:
                raise ValueError(f"two quantizers of {r}s are called {name!r}")
        return cls
    return add


def names(role: str | None = None) -> list[str]:
    """List all methods, or those that quantize ``role`` ("weight" or "activation")."""
    return sorted(name for name, classes in _METHODS.items() if role is None or role in classes)


def find(name: str, role: str) -> type:
    """Return the class of a name.  InputError for unknown names and roles."""
    if not isinstance(name, str) or name not in _METHODS:
        raise InputError(f"unknown quantizer {name!r}: choose from {', '.join(names())}")
    if role not in list(_METHODS[name]):
        raise InputError(f"{name!r} quantizes {' and '.join(_METHODS[name])}s, not {role!r}: choose another method")
    return _METHODS[name][role]


def build(name: str, *, role: str, bits: int, signed: bool | None = None, floor: float = 0.0, **options):
    """Build a quantizer by name; ``options`` are ``shape`` and the method's own (SAWB: ``levels``).

    InputError for unknown names and for what the method doesn't have.
    """
    cls = find(name, role)
    try:
        return cls(role=role, bits=bits, signed=signed, floor=floor, **options)
    except TypeError as error:
        raise InputError(f"quantizer {name!r} does not take these options: {error}") from None
