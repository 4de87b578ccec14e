"""The Makefile's bookkeeping, with a stand-in for the Python that would do the work."""
import os
import shutil
import stat
import subprocess
import time

import pytest

from paperlib.paths import ROOT

pytestmark = pytest.mark.slow

RUNS = "-m paperlib prepare --profile laptop"       # comes first, and is not asked for by a figure alone
TICK = 0.05     # seconds; longer than a tick of the clock that stamps files
FAKE = r"""#!/bin/sh
# stands in for: python -m paperlib prepare --profile PROFILE, and: python -m paperlib figure ITEM --profile PROFILE ...
echo "$@" >> calls
[ "$3" = prepare ] && exit
case "$4" in *broken*) exit 1;; esac
if [ "$6" = recorded ]; then    # wait until two are at work
  touch "on-$4"
  for i in $(seq 100); do
    [ "$(ls on-* | wc -l)" -lt 2 ] || touch together
    [ ! -e together ] || break
    sleep 0.05
  done
  rm "on-$4"
fi
mkdir -p "figures/$6"; echo made > "figures/$6/$4.json"
"""


@pytest.fixture
def tree(tmp_path):
    """A small project in a folder with a space in its name: the real Makefile, two notebooks, a library file."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    root = tmp_path / "my project"
    for folder in ("notebooks", "paperlib", ".venv/bin"):
        (root / folder).mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", root)
    for file in ("notebooks/profit_a.ipynb", "notebooks/profit_b.ipynb", "paperlib/x.py", "requirements.lock",
                 "pyproject.toml"):
        (root / file).write_text("")
    (root / ".venv/.ready").write_text("")
    python = root / ".venv/bin/python"
    python.write_text(FAKE)
    python.chmod(python.stat().st_mode | stat.S_IEXEC)
    old = time.time() - 100
    for file in root.rglob("*"):
        os.utime(file, (old, old))
    os.utime(root / ".venv/.ready", (old + 1, old + 1))
    return root


def make(root, *words):
    """(exit code, the calls that were made, all that was printed)"""
    (root / "calls").unlink(missing_ok=True)
    time.sleep(TICK)
    done = subprocess.run(["make", *words], cwd=root, capture_output=True, text=True)
    calls = (root / "calls").read_text().splitlines() if (root / "calls").exists() else []
    return done.returncode, calls, done.stdout + done.stderr


def touch(file):
    time.sleep(TICK)
    os.utime(file)


def test_help_is_the_default_and_lists_every_target(tree):
    code, calls, text = make(tree)
    assert code == 0 and not calls
    for target in ("figures", "test", "lab", "data", "check-env", "bench", "clean", "profit_a"):
        assert target in text


def test_a_figure_is_made_once_and_again_only_for_a_reason(tree):
    a, b = (f"-m paperlib figure profit_{x} --profile laptop" for x in "ab")
    assert make(tree, "figures")[:2] == (0, [RUNS, a, b])
    assert make(tree, "figures")[:2] == (0, [])
    touch(tree / "notebooks/profit_b.ipynb")
    assert make(tree, "figures")[1] == [b]
    touch(tree / "paperlib/x.py")
    assert make(tree, "figures")[1] == [RUNS, a, b]
    assert make(tree, "figures", "PARAMS=-p seeds 3")[1] == [f"{a} -p seeds 3", f"{b} -p seeds 3"]
    assert make(tree, "figures", "PARAMS=-p seeds 3")[1] == []
    touch(tree / ".venv/.ready")
    assert make(tree, "figures", "PARAMS=-p seeds 3")[1] == []      # a rebuilt environment alone is no reason


def test_profiles_have_folders_of_their_own(tree):
    make(tree, "figures")
    runs, a, _ = make(tree, "figures", "PROFILE=smoke")[1]
    assert runs.endswith("prepare --profile smoke") and a.endswith("profit_a --profile smoke")
    assert (tree / "figures/smoke/profit_a.json").exists()


def test_one_figure_by_name(tree):
    assert make(tree, "figures/profit_b")[1] == ["-m paperlib figure profit_b --profile laptop"]


def test_recorded_figures_are_drawn_side_by_side_and_train_nothing(tree):
    code, calls, _ = make(tree, "figures", "PROFILE=recorded")
    assert code == 0 and (tree / "together").exists()
    assert sorted(calls) == [f"-m paperlib figure profit_{n} --profile recorded" for n in "ab"]


def test_one_failure_leaves_the_others_with_k(tree):
    (tree / "notebooks/profit_a_broken.ipynb").write_text("")
    code, _, _ = make(tree, "-k", "figures")
    assert code != 0
    assert (tree / "figures/laptop/profit_b.json").exists()
    assert not (tree / "figures/laptop/profit_a_broken.json").exists()


@pytest.mark.parametrize("words, cause", [(["figures", "PROFILE=huge"], 'unknown PROFILE "huge": choose from smoke'),
                                          (["figures/nothing"], 'no figure "nothing": choose from profit_a')])
def test_unknown_names_are_refused_with_a_choice(tree, words, cause):
    code, calls, text = make(tree, *words)
    assert code == 2 and not calls and cause in text
    assert not (tree / "figures/huge").exists()


def test_clean_keeps_runs_data_and_recorded_figures(tree):
    make(tree, "figures")
    for kept in ("data/runs/k/final.pt", "data/cifar10/cifar10.npy", "figures/recorded/profit_a.png"):
        (tree / kept).parent.mkdir(parents=True, exist_ok=True)
        (tree / kept).write_text("")
    assert make(tree, "clean")[0] == 0
    assert not (tree / "figures/laptop").exists()
    assert (tree / "data/runs/k/final.pt").exists() and (tree / "data/cifar10/cifar10.npy").exists()
    assert (tree / "figures/recorded/profit_a.png").exists()
