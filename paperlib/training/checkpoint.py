"""Saving and loading state, so that a file is either whole or not there, and nothing executes on load."""
from __future__ import annotations

import hashlib
import io
import math
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..errors import InputError, brief
from ..system.paths import atomic, opened
from .history import check_history

if TYPE_CHECKING:
    from .engine import Trainer

MARK = b"SHA-256:"      # of all before it; with 32 bytes of digest the last thing in a file
ERRORS = (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError,
          IndexError)


def save(state: dict, path: Path) -> None:
    """Write ``state`` (tensors, numbers, strings, lists, dicts) to ``path`` atomically; InputError on a full disk."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.write(MARK + hashlib.sha256(buffer.getbuffer()).digest())
    with atomic(path) as temp:
        temp.write_bytes(buffer.getbuffer())        # torch itself would report a full disk in its own, unclear way


def load(path: Path, *, keys: tuple[str, ...] = ()) -> dict:
    """Read what :func:`save` wrote, onto the CPU.  InputError if a single bit differs or one of ``keys`` is lacking."""
    try:
        with opened(path) as file:
            content = file.read()       # torch does not look at checksums, and those of a zip file cover half of it
        end = len(content) - len(MARK) - 32
        if end < 0 or content[end:] != MARK + hashlib.sha256(memoryview(content)[:end]).digest():
            raise ValueError("its SHA-256 is not the one at its end")
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not set(keys) <= set(state):
            raise ValueError("it holds something else")
    except (FileNotFoundError, PermissionError):
        raise       # nothing is wrong with the file
    except ERRORS as error:
        raise damaged(path, error) from error
    return state


def resume(trainer: Trainer, file: Path) -> None:
    """Let ``trainer`` go on from the state in ``file``.  InputError, with the cure, if it is not of this phase."""
    state = load(file, keys=tuple(trainer.state()))
    try:
        _check(state, trainer)
        trainer.load(state)
    except ERRORS as error:
        raise damaged(file, error) from error


def _check(state: dict, trainer: Trainer) -> None:
    epoch, step, steps = state["epoch"], state["step"], len(trainer.train_batches)
    if type(epoch) is not int or not 0 <= epoch <= trainer.phase.epochs:
        raise ValueError(f"it says epoch {epoch!r} of {trainer.phase.epochs}")
    if type(step) is not int or not 0 <= step <= steps * (epoch < trainer.phase.epochs):
        raise ValueError(f"it says step {step!r} of {steps}")
    if state["schedule"]["last_epoch"] != epoch * steps + step:
        raise ValueError("its learning rate is that of another step")
    if state["history"] or epoch or step:       # none where the very first evaluation was interrupted
        check_history(state["history"], epoch, whole=epoch == trainer.phase.epochs)
    if not math.isfinite(state["seconds"]) or state["seconds"] < 0 or state["sums"].shape != (4,):
        raise ValueError("its sums are no sums")


def damaged(path: Path, error: Exception) -> InputError:
    """Make the InputError for a file that cannot be used, with the cure."""
    return InputError(f"{path} is damaged ({brief(error)}): {cure(path.parent)}")


def cure(folder: Path) -> str:
    """Say what mends a phase in the store."""
    return f"delete the folder {folder} and run the same command again; only this phase is trained anew"
