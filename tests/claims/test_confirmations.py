"""Confirmations: a claim's further seeds trained here, the file that tells of them, and what the scoreboard makes of
it."""
import dataclasses
import json
import re

import pandas as pd
import pytest
from conftest import short, whole_history

from paperlib import runs
from paperlib.claims import (
    FAILED,
    NOT_RECORDED,
    Verdict,
    confirmations,
    confirming,
    contents,
    recording,
    scoreboard,
)
from paperlib.claims.confirmations import NO_NUMBER, Confirmation, Machine
from paperlib.errors import InputError
from paperlib.runs import Run, check_env, loading, parallel
from paperlib.runs.phase_store import StoredPhase
from paperlib.runs.rates import Rates
from paperlib.runs.seeds import shared_seeds
from paperlib.system import paths
from paperlib.training.engine import Diverged

COMPARISON = "4 minus 3 bits"
HERE = Machine(python="3.12", torch="2.9", numpy="2.3", system="Linux x86_64", cpu="a CPU")


def mean(run):
    """Of all numbers of its history, which even a second's training changes."""
    return run.history.value.mean()


def verdicts(found, profile):
    """A claim about networks of 4 and 3 bits, and one of the 2 bits beside them."""
    rows = [(COMPARISON, pair, mean(pair[0]) - mean(pair[1])) for pair in shared_seeds(found[4], found[3])]
    others = [("2 bits", run, run.accuracy()) for run in found[2]]
    return [Verdict.of("4 bits end above 3", "Fig. 0", rows, above=0, of_failure=True),
            Verdict.of("2 bits learn", "Fig. 0", others, above=0, of_failure=True),
            Verdict.of("Two is two", "Fig. 0", [("two", 0, 2.0)], above=2, counted=True)]


def wanted():
    return {bits: [dataclasses.replace(short(bits, seed), recorded=True) for seed in (0, 1)] for bits in (4, 3, 2)}


