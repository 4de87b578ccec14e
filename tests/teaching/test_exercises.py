"""Exercises of the lessons: an open one says so, a right answer is praised, a wrong one gets hints."""
import math
import re
import sys

import nbformat
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils import io

from paperlib.claims import notebooks
from paperlib.errors import InputError
from paperlib.teaching import exercises

LESSONS = [name for name in notebooks.names() if name.startswith("learn_") and not name.endswith("_solutions")]


def complaints(name, answer, tries=5):
    """The messages of so many wrong tries in a row."""
    messages = []
    for _ in range(tries):
        with pytest.raises(exercises.Wrong) as info:
            exercises.check(name, answer)
        messages.append(str(info.value))
    return messages


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nothing was tried before."""
    monkeypatch.setattr(exercises, "_WRONG_TRIES", {})


def test_hints_come_one_by_one():
    stages = complaints("1.1", lambda top, bits: 2 * top / (2**bits - 1))
    assert [stage.count(" Hint: ") for stage in stages] == [1, 2, 3, 3, 3]
    assert all(later.startswith(earlier) for earlier, later in zip(stages, stages[1:]))


def levels_for_steps(top, bits):
    """A mistake in 1.1 that has three hints."""
    return 2 * top / (2**bits - 1)


def test_an_open_exercise_keeps_the_stage_and_a_right_answer_starts_over(capsys):
    first, second = complaints("1.1", levels_for_steps, tries=2)
    exercises.check("1.1", ...)
    assert complaints("1.1", levels_for_steps, tries=1)[0].startswith(f"{second} Hint: ")
    exercises.check("1.1", lambda top, bits: top / (2 ** (bits - 1) - 1))
    assert complaints("1.1", levels_for_steps, tries=2) == [first, second]
    assert complaints("3.3", lambda momentum, share: 5, tries=1)[0].count("Hint") == 1, "each counts by itself"


def test_a_wrong_answer_shows_its_message_and_nothing_else(capsys):
    with pytest.raises(AssertionError) as info:
        exercises.check("1.1", levels_for_steps)
    error = info.value
    assert error.__cause__ is error.__context__ is None
    came_out, hint = error._render_traceback_()
    assert came_out.startswith("1.1 asks for ") and hint == "Hint: you divided by the number of levels."
    assert str(error) == f"{came_out} {hint}"
    sys.excepthook(type(error), error, error.__traceback__)
    assert capsys.readouterr().err == f"{came_out}\n{hint}\n"


def test_a_notebook_shows_a_wrong_answer_without_the_lines_of_its_check():
    shell = InteractiveShell.instance()
    with io.capture_output() as shown:
        shell.run_cell("from paperlib.teaching import exercises\n"
                       "exercises.check('1.1', lambda top, bits: 2 * top / (2**bits - 1))")
    lines = [line for line in shown.stdout.splitlines() if line]
    assert len(lines) == 2 and lines[0].startswith("1.1 asks for ") and lines[1].startswith("Hint: ")


def test_a_lesson_goes_on_with_a_solution_until_there_is_an_answer(capsys, monkeypatch):
    solution = exercises.checked("1.1", lambda top, bits: ...)
    assert solution(0.6, 3) == pytest.approx(0.2)
    assert capsys.readouterr().out.splitlines()[1] == "Until then the lesson goes on with a finished one."

    def mine(top, bits):
        return top / (2 ** (bits - 1) - 1)
    assert exercises.checked("1.1", mine) is mine
    with pytest.raises(exercises.Wrong):
        exercises.checked("1.1", levels_for_steps)
    monkeypatch.setattr(exercises, "_SOLUTIONS", {})
    with pytest.raises(InputError, match="no cell builds on exercise 1.1: use check"):
        exercises.checked("1.1", mine)


@pytest.mark.parametrize("name", [name for name in exercises.names() if name in exercises._SOLUTIONS])
def test_a_solution_is_right(name, capsys):
    exercises.check(name, exercises._SOLUTIONS[name])
    assert capsys.readouterr().out.startswith(f"{name} is right")


@pytest.mark.parametrize("name", [name for name in exercises.names() if name not in ("2.1", "4.3")])
def test_an_error_in_the_readers_function_shows_the_readers_lines(name):
    def answer(*args):
        def inner():
            assert not args, "mine"
        inner()

    with pytest.raises(AssertionError, match="mine") as info:
        exercises.check(name, answer)
    assert not isinstance(info.value, exercises.Wrong)
    assert [entry.name for entry in info.traceback][1:] == ["check", "_right", "answer", "inner"]
    assert all(entry.frame.f_locals["__tracebackhide__"] for entry in info.traceback[1:3])


@pytest.mark.parametrize("name", [name for name in exercises.names() if name != "4.3"])
@pytest.mark.parametrize("answer", [lambda: 1, lambda *args: "text", lambda *args: math.nan, lambda *args: object(),
                                    lambda *args: torch.tensor([1.0, 2.0])],
                         ids=["no arguments", "text", "NaN", "an object", "two numbers"])
def test_what_cannot_be_judged_is_wrong_and_not_a_traceback(name, answer):
    assert complaints(name, answer, tries=1)[0].startswith(f"{name} asks for ")


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
        "0.1 is open: put your answer in place of ... and run the cell again.", "0.1 is right. It gives 3."]


def test_a_defect_of_a_check_is_not_blamed_on_the_reader(monkeypatch):
    monkeypatch.setattr(exercises, "_EXERCISES", {})
    monkeypatch.setattr(exercises, "names", lambda: ["0.1"])
    exercises.exercise("0.1", "anything", "anything")(lambda answer: torch.no_such_name)
    with pytest.raises(AttributeError, match="no_such_name"):
        exercises.check("0.1", lambda: 1)


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


REBUILT = [name for name in notebooks.names()
           if name.startswith(tuple(f"learn_{n}_" for n in (1, 2, 5, 6, 7)))]


@pytest.mark.parametrize("lesson", REBUILT)
def test_a_lesson_is_read_on_a_narrow_page_and_in_order(lesson):
    cells = nbformat.read(notebooks.path(lesson), 4).cells
    assert max(len(line) for c in cells if c.cell_type == "code" for line in c.source.splitlines()) <= 88
    if lesson.endswith("_solutions"):
        return
    first = next(i for i, c in enumerate(cells) if c.cell_type == "code" and any("data" in o for o in c.outputs))
    assert "?**" in cells[0].source and all(c.cell_type == "code" for c in cells[1:first + 1]), "a question, a picture"
    goals = cells[first + 1].source
    assert all(f"**{words}**" in goals for words in ("You will be able to", "You need", "It takes"))
    assert re.search(r"about \d+ minutes", goals)
    texts = [c.source for c in cells if c.cell_type == "markdown"]
    folded = sum(text.count("<details><summary>") for text in texts)
    assert folded == sum(text.count("</details>") for text in texts) >= 3
    assert sum("*Predict:*" in text for text in texts) >= folded
