"""The exercises of the lessons: the notebook asks, and this room checks the answer and explains what is wrong with it.

``check("2.3", answer)`` says whether an answer is right.  A lesson has ``...`` in place of an answer, so it runs from
top to bottom before anything is solved; ``checked("2.3", answer)`` also returns the answer, or a solution while there
is none, for cells that build on it.  One module for each lesson; an exercise is a function of the answer, in plain
asserts that say what came out and then give hints, one more with each wrong try; the last hint fits every mistake::

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
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from ...errors import InputError

_EXERCISES: dict[str, Callable] = {}
_SOLUTIONS: dict[str, object] = {}     # of exercises that later cells of the lesson build on
_WRONG_TRIES: dict[str, int] = {}      # of exercises that are not solved yet, in this process


class Open(Exception):
    """No answer is there yet."""


class Wrong(InputError, AssertionError):
    """An answer that is not right.  Its message is all that is shown, since a check's own lines hold all the hints.

    ``stages``: what came out, then the hints that are given, each without its full stop.
    """

    def __init__(self, stages: Sequence[str]):
        came_out, *hints = (stage if stage.endswith("?") else f"{stage}." for stage in stages)
        self.lines = [came_out, *(f"Hint: {hint}" for hint in hints)]
        super().__init__(" ".join(self.lines))

    def _render_traceback_(self) -> list[str]:
        """What notebooks show instead of a traceback: a line for what came out, and one for each hint."""
        return self.lines


def exercise(name: str, asks: str, hint: str, solution=None) -> Callable:
    """Register a check, which returns a sentence worth remembering or asserts ``what came out``, ``(…, a hint)``.

    The first wrong try is told what the exercise ``asks`` for, what came out and a first hint, each further try gets
    one more, ``hint`` at last; a right answer starts over.  Wrong carries that message.  ``solution``: what
    :func:`checked` returns while there is no answer.
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
                ours = not judged_wrong and _is_function(answer) and not answer.tried
                if ours or hasattr(error, "of_reader"):
                    raise
                told = error.args[0] if judged_wrong else _unusable(answer, error)
            else:
                _WRONG_TRIES.pop(name, None)
                return sentence
            tries = _WRONG_TRIES[name] = _WRONG_TRIES.get(name, 0) + 1
            came_out, *hints = (told, hint) if isinstance(told, str) else (*told, hint)
            raise Wrong([f"{name} asks for {asks}; {came_out}", *hints][:1 + tries])
        _EXERCISES[name] = judged
        if solution is not None:
            _SOLUTIONS[name] = solution
        return judged
    return register


def expect(got: float | Tensor, right: float | Tensor, told: str, mistakes: Iterable[tuple], *hints: str,
           within: float = 1e-5) -> None:
    """Assert that a number or a tensor is right, or explain it: by the hints of the first of ``mistakes``, (value, a
    hint, ...), that it is, or else by ``hints``; numbers are equal ``within`` this, as such or as a share of the larger
    one.  Shapes are not compared, only how many numbers there are."""
    def is_(value: float | Tensor) -> bool:
        pair = [torch.as_tensor(x).detach().double().flatten() for x in (got, value)]
        return pair[0].shape == pair[1].shape and torch.allclose(*pair, rtol=within, atol=within)

    explanations = (why for value, *why in mistakes if is_(value))
    assert is_(right), (told, *next(explanations, hints))


def short(x: Tensor, digits: int = 3) -> list[float]:
    """Round the numbers of a tensor for a message."""
    return [round(value, digits) + 0.0 for value in x.detach().flatten().tolist()]


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
    _right(name, answer, "")


def checked(name: str, answer):
    """:func:`check` the answer and return it; while there is none, return the exercise's solution, so that the cells
    below it run.  InputError if no cell builds on this exercise."""
    __tracebackhide__ = True
    if name in names() and name not in _SOLUTIONS:
        raise InputError(f"no cell builds on exercise {name}: use check")
    return answer if _right(name, answer, "\nUntil then the lesson goes on with a finished one.") else _SOLUTIONS[name]


def _right(name: str, answer, while_open: str) -> bool:
    """Whether there is an answer, which is right, or else Wrong is raised; prints which of the two it is."""
    __tracebackhide__ = True
    if name not in names():
        raise InputError(f"no exercise {name!r}: choose from {', '.join(names())}")
    try:
        if answer is None or answer is ...:
            raise Open
        print(f"{name} is right. {_EXERCISES[name](_watched(answer) if _is_function(answer) else answer)}")
        return True
    except Open:
        print(f"{name} is open: put your answer in place of ... and run the cell again.{while_open}")
        return False
    except Exception as error:
        if isinstance(error, Wrong) or hasattr(error, "of_reader"):
            raise error.with_traceback(getattr(error, "of_reader", None))
        raise


def _is_function(answer) -> bool:
    """Whether an answer is to be called; a class, such as an autograd.Function, is looked at by its check alone."""
    return callable(answer) and not isinstance(answer, type)


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
        print(*error.lines, sep="\n", file=sys.stderr)
    else:
        otherwise(kind, error, traceback)


sys.excepthook = _show_in_one_line      # plain Python; notebooks ask Wrong itself


@functools.cache
def _load() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
