"""PROFIT among others: every number comes from the file, and only numbers with a source are spoken of."""
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from paperlib import plots
from paperlib.claims import context, published
from paperlib.claims.context import PRINTED, PROFIT, RERUN, WITHOUT


@pytest.fixture(scope="module")
def table():
    return context.results()


def test_every_number_is_a_row_of_the_file(table):
    on_file = published.table(metric="top1")
    for row in table.itertuples():
        found = on_file[(on_file.model == row.network) & (on_file.w_bits == row.bits) & (on_file.value == row.accuracy)]
        assert row.source in set(found.source) and row.confidence in set(found.confidence)
    assert set(table.bits) == {3, 4} and set(table.kind) == {PRINTED, RERUN, WITHOUT}


def test_a_number_of_two_sources_is_there_once(table):
    v2 = table[(table.network == "MobileNet-v2") & (table.bits == 4)].set_index(["method", "kind"])
    assert v2.loc[[(PROFIT, PRINTED)], "accuracy"].tolist() == [71.564]       # and not 71.6, which N2UQ prints
    assert v2.loc[[("DSQ", PRINTED)], "accuracy"].tolist() == [64.8]
    assert len(v2.loc[[("LSQ", RERUN)]]) == 4
    assert v2.loc[[("iterative freezing", PRINTED)], "float"].tolist() == [71.7]


def test_best_first(table):
    for _, rows in table.groupby(["network", "bits"]):
        assert rows.accuracy.is_monotonic_decreasing


def test_words_leave_out_what_is_not_verified(table):
    words = context.in_words(table)
    assert "71.564 % as published and 71.002 %" in words and "0.56 points less" in words
    assert "4 reruns of LSQ" in words and "2.62 points apart" in words
    hollow = table[table.confidence == "unverified"]
    assert [f"{a:g}" for a in hollow.accuracy] == ["69.056", "73.812"]
    assert all(f"({a:g} %)" in words.partition("No source at hand")[2] for a in hollow.accuracy)
    everything = context.in_words(table.assign(confidence="unverified"))
    assert len(everything.splitlines()) == 1 and "No source at hand" in everything


def test_words_follow_the_numbers(table):
    lower = table.assign(accuracy=table.accuracy.where((table.method != PROFIT) | (table.kind != PRINTED), 73.0))
    assert "MobileNet-v2 at 4 bits: nothing" in context.in_words(lower)


def test_picture_has_every_number_and_hollow_marks(table):
    figure = plots.context.draw(table, footnote="made up")
    marks = [line for ax in figure.axes for line in ax.lines]
    points = [line for line in marks if line.get_marker() != "|"]
    assert sorted(line.get_xdata()[0] for line in points) == sorted(table.accuracy)
    hollow = [line.get_xdata()[0] for line in points if line.get_markerfacecolor() == "w"]
    assert hollow == table.accuracy[table.confidence == "unverified"].tolist()
    assert len(marks) - len(points) == table.float.notna().sum()
    assert "MobileNet-v2 at 4 bits: 20 numbers from 61.39 to 72.1 %" in figure.alt
    plt.close("all")


def test_a_new_row_of_the_file_is_sorted_in(monkeypatch):
    more = published.table().iloc[:1].assign(method="LSQ (rerun)", model="MobileNet-v1", w_bits=3, a_bits=3, value=60.0)
    rows = pd.concat([published.table(), more], ignore_index=True)
    monkeypatch.setattr(published, "_all", lambda: rows)
    found = context.results().iloc[2]
    assert found[["network", "bits", "method", "kind", "accuracy"]].tolist() == ["MobileNet-v1", 3, "LSQ", RERUN, 60.0]
