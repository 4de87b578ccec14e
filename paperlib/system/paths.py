"""Where things live, and how a file is written so that a half-written one is never seen."""

import ctypes
import errno
import os
import re
import secrets
import shutil
import stat
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import InputError

ROOT = Path(__file__).resolve().parents[2]
IN_CLONE = (ROOT / "pyproject.toml").exists()       # not so where pip has installed a wheel

# Failures of the disk or of its permissions; any other OSError inside `atomic` is the caller's own.
_DISK = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EISDIR}
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link", stat.S_IFIFO: "pipe",
          stat.S_IFSOCK: "socket"}
PATIENCE = 2        # seconds of silence while another process has a folder
FOLDERS = ("PAPERLIB_DATA", "PAPERLIB_RUNS", "PAPERLIB_FIGURES", "PAPERLIB_IMAGENETTE", "PAPERLIB_IMAGENET")


def environment() -> dict[str, str]:
    """The environment for a process of ours in another folder: this clone's library first, folders named in full."""
    named = {name: str(named_folder(name, Path)) for name in FOLDERS if os.environ.get(name)}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, **named, "PYTHONPATH": path}


def named_folder(variable, default) -> Path:
    """The folder named by an environment variable, or `default()` where it is unset or empty.

    InputError for the home of nobody, and where the system does not let us look.
    """
    named = os.environ.get(variable) or default()
    try:
        folder = Path(named).expanduser().absolute()
        folder.exists()
    except (RuntimeError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{variable}={str(named)[:200]} is nowhere ({reason}): set it to a folder") from error
    return folder


def shipped(path: Path) -> Path:
    """`path`, which the repository brings along. InputError if it is not there."""
    place = Path(os.path.relpath(path, ROOT)).as_posix()
    if not IN_CLONE:
        raise InputError(f"paperlib is installed without its repository, which holds {place}: work in a clone of it "
                         "(README), or set PAPERLIB_DATA, PAPERLIB_RUNS and PAPERLIB_FIGURES for what is yours")
    if not path.exists():
        raise InputError(f"{path} is missing: `git checkout -- {place}` brings it back")
    return path


def data_dir() -> Path:
    """Folder of downloaded and user-supplied data; PAPERLIB_DATA moves it."""
    return named_folder("PAPERLIB_DATA", lambda: shipped(ROOT / "data"))


def runs_dir() -> Path:
    """Folder of checkpoints and logs, `data_dir()/runs`; PAPERLIB_RUNS moves it. Not created here."""
    return named_folder("PAPERLIB_RUNS", lambda: data_dir() / "runs")


def recorded_dir() -> Path:
    """Folder of the recorded results that come with the repository; nothing moves it."""
    return shipped(ROOT / "data") / "recorded"


def confirmations_dir() -> Path:
    """Folder of what other machines found, which comes with the repository; nothing moves it."""
    return shipped(ROOT / "data") / "confirmations"


def pretrained_dir() -> Path:
    """Folder of the float networks that come with the repository; nothing moves it."""
    return shipped(ROOT / "data") / "pretrained"


def figures_dir(profile: str) -> Path:
    """Folder of one profile's figures; PAPERLIB_FIGURES replaces `ROOT/figures`. Not created here."""
    return named_folder("PAPERLIB_FIGURES", lambda: shipped(ROOT / "notebooks").with_name("figures")) / profile


def opened(path):
    """Open the file at `path` for its bytes; OSError, too, for a pipe or a device, which may never end."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return open(path, "rb")


def plain_name(name: str, of: str) -> str:
    """``name``, if it can name a file or folder here and nothing elsewhere; InputError, of what it names, otherwise."""
    if not re.fullmatch(r"\w[\w.+-]{,199}", name):
        raise InputError(f"{name!r} cannot be the name of {of}: use letters, digits, '.', '_', '+' and '-', no folders")
    return name


def unwritable(folder, error) -> InputError:
    """The InputError for an error met in `folder`; it names the variable that moves that folder."""
    folder = Path(folder).absolute()
    cure = "make room there and make it writable"
    movable = {"PAPERLIB_RUNS": runs_dir, "PAPERLIB_FIGURES": lambda: figures_dir(""), "PAPERLIB_DATA": data_dir}
    for variable, base in movable.items():
        with suppress(InputError):
            if folder.is_relative_to(base()) and not folder.is_relative_to(ROOT / "data" / "recorded"):
                cure += f", or set {variable} to another folder"
                break
    return InputError(f"cannot write in {folder} ({getattr(error, 'strerror', None) or error}); {cure}")


@contextmanager
def _beside(path, kind):
    """Yield a free temporary name beside `path`, and clear away what is left under it.

    The name is hidden, begins with a digit, differs in every call, even where process ids repeat, and keeps the
    suffix (np.save and savefig choose by it). InputError if something else than a `kind` ("file", "folder") is at
    `path`, if the folder, which is made, cannot be written or the disk fails.
    """
    with suppress(OSError):
        found = stat.S_IFMT(os.lstat(path).st_mode)
        if found != {"file": stat.S_IFREG, "folder": stat.S_IFDIR}[kind]:
            raise InputError(f"{path} is a {_KINDS.get(found, 'device')}, which is left as it is: name a {kind} or "
                             "something new")
    temp = path.with_name(f".{os.getpid()}-{secrets.token_hex(6)}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temp.touch(exist_ok=False)  # some writers report an unwritable folder in their own, unclear way
        temp.unlink()
    except OSError as error:
        raise unwritable(path.parent, error) from error
    try:
        yield temp
    except OSError as error:
        if error.errno in _DISK and (error.filename is None or str(error.filename).startswith(str(temp))):
            raise unwritable(path.parent, error) from error
        raise
    finally:
        _remove(temp)


@contextmanager
def atomic(path):
    """Yield a temporary path beside `path`; what the body writes there appears at `path` whole or not at all.

    InputError where `path` is no file, its folder cannot be written or the disk fails.
    """
    path = Path(path).absolute()
    with _beside(path, "file") as temp:
        yield temp
        _flush(temp)
        os.replace(temp, path)


@contextmanager
def atomic_folder(path):
    """The same for a folder, which the body fills and which takes the place of the one at `path`, if any.

    Where the system can exchange two folders in one step (Linux, macOS), one of the two is at `path` at any moment.
    """
    path = Path(path).absolute()
    with _beside(path, "folder") as temp:
        temp.mkdir()
        yield temp
        for file in temp.iterdir():
            _flush(file)
        if not path.exists():
            os.rename(temp, path)
        elif not _exchange(temp, path):
            aside = temp.with_name(f"{temp.name}.old")
            os.rename(path, aside)
            os.rename(temp, path)
            os.rename(aside, temp)


@contextmanager
def alone(folder: Path, waiting=lambda: None):
    """Make `folder` and keep it from other processes that ask like this, without what killed ones were writing there.

    `waiting` is called where another process has it for longer. InputError if it cannot be written.
    """
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            waiting()
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise unwritable(folder, error) from error
    try:
        for stray in folder.glob(".[0-9]*"):
            _remove(stray)
        yield
    finally:
        lock.release()


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _flush(file):
    with open(file, "rb+") as opened:
        os.fsync(opened.fileno())


def _exchange(one, other):
    """Whether the system let two folders change places, as one step."""
    one, other = os.fsencode(one), os.fsencode(other)
    try:
        libc = ctypes.CDLL(None)
        if sys.platform == "darwin":
            return libc.renamex_np(one, other, 2) == 0
        return libc.renameat2(-100, one, -100, other, 2) == 0
    except (AttributeError, TypeError):     # a system that has neither
        return False
