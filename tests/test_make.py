"""The Makefile's bookkeeping, with a stand-in for the Python that would do the work."""
import os
import shutil
import stat
import subprocess
import time

import pytest

from paperlib.system.paths import ROOT

pytestmark = pytest.mark.slow

RUNS = "-m paperlib prepare --profile laptop"       # comes first, and is not asked for by a figure alone
READ = ("paperlib/x.py", "paperlib/deep/er/x.py", "paperlib/deep/er/x.c", "data/published.csv",
        "data/recorded/run/run.json")       # by every figure
SITE = "tests/test_site.py", "tests/test_browser.py"
TICK = 0.05     # seconds; longer than a tick of the clock that stamps files
FAKE = r"""#!/bin/sh
# stands in for: python -m paperlib prepare --profile PROFILE, and: python -m paperlib figure ITEM --profile PROFILE ...
echo "$@" >> calls
echo "$PYTHONPATH" > path
[ "$2" = pytest ] && exit
[ "$3" = prepare ] && exit
case "$4" in *broken*) exit 1;; esac
if [ "$6" = recorded ] || [ "$6" = smoke ]; then    # wait until two are at work
  touch "on-$4"
  for i in $(seq 100); do
    [ "$(ls on-* | wc -l)" -lt 2 ] || touch together
    [ ! -e together ] || break
    sleep 0.05
  done
  rm "on-$4"
fi
folder="figures/$6"; [ $# -eq 6 ] || folder="figures/experiments/$6-$8-$9"
mkdir -p "$folder"
for file in "$folder/$4.png" "$folder/$4_more.csv"; do echo made > "$file"; echo "$file"; done
case "$4" in *killed*) kill -9 $PPID;; esac
"""


