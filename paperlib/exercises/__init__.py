"""The exercises of the lessons: what is asked stands in the notebook, what is checked, and how it is explained, here.

``check("2.3", answer)`` says whether an answer is right.  A lesson has ``...`` where an answer belongs, so it runs from
top to bottom before anything is solved.  One module for each lesson; an exercise is a function of the answer, in plain
asserts whose messages say what was asked, what came out, and where to look::

    @exercise("1.1")
    def step_of_a_grid(answer):
        assert answer != 2 / 15, "15 levels have 14 steps between them: divide the range by the steps"
        assert answer == 2 / 14, f"from -1 to 1 there are 14 steps of 1/7 each, you have {answer}"
        return "why: the range is shared out among the steps, and a step lies between two levels"
"""
from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable

from ..errors import InputError

_EXERCISES: dict[str, Callable] = {}


class Open(Exception):
    """No answer is there yet."""


def exercise(name: str) -> Callable:
    """Register a check: it raises AssertionError with an explanation, or returns a sentence worth remembering."""
    def register(judge: Callable) -> Callable:
        if name in _EXERCISES:
            raise ValueError(f"exercise {name} is there twice")
        _EXERCISES[name] = judge
        return judge
    return register


def names() -> list[str]:
    """All exercises, "lesson.number", in order."""
    _load()
    return sorted(_EXERCISES, key=lambda name: [int(part) for part in name.split(".")])


def check(name: str, answer) -> None:
    """Print that the answer is right, and why, or that there is none yet.

    ``answer``: a value, or a function, which is tried out; ``...``, also as what the function returns, or None means
    that none is there.  AssertionError says what is wrong, InputError that no exercise has this name.
    """
    if name not in names():
        raise InputError(f"no exercise {name!r}: choose from {', '.join(names())}")
    try:
        if answer is None or answer is ...:
            raise Open
        print(f"{name} is right. {_EXERCISES[name](_watched(answer) if callable(answer) else answer)}")
    except TypeError as error:
        if callable(answer) or "not callable" not in str(error):
            raise
        raise AssertionError(f"{name} asks for a function, and this is the {type(answer).__name__} {answer!r}: name "
                             "the function itself, without calling it") from None
    except Open:
        print(f"{name} is open: put your answer where ... stands and run the cell again.")


def _watched(answer: Callable) -> Callable:
    """The same function, which ends the check if it has no answer."""
    @functools.wraps(answer)
    def call(*args, **kwargs):
        if (value := answer(*args, **kwargs)) is ...:
            raise Open
        assert value is not None, "your function returns nothing: let it end with `return` and the result"
        return value
    return call


@functools.cache
def _load() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
