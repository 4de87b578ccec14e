"""Where things live, and how a file is written so that a half-written one is never seen."""

import errno
import os
from contextlib import contextmanager
from pathlib import Path

from paperlib.errors import InputError

ROOT = Path(__file__).resolve().parent.parent

# Failures of the disk or of its permissions; any other OSError inside `atomic` is the caller's own.
_DISK = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO,
         errno.EISDIR}


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