@pytest.fixture
def claim(tmp_path, monkeypatch):
    """The first of the claims above, with two recorded seeds of made-up runs; returns how to judge it anew."""
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "runs"))
    for folder in ("recorded", "confirmations"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(paths, "recorded_dir", lambda: tmp_path / "recorded")
    monkeypatch.setattr(paths, "confirmations_dir", lambda: tmp_path / "confirmations")
    monkeypatch.setattr(scoreboard, "NOTEBOOKS", {
        "tiny": contents.Notebook(shows=[contents.Shown(wanted, verdicts, "tiny", recorded=True)])})
    for bits, recipes in wanted().items():
        for recipe in recipes:
            Run(recipe, whole_history(recipe, 50 + bits + recipe.seed * (bits == 4)), pd.DataFrame({"layer": ["a"]}),
                key="k", seconds=1.0, environment={"cpu": "another CPU"}).record()
    return lambda: scoreboard.judge("recorded")[0]


def confirmation(one, seeds=(2,), value=1.0, **changes):
    return dataclasses.replace(
        Confirmation(one.id, "in words", tuple(confirmations.recipes(one.verdict)), "code", HERE, 0.1,
                     {COMPARISON: {str(seed): value for seed in seeds}}), **changes)


@pytest.mark.slow
def test_from_the_list_to_the_scoreboard_with_an_interruption(claim, paperlib, monkeypatch, one_thread):
    one, prepare = claim(), runs.prepare
    code, text, _ = paperlib("confirm")
    assert code == 0 and text.count("min for a further one") == 2 and "Two is two" not in text
    assert f"{one.id}: 4 bits end above 3 (recorded: tiny)\n    2 seeds: +1.5 [-4.85, +7.85], n = 2 (points); " in text

    def interrupted(*recipes, **options):
        def stop():
            raise KeyboardInterrupt
        prepare(*recipes, **options, each=stop)

    words = ("confirm", one.id, "--seeds", "1", "--workers", "1", "--minutes", "5")
    monkeypatch.setattr(runs, "prepare", interrupted)
    code, _, errors = paperlib(*words)
    assert code == 130 and "the same command goes on from there" in errors
    assert len([*paths.runs_dir().glob("*/final.pt")]) == 1       # the float network, which both runs share
    monkeypatch.setattr(runs, "prepare", prepare)
    code, text, _ = paperlib(*words)
    assert code == 0 and "before: +1.5 [-4.85, +7.85], n = 2\n  after:  " in text and "verdict after: " in text
    assert len([*paths.runs_dir().glob("*/final.pt")]) == 3       # nothing of 2 bits
    [file] = paths.confirmations_dir().iterdir()
    assert file.stat().st_size < 2000 and file.name.startswith(f"{one.id}_seeds_2_") and str(file) in text
    four, three = (runs.obtain(short(bits, 2)) for bits in (4, 3))
    told = confirmations.read(file, {one.id: one.verdict})
    assert told.differences == {COMPARISON: {2: pytest.approx(mean(four) - mean(three))}} and mean(four) != mean(three)
    assert told.machine == Machine.of(four.environment) and 0 < told.hours < 0.1
    row = scoreboard.table([claim()]).iloc[0]
    assert (row.n, row.seeds, row.further) == (2, 2, 1) and "n = 3: " in row.together
    assert row.machines == "; ".join(sorted({"another CPU", told.machine.gpu or told.machine.cpu}))
    line = scoreboard.page(scoreboard.table([claim()])).splitlines()[-1]
    assert f"; with confirmations {row.together} | recorded: tiny; 2 + 1 seeds, 2 machines |" in line


def test_what_does_not_fit_is_refused_before_anything_is_trained(claim):
    one = claim()
    slow = Rates((confirming.GUESS[0], 0.1))
    with pytest.raises(InputError, match=r"takes about (\d+) minutes here: give it --minutes (\d+), or choose") as told:
        confirming.confirm(one, slow, minutes=1, workers=1)
    about, given = map(int, re.findall(r"(\d+)(?= minutes here|, or)", str(told.value)))
    assert about < given and not paths.runs_dir().exists()


def test_more_workers_take_less_time_down_to_that_of_the_longest_run(claim):
    rates, recipes = Rates((confirming.GUESS[0], 100.0)), confirming.trainings(claim(), [2])
    alone, both = (confirming.seconds(recipes, rates, workers) for workers in (1, 9))
    longest = max(confirming.seconds([recipe], rates, 1) for recipe in recipes)
    assert len(recipes) == 2        # whatever seeds were recorded
    assert both == pytest.approx(longest) and longest < alone < 2 * longest     # the float network is shared


@pytest.fixture
def no_data(monkeypatch):
    """The claims rest on all of CIFAR-10, none of which is here or may be asked for."""
    def never(*_, **__):
        raise AssertionError("data are asked for")

    monkeypatch.setattr(confirming, "trainings", lambda one, seeds, of=confirming.trainings: [
        dataclasses.replace(recipe, data="cifar10") for recipe in of(one, seeds)])
    monkeypatch.setattr(loading, "images", never)
    monkeypatch.setattr(check_env, "cifar10_is_here", lambda: False)


def test_the_list_needs_no_data_and_says_that_they_are_missing(claim, paperlib, no_data):
    code, text, _ = paperlib("confirm")
    assert code == 0 and text.count("min for a further one") == 2 and text.count("`make data` gets it") == 1


def test_missing_data_are_told_before_minutes(claim, monkeypatch):
    monkeypatch.setattr(recording, "refusal", lambda recipe: "no images")
    with pytest.raises(InputError, match="rests on .*: no images"):
        confirming.confirm(claim(), Rates((confirming.GUESS[0], 0.1)), minutes=1, workers=1)


@pytest.fixture
def simulated(monkeypatch):
    """Train nothing: all seeds but 3 are in the store with a difference of 1 each, and seed 3 raises what is given."""
    def with_error(error, difference=1.0):
        def prepare(*_, **__):
            if error:
                raise error

        def judged(one, seed):
            table = pd.DataFrame({"comparison": [COMPARISON], "seed": seed, "difference": difference, "outcome": ""})
            return dataclasses.replace(one.verdict, differences=table)

        monkeypatch.setattr(runs, "prepare", prepare)
        monkeypatch.setattr(confirming, "_trained", lambda one, seed: seed != 3 or not error)
        monkeypatch.setattr(confirming, "_judged", judged)
        monkeypatch.setattr(Machine, "of", lambda environment: HERE)
    return with_error


def confirmed(one, seeds):
    said, fast = [], Rates((confirming.GUESS[0], 1e9))
    try:
        confirming.confirm(one, fast, minutes=60, most=seeds, workers=1, say=said.append)
    finally:
        files = [*paths.confirmations_dir().iterdir()]
        numbers = [confirmations.read(file, {one.id: one.verdict}).differences[COMPARISON] for file in files]
    return numbers, "\n".join(said)


def test_a_diverging_seed_counts_as_failed_and_keeps_no_other_from_being_written(claim, simulated):
    simulated(Diverged("the loss is nan"))
    numbers, said = confirmed(claim(), 3)
    assert numbers == [{2: 1.0, 3: None, 4: 1.0}] and f"seed 3: {NO_NUMBER}" in said


def test_what_ends_otherwise_is_raised_once_the_seeds_before_it_are_written(claim, simulated):
    simulated(InputError("killed by signal 9"))
    one = claim()
    with pytest.raises(InputError, match="killed by signal 9"):
        confirmed(one, 3)
    [file] = paths.confirmations_dir().iterdir()
    assert confirmations.read(file, {one.id: one.verdict}).differences == {COMPARISON: {2: 1.0}}


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_a_difference_that_is_infinite_is_no_number(claim, simulated, value):
    simulated(None, value)
    numbers, said = confirmed(claim(), 1)
    assert numbers == [{2: None}] and f"seed 2: {NO_NUMBER}" in said


def test_divergence_is_told_apart_from_other_errors():
    for others, kind in (([], Diverged), ([InputError("no room")], InputError)):
        with pytest.raises(InputError, match="trainings failed:\na\nb") as told:
            parallel.complain([Diverged("a"), Diverged("b"), *others])
        assert told.type is kind


def test_a_claim_is_found_by_its_id_alone(claim):
    judged = scoreboard.judge("recorded")
    assert confirming.find(judged[1].id, judged) is judged[1]
    for words in (judged[0].id[:-1], "above END"):
        with pytest.raises(InputError, match=rf"no claim '{words}': do you mean .*{judged[0].id} \(4 bits end above 3"):
            confirming.find(words, judged)
    with pytest.raises(InputError, match="rests on no training"):
        confirming.find(judged[2].id, judged)


def test_what_is_written_is_read_back(claim):
    one = claim()
    file = confirmation(one, (2, 3, 4)).write()
    assert file.name.startswith(f"{one.id}_seeds_2-4_")
    assert confirmations.read(file, {one.id: one.verdict}) == confirmation(one, (2, 3, 4))


@pytest.mark.parametrize("change, cause", [
    ({"claim": "tiny_0000"}, "no claim 'tiny_0000'"), ({"recipes": ["0" * 16]}, "other recipes"),
    ({"hours": -1}, "hours"), ({"hours": 1e9}, "more than 10000 hours"), ({"code": 3}, "code"),
    ({"machine": {"cpu": "x"}}, "machine"), ({"hostname": "mine"}, "hostname is unknown"),
    ({"differences": {}}, "at least one"),
    ({"differences": {"5 minus 3 bits": {"2": 1.0}}}, "comparisons"),
    ({"differences": {COMPARISON: {}}}, "at least one"),
    ({"differences": {COMPARISON: {"2": 101.0}}}, "beyond 100 points"), ({"differences": {COMPARISON: [1]}}, "a dict"),
    ({"differences": {COMPARISON: {"-2": 1.0}}}, "seed"), ({"differences": {COMPARISON: {"2": "high"}}}, "finite"),
    ({"differences": {COMPARISON: {"2": float("nan")}}}, "finite")])
def test_a_file_that_does_not_fit_is_refused_by_name_with_the_cause(claim, change, cause):
    one = claim()
    file = confirmation(one).write()
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **change}), encoding="utf-8")
    with pytest.raises(InputError, match=rf"{file} cannot be counted \(.*{cause}.*\): have `python -m"):
        confirmations.read(file, {one.id: one.verdict})
    with pytest.warns(UserWarning, match=f"a confirmation is left out: {file}"):
        assert claim().further == []


