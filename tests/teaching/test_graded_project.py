"""The graded project: its template passes its tests, and these notice a quantizer that breaks a promise."""
import os
import shutil
import sys

import pytest
from forks import Module

from paperlib.system.paths import ROOT

pytestmark = pytest.mark.slow
PROJECT = ROOT / "notebooks/teaching/project"


def outcome(folder, *words):
    """(exit code, output) of ``python -m pytest`` there."""
    with Module([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), *words,
                 str(folder)], env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=folder) as process:
        output = process.stdout.read()
    return process.returncode, output


def test_the_template_keeps_what_every_quantizer_promises():
    code, output = outcome(PROJECT)
    assert code == 0, output


@pytest.mark.parametrize("line, broken, noticed", [
    ("return Affine(self.top, self.top)", "return Affine(self.top, 2 * self.top)", "eight_bits_cost"),
    ("self.rows(x).abs()", "0.01 * self.rows(x).abs()", "gradient_reaches")])
def test_a_broken_promise_is_noticed(tmp_path, line, broken, noticed):
    shutil.copytree(PROJECT, tmp_path / "project")
    file = tmp_path / "project/my_quantizer.py"
    assert line in file.read_text()
    file.write_text(file.read_text().replace(line, broken))
    code, output = outcome(tmp_path / "project", "-k", noticed)
    assert code == 1 and noticed in output.split("short test summary")[1]
