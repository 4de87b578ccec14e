"""The exercises of the lessons: what is asked stands in the notebook, what is checked, and how it is explained, here.

``check("2.3", answer)`` says whether an answer is right.  A lesson has ``...`` where an answer belongs, so it runs from
top to bottom before anything is solved.  One module for each lesson; an exercise is a function of the answer, in plain
asserts that say what came out and then, for the tries that follow, a hint; the last hint is one for every mistake::

    @exercise("1.1", "the step of 15 levels from -1 to 1", "count the steps between the levels on paper")
    def step_of_a_grid(answer):
        assert answer != 2 / 15, (f"you have {answer:.3f}", "there are 15 levels, but fewer steps between them")
        assert answer == 2 / 14, f"you have {answer:.3f}"
        return "The range is shared out among the steps, and a step lies between two levels."
"""
from __future__ import annotations

import functools
import importlib
import math
import pkgutil
import sys
from collections.abc import Callable, Iterable

from torch import Tensor

from ...errors import InputError

_EXERCISES: dict[str, Callable] = {}
_WRONG_TRIES: dict[str, int] = {}      # of exercises that are not solved yet, in this process


class Open(Exception):
    """No answer is there yet."""


class Wrong(InputError, AssertionError):
    """An answer that is not right.  Its message is all that is shown: a check's own lines hold all the hints."""


def exercise(name: str, asks: str, hint: str) -> Callable:
    """Register a check, which returns a sentence worth remembering or asserts ``what came out``, ``(…, a hint)``.

    The first wrong try is told what the exercise ``asks`` for and what came out, the next ones are given the hints as
    well, one more each time, ``hint`` at last; a right answer starts over.  Wrong carries that message.
    """
    def register(judge: Callable) -> Callable:
        if name in _EXERCISES:
            raise ValueError(f"exercise {name} is there twice")

        @functools.wraps(judge)
        def judged(answer) -> str:
            try:
                sentence = judge(answer)
            except (Open, InputError, OSError):
                raise
            except Exception as error:
                judged_wrong = isinstance(error, AssertionError)
                ours = not judged_wrong and callable(answer) and not answer.tried
                if ours or hasattr(error, "of_reader"):
                    raise
                told = error.args[0] if judged_wrong else _unusable(answer, error)
            else:
                _WRONG_TRIES.pop(name, None)
                return sentence
            tries = _WRONG_TRIES[name] = _WRONG_TRIES.get(name, 0) + 1
            came_out, *hints = (told, hint) if isinstance(told, str) else (*told, hint)
            stages = [f"{name} asks for {asks}; {came_out}", *hints][:tries]
            raise Wrong(" Hint: ".join(stage if stage.endswith("?") else f"{stage}." for stage in stages))
        _EXERCISES[name] = judged
        return judged
    return register


def expect(got: float, right: float, told: str, mistakes: Iterable[tuple], *hints: str, within: float = 1e-6) -> None:
    """Assert that a number is right, or explain it: by the hints of the first of ``mistakes``, (number, a hint, ...),
    that it is, or else by ``hints``; numbers are equal ``within`` this, as such or as a share of the larger one."""
    def is_(number: float) -> bool:
        return math.isclose(got, number, rel_tol=within, abs_tol=within)

    explanations = (why for number, *why in mistakes if is_(number))
    assert is_(right), (told, *next(explanations, hints))


def names() -> list[str]:
    """Return all exercises, "lesson.number", in order."""
    _load()
    return sorted(_EXERCISES, key=lambda name: [int(part) for part in name.split(".")])


def check(name: str, answer) -> None:
    """Print that the answer is right, and why, or that there is none yet.

    ``answer``: a value, or a function, which is tried out; ``...``, also as what the function returns, or None means
    that none is there.  Wrong (an InputError and AssertionError) says what is wrong, InputError that no exercise has
    this name; what the reader's own function raises keeps the traceback through its lines, and no others.
    """
    __tracebackhide__ = True        # notebooks and pytest leave this frame out
    if name not in names():
        raise InputError(f"no exercise {name!r}: choose from {', '.join(names())}")
    try:
        if answer is None or answer is ...:
            raise Open
        print(f"{name} is right. {_EXERCISES[name](_watched(answer) if callable(answer) else answer)}")
    except Open:
        print(f"{name} is open: put your answer where ... stands and run the cell again.")
    except Exception as error:
        if isinstance(error, Wrong) or hasattr(error, "of_reader"):
            raise error.with_traceback(getattr(error, "of_reader", None))
        raise


def _watched(answer: Callable) -> Callable:
    """The same function, which ends the check if it has no answer, and marks what it raises as the reader's own."""
    @functools.wraps(answer)
    def call(*args, **kwargs):
        call.tried = True
        try:
            value = answer(*args, **kwargs)
        except Exception as error:
            if error.__traceback__.tb_next:     # else it could not be called with these arguments
                error.of_reader = error.__traceback__.tb_next
            raise
        if value is ...:
            raise Open
        assert value is not None, ("your function returns nothing", "let it end with `return` and the result")
        nan = value.isnan().any() if isinstance(value, Tensor) else isinstance(value, float) and math.isnan(value)
        assert not nan, ("your function returns NaN", "look for 0 / 0, a root or a logarithm of a negative number")
        return value
    call.tried = False
    return call


def _unusable(answer, error: Exception) -> str | tuple[str, ...]:
    """What came out if an answer cannot even be judged."""
    if not callable(answer) and "not callable" in str(error):
        return (f"it asks for a function, and this is the {type(answer).__name__} {answer!r}",
                "name the function itself, without calling it")
    return f"your answer cannot be checked ({type(error).__name__}: {error})"


def _show_in_one_line(kind: type, error: BaseException, traceback, otherwise=sys.excepthook) -> None:
    if isinstance(error, Wrong):
        print(*error._render_traceback_(), file=sys.stderr)
    else:
        otherwise(kind, error, traceback)


sys.excepthook = _show_in_one_line      # plain Python; notebooks ask Wrong itself


@functools.cache
def _load() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