@pytest.mark.parametrize("text, cause", [
    (b"", "Expecting value"), (b"[]", "no set of named values"), (b"\xff", "decode"),
    (b" " * 30_000, "more than 20000"), (b'{"claim": "a", "claim": "b"}', "'claim' is there twice"),
    (b"[" * 20_000, "recursion")])
def test_a_damaged_file_is_refused(claim, text, cause):
    file = paths.confirmations_dir() / "x.json"
    file.write_bytes(text)
    with pytest.raises(InputError, match=rf"x.json cannot be counted \(.*{cause}"):
        confirmations.read(file, {})


def with_them(one, *confirmed):
    table = dataclasses.replace(one, confirmed=confirmed).together.differences
    return dict(zip(table.seed, table.difference))


def test_a_seed_counts_once_and_a_recorded_one_goes_first(claim):
    one = claim()
    assert with_them(one) == {0: 1.0, 1: 2.0}
    assert with_them(one, confirmation(one, (1, 2), 5.0), confirmation(one, (2,), 7.0)) == {0: 1.0, 1: 2.0, 2: 6.0}


def test_a_seed_after_a_gap_waits(claim):
    one = claim()
    late = confirmation(one, (4,), 9.0)
    assert with_them(one, late) == {0: 1.0, 1: 2.0}
    late = dataclasses.replace(one, confirmed=(late,))
    assert late.further == [] and late.machines == ["another CPU"]
    assert with_them(one, *late.confirmed, confirmation(one, (2, 3), 1.0)) == {0: 1.0, 1: 2.0, 2: 1.0, 3: 1.0, 4: 9.0}
    assert next(confirmations.further(one.verdict.differences)) == 2


