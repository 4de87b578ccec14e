"""C sources, built by the machine's own compiler at first use and kept in the user's cache folder.

A library is code that runs here, and a damaged one crashes the process that loads it.  So the folder must be the
user's own, where nobody else can write; a file is named by what it was made from and for, and by its own SHA-256, and
what isn't intact is built anew.
"""
from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock

PATIENCE = 60       # seconds for the compiler, and for another process that builds the same
# no -ffast-math: infinities and NaN go through as they do in torch.  OpenMP is the one that torch has loaded.
FLAGS = ["-O3", "-march=native", "-fopenmp", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros",
         "-fassociative-math", "-ffp-contract=off"]
CPU = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU implementer", "CPU part")    # in /proc/cpuinfo


class Unavailable(Exception):
    """There is no library here; the message says why, and what to do about it."""


def load(source: Path, functions: Iterable[str]) -> ctypes.CDLL:
    """The library of this C source, with these functions, built if need be.  Unavailable where that can't be."""
    if os.environ.get("PAPERLIB_C") == "0":
        raise Unavailable("PAPERLIB_C=0 in the environment")
    if os.name != "posix":
        raise Unavailable(f"{platform.system()} is not supported")
    compiler, folder = _compiler(), _folder()
    lock = FileLock(folder / ".lock")
    made_from = [source.read_text(encoding="utf-8"), _machine(), *compiler, *FLAGS]
    key = hashlib.sha256("\0".join(made_from).encode()).hexdigest()[:16]
    try:
        file = _intact(folder, key)
        if file is None:
            with contextlib.suppress(OSError, NotImplementedError):     # without a lock both build, which does no harm
                lock.acquire(timeout=PATIENCE)
            file = _intact(folder, key) or _build(source, compiler, folder, key)
        library = ctypes.CDLL(str(file))
    except OSError as error:
        raise Unavailable(f"{error.strerror or error}, in {folder}: set XDG_CACHE_HOME to a folder of your own from "
                          "which programs may be run") from error
    finally:
        lock.release()
    missing = [name for name in functions if not hasattr(library, name)]
    if missing:
        raise Unavailable(f"what {shlex.join(compiler)} has made lacks {missing[0]}: set CC to another C compiler")
    return library


def _compiler() -> list[str]:
    """The command in CC, which may have options, or cc."""
    try:
        command = shlex.split(os.environ.get("CC", "")) or ["cc"]
    except ValueError as error:
        raise Unavailable(f"CC={os.environ['CC']} is no command ({error}): write it as in a shell") from error
    program = shutil.which(command[0])
    if program is None:
        raise Unavailable(f"there is no C compiler {command[0]!r}: install one, or set CC to it")
    return [program, *command[1:]]


def _folder() -> Path:
    """The folder of libraries, made if need be.  An XDG_CACHE_HOME that isn't absolute counts for nothing."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "paperlib", "kernels")
    cure = "set XDG_CACHE_HOME to a folder of your own"
    if not folder.is_absolute():
        raise Unavailable(f"nobody knows the home folder: {cure}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        theirs = not _ours(folder, stat.S_ISDIR)
    except OSError as error:
        raise Unavailable(f"cannot keep anything in {folder} ({error.strerror}): {cure}") from error
    if theirs:
        raise Unavailable(f"{folder} is somebody else's, or others can write in it: {cure}")
    return folder


def _ours(path: Path, kind) -> bool:
    """Whether this is of that kind, no link, the user's own, and others cannot write to it."""
    found = path.lstat()
    return kind(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _machine() -> str:
    """What a library that uses all of a processor depends on, since machines may share a home folder."""
    facts = [platform.system(), platform.machine(), platform.processor(), *platform.libc_ver()]
    with contextlib.suppress(OSError):
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
        facts += [line for line in first.splitlines() if line.startswith(CPU)]
    return "\n".join(facts)


def _intact(folder: Path, key: str) -> Path | None:
    for file in folder.glob(f"{key}-*.so"):
        with contextlib.suppress(OSError):
            if _ours(file, stat.S_ISREG) and file.name == _name(key, file.read_bytes()):
                return file
    return None


def _name(key: str, library: bytes) -> str:
    return f"{key}-{hashlib.sha256(library).hexdigest()}.so"


def _build(source: Path, compiler: list[str], folder: Path, key: str) -> Path:
    for damaged in folder.glob(f"{key}-*.so"):
        damaged.unlink()
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as work:
        parts, library = Path(work, "parts.o"), Path(work, "library.so")
        # not linked against OpenMP: a second copy of it would fight with torch's for the cores
        _run([*compiler, *FLAGS, "-c", str(source), "-o", str(parts)])
        _run([*compiler, "-shared", str(parts), "-o", str(library)])
        if not library.is_file():
            raise Unavailable(f"{shlex.join(compiler)} makes no library: set CC to another C compiler")
        library.chmod(0o700)
        file = folder / _name(key, library.read_bytes())
        os.replace(library, file)
    return file


def _run(command: list[str]) -> None:
    """Run a compiler, and end it with all that it has started when it takes too long."""
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **quiet, start_new_session=True, text=True, errors="replace") as process:
        try:
            said = process.communicate(timeout=PATIENCE)[1]
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise Unavailable(f"{command[0]} took more than {PATIENCE} seconds: run again on a machine with less "
                                  "to do, or set CC to another C compiler") from error
            raise
    if process.returncode:
        last = ([line for line in said.splitlines() if "error" in line] or said.splitlines() or ["no word"])[0]
        raise Unavailable(f"{command[0]} failed ({last.strip()[:120]}): set CC to another C compiler")
