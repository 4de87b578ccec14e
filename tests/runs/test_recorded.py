"""The shelf of recorded runs: a run is replaced whole or not at all, and a damaged one is named and hides no other."""
import dataclasses
import json
import os
import shutil
import sys
import warnings

import pandas as pd
import pytest
from conftest import whole_history

from paperlib import recipes, runs
from paperlib.errors import InputError
from paperlib.runs import Run, recorded
from paperlib.system import paths


@pytest.fixture(autouse=True)
def own_shelf(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "recorded_dir", lambda: tmp_path / "recorded")
    return tmp_path / "recorded"


def marks(made):
    return pd.DataFrame({"mark": [made.seconds]})


def finished(seed=0, mark=1.0, key="k"):
    """A run whose tables all say ``mark``."""
    recipe = recipes.activations_then_weights("duq", profile="laptop", seed=seed)
    made = Run(recipe, whole_history(recipe, mark), pd.DataFrame({"layer": ["a"], "mark": [mark]}),
               steps=pd.DataFrame({"iteration": [1], "mark": [mark]}), key=key, seconds=mark, environment={})
    made.find(marks)
    return made


def ask(made):
    return runs.obtain(dataclasses.replace(made.recipe, recorded=True))


def all_marks(made):
    return [made.history.value[0], made.layers.mark[0], made.steps.mark[0], made.find(marks).mark[0], made.seconds]


