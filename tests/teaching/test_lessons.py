"""Lessons: how they begin, how their code reads, how long they take, and that what they say is what their stored
outputs show."""
import re

import nbformat
import pytest

from paperlib.claims import notebooks
from paperlib.system.paths import ROOT

LESSON_4 = "learn_4_progressive_freezing"
LESSONS = [name for name in notebooks.names() if name.startswith("learn_") and not name.endswith("_solutions")]


def cells(lesson, kind):
    return [c for c in nbformat.read(notebooks.path(lesson), 4).cells
            if c.cell_type == kind and c.id != notebooks.COLAB]


def printed(lesson):
    return "".join(o.get("text", "") for c in cells(lesson, "code") for o in c.outputs)


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_begins_with_a_question_and_a_picture_and_says_what_it_takes(lesson):
    begin, goals = cells(lesson, "markdown")[:2]
    assert "?**" in begin.source
    assert all(word in goals.source for word in ("**You will be able to**", "**You need**", "**It takes**"))
    before = nbformat.read(notebooks.path(lesson), 4).cells
    before = before[:[c.id for c in before].index(goals.id)]
    assert any("image/png" in o.get("data", {}) for c in before if c.cell_type == "code" for o in c.outputs)


@pytest.mark.parametrize("lesson", LESSONS)
def test_its_minutes_are_those_of_the_teaching_kit_and_of_its_rule(lesson):
    """200 words and 15 lines of code in a minute, a minute for each prediction, three for each exercise."""
    text = "\n".join(c.source for c in cells(lesson, "markdown"))
    code = [line for c in cells(lesson, "code") for line in c.source.splitlines() if line.strip()]
    exercises = set(re.findall(r'exercises\.check(?:ed)?\("(\d\.\d)"', "\n".join(code)))
    minutes = len(text.split()) / 200 + len(code) / 15 + text.count("*Predict:*") + 3 * len(exercises)
    told = int(re.search(r"\*\*It takes\*\* about (\d+) minutes", text)[1])
    assert told == 5 * round(minutes / 5), f"by the rule it takes {minutes:.0f} minutes"
    kit = (ROOT / "notebooks" / "teaching" / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"\({re.escape(f'../{lesson}.ipynb')}\) .*\| {told} \|\n", kit)


@pytest.mark.parametrize("lesson", LESSONS)
def test_code_of_a_lesson_fits_a_narrow_page(lesson):
    assert not [line for c in cells(lesson, "code") for line in c.source.splitlines() if len(line) > 88]


@pytest.mark.parametrize("lesson", LESSONS)
def test_results_are_sentences_and_predictions_fold_their_answers(lesson):
    assert not re.search(r"\b(yes|no|True|False)$", printed(lesson), re.M)
    text = "\n".join(c.source for c in cells(lesson, "markdown"))
    assert text.count("<details>") == text.count("</details>") >= 3


def test_lesson_4_says_what_its_seeds_show():
    means = dict(re.findall(r"^(\w+ \w+) +fluctuates by ([\d.]+) nats", printed(LESSON_4), re.M))
    seeds = re.findall(r"^(\w+ \w+) +is calmer than (\w+ \w+) in (\d) of 8 seeds", printed(LESSON_4), re.M)
    frozen = [float(means[order]) for order in ("largest first", "smallest first")]
    assert max(frozen) < 0.6 * float(means["nothing frozen"])       # "about half as much as with nothing frozen"
    assert [int(n) for *_, n in seeds] == [8, 8, 4]     # "less in each of the eight seeds", "in four seeds of eight"
