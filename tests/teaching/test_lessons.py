"""Lessons: how they begin, how their code reads, and that what they say is what their stored outputs show."""
import re

import nbformat
import pytest

from paperlib.claims import notebooks

LESSON_4 = "learn_4_progressive_freezing"
LESSONS = ["learn_3_why_mobilenets_break", LESSON_4]


def cells(lesson, kind):
    return [c for c in nbformat.read(notebooks.path(lesson), 4).cells if c.cell_type == kind]


def printed(lesson):
    return "".join(o.get("text", "") for c in cells(lesson, "code") for o in c.outputs)


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_begins_with_a_question_and_a_picture_and_says_what_it_takes(lesson):
    begin, goals = cells(lesson, "markdown")[:2]
    assert "?**" in begin.source
    assert all(word in goals.source for word in ("**After this lesson you can**", "**You need**", "**Time**"))
    before = nbformat.read(notebooks.path(lesson), 4).cells
    before = before[:[c.id for c in before].index(goals.id)]
    assert any("image/png" in o.get("data", {}) for c in before if c.cell_type == "code" for o in c.outputs)


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
    assert max(frozen) < float(means["nothing frozen"]) / 2     # "less than half as much as with nothing frozen"
    assert [int(n) for *_, n in seeds] == [8, 7, 6]     # "in seven or all of the eight", "in six seeds"
