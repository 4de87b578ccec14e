"""What data/recorded/ should hold, and the way there: an item after the other, within the time given, nothing lost."""
import dataclasses
import json
import time

import pandas as pd
import pytest
from conftest import short

from paperlib import runs
from paperlib.claims import contents, recording
from paperlib.errors import InputError
from paperlib.recipes import Recipe
from paperlib.runs import obtaining, parallel
from paperlib.runs.run import TABLES
from paperlib.system import paths

SMOKE = "smoke"


@pytest.fixture(autouse=True)
def own_shelf_and_store(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "runs"))
    (tmp_path / "recorded").mkdir()
    monkeypatch.setattr(paths, "recorded_dir", lambda: tmp_path / "recorded")
    return tmp_path


def sizes(run):
    return pd.DataFrame({"size": [run.recipe.seed]})


@pytest.fixture
def grid(monkeypatch):
    """Two items, of which the second shows a run of the first and a run of its own; two seeds of each."""
    def needed(profile, item, seeds):
        bits = {"one": (4,), "two": (4, 3)}[item]
        return [(short(b, seed), (sizes,) if item == "two" else ()) for b in bits for seed in range(seeds or 2)]

    monkeypatch.setattr(contents, "needed", needed)
    monkeypatch.setattr(contents, "NOTEBOOKS", {
        name: contents.Notebook(shows=(None,), packed=name == "two") for name in ("one", "two")})


def told(tasks):
    table = recording.status(tasks)
    return {name: {k: v for k, v in row.items() if v} for name, row in table.to_dict("index").items()}


def test_an_item_after_the_other_and_each_run_once(grid):
    found = [(t.recipe.seed, t.recipe.phases[-1].scheme.w_bits, t.items, t.packed) for t in recording.tasks(SMOKE)]
    assert found == [(0, 4, ["one", "two"], True), (1, 4, ["one", "two"], True), (0, 3, ["two"], True),
                     (1, 3, ["two"], True)]
    found = [(t.recipe.seed, t.items[0]) for t in recording.tasks(SMOKE, ["two", "one"])]
    assert found == [(0, "two"), (0, "two"), (1, "two"), (1, "two")]
    assert [t.packed for t in recording.tasks(SMOKE, ["one"])] == [False, False]
    assert len(recording.tasks(SMOKE, seeds=1)) == 2


def test_claims_that_need_it_most_come_first():
    found = list(dict.fromkeys(task.items[0] for task in recording.tasks("recorded", seeds=1)))
    assert found[:3] == list(recording.MOST_WORTH[:3]) and set(found) <= set(contents.names())


@pytest.mark.slow
def test_what_recorded_plays_has_its_whole_list():
    assert [t.recipe for t in recording.tasks("laptop")] == [t.recipe for t in recording.tasks("recorded")]
    assert len(recording.tasks("laptop")) > len({repr(r.identity()) for r, _ in contents.needed("laptop")})
    assert not any(task.recipe.recorded for task in recording.tasks())


@pytest.mark.slow
def test_each_recorded_table_is_one_that_a_notebook_asks_for():
    made = {look.__name__ for _, looks in contents.needed("recorded") for look in looks}
    there = {file.stem for file in paths.recorded_dir().glob("*/*.csv")}
    assert there <= made | set(TABLES) and not made & set(TABLES)


def test_from_nothing_to_all_and_not_twice(grid, own_shelf_and_store, one_thread):
    tasks, heard = recording.tasks(SMOKE, seeds=1), []
    assert told(tasks) == {"one": {"to do": 1, "epochs left": 2}, "two": {"to do": 2, "epochs left": 3},
                           "all runs": {"to do": 2, "epochs left": 3}}       # the float network is shared
    recording.work(tasks, workers=1, say=heard.append)
    assert told(tasks) == {"one": {"recorded": 1}, "two": {"recorded": 2}, "all runs": {"recorded": 2}}
    folders = sorted((own_shelf_and_store / "recorded").glob("[!.]*"))
    index = folders.pop(folders.index(own_shelf_and_store / "recorded" / "index.csv"))
    assert len(heard) == len(folders) == 2
    assert pd.read_csv(index).run.tolist() == [folder.name for folder in folders]
    for folder in folders:
        assert {"history.csv", "run.json", "sizes.csv", runs.PACKED} <= {f.name for f in folder.iterdir()}
    recording.work(tasks, workers=1, say=heard.append)
    assert len(heard) == 2
    recording.work(tasks, workers=1, again=True, say=heard.append)
    assert len(heard) == 4 and len(list((own_shelf_and_store / "recorded").glob("*/run.json"))) == 2


@pytest.mark.slow
def test_what_is_recorded_is_repeated_by_its_own_recipe(grid, own_shelf_and_store, one_thread):
    """run.json alone is enough to train the same again, to the bit on the same machine."""
    task = recording.tasks(SMOKE, ["one"], seeds=1)[0]
    recording.work([task], workers=1, say=lambda text: None)
    [file] = (own_shelf_and_store / "recorded").glob("*/run.json")
    before = (file.parent / "history.csv").read_bytes()
    told = json.loads(file.read_text(encoding="utf-8"))
    recipe = Recipe.from_dict({"label": told["label"], **told["recipe"]})
    for stored in task.phases:
        (stored.folder / "final.pt").unlink()
    assert runs.obtain(recipe).record() == file.parent
    assert (file.parent / "history.csv").read_bytes() == before


