"""A phase: one stretch of training with one optimizer and one learning-rate schedule, as plain data."""
from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import InputError
from ..models import Scheme


@dataclass(frozen=True)
class Phase:
    """What happens between two changes of the network.

    ``scheme``: the quantization that the phase starts with (None: the float network).  ``teacher``: name of an
    earlier phase whose network, as that phase left it, teaches this one (None: labels only).  ``warmup_epochs``
    may be fractional.  ``per_epoch``: the learning rate changes once an epoch, as in PROFIT's code, not every step.

    ``averaging_epochs`` is the horizon of both moving averages, the weights' EMA and batch norm's statistics, in
    epochs.  PROFIT's constants, EMA 0.9997 and BN momentum 3e-4 at 5 005 steps an epoch, are two thirds of an epoch
    each; stated so, they carry over to a data set of any size.  ``bn_momentum`` overrides it for batch norm.
    ``quantizer_lr`` is the learning rate of the quantizers' parameters relative to ``lr``.
    """

    name: str
    epochs: int
    lr: float
    scheme: Scheme | None = None
    weight_decay: float = 4e-5
    momentum: float = 0.9
    warmup_epochs: float = 3
    per_epoch: bool = False
    averaging_epochs: float = 2 / 3
    bn_momentum: float | None = None
    quantizer_lr: float = 0.01
    teacher: str | None = None

    def __post_init__(self):
        if self.epochs < 1:
            raise InputError(f"phase {self.name!r} has {self.epochs} epochs: give it at least 1, or leave it out")
        for name in ("lr", "weight_decay", "momentum", "warmup_epochs", "averaging_epochs", "quantizer_lr"):
            object.__setattr__(self, name, float(getattr(self, name)))      # 1 and 1.0 are the same phase

    def lr_factor(self, epoch: float) -> float:
        """Learning rate at a (fractional) epoch as a share of ``lr``.

        Warm-up rises linearly from 0.1 (0.1, 0.4, 0.7 at the starts of three epochs), then a cosine falls from 1 to
        1e-3 at the end of the phase.
        """
        if self.per_epoch:
            epoch = math.floor(epoch)
        if epoch < self.warmup_epochs:
            return 0.1 + 0.9 * epoch / self.warmup_epochs
        done = (epoch - self.warmup_epochs) / max(self.epochs - self.warmup_epochs, 1e-9)
        return 1e-3 + (1 - 1e-3) * (1 + math.cos(math.pi * min(done, 1.0))) / 2

    def averaging_weight(self, steps_per_epoch: int) -> float:
        """The weight of one step in a moving average over ``averaging_epochs``."""
        return min(1.0, 1 / (self.averaging_epochs * steps_per_epoch))
