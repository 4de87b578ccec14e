"""The hash over the code: what changes it and what does not, in every Python; edits under a running process."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from paperlib.errors import InputError
from paperlib.system import code_hash, provenance
from paperlib.system.paths import ROOT

SAMPLE = rb'''"""A module."""
from __future__ import annotations
import functools
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from torch import Tensor
__all__ = ["Grid"]
LEVELS: tuple[int, ...] = (1, 2_000, 0x1F, -1)


@functools.cache
def text(x: float, *rest: "int", width=8, **more) -> str | None:
    """Say something."""
    if (n := len(rest)) > 1e-3 and not 1 < n <= 2.50:
        raise ValueError(f"{n} is " "too many") from None
    return f"a {x!r:>{width}}" "b" f"{n}{x = }{{}}" + "\u20ac" if more else b"\x00".hex()


class Grid:
    ...

    async def match(self, value):
        match value:
            case [int(), *_] | {"a": None, **rest}:
                pass
            case Grid(step=2) as grid if grid:
                return lambda a, /, b=1, *, c: (yield a[1:, ..., ::2])
'''
SAMPLE_HASH = "9f8bf45f85b9"


def library(**changed):
    """The library's sources with some changed: text is added, a function makes another text."""
    sources = dict(provenance.IMPORTED)
    for path, change in changed.items():
        before = sources.get(path, b"").decode()
        sources[path] = (change(before) if callable(change) else before + change).encode()
    return sources


def replaced(old, new):
    def change(text):
        assert old in text
        return text.replace(old, new)
    return change


def digest(text: bytes):
    return code_hash.whole({"module.py": text})


# What decides numbers.

NUMBERS = ["data/cifar10_batches", "data/cifar10_images", "data/image_arrays", "data/image_files", "data/imagenet",
           "data/imagenet_batches", "models/__init__", "models/fuse", "models/fused_conv", "models/layers",
           "models/mobilenet", "models/quantize", "models/value_bounds", "models/weights", "quantizers/base",
           "quantizers/duq", "quantizers/kernels", "quantizers/lsq", "quantizers/qil", "quantizers/registry",
           "runs/loading", "runs/phase_trainer", "system/distributed", "training/aiwq", "training/engine",
           "training/evaluation", "training/freezing", "training/losses", "training/output_moments",
           "training/phases", "training/torch_settings"]
NO_NUMBERS = ["__init__", "__main__", "claims/experiments", "claims/notebooks", "claims/qil_tables", "data/downloads",
              "deploy/pack", "errors", "models/cost", "plots/style", "recipes/profiles", "recipes/qil",
              "runs/obtaining", "runs/parallel", "runs/phase_store", "runs/worker", "system/code_hash",
              "system/paths", "system/provenance", "teaching/widgets/panel", "training/interrupt",
              "training/progress"]


def test_code_that_numbers_pass_through_and_no_other():
    found = code_hash.closure(provenance.IMPORTED)
    assert {f"{name}.py" for name in NUMBERS} | {"quantizers/kernels.c"} <= set(found)
    added = {f"{name}.py": "\nNUMBER = 1\n" for name in NO_NUMBERS}
    assert set(added) <= set(provenance.IMPORTED) and code_hash.numerics(library(**added)) == provenance.code_version()


def test_imports_are_followed_wherever_they_stand():
    local = "\ndef local():\n    from . import new\n"
    sources = library(**{"quantizers/one.py": "", "models/new.py": "import paperlib.plots.style",
                         "models/layers.py": local,
                         "models/alone.py": ""})
    found = set(code_hash.closure(sources)) - set(code_hash.closure(provenance.IMPORTED))
    assert {"quantizers/one.py", "models/new.py", "plots/style.py"} <= found    # a quantizer's file needs no import
    assert "models/alone.py" not in found


@pytest.mark.parametrize("path, old, new", [
    ("training/engine.py", "momentum=phase.momentum", "momentum=0.5"), ("runs/loading.py", "500", "499"),
    ("data/image_files.py", "BICUBIC", "BILINEAR"), ("data/imagenet.py", "_in_turn(new) + ", ""),
    ("data/image_files.py", 'convert("RGB")', 'convert("L")'), ("system/distributed.py", "n / max(n - 1, 1)", "1.0"),
    ("data/cifar10_batches.py", "0.4914", "0.4915"), ("quantizers/kernels.c", "0.5f", "0.4f"),
    ("runs/phase_trainer.py", "recipe.seed)", "0)")])
def test_a_single_number_changes_it(path, old, new):
    assert code_hash.numerics(library(**{path: replaced(old, new)})) != provenance.code_version()


def test_words_imports_and_places_do_not_change_it():
    def reworded(text):
        words = {'"""Make one update,': '"""One Update;', "# for dropout": "# for all that is random",
                 "from ..errors import InputError\n": "from ..errors import InputError as InputError, brief\n",
                 "lower the learning rate": "take a lower one", "from .phases import Phase\n": ""}
        for old, new in words.items():
            text = replaced(old, new)(text)
        return text.replace("\n", "\r\n")

    sources = library(**{"training/engine.py": reworded,
                         "quantizers/kernels.c": "\n// a comment\n/* and\nanother */\n"})
    sources["models/sub/wide.py"] = sources.pop("models/vgg7.py").replace(b"from ..errors", b"from paperlib.errors")
    sources["models/networks.py"] = sources["models/networks.py"].replace(b"from .vgg7 ", b"from .sub.wide ")
    assert code_hash.numerics(sources) == provenance.code_version()
    assert "models/sub/wide.py" in code_hash.closure(sources)
    assert code_hash.whole(sources) != provenance.library_version()     # a message is seen in a notebook


