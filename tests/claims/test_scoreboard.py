"""The scoreboard: every claim is on it, and a row says what its verdict says."""
import inspect
import pkgutil
from importlib import import_module

import pandas as pd
from matplotlib import pyplot as plt

from paperlib import claims, plots, runs
from paperlib.claims import NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED, Verdict, contents, notebooks, scoreboard
from paperlib.claims.verdict import at_scale

EXTENSIONS = {"verdicts_on_others", "verdicts_against_taught"}        # which the scoreboard leaves out


def verdict(differences, testable=True, comparison="loss"):
    rows = [(comparison, seed, value) for seed, value in enumerate(differences)]
    verdict = Verdict.of("A ends lower than B", "Fig. 9", rows, lambda difference: difference < 0, printed="12.86")
    return verdict if testable else at_scale("smoke", [verdict])[0]


def judged(*verdicts, item="profit_fig2_4_aiwq"):
    return [scoreboard.Judged(item, v, [], "made up") for v in verdicts]


def test_rows_say_what_verdicts_say():
    table = scoreboard.table(judged(verdict([-1, -3]), verdict([-1, 2]), verdict([-1, -1], testable=False),
                                    verdict([])))
    assert table.verdict.tolist() == [REPRODUCED, NOT_REPRODUCED, NOT_TESTABLE, NOT_TESTABLE]
    assert table.agree.tolist() == ["2 of 2", "1 of 2", "2 of 2", "0 of 0"] and table.seeds.tolist() == [2, 2, 2, 0]
    assert table.ours.tolist() == ["-2 ± 1.4", "+0.5 ± 2.1", "-1 ± 0", ""]


def test_several_comparisons_show_the_least_and_the_greatest():
    rows = [(name, seed, value + seed) for name, value in (("a", -5.0), ("b", -2.0), ("c", -3.0)) for seed in (0, 2)]
    assert Verdict.of("", "", rows, lambda d: d < 0).summary() == "-4 to -1 in 3 comparisons"
    assert verdict([-0.25]).summary() == "-0.25"


def test_the_page_links_each_claim_to_its_notebook():
    lines = scoreboard.page(scoreboard.table(judged(verdict([-1, 2])))).splitlines()
    assert lines[2] == ("| [A ends lower than B](profit_fig2_4_aiwq.ipynb) | Fig. 9 | 12.86 | +0.5 ± 2.1 | "
                        "**not reproduced** (1 of 2) | made up, n = 2 |")


def test_the_picture_has_a_mark_for_each_claim_in_the_colour_of_its_verdict():
    table = scoreboard.table(judged(verdict([1]), verdict([-1])) + judged(verdict([1], testable=False), item="other"))
    figure = plots.scoreboard.draw(table, footnote="made up")
    marks = [(line.get_xdata()[0], line.get_ydata()[0], line.get_marker(), line.get_markerfacecolor())
             for line in figure.axes[0].lines if len(line.get_xdata())]
    kinds = plots.scoreboard.MARKS
    assert marks == [(0, 0, *kinds[REPRODUCED][:2]), (1, 0, *kinds[NOT_REPRODUCED][:2]),
                     (0, 1, *kinds[NOT_TESTABLE][:2])]
    assert [text.get_text() for text in figure.axes[0].texts] == ["1 of 2 reproduced", "0 of 1 reproduced"]
    plt.close(figure)
    assert "profit_fig2_4_aiwq: 1 reproduced, 1 not reproduced; other: 1 not testable" in figure.alt


def claim_functions():
    """(name, function) of all functions in paperlib/claims/ that return a verdict or several."""
    for module in pkgutil.iter_modules(claims.__path__):
        found = import_module(f"paperlib.claims.{module.name}")
        if module.name not in ("contents", "scoreboard", "verdict"):
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


def test_each_list_is_judged_by_its_profile():
    """Of the recorded runs, as if their scale were too small."""
    for notebook in contents.NOTEBOOKS.values():
        for shown in notebook.shows:
            if shown.wanted and shown.verdicts:
                verdicts = shown.verdicts(runs.obtain_each(shown.recipes("recorded", 0)), "smoke")
                assert {v.verdict for v in verdicts} == {NOT_TESTABLE} and any(len(v.table()) for v in verdicts)


def test_recorded_claims_lead_to_notebooks_that_exist(recorded):
    assert {j.notebook for j in recorded} <= set(notebooks.names())
    assert {REPRODUCED, NOT_REPRODUCED, NOT_TESTABLE} <= {j.verdict.verdict for j in recorded}
    table = scoreboard.table(recorded)
    assert not table.duplicated(["claim", "runs"]).any() and isinstance(table, pd.DataFrame)


def test_whatever_is_judged_has_numbers(recorded):
    for j in recorded:
        assert len(j.verdict.differences) or j.verdict.verdict == NOT_TESTABLE, j.verdict.claim
        told = j.verdict.differences
        assert (told.difference.isna() == (told.outcome != "")).all(), j.verdict.claim
        assert j.verdict.verdict in (claims.NOT_RECORDED, claims.FAILED) or not told.outcome.any(), j.verdict.claim