@pytest.mark.slow
def test_when_time_is_up_what_was_trained_stays(grid):
    tasks, heard = recording.tasks(SMOKE, seeds=1), []
    recording.work(tasks, minutes=0, workers=1, say=heard.append)
    assert heard == ["0 minutes are over; the same command goes on from here"]
    assert "recorded" not in told(tasks)["all runs"]
    with pytest.raises(TimeoutError):
        parallel.train([task.phases for task in tasks], 1, until=time.monotonic())


def test_runs_without_their_data_are_left_out_with_the_reason(grid):
    tasks, heard = recording.tasks(SMOKE, ["one"], seeds=1), []
    elsewhere = dataclasses.replace(tasks[0].recipe, data="imagenette", input_size=500)
    tasks[0].recipe = elsewhere
    recording.work(tasks, say=heard.append)
    assert len(heard) == 1 and heard[0].startswith("left out: ") and "choose input_size" in heard[0]


def test_data_that_cannot_be_had_are_asked_for_once_and_never_by_the_status(grid, monkeypatch):
    asked, heard = [], []

    def nothing_there(recipe):
        asked.append(recipe.data)
        raise InputError("no network")

    monkeypatch.setattr(recording, "splits", nothing_there)
    tasks = recording.tasks(SMOKE)
    assert told(tasks)["all runs"] == {"to do": 4, "epochs left": 6} and not asked
    recording.work(tasks, say=heard.append)
    assert len(asked) == 1 and len(heard) == 4 and heard[0].endswith("no network")


@pytest.mark.slow
def test_what_fails_leaves_the_others_alone(grid, monkeypatch, one_thread):
    tasks, heard, train = recording.tasks(SMOKE, ["two"], seeds=2), [], obtaining.train

    def fails_at_4_bits(chain):
        if chain[-1].phase.scheme.w_bits == 4:
            raise InputError(f"seed {chain[-1].recipe.seed} went wrong")
        train(chain)

    monkeypatch.setattr(obtaining, "train", fails_at_4_bits)
    with pytest.raises(InputError, match="seed 0 went wrong\nseed 1 went wrong"):
        recording.work(tasks, workers=1, say=heard.append)
    assert told(tasks)["all runs"] == {"recorded": 2, "to do": 2, "epochs left": 2} and len(heard) == 2
    assert len(pd.read_csv(paths.recorded_dir() / "index.csv")) == 2


@pytest.mark.slow
def test_a_run_is_recorded_as_soon_as_it_is_whole(grid, monkeypatch, one_thread):
    tasks, train = recording.tasks(SMOKE, ["two"], seeds=1), obtaining.train

    def breaks_off_at_3_bits(chain):
        if chain[-1].phase.scheme.w_bits == 3:
            assert told(tasks)["all runs"]["recorded"] == 1
            raise KeyboardInterrupt
        train(chain)

    monkeypatch.setattr(obtaining, "train", breaks_off_at_3_bits)
    with pytest.raises(KeyboardInterrupt):
        recording.work(tasks, workers=1, say=lambda text: None)
    assert len(pd.read_csv(paths.recorded_dir() / "index.csv")) == 1


@pytest.mark.slow
def test_what_other_code_recorded_is_told_of_and_replaced_whole(grid, monkeypatch, one_thread):
    task = recording.tasks(SMOKE, ["one"], seeds=1)[0]
    recording.work([task], workers=1, say=lambda text: None)
    [file] = paths.recorded_dir().glob("*/run.json")
    assert "of older code" not in told([task])["one"]
    info = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**info, "key": "older"}), encoding="utf-8")
    (file.parent / "made_of_it.csv").write_text("size\n1\n")
    assert told([task])["one"] == {"recorded": 1, "of older code": 1}
    recording.work([task], workers=1, again=True, say=lambda text: None)
    assert told([task])["one"] == {"recorded": 1} and not (file.parent / "made_of_it.csv").exists()


def test_a_folder_is_not_taken_from_another_run(grid, own_shelf_and_store):
    folder = own_shelf_and_store / "recorded" / "mine"
    folder.mkdir()
    recipes = [task.recipe for task in recording.tasks(SMOKE, ["two"], seeds=1)]
    told = {"label": "x", "key": "k", "seconds": 1, "environment": {}, "recipe": recipes[0].identity()}
    (folder / "run.json").write_text(json.dumps(told, default=dataclasses.asdict), encoding="utf-8")
    run = runs.Run(recipes[1], pd.DataFrame(), pd.DataFrame(), key="k", seconds=0.0, environment={})
    with pytest.raises(InputError, match="mine holds another run"):
        run.record("mine")


def test_without_all_of_cifar10_nothing_is_trained_on_less(grid, monkeypatch):
    tasks, heard = recording.tasks(SMOKE, ["one"], seeds=1), []
    tasks[0].recipe = dataclasses.replace(tasks[0].recipe, data="cifar10")
    monkeypatch.setattr(recording, "resolve", lambda recipe: dataclasses.replace(recipe, data="subset"))
    monkeypatch.setattr(runs, "prepare", lambda *args, **options: pytest.fail("something is trained"))
    for again in (False, True):
        recording.work(tasks, again=again, say=heard.append)
    assert len(heard) == 2 and all("all of CIFAR-10 is not here: `make data` gets it" in text for text in heard)


def test_another_timeout_is_not_the_end_of_the_time_given(grid, monkeypatch):
    def broken(*args, **options):
        raise TimeoutError("a disk in the network")

    monkeypatch.setattr(runs, "prepare", broken)
    for minutes in (None, 60):
        with pytest.raises(TimeoutError, match="a disk"):
            recording.work(recording.tasks(SMOKE, ["one"], seeds=1), minutes=minutes, say=pytest.fail)
