"""Dataclasses out of plain data, as JSON has them, checked field by field."""
from __future__ import annotations

import dataclasses
import functools
import types
import typing

from ..errors import InputError
from . import kinds

_hints = functools.cache(functools.partial(typing.get_type_hints, include_extras=True))


def build(kind, value, where: str = ""):
    """``value`` as a ``kind``: a dataclass, tuple[x, ...], x | None or one of :mod:`kinds`.

    InputError names the field that is missing, unknown or of another type.
    """
    if dataclasses.is_dataclass(kind):
        fields = {f.name: f for f in dataclasses.fields(kind)}
        _fits(isinstance(value, dict), where, "no set of named values", value)
        for name in value:
            _fits(name in fields, f"{where}.{name}", "unknown here, as the setting of another version would be")
        for name, field in fields.items():
            has_default = {field.default, field.default_factory} != {dataclasses.MISSING}
            _fits(name in value or has_default, f"{where}.{name}", "missing")
        return kind(**{name: build(_hints(kind)[name], v, f"{where}.{name}") for name, v in value.items()})
    options = typing.get_args(kind)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return None if value is None else build(next(o for o in options if o is not types.NoneType), value, where)
    if typing.get_origin(kind) is tuple:
        _fits(isinstance(value, (list, tuple)), where, "no list", value)
        return tuple(build(options[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    return kinds.read(where.lstrip("."), value, kind)


def _fits(fits: bool, where: str, fault: str, value=None) -> None:
    if not fits:
        told = "" if value is None else f": {str(value)[:40]!r}"
        raise InputError(f"{where.lstrip('.') or 'all of it'} is {fault}{told}")