def test_another_name_for_a_module_does_not_change_it():
    """Neither its path nor that others ask it for what it holds, as in ``fused_conv.FusedPrologue``."""
    renamed = {path.replace("fused_conv", "joined"): text.replace(b"fused_conv", b"joined")
               for path, text in provenance.IMPORTED.items()}
    assert "models/joined.py" in code_hash.closure(renamed)
    assert code_hash.numerics(renamed) == provenance.code_version()


# In every Python, and whatever else lies around.

def pythons():
    found = {shutil.which(f"python3.{minor}") for minor in range(10, 20)} | set(
        map(str, Path("~/.pyenv/versions").expanduser().glob("3.1*/bin/python")))
    return sorted(filter(None, found))


def test_every_python_has_the_same():
    assert digest(SAMPLE) == SAMPLE_HASH
    wanted, seen = f"{provenance.code_version()} {provenance.library_version()} {SAMPLE_HASH}", set()
    script = ("import sys; from paperlib.system import code_hash, provenance as p; print(p.code_version(), "
              "p.library_version(), code_hash.whole({'module.py': sys.stdin.buffer.read()}), sys.version_info[1])")
    for python in pythons():
        done = subprocess.run([python, "-c", script], input=SAMPLE, capture_output=True, cwd=ROOT)
        if done.returncode != 127:      # pyenv has a name for it and no Python
            *found, minor = done.stdout.decode().split() or [""]
            assert " ".join(found) == wanted, (python, done.stderr)
            seen.add(minor)
    if seen <= {str(sys.version_info[1])}:
        pytest.skip("no other Python is installed")


@pytest.mark.parametrize("old, new", [
    (b"a {x", b"b {x"), (b">{width}", b"<{width}"), (b"n}{x = }", b"n}{x}"), (b"!r", b"!s"), (b"2_000", b"2001"),
    (b"@functools.cache\n", b""), (b"n := ", b"m := "), (b"2.50", b"2.51"), (b"*_", b"*_a"), (b"/, ", b""),
    (b'"a"', b"'b'"), (b"\\u20ac", b"\\u20ab"), (b"::2", b"::1"), (b"too many", b"much")])
def test_what_a_syntax_tree_tells(old, new):
    assert SAMPLE.count(old) == 1 and digest(SAMPLE.replace(old, new)) != SAMPLE_HASH


@pytest.mark.parametrize("old, new", [
    (b"\n", b"\r\n"), (b"2_000", b"2000"), (b"2.50", b"2.5"), (b'"a"', b"'a'"), (b'"\\u20ac"', '"€"'.encode()),
    (b'"""Say something."""', b'"""Say."""  # a comment'), (b"import functools\n", b""), (b'"Grid"', b'"Grid", "text"'),
    (b'is " "too', b'is to" f"o'), (b'" "b" f"', b"b"), (b'f"a {x', b'"" f"a {x')])
def test_what_it_does_not_look_at(old, new):
    assert digest(SAMPLE.replace(old, new)) == SAMPLE_HASH


def test_files_that_are_no_modules(tmp_path):
    copy = tmp_path / "paperlib"
    shutil.copytree(ROOT / "paperlib", copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = code_hash.read(copy)
    assert before == provenance.IMPORTED
    for name in (".ipynb_checkpoints/duq-checkpoint.py", "quantizers/.ipynb_checkpoints/duq-checkpoint.py",
                 "quantizers/duq.py~", "quantizers/#duq.py#", "quantizers/#duq.py", "quantizers/duq copy.py",
                 "quantizers/__pycache__/duq.cpython-311.pyc", "quantizers/notes.txt"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text("def (")
    (copy / "quantizers" / ".#duq.py").symlink_to("someone@host.1234:1")
    (copy / "folder.py").mkdir()
    (copy / "nowhere.py").symlink_to("nothing")
    os.mkfifo(copy / "pipe.py")
    assert code_hash.read(copy) == before
    (copy / "quantizers" / "backup.py").write_text("def (")
    (copy / "quantizers" / "latin.py").write_bytes(b"x = '\xe9'")
    (copy / "quantizers" / "deep.py").write_text("-" * 100_000 + "1")
    assert code_hash.numerics(code_hash.read(copy)) == provenance.code_version()
    assert code_hash.whole(code_hash.read(copy)) == provenance.library_version()
    (copy / "quantizers" / "latin.c").write_bytes(b"int \xe9;")      # no module is called so
    assert code_hash.numerics(code_hash.read(copy)) == provenance.code_version()
    code_hash.whole(code_hash.read(copy))


# Edits under a running process.

def test_edits_after_the_import_are_refused(monkeypatch):
    provenance.demand_unchanged(code_hash.numerics)
    edited = library(**{"training/losses.py": "\nNUMBER = 1\n"})
    monkeypatch.setattr(code_hash, "read", lambda folder: edited)
    for version in (code_hash.numerics, code_hash.whole):
        with pytest.raises(InputError, match=r"changed .*: training/losses.py\): restart the kernel"):
            provenance.demand_unchanged(version)
    monkeypatch.setattr(code_hash, "read", lambda folder: library(**{"plots/style.py": "\nNUMBER = 1\n"}))
    provenance.demand_unchanged(code_hash.numerics)      # drawing may change while something trains
