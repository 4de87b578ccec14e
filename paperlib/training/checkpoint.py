"""Saving and loading state, so that a file is either whole or not there, and nothing executes on load."""
from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import torch

from ..errors import InputError
from ..paths import atomic


def save(state: dict, path: Path) -> None:
    """Write ``state`` (tensors, numbers, strings, lists, dicts) to ``path`` atomically; InputError on a full disk."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with atomic(path) as temp:
        temp.write_bytes(buffer.getbuffer())        # torch itself would report a full disk in its own, unclear way


def load(path: Path, *, keys: tuple[str, ...] = ()) -> dict:
    """Read what :func:`save` wrote, onto the CPU.  InputError if the file is damaged or lacks one of ``keys``."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:       # torch does not look at the checksums
                raise ValueError("a checksum differs")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not set(keys) <= set(state):
            raise ValueError("it holds something else")
    except (FileNotFoundError, PermissionError):
        raise       # nothing is wrong with the file
    except (RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError, OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise InputError(f"{path} is damaged ({reason}): delete the folder {path.parent} and run the same command "
                         "again; only this phase is trained anew") from error
    return state
