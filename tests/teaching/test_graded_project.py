"""The graded project: its template passes its tests, and these notice a quantizer that breaks a promise."""
import os
import shutil
import subprocess
import sys

import pytest

from paperlib.system.paths import ROOT

pytestmark = pytest.mark.slow
PROJECT = ROOT / "notebooks/teaching/project"


def outcome(folder):
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", folder, folder],
                          capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=folder)


def test_the_template_keeps_what_every_quantizer_promises():
    done = outcome(PROJECT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("line, broken, noticed", [
    ("return Affine(self.top, self.top)", "return Affine(self.top, 2 * self.top)", "eight_bits_cost"),
    ("self.rows(x).abs()", "0.01 * self.rows(x).abs()", "gradient_reaches")])
def test_a_broken_promise_is_noticed(tmp_path, line, broken, noticed):
    shutil.copytree(PROJECT, tmp_path / "project")
    file = tmp_path / "project/my_quantizer.py"
    assert line in file.read_text()
    file.write_text(file.read_text().replace(line, broken))
    done = outcome(tmp_path / "project")
    assert done.returncode == 1 and noticed in done.stdout.split("short test summary")[1]
