"""What tests share.  Figures that tests and notebooks under test draw go to a folder of their own."""
import os
import subprocess
import sys
import tempfile

import pandas as pd
import pytest
import torch
from filelock import FileLock

from paperlib.claims import scoreboard
from paperlib.system.paths import ROOT

os.environ["PAPERLIB_FIGURES"] = tempfile.mkdtemp(prefix="paperlib-figures-")


@pytest.fixture(scope="module")
def one_thread():
    """Torch computes with one thread, so that numbers do not depend on the machine's cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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


def whole_history(recipe, accuracy: float) -> pd.DataFrame:
    """The history of a made-up run of this recipe, with the same accuracy everywhere."""
    return pd.DataFrame(
        [(phase.name, epoch, 8 * epoch, split, "accuracy", accuracy) for phase in recipe.phases
         for split, epochs in (("val", range(phase.epochs + 1)), ("train", range(1, phase.epochs + 1)),
                               ("val_ema", [phase.epochs])) for epoch in epochs],
        columns=["phase", "epoch", "step", "split", "metric", "value"])
