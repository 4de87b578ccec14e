"""Files are replaced whole, nothing else than a file is replaced, and a library without its repository says so."""
import os
import shutil
import subprocess
import sys

import pytest

from paperlib.errors import InputError
from paperlib.system import paths


def made(kind, path):
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        target = path.with_name("target")
        if kind == "link":
            target.write_text("kept")
        path.symlink_to(target)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "link to nowhere"])
def test_what_is_no_file_is_left_as_it_is(kind, tmp_path):
    path = tmp_path / "x.onnx"
    made(kind, path)
    before = sorted(tmp_path.iterdir()), os.lstat(path)
    with pytest.raises(InputError, match=f"{path} is a {kind.split()[0]}, which is left as it is: name a file"):
        with paths.atomic(path):
            raise AssertionError("the body must not run")
    assert (sorted(tmp_path.iterdir()), os.lstat(path)) == before


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="needs devices")
def test_a_device_is_left_as_it_is():
    with pytest.raises(InputError, match="/dev/null is a device"), paths.atomic("/dev/null"):
        raise AssertionError("the body must not run")
    with pytest.raises(InputError, match="/ is a folder"), paths.atomic("/"):
        raise AssertionError("the body must not run")


def test_two_writers_with_one_process_id_do_not_meet(tmp_path):
    """In containers every main process has the same one."""
    path = tmp_path / "final.pt"
    with paths.atomic(path) as one, paths.atomic(path) as two:
        one.write_text("one")
        two.write_text("two")
        assert one != two and sorted(tmp_path.glob(".[0-9]*")) == sorted([one, two])
    assert path.read_text() == "one" and list(tmp_path.iterdir()) == [path]


def test_what_killed_processes_left_is_cleared(tmp_path):
    (tmp_path / ".12-ab.final.pt").write_text("half")
    (tmp_path / ".13-cd.run").mkdir()
    (tmp_path / ".13-cd.run" / "history.csv").write_text("half")
    (tmp_path / ".lock").touch()
    (tmp_path / "final.pt").touch()
    with paths.alone(tmp_path):
        pass
    assert sorted(file.name for file in tmp_path.iterdir()) == [".lock", "final.pt"]


WHEEL = """
import os, sys
import torch
from paperlib import deploy, errors, models, quantizers, runs, published, data, recipes
from paperlib.runs import recorded
from paperlib.system import paths
assert not paths.IN_CLONE
net = models.quantize(models.build("mobilenet_v2", width=0.1), models.Scheme())
models.calibrate(net, torch.randn(8, 3, 32, 32))
deploy.pack(net, sys.argv[1], build={"name": "mobilenet_v2", "width": 0.1})
deploy.load(sys.argv[1])
recipe = recipes.weights_alone(4, profile="smoke")
for wanted in (published.table, data.load_subset, recorded.index, runs.listing, lambda: runs.obtain(recipe),
               lambda: runs.is_recorded(recipe)):
    try:
        wanted()
    except errors.InputError as error:
        assert "work in a clone" in str(error) and "\\n" not in str(error), error
    else:
        raise AssertionError(wanted)
os.environ["PAPERLIB_RUNS"] = sys.argv[1] + "-runs"
assert runs.listing().empty
"""


def test_without_its_repository_the_library_asks_for_a_clone_where_it_needs_one(tmp_path):
    shutil.copytree(paths.ROOT / "paperlib", tmp_path / "site" / "paperlib",
                    ignore=shutil.ignore_patterns("__pycache__"))
    env = {k: v for k, v in os.environ.items() if not k.startswith("PAPERLIB_")}
    done = subprocess.run([sys.executable, "-c", WHEEL, tmp_path / "net.packed"], cwd=tmp_path, text=True,
                          capture_output=True, env={**env, "PYTHONPATH": str(tmp_path / "site")})
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in (tmp_path / "site").iterdir()) == ["paperlib"]
