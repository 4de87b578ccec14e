"""Where things live, and how a file is written so that a half-written one is never seen."""

import errno
import os
import re
from contextlib import contextmanager
from pathlib import Path

from paperlib.errors import InputError

ROOT = Path(__file__).resolve().parent.parent

# Failures of the disk or of its permissions; any other OSError inside `atomic` is the caller's own.
_DISK = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO,
         errno.EISDIR}


FOLDERS = ("PAPERLIB_DATA", "PAPERLIB_RUNS", "PAPERLIB_FIGURES", "PAPERLIB_IMAGENETTE", "PAPERLIB_IMAGENET")


def environment() -> dict[str, str]:
    """The environment for a process of ours that starts in another folder: this clone's library comes first, and
    folders that were named from here are named in full."""
    named = {name: str(Path(os.environ[name]).expanduser().absolute()) for name in FOLDERS if os.environ.get(name)}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, **named, "PYTHONPATH": path}


def _folder(variable, default):
    """The folder named by an environment variable, or `default` where it is unset or empty."""
    return Path(os.environ.get(variable) or default).expanduser().absolute()


def data_dir() -> Path:
    """Folder of downloaded and user-supplied data; PAPERLIB_DATA moves it. Not created here."""
    return _folder("PAPERLIB_DATA", ROOT / "data")


def runs_dir() -> Path:
    """Folder of checkpoints and logs, `data_dir()/runs`; PAPERLIB_RUNS moves it. Not created here."""
    return _folder("PAPERLIB_RUNS", data_dir() / "runs")


def recorded_dir() -> Path:
    """Folder of the recorded results that come with the repository; nothing moves it."""
    return ROOT / "data" / "recorded"


def figures_dir(profile: str) -> Path:
    """Folder of one profile's figures; PAPERLIB_FIGURES replaces `ROOT/figures`. Not created here."""
    return _folder("PAPERLIB_FIGURES", ROOT / "figures") / profile


def plain_name(name: str, of: str) -> str:
    """``name``, if it can name a file or folder and nothing outside the one that it lies in; ``of``: what it names, for
    the InputError otherwise."""
    if not re.fullmatch(r"\w[\w.+-]{,199}", name):
        raise InputError(f"{name!r} cannot be the name of {of}: use letters, digits, '.', '_', '+' and '-', no folders")
    return name


def unwritable(folder, error) -> InputError:
    """The InputError for an error met in `folder`; it names the variable that moves that folder."""
    folder = Path(folder).absolute()
    cure = "make room there and make it writable"
    movable = {"PAPERLIB_RUNS": runs_dir(), "PAPERLIB_FIGURES": figures_dir(""), "PAPERLIB_DATA": data_dir()}
    if not folder.is_relative_to(recorded_dir()):
        for variable, base in movable.items():
            if folder.is_relative_to(base):
                cure += f", or set {variable} to another folder"
                break
    return InputError(f"cannot write in {folder} ({getattr(error, 'strerror', None) or error}); {cure}")


@contextmanager
def atomic(path):
    """Yield a temporary path beside `path`; what the body writes there appears at `path` whole or not at all.

    The temporary name is hidden, holds the process id and keeps the suffix (np.save and savefig choose
    by it). On success the file is fsynced and moved over `path`; on any exception it is removed. The
    parent folder is made. Raises InputError if the folder cannot be written or the disk fails.
    """
    path = Path(path).absolute()
    temp = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temp.touch()  # some writers report an unwritable folder in their own, unclear way
        temp.unlink()
    except OSError as error:
        raise unwritable(path.parent, error) from error
    try:
        yield temp
        with open(temp, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temp, path)
    except OSError as error:
        if error.errno in _DISK and error.filename in (None, str(temp)):
            raise unwritable(path.parent, error) from error
        raise
    finally:
        temp.unlink(missing_ok=True)