@pytest.fixture
def tree(tmp_path):
    """A small project in a folder with a space in its name: the real Makefile, two notebooks, a library file."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    root = tmp_path / "my project"
    for folder in ("notebooks", "paperlib/deep/er", "paperlib/exercises", "paperlib/teaching/exercises",
                   "data/recorded/run", ".venv/bin", "site", "tests"):
        (root / folder).mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", root)
    for file in ("notebooks/profit_a.ipynb", "notebooks/profit_b.ipynb", *READ, "paperlib/exercises/x.py", *SITE,
                 "site/pages.py", "paperlib/teaching/exercises/x.py",
                 "paperlib/.#x.py", "requirements.lock", "pyproject.toml"):
        (root / file).write_text("")
    (root / ".venv/.ready").write_text("")
    python = root / ".venv/bin/python"
    python.write_text(FAKE)
    python.chmod(python.stat().st_mode | stat.S_IEXEC)
    old = time.time() - 100
    for file in [*root.rglob("*")]:
        os.utime(file, (old, old))
    os.utime(root / ".venv/.ready", (old + 1, old + 1))
    return root


def make(root, *words, PROFILE="laptop"):
    """(exit code, the calls that were made, all that was printed)"""
    (root / "calls").unlink(missing_ok=True)
    time.sleep(TICK)
    profile = [f"PROFILE={PROFILE}"] if PROFILE else []
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    done = subprocess.run(["make", *profile, *words], cwd=root, env=alone, capture_output=True, text=True)
    calls = (root / "calls").read_text().splitlines() if (root / "calls").exists() else []
    return done.returncode, calls, done.stdout + done.stderr


def touch(file):
    time.sleep(TICK)
    os.utime(file)


@pytest.mark.parametrize("before", ["", "/another/clone"])
def test_everything_imports_this_clone(tree, before):
    subprocess.run(["make", "lab"], cwd=tree, check=True, env={**os.environ, "PYTHONPATH": before})
    assert (tree / "path").read_text().strip().split(":") == [str(tree), *filter(None, [before])]


def test_help_is_the_default_and_lists_every_target(tree):
    code, calls, text = make(tree)
    assert code == 0 and not calls
    assert "ITEM is profit_a, profit_b\n" in text
    for target in ("figures", "test", "lab", "data", "check-env", "bench", "clean", "profit_a"):
        assert target in text


def test_a_figure_is_made_once_and_again_only_for_a_reason(tree):
    a, b = (f"-m paperlib figure profit_{x} --profile laptop" for x in "ab")
    code, (first, *others), _ = make(tree, "figures")
    assert (code, first, sorted(others)) == (0, RUNS, [a, b])
    assert make(tree, "figures")[:2] == (0, [])
    touch(tree / "notebooks/profit_b.ipynb")
    assert make(tree, "figures")[1] == [b]
    assert make(tree, "figures", "PARAMS=-p seeds 3")[1] == [f"{a} -p seeds 3", f"{b} -p seeds 3"]
    touch(tree / ".venv/.ready")        # a rebuilt environment alone is no reason, nor are exercises or stray files
    touch(tree / "paperlib/exercises/x.py")
    touch(tree / "paperlib/.#x.py")
    assert make(tree, "figures", "PARAMS=-p seeds 3")[1] == make(tree, "figures")[1] == []


@pytest.mark.parametrize("file", READ)
def test_what_figures_are_made_from_makes_them_anew(tree, file):
    a, b = (f"-m paperlib figure profit_{x} --profile laptop" for x in "ab")
    make(tree, "figures")
    touch(tree / file)
    first, *others = make(tree, "figures")[1]
    assert first == RUNS and sorted(others) == [a, b]
    assert make(tree, "figures")[1] == []


def test_a_recorded_run_that_comes_or_goes_makes_figures_anew(tree):
    make(tree, "figures/profit_a")
    time.sleep(TICK)
    shutil.rmtree(tree / "data/recorded/run")
    assert len(make(tree, "figures/profit_a")[1]) == 1
    time.sleep(TICK)
    (tree / "data/recorded/new").mkdir()
    assert len(make(tree, "figures/profit_a")[1]) == 1
    assert not make(tree, "figures/profit_a")[1]


def test_half_a_figure_is_none(tree):
    (tree / "notebooks/profit_killed.ipynb").write_text("")
    for _ in range(2):      # killed when all but the end is done
        code, calls, _ = make(tree, "figures/profit_killed")
        assert code != 0 and len(calls) == 1
    make(tree, "figures/profit_b", "figures/profit_a")
    (tree / "figures/laptop/profit_b_more.csv").unlink()
    assert make(tree, "figures/profit_b", "figures/profit_a")[1] == ["-m paperlib figure profit_b --profile laptop"]


def test_make_says_where_the_pictures_are(tree):
    assert "figures/laptop/profit_a.png\n" in make(tree, "figures/profit_a")[2]
    assert "figures/laptop/profit_a.png\n" in make(tree, "figures/profit_a")[2]     # nothing to do, the same answer
    assert "\nall figures are in figures/laptop\n" in make(tree, "figures")[2]
    told = make(tree, "figures", "PARAMS=-p seeds 3")[2]
    assert "\nall figures are in figures/experiments/laptop-seeds-3\n" in told


def test_profiles_have_folders_of_their_own(tree):
    make(tree, "figures")
    runs, *drawn = make(tree, "figures", "PROFILE=smoke")[1]
    assert runs.endswith("prepare --profile smoke") and sorted(drawn)[0].endswith("profit_a --profile smoke")
    assert (tree / "figures/smoke/profit_a.png").exists()


def test_one_figure_by_name(tree):
    assert make(tree, "figures/profit_b")[1] == ["-m paperlib figure profit_b --profile laptop"]


def test_figures_whose_runs_have_been_trained_are_drawn_side_by_side(tree):
    code, calls, _ = make(tree, "figures", PROFILE="smoke")
    assert code == 0 and (tree / "together").exists() and "prepare" in calls[0] and len(calls) == 3


def test_recorded_figures_are_drawn_side_by_side_and_train_nothing(tree):
    code, calls, _ = make(tree, "figures", "PROFILE=recorded")
    assert code == 0 and (tree / "together").exists()
    assert sorted(calls[:2]) == [f"-m paperlib figure profit_{n} --profile recorded" for n in "ab"]


def test_the_first_command_draws_recorded_runs_and_trains_one_of_them_again(tree):
    figures = [f"-m paperlib figure profit_{n} --profile recorded" for n in "ab"]
    code, calls, text = make(tree, "figures", PROFILE=None)
    assert code == 0 and sorted(calls[:2]) == figures and calls[2:] == ["-m paperlib repeat smoke_vgg7"]
    assert (ROOT / "data/recorded/smoke_vgg7/run.json").exists()
    assert "\nall figures are in figures/recorded\nmake reproduce trains" in text


def test_reproducing_trains_one_figure_from_the_float_network_that_comes_along(tree):
    (tree / "notebooks/profit_a.ipynb").rename(tree / "notebooks/profit_table3_ablation.ipynb")
    calls = make(tree, "reproduce", PROFILE=None)[1]
    assert calls == ["-m paperlib figure profit_table3_ablation --profile pretrained"]


def test_what_has_passed_is_tested_again_when_what_it_is_about_has_changed(tree):
    """The unit tests always are."""
    def tested():
        [call] = make(tree, "test")[1]
        words = call.split()
        left_out = {after for word, after in zip(words, words[1:]) if word == "--ignore"}
        assert "tests" in words and left_out <= {*SITE} and not {*SITE} - left_out - {*words}
        return {word for word in words if word.endswith((".ipynb", ".py"))} - left_out

    def passed(files):
        for file in files:      # as tests/conftest.py does
            (tree / "build/passed" / file).parent.mkdir(parents=True, exist_ok=True)
            (tree / "build/passed" / file).touch()

    a, b = "notebooks/profit_a.ipynb", "notebooks/profit_b.ipynb"
    assert tested() == {a, b, *SITE}
    passed([a, *SITE])
    assert tested() == {b}
    passed([b])
    assert tested() == set()
    for file, again in {a: {a, *SITE}, "site/pages.py": {*SITE}, "requirements.lock": {a, b, *SITE},
                        **dict.fromkeys([*READ, "paperlib/teaching/exercises/x.py"], {a, b, *SITE})}.items():
        touch(tree / file)
        touch(tree / ".venv/.ready")
        assert tested() == again, file
        passed(again)
        assert tested() == set()


def test_one_failure_leaves_the_others_with_k(tree):
    (tree / "notebooks/profit_a_broken.ipynb").write_text("")
    code, _, _ = make(tree, "-k", "figures")
    assert code != 0
    assert (tree / "figures/laptop/profit_b.png").exists()
    assert not (tree / "figures/laptop/profit_a_broken.png").exists()


@pytest.mark.parametrize("words, cause", [*(
    (["figures", f"PROFILE={name}"], f'unknown PROFILE "{name}": choose from smoke')
    for name in ("huge", "%", "smoke laptop", "smoke smoke", "")),
                                          (["figures/nothing"], 'no figure "nothing": choose from profit_a')])
def test_unknown_names_are_refused_with_a_choice(tree, words, cause):
    code, calls, text = make(tree, *words)
    assert code == 2 and not calls and cause in text
    assert not (tree / "figures").exists()


def test_clean_keeps_runs_data_and_recorded_figures(tree):
    make(tree, "figures")
    for kept in ("data/runs/k/final.pt", "data/cifar10/cifar10.npy", "figures/recorded/profit_a.png"):
        (tree / kept).parent.mkdir(parents=True, exist_ok=True)
        (tree / kept).write_text("")
    assert make(tree, "clean")[0] == 0
    assert not (tree / "figures/laptop").exists()
    assert (tree / "data/runs/k/final.pt").exists() and (tree / "data/cifar10/cifar10.npy").exists()
    assert (tree / "figures/recorded/profit_a.png").exists()
