"""Saving and loading state, so that a file is either whole or not there, and nothing executes on load."""
from __future__ import annotations

import pickle
from pathlib import Path

import torch

from ..errors import InputError
from ..paths import atomic


def save(state: dict, path: Path) -> None:
    """Write ``state`` (tensors, numbers, strings, lists, dicts) to ``path`` atomically."""
    with atomic(path) as temp:
        torch.save(state, temp)


def load(path: Path) -> dict:
    """Read what :func:`save` wrote, onto the CPU.  InputError if the file is damaged."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"{path} is damaged ({str(error).splitlines()[0][:80]}): delete the folder {path.parent} "
                         "and run the same command again; only this phase is trained anew") from error
