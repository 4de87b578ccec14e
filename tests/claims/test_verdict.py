"""The rule that turns differences between seeds into verdicts, on simulated runs."""
import math

import numpy as np
import pandas as pd
import pytest
from conftest import ends_at

from paperlib.claims import (
    CONTRADICTED,
    NOT_APPLICABLE,
    NOT_ENOUGH,
    NOT_TESTABLE,
    SUPPORTED,
    Verdict,
    experiments,
    overview,
)
from paperlib.claims.verdict import AGAINST, FOR, OPEN, at_scale


def verdict(*comparisons, **settings):
    """Each comparison a list of differences, one per seed; the claim is that they are above 0."""
    rows = [(f"comparison {k}", seed, value) for k, values in enumerate(comparisons)
            for seed, value in enumerate(values)]
    return Verdict.of("A beats B", "Fig. 9", rows, **({"above": 0} | settings))


@pytest.mark.parametrize("values, found, reason", [
    ([1.0, 1.2, 0.9], SUPPORTED, ""), ([-1.0, -1.2, -0.9], CONTRADICTED, ""),
    ([1.0, 3.0, -0.5], NOT_ENOUGH, "the interval is too wide"), ([5.0], NOT_ENOUGH, "one seed"),
    ([-5.0], NOT_ENOUGH, "one seed"), ([1.0, 1.0, 1.0], NOT_ENOUGH, "the interval is too wide"),
    ([0.1 + 0.2, 0.3, 0.3], NOT_ENOUGH, "the interval is too wide"), ([], NOT_ENOUGH, "not recorded yet")])
def test_one_comparison(values, found, reason):
    judged = verdict(values)
    assert (judged.verdict, judged.reason) == (found, reason)


def test_the_interval_is_students():
    [row] = verdict([1.0, 2.0, 6.0]).table().itertuples()
    half = 4.302653 * 7**0.5 / 3**0.5       # t(0.975, 2 degrees of freedom), s.d. of 1, 2, 6
    assert (row.mean, row.sd, row.n) == pytest.approx((3, 7**0.5, 3))
    assert (row.low, row.high) == pytest.approx((3 - half, 3 + half))
    assert verdict([1.0, 2.0, 6.0]).summary() == f"+3 [{3 - half:+.3g}, {3 + half:+.3g}], n = 3"


GOOD, BAD, WIDE = [1.0, 1.1, 0.9], [-1.0, -1.1, -0.9], [1.0, -1.0, 0.5]


@pytest.mark.parametrize("comparisons, found", [
    ((GOOD, GOOD), SUPPORTED), ((GOOD, BAD), CONTRADICTED), ((GOOD, WIDE), NOT_ENOUGH), ((WIDE, BAD), CONTRADICTED),
    ((GOOD, [3.0]), NOT_ENOUGH), ((BAD, [3.0]), CONTRADICTED)])
def test_a_claim_is_all_of_its_comparisons(comparisons, found):
    assert verdict(*comparisons).verdict == found


def test_a_claim_of_many_comparisons_is_harder_to_contradict():
    """The interval of one comparison alone excludes the claim; with 20 of them this is no surprise."""
    bad = [-1.0, -1.2, -0.8]
    assert verdict(bad).verdict == CONTRADICTED and verdict(bad, *[GOOD] * 19).verdict == NOT_ENOUGH
    assert verdict(bad, *[GOOD] * 19).table().says.tolist() == [AGAINST] + [FOR] * 19


def test_the_verdict_hangs_on_the_weakest_comparison():
    weak = [0.5, 0.6, 0.55]
    assert verdict(GOOD, weak).deciding().comparison == "comparison 1"
    assert verdict(weak, WIDE, BAD).deciding().comparison == "comparison 2"
    assert verdict([9.0], [2.0]).deciding()["mean"] == 2 and verdict().deciding() is None


@pytest.mark.parametrize("bounds, found", [
    ({"above": 0.5}, SUPPORTED), ({"above": 2}, CONTRADICTED), ({"above": -math.inf, "below": 1.5}, SUPPORTED),
    ({"below": 1.5}, SUPPORTED), ({"below": 0.5}, CONTRADICTED), ({"below": 1.0}, NOT_ENOUGH)])
def test_regions(bounds, found):
    assert verdict(GOOD, **bounds).verdict == found


@pytest.mark.parametrize("value, found", [(0.0, SUPPORTED), (0.1, CONTRADICTED)])
def test_what_is_counted_is_exact(value, found):
    judged = verdict([value], above=0, below=0, counted=True)
    assert judged.verdict == found and judged.summary() == f"{value:+.3g}"


