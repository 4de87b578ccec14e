"""What a notebook's parameter may be: its default, the rule in words and as a function."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Value = int | float | str | bool


@dataclass(frozen=True)
class Parameter:
    """What a parameter is unless told otherwise, and what it may be: in words, and as a function of the value and of
    all values."""

    default: Value
    allowed: str
    holds: Callable[[Value, Mapping[str, Value]], bool]


def number(default: float, least: float, most: float | str) -> Parameter:
    """Allow ``least`` to ``most``, which may be another parameter's name; not nan."""
    return Parameter(default, f"from {least:g} to {most}",
                     lambda value, others: least <= value <= (others[most] if isinstance(most, str) else most))


def one_of(default: Value, *others: Value) -> Parameter:
    """Allow these values."""
    return Parameter(default, f"one of {', '.join(map(str, dict.fromkeys((default, *others))))}",
                     lambda value, _: value in (default, *others))


def some_of(default: str, *choices: str) -> Parameter:
    """Allow words with spaces between; none only where that is the default."""
    def holds(value, _):
        words = value.split()
        return set(words) <= set(choices) and len(set(words)) == len(words) and bool(words or not default)

    return Parameter(default, f"some of {', '.join(choices)}, each at most once, with spaces between", holds)
