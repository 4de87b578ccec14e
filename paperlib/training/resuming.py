"""Going on with a phase from its last state: only from one that its training can have left."""
from __future__ import annotations

import math
from pathlib import Path

from . import checkpoint
from .engine import Trainer
from .history import check_history


def resume(trainer: Trainer, file: Path) -> None:
    """Let ``trainer`` go on from the state in ``file``.  InputError, with the cure, if it is not of this phase."""
    state = checkpoint.load(file, keys=tuple(trainer.state()))
    try:
        _check(state, trainer)
        trainer.load(state)
    except checkpoint.ERRORS as error:
        raise checkpoint.damaged(file, error) from error


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