def test_a_failed_seed_of_any_machine_speaks_for_nothing(claim):
    one = claim()
    after = dataclasses.replace(one, confirmed=(confirmation(one, value=None), confirmation(one, value=1.0)))
    assert after.together.differences.outcome.tolist() == ["", "", FAILED] and after.further == [2]
    assert after.together.table().says.tolist() == ["open"]


def test_all_seeds_are_shown_for_the_comparison_that_the_verdict_hangs_on(claim):
    """Even where another one decides with them."""
    rows = [(name, seed, value) for name, values in {"A": (1, 1.1), "B": (2, 2.1)}.items()
            for seed, value in enumerate(values)]
    one = dataclasses.replace(claim(), verdict=Verdict.of("Both are above 0", "Fig. 0", rows, above=0))
    told = confirmation(one, differences={"A": {"2": 1.2}, "B": {"2": -9.0}})
    after = dataclasses.replace(one, confirmed=(told,))
    assert after.verdict.deciding().comparison == "A" and after.together.deciding().comparison == "B"
    assert scoreboard._together(after, after.verdict.deciding()).startswith("+1.1 [")
    assert scoreboard._together(after, None).startswith("-1.63 [")


def test_what_was_not_recorded_is_filled_in(claim):
    one = claim()
    one.verdict.differences.loc[0, ["difference", "outcome"]] = float("nan"), NOT_RECORDED
    assert one.seeds == [1] and confirming.trainings(one, [0])[0].seed == 0
    assert next(confirmations.further(one.verdict.differences)) == 0
    assert with_them(one, confirmation(one, (0,), 3.0)) == {1: 2.0, 0: 3.0}


@pytest.mark.slow
def test_each_claim_has_an_id_and_confirmations_of_the_repository_hold(recorded):
    claims = {one.id: one.verdict for one in recorded}
    assert len(claims) == len(recorded) > 50 and all(re.fullmatch(r"[a-z_]+_[0-9a-f]{4}", name) for name in claims)
    for file in paths.confirmations_dir().glob("*.json"):
        assert confirmations.read(file, claims).differences


@pytest.mark.slow
def test_a_seed_judged_alone_says_what_it_says_among_others(recorded, monkeypatch):
    """One claim of each list: its own runs are there, all others are not."""
    def own_alone(wanted):
        return {name: own_alone(group) if isinstance(group, dict) else [
            Run.unrecorded(r) if r.recorded else runs.obtain(dataclasses.replace(r, recorded=True)) for r in group]
            for name, group in wanted.items()}

    monkeypatch.setattr(runs, "obtain_each", own_alone)
    tried = {one.shown.verdicts: one for one in recorded if confirming.confirmable(one) and one.seeds}
    assert len(tried) > 8
    for one in tried.values():
        table, seed = one.verdict.differences, one.seeds[0]
        pd.testing.assert_frame_equal(confirming._judged(one, seed).differences,
                                      table[table.seed == seed].reset_index(drop=True))


def test_minutes_are_learned_from_what_was_trained_elsewhere_until_something_is_trained_here(claim):
    judged = scoreboard.judge("recorded")
    rates, phase = confirming.rates_here(judged), short(4).phases[-1]
    assert rates.seconds(short(4), phase, 100) == pytest.approx(0.5)      # two epochs took a second
    assert not StoredPhase.chain(short(4))[0].done
