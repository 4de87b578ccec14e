"""What tests share.  Figures that tests and notebooks under test draw go to a folder of their own."""
import dataclasses
import os
import subprocess
import sys
import tempfile
import time

import pandas as pd
import pytest
import torch
from filelock import FileLock
from forks import fork_kernels, popen

from paperlib import __main__ as commandline
from paperlib.claims import CONTRADICTED, SUPPORTED, scoreboard
from paperlib.recipes import weights_alone
from paperlib.runs import Run
from paperlib.system.paths import ROOT
from paperlib.training.history import HISTORY_COLUMNS

os.environ["PAPERLIB_FIGURES"] = tempfile.mkdtemp(prefix="paperlib-figures-")
START = time.time()
LONGEST = ("test_site.py", "test_distributed.py", "own_network.ipynb", "test_eight_bits.py", "test_commandline.py",
           "test_confirmations.py", "learn_4_progressive_freezing.ipynb", "deploy_integers.ipynb", "scoreboard.ipynb",
           "test_gpu_experiments.py", "test_integer_net.py", "test_runs.py", ".ipynb", "test_browser.py")
# what judges all claims does it once, in one process
JUDGING = ("test_confirmations.py", "test_outcomes.py", "test_readme.py", "test_scoreboard.py")
fork_kernels()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Tests of a file go to one process, and so do files that share what takes long."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "judging" if file.endswith(JUDGING) else file

    return Scheduling(config, log)


def pytest_addoption(parser):
    parser.addoption("--passed", metavar="FOLDER", help="leave an empty file there for each file whose tests passed")


def pytest_collection_modifyitems(items):
    """What takes longest comes first, so that no core waits for it at the end; a browser comes when there is a site."""
    items.sort(key=lambda item: next((i for i, name in enumerate(LONGEST) if f"{name}::" in item.nodeid), len(LONGEST)))


def pytest_sessionfinish(session, exitstatus):
    """The empty files are as old as the beginning of the tests: what changes meanwhile is tested again."""
    folder, reporter = session.config.option.passed, session.config.pluginmanager.get_plugin("terminalreporter")
    if folder and reporter and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        of = {how: {report.nodeid.split("::")[0] for report in reporter.stats.get(how, ())}
              for how in ("passed", "failed", "error")}
        for file in of["passed"] - of["failed"] - of["error"]:
            mark = ROOT / folder / file
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
            os.utime(mark, (START, START))


@pytest.fixture(scope="module")
def one_thread():
    """Torch computes with one thread, so that numbers do not depend on the machine's cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def paperlib(monkeypatch, capsys):
    """A command in this process: its words in, (exit code, standard output, standard error) out."""
    def say(*words):
        monkeypatch.setattr(sys, "argv", ["paperlib", *words])
        try:
            code = commandline.main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return say


@pytest.fixture
def forked(monkeypatch):
    """Processes that the library starts as `python -m MODULE` are forks of one that is warm."""
    monkeypatch.setattr(subprocess, "Popen", popen)


@pytest.fixture(scope="session")
def recorded():
    """All claims, judged by the recorded runs."""
    return scoreboard.judge("recorded")


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the static site, built once, as `make site` does."""
    for package in ("sphinx", "myst_nb", "furo"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install -e .[site]")
    worker, folder = os.environ.get("PYTEST_XDIST_WORKER"), tmp_path_factory.getbasetemp()
    folder = (folder.parent if worker else folder) / "site"         # built by one process for all
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "index.html").exists():
            done = subprocess.run([sys.executable, ROOT / "site" / "build.py", folder], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
    return folder


def short(bits, seed=0):
    """A recipe of two short phases."""
    recipe = weights_alone(bits, model="vgg7", profile="smoke", seed=seed)
    phases = [dataclasses.replace(phase, epochs=1) for phase in recipe.phases]
    return dataclasses.replace(recipe, train_images=100, test_images=100, phases=phases)


def whole_history(recipe, accuracy: float) -> pd.DataFrame:
    """The history of a made-up run of this recipe, with the same accuracy everywhere."""
    return pd.DataFrame(
        [(phase.name, epoch, 8 * epoch, split, "accuracy", accuracy) for phase in recipe.phases
         for split, epochs in (("val", range(phase.epochs + 1)), ("train", range(1, phase.epochs + 1)),
                               ("val_ema", [phase.epochs])) for epoch in epochs],
        columns=["phase", "epoch", "step", "split", "metric", "value"])


def made_up(recipe, rows, *tables) -> Run:
    """A run of this recipe with these rows of history, (phase, epoch, split, metric, value), and no network;
    ``tables``: instability and steps."""
    history = pd.DataFrame([(phase, epoch, epoch, *rest) for phase, epoch, *rest in rows], columns=HISTORY_COLUMNS)
    return Run(recipe, history, pd.DataFrame(), *tables, key="made up", seconds=0.0, environment={})


def ends_at(recipe, end: float, before={}, *, averaged: float = 0.0, rows=()) -> Run:
    """A made-up run that ends with this accuracy, so much higher with averaged weights; its phases before end as
    ``before`` says, {phase: accuracy}, or at 30, where all begin.  ``rows``: more of its history."""
    rows = list(rows)
    for phase in recipe.phases:
        last = end if phase is recipe.phases[-1] else before.get(phase.name, 30.0)
        rows += [(phase.name, epoch, "val", "accuracy", 30.0 if epoch < phase.epochs else last)
                 for epoch in range(phase.epochs + 1)]
        rows.append((phase.name, phase.epochs, "val_ema", "accuracy", last + averaged))
    return made_up(recipe, rows)


def agreeing(verdict) -> pd.Series:
    """Which single differences lie in the region that the claim is about; where the sign counts, 0 lies outside."""
    d, signs = verdict.differences.difference, not (verdict.margin or verdict.counted)
    return d.between(verdict.least, verdict.most) & ~(signs & d.isin([0.0]))


def agree(verdict) -> list[int]:
    """How many seeds of each comparison do."""
    return agreeing(verdict).groupby(verdict.differences.comparison, sort=False).sum().tolist()


def leans(verdict) -> str:
    """What the differences of few made-up runs say of a claim, whose verdict they may be too few for: SUPPORTED or
    CONTRADICTED; or the verdict, where one is missing or the verdict has other reasons."""
    if not verdict.testable or (verdict.differences.outcome != "").any():
        return verdict.verdict
    return SUPPORTED if agreeing(verdict).all() else CONTRADICTED
