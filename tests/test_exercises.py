"""Exercises of the lessons: an open one says so, a right answer is praised, each likely mistake is named."""
import re

import nbformat
import pytest

from paperlib import exercises, notebooks
from paperlib.errors import InputError

LESSONS = [name for name in notebooks.names() if name.startswith("learn_") and not name.endswith("_solutions")]

# (exercise, a likely mistake, what the message must mention)
MISTAKES = [
    # lesson 1
    # lesson 2
    # lesson 3
    # lesson 4
    # lesson 5
]


@pytest.mark.parametrize("name, answer, cue", MISTAKES)
def test_a_mistake_is_explained(name, answer, cue):
    with pytest.raises(AssertionError, match=cue) as info:
        exercises.check(name, answer)
    assert len(str(info.value).split()) >= 8, "an explanation, not a verdict"


def test_every_exercise_has_a_mistake():
    assert {name for name, *_ in MISTAKES} == set(exercises.names())


@pytest.mark.parametrize("name", exercises.names())
@pytest.mark.parametrize("answer", [None, ...])
def test_an_exercise_without_an_answer_is_open(name, answer, capsys):
    exercises.check(name, answer)
    assert capsys.readouterr().out.startswith(f"{name} is open")


def test_a_function_without_an_answer_is_open(capsys, monkeypatch):
    monkeypatch.setitem(exercises._EXERCISES, "0.1", lambda answer: f"It gives {answer(2)}.")
    monkeypatch.setattr(exercises, "names", lambda: ["0.1"])
    exercises.check("0.1", lambda x: ...)
    exercises.check("0.1", lambda x: x + 1)
    assert capsys.readouterr().out.splitlines() == [
        "0.1 is open: put your answer where ... stands and run the cell again.", "0.1 is right. It gives 3."]


def test_an_unknown_exercise_is_refused_by_name():
    with pytest.raises(InputError, match="no exercise '9.9': choose from"):
        exercises.check("9.9", 1)


def said(notebook):
    """What the checks in a committed notebook printed: {exercise: "open" or "right"}"""
    cells = nbformat.read(notebooks.path(notebook), 4).cells
    text = "".join(o.get("text", "") for c in cells if c.cell_type == "code" for o in c.outputs)
    return dict(re.findall(r"^(\d\.\d+) is (open|right)", text, re.M))


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_asks_and_its_solutions_answer(lesson):
    own = [name for name in exercises.names() if name.startswith(lesson[len("learn_")] + ".")]
    assert len(own) >= 3
    assert said(lesson) == dict.fromkeys(own, "open")
    assert said(f"{lesson}_solutions") == dict.fromkeys(own, "right")