def broken_off(event, new):
    """The exit code of a process that records ``new`` and is gone at this event (opening, renaming, removing ...)."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = event

    def leave(name, arguments):
        nonlocal left
        left -= name in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "ctypes.dlsym") or (
            name == "open" and "recorded" in str(arguments[0]))
        if left < 0:
            os._exit(9)
    try:
        sys.addaudithook(leave)
        new.record()
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_at_every_moment_of_a_replacement_there_is_the_old_run_or_the_new_one(own_shelf):
    old, new = finished(mark=1.0, key="old"), finished(mark=2.0, key="new")
    folder, seen = old.record(), []
    for event in range(100):
        code = broken_off(event, new)
        seen.append(all_marks(ask(old)))
        if code == 0:
            break
        old.record()            # clears away what was left, too
    assert code == 0 and event > 15 and seen[-1] == [2.0] * 5
    assert [1.0] * 5 in seen and all(row in ([1.0] * 5, [2.0] * 5) for row in seen)
    assert [file.name for file in own_shelf.iterdir() if file.name != ".lock"] == [folder.name]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_what_fails_on_the_way_leaves_the_old_run(own_shelf, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(paths, "_exchange", lambda one, other: False)
    old, new = finished(mark=1.0, key="old"), finished(mark=2.0, key="new")
    old.record()
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(InputError, match="cannot write in .*No space left"):
        patch.setattr("paperlib.runs.run.json.dump", full)
        new.record()
    assert all_marks(ask(old)) == [1.0] * 5
    folder = new.record()
    assert all_marks(ask(old)) == [2.0] * 5
    assert sorted(file.name for file in own_shelf.iterdir()) == [".lock", folder.name]


def test_a_run_that_is_replaced_while_it_is_read_is_read_once_more(monkeypatch):
    old, new, read = finished(mark=1.0, key="old"), finished(mark=2.0, key="new"), recorded.table
    old.record()

    def table(folder, name):
        if name == "layers" and new.seconds:
            new.record()
        return read(folder, name)

    monkeypatch.setattr(recorded, "table", table)
    assert all_marks(ask(old)) == [2.0] * 5


def test_tables_of_the_same_run_stay_and_those_of_an_older_one_go():
    made = finished()
    folder = made.record()
    again = Run(made.recipe, made.history, made.layers, key="k", seconds=1.0, environment={})
    assert again.record() == folder and (folder / "marks.csv").exists() and (folder / "steps.csv.gz").exists()
    again.key = "younger"
    again.record()
    assert {file.name for file in folder.iterdir()} == {"history.csv", "layers.csv", "run.json"}


@pytest.mark.parametrize("name", ["../../x", "a/b", ".hidden", "x\0", ""])
def test_a_name_leads_nowhere_else(own_shelf, name):
    with pytest.raises(InputError, match="cannot be the name of a recorded run"), recorded.replaced(
            name, finished().recipe, "k"):
        raise AssertionError("the body must not run")
    assert not own_shelf.exists()


def changed(info, **settings):
    return {**info, "recipe": {**info["recipe"], **settings}}


DAMAGED = {
    "empty": lambda info: "", "no JSON": lambda info: "{", "a list": lambda info: [], "a text": lambda info: "x",
    "bytes": lambda info: b"\xff\xfe{", "deep": lambda info: "[" * 100_000,
    "somebody else's": lambda info: {"name": "x"},
    "of a newer version": lambda info: changed(info, sparsity=0.5),
    "a list for a recipe": lambda info: {**info, "recipe": []}, "no phases": lambda info: changed(info, phases=[]),
    "phases as text": lambda info: changed(info, phases="float"), "a phase as text": lambda info: changed(
        info, phases=["float"]), "a seed as text": lambda info: changed(info, seed="0"),
    "no seed": lambda info: {**info, "recipe": {k: v for k, v in info["recipe"].items() if k != "seed"}},
    "an infinite width": lambda info: changed(info, width=float("inf")), "no key": lambda info: {**info, "key": None},
    "no seconds": lambda info: {k: v for k, v in info.items() if k != "seconds"},
    "an environment as text": lambda info: {**info, "environment": "Linux"}}


def damage(file, how):
    content = DAMAGED[how](json.loads(file.read_text(encoding="utf-8")))
    file.write_bytes(content if isinstance(content, bytes) else
                     (content if how in ("empty", "no JSON", "deep") else json.dumps(content)).encode())


@pytest.mark.parametrize("how", DAMAGED)
def test_a_damaged_run_is_named_and_the_others_are_there(how):
    bad, good = finished(seed=0), finished(seed=1)
    file = bad.record() / "run.json"
    good.record()
    damage(file, how)
    assert all_marks(ask(good)) == [1.0] * 5
    with pytest.warns(UserWarning, match=f"left out: .*{file.parent.name}/run.json is damaged"):
        assert recorded.index().run.tolist() == [good.name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # so that a figure of it says what is wrong
        assert runs.recorded_at(bad.recipe) is None and runs.is_recorded(bad.recipe)
    for asked in (lambda: ask(bad), lambda: recorded.read(bad.name), lambda: runs.trained(bad.name), bad.record):
        with warnings.catch_warnings(), pytest.raises(InputError) as told:
            warnings.simplefilter("ignore")
            asked()
        assert str(file) in str(told.value) and f"git checkout -- data/recorded/{bad.name}" in str(told.value)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("text", ["", "x", "phase,epoch,split,metric,value\n", "phase,epoch\nfloat,1\n",
                                  "phase,epoch,split,metric,value\nfloat,1,val,loss,", "\0\xff"])
def test_a_damaged_history_is_named(text):
    made = finished()
    file = made.record() / "history.csv"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=f"{file} is damaged .*git checkout -- data/recorded/{made.name}"):
        ask(made)
    file.unlink()
    with pytest.raises(InputError, match=f"{file} is damaged .*No such file"):
        ask(made)
    with pytest.warns(UserWarning, match="history.csv is damaged"):
        assert recorded.index().empty


@pytest.mark.parametrize("fault", ["cut off", "above 100 %", "a phase is missing"])
def test_a_history_that_is_not_whole_is_named(fault):
    made = finished()
    file = made.record() / "history.csv"
    lines = file.read_text().splitlines()
    if fault == "cut off":
        lines = lines[:len(lines) // 2]
    elif fault == "above 100 %":
        lines[3] = lines[3].rpartition(",")[0] + ",412"
    else:
        lines = [line for line in lines if not line.startswith("weights")]
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=f"{file} is damaged .its history is not that of"):
        ask(made)


def test_two_folders_of_one_recipe_are_told_of():
    made = finished()
    folder = made.record()
    shutil.copytree(folder, folder.with_name("copy"))
    with pytest.raises(InputError, match=f"copy and data/recorded/{made.name} hold runs of one recipe.*delete all but"):
        ask(made)
    assert runs.is_recorded(made.recipe)
