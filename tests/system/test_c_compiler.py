"""The loops in C are built once and loaded only if whole and ours; where not, torch works and a line says why."""
import os
import re
import subprocess
import sys
import threading
import time
import warnings

import pytest
import torch

from paperlib.quantizers import kernels
from paperlib.runs import check_env
from paperlib.system import c_compiler
from paperlib.system.paths import ROOT

cc = pytest.mark.skipif(kernels.library() is None, reason="no C compiler")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="not built here")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.delenv("PAPERLIB_C", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "paperlib" / "kernels"


@pytest.fixture
def source(tmp_path):
    (tmp_path / "one.c").write_text("int one(void) { return 1; }\n")
    return tmp_path / "one.c"


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def library(cache):
    file, = cache.glob("*.so")
    return file


@cc
def test_built_once_and_found_again(source, cache, monkeypatch):
    assert c_compiler.load(source, ["one"]).one() == 1
    file = library(cache)
    assert cache.stat().st_mode & 0o777 == file.stat().st_mode & 0o777 == 0o700
    assert {other.name for other in cache.iterdir()} == {".lock", file.name}
    monkeypatch.setattr(c_compiler, "_build", lambda *_: pytest.fail("built again"))
    assert c_compiler.load(source, ["one"]).one() == 1


@cc
@pytest.mark.parametrize("damage", [
    lambda code: b"", lambda code: code[:1000], lambda code: code[:-1], lambda code: b"\x7fELF" + bytes(99),
    lambda code: code[:2000] + b"\1" + code[2001:]])
def test_what_is_damaged_is_built_anew(source, cache, damage):
    c_compiler.load(source, ["one"])
    file = library(cache)
    whole = file.read_bytes()
    file.unlink()       # the mapped one stays whole
    file.write_bytes(damage(whole)), file.chmod(0o700)
    assert c_compiler.load(source, ["one"]).one() == 1 and library(cache).read_bytes() == whole


@cc
@pytest.mark.parametrize("spoil", [
    lambda file: file.chmod(0o722),
    lambda file: (file.rename("away.so"), file.symlink_to(os.path.abspath("away.so"))),
    pytest.param(lambda file: os.chown(file, 12345, -1), marks=pytest.mark.skipif(
        getattr(os, "geteuid", int)() != 0, reason="only root can give files away"))],
    ids=["writable", "a link", "another user's"])
def test_a_library_that_others_may_have_written_is_built_anew(source, cache, spoil):
    c_compiler.load(source, ["one"])
    spoil(library(cache))
    assert c_compiler.load(source, ["one"]).one() == 1
    assert library(cache).lstat().st_mode & 0o777 == 0o700


@cc
def test_other_sources_flags_processors_and_compilers_have_libraries_of_their_own(source, cache, monkeypatch, tmp_path):
    changes = [lambda: None, lambda: monkeypatch.setattr(c_compiler, "_machine", lambda: "another"),
               lambda: monkeypatch.setattr(c_compiler, "FLAGS", ["-fPIC"]), lambda: source.write_text("int one=1;"),
               lambda: monkeypatch.setenv("CC", script(tmp_path / "mycc", 'exec cc "$@"')),
               lambda: monkeypatch.setenv("CC", str(tmp_path / "mycc") + " -DX='a b'")]
    for n, change in enumerate(changes):
        change()
        c_compiler.load(source, ["one"])
        assert len(list(cache.glob("*.so"))) == n + 1


@cc
@pytest.mark.parametrize("value", ["", ".", "cache/relative", "~/x"])
def test_a_cache_folder_that_is_not_absolute_counts_for_nothing(source, monkeypatch, tmp_path, value):
    monkeypatch.setenv("XDG_CACHE_HOME", value), monkeypatch.setenv("HOME", str(tmp_path / "home"))
    c_compiler.load(source, ["one"])
    assert len(list(tmp_path.rglob("*.so"))) == len(list((tmp_path / "home/.cache/paperlib/kernels").glob("*.so"))) == 1
    monkeypatch.setenv("HOME", "relative")
    with pytest.raises(c_compiler.Unavailable, match="nobody knows the home folder.*XDG_CACHE_HOME"):
        c_compiler.load(source, ["one"])


def folder_of_others(cache, monkeypatch):
    cache.mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda me=os.geteuid(): me + 1)


def link(cache, monkeypatch):
    cache.parent.mkdir(parents=True)
    cache.symlink_to(cache.parent)


def compiler(text):
    return lambda cache, monkeypatch: monkeypatch.setenv("CC", script(cache.parents[2] / "mycc", text))


def variable(name, value):
    return lambda cache, monkeypatch: monkeypatch.setenv(name, value)