@pytest.mark.parametrize("premise, found", [(GOOD, SUPPORTED), (BAD, NOT_APPLICABLE), (WIDE, NOT_ENOUGH)])
def test_a_claim_whose_premise_fails_does_not_apply(premise, found):
    judged = verdict(GOOD, premise=verdict(premise))
    assert judged.verdict == found
    assert judged.reason == ("the premise: the interval is too wide" if found == NOT_ENOUGH else "")


def test_too_small_a_scale_decides_nothing():
    [judged] = at_scale("smoke", [verdict(GOOD)])
    assert judged.verdict == NOT_TESTABLE and judged.summary()
    assert overview([judged, verdict([1.0])]).verdict.tolist() == [NOT_TESTABLE, f"{NOT_ENOUGH}: one seed"]


def share(found, effects, *, seeds=3, correlation=0.0, times=200, noise="normal"):
    """How often claims of simulated runs get this verdict: a true effect per comparison, in standard deviations."""
    rng, hits = np.random.default_rng(0), 0
    draw = rng.standard_normal if noise == "normal" else lambda size: rng.uniform(-3**0.5, 3**0.5, size)
    for _ in range(times):
        own, common = draw((len(effects), seeds)), draw((1, seeds))
        values = np.array(effects)[:, None] + correlation**0.5 * common + (1 - correlation)**0.5 * own
        hits += verdict(*values.tolist()).verdict == found
    return hits / times


@pytest.mark.parametrize("effects, correlation", [([0.0], 0.0), ([0.0, 9.0], 0.0), ([0.0] * 6, 1.0)])
def test_false_claims_are_supported_in_less_than_5_of_100_cases(effects, correlation):
    assert share(SUPPORTED, effects, correlation=correlation) < 0.05


@pytest.mark.parametrize("noise", ["normal", "uniform"])
@pytest.mark.parametrize("seeds", [2, 3, 6])
def test_one_comparison_without_effect(seeds, noise):
    """5 000 comparisons at once; the rule says "for" in 2.5 %."""
    values = np.random.default_rng(1)
    drawn = values.standard_normal((5_000, seeds)) if noise == "normal" else values.uniform(-1, 1, (5_000, seeds))
    says = pd.Series(verdict(*drawn.tolist()).table().says)
    assert (says == FOR).mean() < 0.05 and (says == AGAINST).mean() < 0.05 and (says == OPEN).mean() > 0.9


def test_looking_again_after_each_added_seed_supports_a_false_comparison_in_5_of_100_cases():
    drawn = np.random.default_rng(3).standard_normal((5_000, 5))
    after = [verdict(*drawn[:, :seeds].tolist()).table().says == FOR for seeds in (3, 4, 5)]
    assert 100 * after[0].mean() == pytest.approx(2.5, abs=0.5)
    assert 100 * np.logical_or.reduce(after).mean() == pytest.approx(5, abs=0.5)


@pytest.mark.parametrize("effects", [[0.0] * 6, [9.0] * 5 + [0.0]])
def test_claims_on_the_border_are_contradicted_in_less_than_5_of_100_cases(effects):
    assert share(CONTRADICTED, effects) < 0.05


@pytest.mark.parametrize("seeds, effect, power", [(3, 1, 17), (3, 2, 46), (3, 4, 91), (6, 1, 50), (6, 2, 98),
                                                  (6, 4, 100)])
def test_the_power_that_is_stated(seeds, effect, power):
    drawn = effect + np.random.default_rng(2).standard_normal((5_000, seeds))
    assert 100 * (verdict(*drawn.tolist()).table().says == FOR).mean() == pytest.approx(power, abs=2)


def test_recorded_runs_of_one_seed_are_a_pair_if_they_began_with_one_float_network(tmp_path):
    def run(seed, end, began):
        recipe = experiments.ablation("laptop", seed + 1)["DuQ"][seed]
        made = ends_at(recipe, end, rows=[("float", 1, "val", "loss", began)])
        made.folder = tmp_path
        return made

    def judged(*began):
        pairs = [(run(seed, 80.0 + seed, 1.0), run(seed, 70.0, b)) for seed, b in enumerate(began)]
        return Verdict.of("A beats B", "Fig. 9", [("A minus B", (a, b), a.accuracy() - b.accuracy())
                                                  for a, b in pairs], above=0)

    assert judged(1.0, 1.0).differences.difference.tolist() == [10.0, 11.0]
    apart = judged(1.0, 1.1)
    assert apart.differences.outcome.tolist() == ["", "other float networks"] and apart.table().n.tolist() == [1]
    assert judged(1.1, 1.2).reason == "other float networks"
