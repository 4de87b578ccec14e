"""Kinds of values: what a setting may be, said once, where its field is declared, and checked where values enter.

A field's annotation is its kind: one of the names below, bool, str, a Literal, a class, ``X | None`` or
``tuple[X, ...]``.  A dataclass checks all of its fields by :func:`settle`, a function its arguments by :func:`read`;
:func:`build` makes dataclasses of plain data.
"""
from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import operator
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from ..errors import InputError


class That(NamedTuple):
    """Which numbers are meant, as a test and in words."""

    holds: Callable[[Any], bool]
    words: str


def _whole(low: int, high: int):
    return Annotated[int, That(lambda n: low <= n <= high, f"a whole number from {low} to {high}")]


Bits = _whole(1, 8)
BitsOrFloat = Annotated[int, That(lambda n: 1 <= n <= 8 or n == 32, "a whole number from 1 to 8, or 32 for float")]
Count = _whole(0, 10**9)
Positive = _whole(1, 10**9)
Epochs = _whole(0, 10**6)
Rounds = _whole(1, 100)
Seeds = _whole(1, 1000)
Seed = _whole(0, 2**31 - 1)
Threads = _whole(0, 256)
Classes = _whole(1, 10**6)
Pixels = _whole(32, 4096)
Amount = Annotated[float, That(lambda x: x >= 0, "a finite number of at least 0")]
Above = Annotated[float, That(lambda x: x > 0, "a finite number above 0")]
Share = Annotated[float, That(lambda x: 0 <= x <= 1, "a number from 0 to 1")]
Momentum = Annotated[float, That(lambda x: 0 <= x < 1, "a number from 0 to 1, without 1")]
Width = Annotated[float, That(lambda x: 0 < x <= 16, "a number above 0 and up to 16")]
Finite = Annotated[float, That(lambda x: True, "a finite number")]
Name = Annotated[str, That(bool, "text in one line, not empty")]
Data = Literal["subset", "cifar10", "imagenette", "imagenet"]


def settle(record) -> None:
    """Check all fields of a frozen dataclass against their annotations and keep them as plain Python values.

    InputError for the first that is not of its kind.
    """
    who = getattr(record, "name", None)
    prefix = f"{type(record).__name__.lower()} {f'{who!r}: ' if isinstance(who, str) else ''}"
    for name, kind in kinds(type(record)).items():
        object.__setattr__(record, name, read(f"{prefix}{name}", getattr(record, name), kind))


@functools.cache
def kinds(cls: type) -> dict:
    """{field: kind} of a dataclass."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def build(cls: type, value, where: str = ""):
    """Build a dataclass whose fields :func:`settle` checks, and the dataclasses in it, out of plain data, as of JSON.

    InputError names the field that is missing, unknown or of another kind.
    """
    name, prefix = where or cls.__name__.lower(), f"{where}." if where else ""
    if not isinstance(value, dict):
        raise InputError(f"{name} is no set of named values: {_brief(value)}")
    known = {field.name: field for field in dataclasses.fields(cls)}
    if unknown := [field for field in value if field not in known]:
        raise InputError(f"{prefix}{unknown[0]} is unknown here, as the setting of another version would be")
    for field in known.values():
        if field.name not in value and field.default is field.default_factory is dataclasses.MISSING:
            raise InputError(f"{prefix}{field.name} is missing")
    return cls(**{field: _built(kinds(cls)[field], v, f"{prefix}{field}") for field, v in value.items()})


def _built(kind, value, where: str):
    """Plain data with a dataclass wherever its kind has one; all else is the dataclass's to check."""
    if dataclasses.is_dataclass(kind):
        return build(kind, value, where)
    if get_origin(kind) in (Union, types.UnionType) and value is not None:
        return _built(get_args(kind)[0], value, where)
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return tuple(_built(get_args(kind)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    return value


def read(name: str, value, kind, *, text: bool = False):
    """``value`` as a plain Python value of this kind; InputError that says what ``name`` must be.

    ``text``: it may be written as text as well: "0.5", "true", "none", "4 3".
    """
    try:
        if text and isinstance(value, str):
            value = _parsed(value, kind)
        return _read(value, kind)
    except (TypeError, ValueError, OverflowError, ArithmeticError, StopIteration):
        raise InputError(f"{name} must be {words(kind)}, got {_brief(value)}") from None


parse = functools.partial(read, text=True)


def words(kind) -> str:
    """What values of this kind are, in words."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return parts[1].words
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin in (Union, types.UnionType):
        return f"{words(parts[0])}, or None"
    if origin is tuple:
        return f"a list, each of its values {words(parts[0])}"
    return {bool: "True or False", str: "text in one line", int: "a whole number", float: "a finite number",
            dict: "a dict"}.get(kind, f"a {getattr(kind, '__name__', kind)}")


def _read(value, kind):
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        value = _read(value, parts[0])
        if not parts[1].holds(value):
            raise ValueError
        return value
    if origin is Literal:
        return next(part for part in parts if type(part) is type(value) and part == value)
    if origin in (Union, types.UnionType):
        return None if value is None else _read(value, parts[0])
    if origin is tuple:
        if isinstance(value, (str, bytes, dict)):
            raise TypeError
        return tuple(_read(item, parts[0]) for item in value)
    if kind is int and not isinstance(value, bool):
        return operator.index(value)
    if kind is float and isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if kind is str and isinstance(value, str) and value.isprintable():
        return str(value)
    if kind is dict and isinstance(value, dict):
        return dict(value)
    if kind is bool and type(value).__name__ in ("bool", "bool_"):      # numpy's
        return bool(value)
    if kind not in (int, float, bool, str, dict) and isinstance(value, kind):
        return value
    raise TypeError


def _parsed(text: str, kind):
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if text.lower() == "none" else _parsed(text, parts[0])
    if origin is Annotated:
        return _parsed(text, parts[0])
    if origin is tuple:
        return tuple(_parsed(word, parts[0]) for word in text.replace(",", " ").split())
    if kind is bool:
        return ("false", "true").index(text.lower()) == 1
    return kind(text) if kind in (int, float) else text


def _brief(value) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:76]} ..."