NOT_HERE = {
    "no folder": (variable("XDG_CACHE_HOME", "/dev/null"), "cannot keep anything in /dev/null.*set XDG_CACHE_HOME"),
    "a file": (lambda cache, _: (cache.parent.mkdir(parents=True), cache.touch()), "cannot keep anything in"),
    "others' folder": (folder_of_others, "is somebody else's"),
    "a folder for all": (lambda cache, _: (cache.mkdir(parents=True), cache.chmod(0o777)), "others can write"),
    "a link": (link, "is somebody else's"),
    "no compiler": (variable("CC", "no-such-compiler -m64"), "no C compiler 'no-such-compiler'"),
    "no command": (variable("CC", "gcc '"), "CC=gcc ' is no command"),
    "failing": (compiler("echo; echo 'x.c: error: no such thing' >&2; exit 1"), "mycc failed .*error: no such thing"),
    "silent": (compiler("exit 1"), "mycc failed .no word"), "doing nothing": (compiler("exit 0"), "makes no library"),
    "hanging": (compiler("sleep 600 & sleep 600"), "took more than 0.5 seconds"),
    "no program": (lambda cache, monkeypatch: (
        monkeypatch.setenv("CC", script(cache.parents[2] / "odd", "")),
        (cache.parents[2] / "odd").write_bytes(b"\x7fELF odd")), "Exec format error"),
    "not wanted": (variable("PAPERLIB_C", "0"), "PAPERLIB_C=0")}


@pytest.mark.parametrize("case", NOT_HERE)
def test_where_c_cannot_be_a_line_says_why_and_torch_does_it(case, cache, monkeypatch):
    spoil, message = NOT_HERE[case]
    monkeypatch.setattr(c_compiler, "PATIENCE", 0.5)
    spoil(cache, monkeypatch)
    start = time.monotonic()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert kernels.library.__wrapped__() is None
    assert time.monotonic() - start < 10 and len(said) == (case != "not wanted")
    lines = [found for holds, found, _ in check_env.checks() if "fast loops in C" in found and holds]
    for text in [str(w.message) for w in said] + lines:
        assert re.search(message, text) and "\n" not in text
    assert len(lines) == 1 and not list(cache.parents[2].rglob("*.so"))
    assert {file.name for file in cache.rglob(".*")} <= {".lock"}


@cc
def test_a_library_that_lacks_a_function(source):
    with pytest.raises(c_compiler.Unavailable, match="lacks two"):
        c_compiler.load(source, ["one", "two"])


@cc
def test_threads_and_processes_build_once(source, cache, monkeypatch, tmp_path):
    monkeypatch.setenv("CC", script(tmp_path / "mycc", f'echo x >> {tmp_path}/count; sleep 0.2; exec cc "$@"'))
    code = ("import sys; from pathlib import Path; sys.modules['torch'] = None; sys.path.insert(0, sys.argv[1]);"
            "import c_compiler; assert c_compiler.load(Path(sys.argv[2]), ['one']).one() == 1")
    others = [subprocess.Popen([sys.executable, "-c", code, ROOT / "paperlib" / "system", source]) for _ in range(3)]
    found = []
    threads = [threading.Thread(target=lambda: found.append(c_compiler.load(source, ["one"]).one())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 4 and [process.wait() for process in others] == [0] * 3
    assert (tmp_path / "count").read_text().count("x") == 2      # compile and link
    assert len(list(cache.glob("*.so"))) == 1


@cc
def test_a_lock_that_nobody_gives_back_only_delays(source, cache, monkeypatch):
    import fcntl
    monkeypatch.setattr(c_compiler, "PATIENCE", 1)
    cache.mkdir(parents=True), cache.chmod(0o700)
    handle = os.open(cache / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert c_compiler.load(source, ["one"]).one() == 1
    os.close(handle)


@pytest.mark.parametrize("home", ["/dev/null", "/proc"])
def test_an_unwritable_home(monkeypatch, home):
    monkeypatch.delenv("XDG_CACHE_HOME"), monkeypatch.setenv("HOME", home)
    with pytest.warns(UserWarning, match=f"loops in C are off.*cannot keep anything in {home}.*XDG_CACHE_HOME"):
        assert kernels.library.__wrapped__() is None


@cc
def test_the_kernels_have_all_functions():
    x, y = torch.tensor([0.3, 2.0]), torch.empty(2)
    kernels.load().fake_quantize(2, x.data_ptr(), kernels.Uniform(1, 0, 0, 0, 1, 1, 0, 1, False), y.data_ptr())
    assert y.tolist() == [0.0, 1.0]
