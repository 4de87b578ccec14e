"""The work list of a GPU: its order, what fits into the time, and the whole way in small."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from paperlib.claims import gpu_experiments, recording
from paperlib.runs import rates, selftest
from paperlib.runs.rates import Kind
from paperlib.system import paths


@pytest.fixture(scope="module")
def wanted():
    return gpu_experiments.tasks()


def test_every_run_is_named_once_and_comparisons_stand_together(wanted):
    identities = [repr(w.recipe.identity()) for w in wanted]
    assert len(set(identities)) == len(identities) > 100
    assert [w.items for w in wanted[:21]] == [["QIL, Table 1, at full width"]] * 21
    assert {w.recipe.seed for w in wanted[:7]} == {0}
    assert {w.recipe.width for w in wanted} == {1.0}
    first = [w.recipe for w in wanted[:7]]
    assert len({r.phases[0] for r in first}) == 1 and len({r.phases[-1].epochs for r in first}) == 1   # as long


def test_a_way_of_computing_is_part_of_the_run(wanted):
    [fast, *_] = gpu_experiments.tasks(precision="bfloat16", compiled="reduce-overhead")
    plain, fast = wanted[0].recipe, fast.recipe
    assert plain.threads == fast.threads == 1
    assert (fast.precision, fast.compiled) == ("bfloat16", "reduce-overhead")
    assert plain.identity() != fast.identity()


class Trained:
    """A phase in the store, as far as rates look at it."""

    def __init__(self, recipe, phase, images_per_s):
        self.recipe, self.phase = recipe, phase
        self.info = type("Info", (), {"images_per_s": images_per_s})


def test_rates_are_learned_and_guessed_by_what_is_computed(wanted):
    recipe = wanted[0].recipe
    phase, other = recipe.phases[:2]
    images = 50_000
    learned = rates.Rates((Kind("vgg7", 1.0, 32, False, False, False), 1000.0))
    assert learned.seconds(recipe, phase, images) == pytest.approx(phase.epochs * 50)
    learned.learn(Trained(recipe, phase, 5000.0))
    assert learned.seconds(recipe, phase, images) == pytest.approx(phase.epochs * 10)
    assert learned.seconds(recipe, other, images) == pytest.approx(other.epochs * 10)      # as many products
    photographs, begun = wanted[-1].recipe, rates.Rates((selftest.KIND, 5000.0))
    fine = photographs.phases[1]
    assert begun.seconds(photographs, fine, 1000) > 50 * fine.epochs * 1000 / 5000     # far more products an image


def test_what_does_not_fit_is_left_out_with_what_goes_on_from_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(paths, "recorded_dir", lambda: tmp_path / "recorded")
    tasks = gpu_experiments.trial()
    slow = rates.Rates((selftest.KIND, 0.001))
    recording.work(tasks, minutes=1, workers=2, rates=slow)
    assert capsys.readouterr().err.count("left out, for want of time") == 2       # two beginnings of three runs
    assert not list((tmp_path / "runs").glob("*")) or not any(task.state()[0] == "trained" for task in tasks)


BLOCKED = ("ipython", "jupyter", "papermill", "nbformat", "nbval", "nbclient", "onnx", "ipywidgets", "ipykernel",
           "traitlets", "packaging", "sphinx", "playwright", "hypothesis", "_hypothesis", "pytest", "_pytest")

# `python -m paperlib`; the self-test tries a single way, since tests/runs/test_selftest.py tries others
ONE_WAY = """
from paperlib import __main__
from paperlib.runs import selftest
selftest.TRIAL.update(most=1, ways={"float32": {}})
raise SystemExit(__main__.main())
"""


@pytest.mark.slow
def test_the_whole_way_in_small_where_little_is_installed(tmp_path):
    """Self-test, trainings side by side, recorded and delivered: from a bundle, without Jupyter, papermill, onnx."""
    from paperlib.runs import bundle

    project, site = tmp_path / "project", tmp_path / "site"
    site.mkdir()
    for package in Path(pytest.__file__).parent.parent.iterdir():
        if not package.name.lower().startswith(BLOCKED) and package.suffix != ".pth":
            (site / package.name).symlink_to(package)
    for volume in bundle.pack(tmp_path, cifar10=False):
        subprocess.run(["tar", "xf", volume, "-C", project.mkdir(exist_ok=True) or project], check=True)
    (project / "data" / "cifar10-subset").symlink_to(paths.ROOT / "data" / "cifar10-subset")
    env = {name: value for name, value in os.environ.items() if not name.startswith("PAPERLIB_")}
    env |= {"PYTHONPATH": os.pathsep.join([str(project), str(site)]), "OMP_NUM_THREADS": "1", "PYTHONNOUSERSITE": "1"}
    command = [sys.executable, "-S", "-c", ONE_WAY, "record", "--list", "trial", "--deliver", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "chosen: Choice(changes={}" in done.stdout and done.stdout.count("recorded in") == 3
    assert (tmp_path / "out" / "runs-0.tar.gz").exists()
    assert len(list((project / "data" / "recorded").glob("*/run.json"))) == 3
