"""The scoreboard: every claim is on it, and a row says what its verdict says."""
import inspect
import pkgutil
from importlib import import_module

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from paperlib import claims, plots, runs
from paperlib.claims import (
    CONTRADICTED,
    NOT_ENOUGH,
    NOT_TESTABLE,
    SUPPORTED,
    Verdict,
    contents,
    notebooks,
    scoreboard,
)
from paperlib.claims.verdict import at_scale

EXTENSIONS = {"verdicts_on_others", "verdicts_against_shorter"}        # which the scoreboard leaves out


def verdict(differences, testable=True, **settings):
    rows = [("loss", seed, value) for seed, value in enumerate(differences)]
    verdict = Verdict.of("A ends lower than B", "Fig. 9", rows, below=0, printed="12.86", unit="nats", **settings)
    return verdict if testable else at_scale("smoke", [verdict])[0]


def judged(*verdicts, item="profit_fig2_4_aiwq"):
    return [scoreboard.Judged(item, v, [], "made up") for v in verdicts]


def test_rows_say_what_verdicts_say():
    table = scoreboard.table(judged(verdict([-1, -1.1]), verdict([1, 1.1]), verdict([-1, 2]),
                                    verdict([-1, -1.1], False), verdict([])))
    assert table.verdict.tolist() == [SUPPORTED, CONTRADICTED, NOT_ENOUGH, NOT_TESTABLE, NOT_ENOUGH]
    assert table.n.tolist() == [2, 2, 2, 2, 0] and table.comparisons.tolist() == [1, 1, 1, 1, 0]
    assert table.ours.tolist()[2:] == ["+0.5 [-18.6, +19.6], n = 2", table.ours[0], ""]
    assert table.reason.tolist() == ["", "", "the interval is too wide", "", "not recorded yet"]


def test_the_page_links_each_claim_to_its_notebook_and_keeps_controls_apart():
    found = judged(verdict([-1, 2]), verdict([-1], kind="control"))
    lines = scoreboard.page(scoreboard.table(found)).splitlines()
    assert lines[2] == (f"| [A ends lower than B](profit_fig2_4_aiwq.ipynb) `{found[0].id}` | Fig. 9 | 12.86 | "
                        "+0.5 [-18.6, +19.6], n = 2 | nats |  | **not enough evidence** (the interval is too wide) | "
                        "made up |")
    assert lines[4].startswith("**Controls") and "(one seed)" in lines[-1]


def test_the_picture_has_a_line_for_each_claim_in_the_colour_of_its_verdict():
    table = scoreboard.table(judged(verdict([-0.1, -0.11]), verdict([1, 1.1]), verdict([-1, 2], kind="control")))
    figure = plots.scoreboard.draw(table, footnote="made up")
    [ax] = figure.axes
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels == ["Fig. 9", "A ends lower than B", "A ends lower than B", "Controls", "A ends lower than B"]
    marks = {line.get_ydata()[0]: line for line in ax.lines if line.get_marker() not in ("None", "") and len(
        line.get_xdata())}
    colours = plots.scoreboard.COLOURS
    assert [(y, line.get_color()) for y, line in marks.items()] == [
        (1, colours[SUPPORTED]), (2, colours[CONTRADICTED]), (4, colours[NOT_ENOUGH])]
    assert marks[1].get_xdata()[0] == pytest.approx(-0.105)
    plt.close(figure)
    assert "Fig. 9: 1 supported, 1 contradicted." in figure.alt


def claim_functions():
    """(name, function) of all functions in paperlib/claims/ that return a verdict or several."""
    for module in pkgutil.iter_modules(claims.__path__):
        found = import_module(f"paperlib.claims.{module.name}")
        if module.name not in ("confirmations", "contents", "scoreboard", "untested", "verdict"):
            yield from ((name, f) for name, f in inspect.getmembers(found, inspect.isfunction)
                        if f.__module__ == found.__name__ and not name.startswith("_")
                        and "Verdict" in str(inspect.signature(f).return_annotation))


def test_no_claim_is_left_out():
    """Each stands in its file's list, and each list in the contents."""
    lists = {f for name, f in claim_functions() if name.startswith("verdicts")} | {claims.cost_accuracy.accuracy_gains}
    names = {name for name, f in claim_functions() if f not in lists}
    listed = {name for f in lists for name in f.__code__.co_names + sum(
        (inner.co_names for inner in f.__code__.co_consts if inspect.iscode(inner)), ())}
    assert len(names) > 20 and names <= listed
    shown = {shown.verdicts for notebook in contents.NOTEBOOKS.values() for shown in notebook.shows}
    assert {f.__name__ for f in lists - shown} == EXTENSIONS


@pytest.mark.slow
def test_each_list_is_judged_by_its_profile():
    """Of the recorded runs, as if their scale were too small."""
    for notebook in contents.NOTEBOOKS.values():
        for shown in notebook.shows:
            if shown.wanted and shown.verdicts:
                verdicts = shown.verdicts(runs.obtain_each(shown.recipes("recorded", 0)), "smoke")
                assert {v.verdict for v in verdicts} == {NOT_TESTABLE} and any(len(v.table()) for v in verdicts)


@pytest.mark.slow
def test_recorded_claims_lead_to_notebooks_that_exist(recorded):
    assert {j.notebook for j in recorded} <= set(notebooks.names())
    assert {SUPPORTED, CONTRADICTED, NOT_ENOUGH, NOT_TESTABLE} <= {j.verdict.verdict for j in recorded}
    table = scoreboard.table(recorded)
    assert not table.duplicated(["claim", "runs"]).any()
    assert isinstance(table, pd.DataFrame)


@pytest.mark.slow
def test_whatever_is_judged_has_numbers(recorded):
    for j in recorded:
        told = j.verdict.differences
        assert len(told) or j.verdict.verdict in (NOT_TESTABLE, NOT_ENOUGH), j.verdict.claim
        assert not (told.difference.notna() & (told.outcome != "")).any(), j.verdict.claim
        assert j.verdict.counted or told.seed.nunique() > 1 or j.verdict.verdict in (NOT_TESTABLE, NOT_ENOUGH), (
            f"decided by one seed: {j.verdict.claim}")
