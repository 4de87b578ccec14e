"""What the store of trained phases holds, as a table; what is damaged there is named and does not hide the rest."""
from __future__ import annotations

from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from ..errors import InputError
from ..system.paths import runs_dir
from ..training import checkpoint
from . import descriptions


def listing() -> pd.DataFrame:
    """All phases in the store, one row each: key, phase, status, seed, time, accuracy, size and so on.

    attrs["damaged"] says of each phase whose status is "damaged" what is wrong, and the cure.
    """
    rows, damaged = [], []
    folders = [folder for folder in runs_dir().glob("[!.]*") if folder.is_dir()]
    for folder in sorted(folders, key=lambda folder: folder.stat().st_mtime):
        row = {"phase run": folder.name, "status": "damaged"}
        try:
            row |= _row(folder)
        except InputError as error:
            damaged.append(str(error))
        rows.append(row)
    table = pd.DataFrame(rows)
    table.attrs["damaged"] = damaged
    return table


def _row(folder: Path) -> dict:
    try:
        names = {file.name for file in folder.iterdir()}
        size = sum(file.lstat().st_size for file in folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}): make it readable, or "
                         f"{checkpoint.cure(folder)}") from error
    done = "final.pt" in names
    row = {"status": "done" if done else "training" if _locked(folder) else "interrupted", "model": None, "phase": None,
           "after": None, "seed": "", "accuracy": None, "seconds": None, "images/s": None, "peak MB": None,
           "finished": None, "MB": round(size / 1e6, 1)}
    if "link.json" in names or done:
        told = descriptions.read(folder / "link.json", checkpoint.cure(folder))
        row |= {"model": told.recipe.model, "phase": told.recipe.phases[-1].name, "after": told.previous,
                "seed": told.recipe.seed, "accuracy": told.accuracy, "seconds": told.seconds,
                "images/s": told.images_per_s, "peak MB": told.peak_memory_mb, "finished": told.finished}
    return row


def _locked(folder: Path) -> bool:
    """Whether some process is at work there just now; where nobody can write, nobody is."""
    try:
        with FileLock(folder / ".lock", timeout=0):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return False
