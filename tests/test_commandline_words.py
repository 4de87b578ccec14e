"""Words of ``train`` that a recipe has no use for, and the process around a command: its streams and environment."""
import os
import subprocess
import sys

import pytest

from paperlib import recipes
from paperlib.__main__ import parser
from paperlib.errors import InputError
from paperlib.recipes.command_line import recipes_of
from paperlib.system import paths


def asked(*words):
    return recipes_of(parser("train").parse_args(["train", *words]))


@pytest.mark.parametrize("words, cause", [
    (["--recipe", "profit", "--distillation", "0.5"], "profit has no use for --distillation"),
    (["--recipe", "profit", "--method", "duq"], "profit has no use for --method"),
    (["--recipe", "qil", "--profile", "imagenet", "--order", "none"], "qil has no use for --order"),
    (["--recipe", "qil", "--profile", "imagenet", "--without", "teacher"], "qil has no use for --without teacher"),
    (["--recipe", "activations_then_weights", "--a-bits", "3", "--order", "aiwq"], "no use for --a-bits, --order"),
    (["--recipe", "qil", "--model", "vgg7", "--set", "lr=1"], "has no use for lr=1.0"),
    (["--set", "seeds=3"], "has no use for seeds=3"), (["--set", "accuracy_bits=3"], "has no use for accuracy_bits"),
    (["--weights", "a.pt", "--set", "weights=b.pt"], "say the same thing"),
    (["--profile", "recorded", "--weights", "none"], "trains nothing"),
    (["--first-seed", "-1"], "seed must be"), (["--seeds", "1000000"], "--seeds must be a whole number from 1 to 1000"),
    (["--set", "name=x"], "no setting 'name'"), (["--set", "num_classes=5"], "num_classes=5"),
    (["--set", "width=inf"], "width must be"), (["--set", "threads=100000"], "threads must be")])
def test_words_without_effect_are_refused(words, cause):
    with pytest.raises(InputError, match=cause):
        asked(*words)


def test_words_that_have_one():
    assert asked() == [recipes.profit(profile="laptop")]
    assert asked("--order", "none", "reverse", "--seeds", "2", "--first-seed", "5") == [
        recipes.profit(order=order, seed=seed) for seed in (5, 6) for order in ("none", "reverse")]
    assert [r.phases[0].name for r in asked("--recipe", "activations_then_weights", "--w-bits", "3")] == ["float"] * 2
    assert not asked("--recipe", "qil", "--profile", "imagenet", "--without", "progressive")[0].phases[3:]
    assert asked("--weights", "a.pt")[0].weights == "a.pt" and asked("--first-seed", "20240101")[0].seed == 20240101


def run(words, redirect="", **env):
    """(exit code, standard output, standard error) of a command in a shell, with bash's redirections."""
    line = f"{sys.executable} -m paperlib {words} {redirect}"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=paths.ROOT, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(paths.ROOT), **env})
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("redirect, code", [("2>&-", 0), ("<&- >&- 2>&-", 0), ("--set lr=nan 2>&-", 2)])
def test_closed_streams(redirect, code):
    status, text, errors = run("train --show", redirect)
    assert status == code and "Traceback" not in errors and bool(text) == (redirect == "2>&-")


@pytest.mark.parametrize("words, redirect, code, said", [
    ("train --show", "| true", 141, ""), ("train --show", "> /dev/full", 2, "error: the output cannot be written"),
    ("runs", "", 2, "error: PAPERLIB_RUNS=~nobody-here/x is nowhere")])
def test_output_that_nobody_takes_and_a_home_of_nobody(words, redirect, code, said):
    status, _, errors = run(words, redirect, PAPERLIB_RUNS="~nobody-here/x")
    assert status == code and errors.startswith(said) and errors.count("\n") == bool(said), errors


@pytest.mark.parametrize("place", ["x" * 300, "\udcff" * 300])
def test_a_place_that_cannot_be_looked_at(place, monkeypatch):
    monkeypatch.setenv("PAPERLIB_RUNS", f"/tmp/{place}")
    with pytest.raises(InputError, match="^PAPERLIB_RUNS=/tmp/.* is nowhere .*: set it to a folder$"):
        paths.runs_dir()


@pytest.mark.parametrize("words", [["record", "--minutes"], ["bundle", "x", "--megabytes"], ["train", "--workers"]])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_amounts_that_are_none(words, value, capsys):
    with pytest.raises(SystemExit) as end:
        parser(words[0]).parse_args([*words, value])
    said = capsys.readouterr().err
    assert end.value.code == 2 and "must be a " in said and "got" in said


@pytest.mark.parametrize("env", [{"WORLD_SIZE": "abc"}, {"WORLD_SIZE": "0"}, {"WORLD_SIZE": "-1"}, {"WORLD_SIZE": "2"},
                                 {"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0"}, {"RANK": "x"},
                                 {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}])
def test_what_torchrun_would_not_set(env, monkeypatch):
    from paperlib.system import distributed

    for name in (*distributed.PLACES, "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError):
        with distributed.started():
            raise AssertionError("it began")


@pytest.mark.parametrize("size", ["", "1"])
def test_one_process_is_alone(size, monkeypatch):
    from paperlib.system import distributed

    monkeypatch.setenv("WORLD_SIZE", size)
    with distributed.started():
        assert distributed.world() == 1
