"""A phase: one stretch of training with one optimizer and one learning-rate schedule, as plain data."""
from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import InputError
from ..models import Scheme

ORDERS = ("aiwq", "reverse", "random")
TEACHER_LOSSES = ("cross_entropy", "mse")
PRETRAINED = "torchvision/"     # what the name of a teacher with torchvision's weights starts with


@dataclass(frozen=True)
class Freeze:
    """Which layers' weights and biases stand still during a phase, to the bit.

    ``share`` of all quantized layers: those first in ``order``, which is "aiwq" (largest first, PROFIT), "reverse" or
    "random", by what the earlier phase ``measured_in`` measured; 1.0 needs no order.  ``layers`` are frozen by name, in
    addition.  ``norms`` and ``quantizers`` say whether the batch norm behind a frozen layer and the layer's two
    quantizers go on training; in the paper both do.  A batch norm that does not train keeps its statistics as well.
    """

    share: float = 0.0
    order: str = "aiwq"
    measured_in: str | None = None
    layers: tuple[str, ...] = ()
    norms: bool = True
    quantizers: bool = True

    def __post_init__(self):
        object.__setattr__(self, "share", float(self.share))
        object.__setattr__(self, "layers", tuple(self.layers))
        if not 0 <= self.share <= 1:
            raise InputError(f"the share of frozen layers must lie between 0 and 1, got {self.share}")
        if self.order not in ORDERS:
            raise InputError(f"unknown freezing order {self.order!r}: choose from {', '.join(ORDERS)}")
        if 0 < self.share < 1 and self.order != "random" and self.measured_in is None:
            raise InputError(f"freezing by {self.order} needs measured_in, the name of an earlier phase with "
                             "measure=True")


BN_ONLY = Freeze(1.0)     # all weights stand still; batch norms and quantizers train


@dataclass(frozen=True)
class Phase:
    """What happens between two changes of the network.

    ``scheme``: the quantization that the phase starts with (None: the float network).  No ``epochs`` at all means that
    the network is evaluated as it is.

    Learning rate: from 0.1 to 1 of ``lr`` in ``warmup_epochs`` (may be fractional), then a cosine to 1e-3 of it;
    with ``milestones`` instead to a tenth at each of these epochs. ``per_epoch``: it changes once an epoch, as in
    PROFIT's code, not every step. ``quantizer_lr`` is that of the quantizers' parameters relative to ``lr``,
    ``linear_lr`` that of fully connected layers.

    ``averaging_epochs`` is the horizon of both moving averages, the weights' EMA and batch norm's statistics, in
    epochs.  PROFIT's constants, EMA 0.9997 and BN momentum 3e-4 at 5 005 steps an epoch, are two thirds of an epoch
    each; stated so, they carry over to a data set of any size.  ``bn_momentum`` overrides it for batch norm.

    ``teacher``: the name of an earlier phase, whose network as that phase left it teaches this one, or
    "torchvision/resnet101" for one with torchvision's weights (None: labels only).  The loss is ``label_weight`` times
    the cross-entropy with the labels plus ``teacher_weight`` times ``teacher_loss``: "cross_entropy" with the teacher's
    softmax, or "mse" of the logits.

    ``freeze``: what does not train.  ``measure``: AIWQ is measured along the way; ``every_step`` keeps its history.
    ``track``: the quantizers' parameters are kept after each epoch, as rows of the history with split "quantizer".
    """

    name: str
    epochs: int
    lr: float
    scheme: Scheme | None = None
    weight_decay: float = 4e-5
    momentum: float = 0.9
    nesterov: bool = True
    warmup_epochs: float = 3
    milestones: tuple[float, ...] = ()
    per_epoch: bool = False
    averaging_epochs: float = 2 / 3
    bn_momentum: float | None = None
    quantizer_lr: float = 0.01
    linear_lr: float = 1.0
    teacher: str | None = None
    label_weight: float = 1.0
    teacher_weight: float = 1.0
    teacher_loss: str = "cross_entropy"
    freeze: Freeze | None = None
    measure: bool = False
    every_step: bool = False
    track: bool = False

    def __post_init__(self):
        if self.epochs < 0:
            raise InputError(f"phase {self.name!r} has {self.epochs} epochs: give it at least 0")
        if self.teacher_loss not in TEACHER_LOSSES:
            raise InputError(f"phase {self.name!r} has teacher_loss {self.teacher_loss!r}: choose from "
                             f"{', '.join(TEACHER_LOSSES)}")
        if self.measure and self.scheme is None:
            raise InputError(f"phase {self.name!r} is float: AIWQ is measured in quantized ones")
        if self.every_step and not self.measure:
            raise InputError(f"phase {self.name!r} keeps every step of what it does not measure: give it measure=True")
        for name in ("lr", "weight_decay", "momentum", "warmup_epochs", "averaging_epochs", "quantizer_lr",
                     "linear_lr", "label_weight", "teacher_weight"):
            object.__setattr__(self, name, float(getattr(self, name)))      # 1 and 1.0 are the same phase
        object.__setattr__(self, "milestones", tuple(float(m) for m in self.milestones))

    def lr_factor(self, epoch: float) -> float:
        """Learning rate at a (fractional) epoch as a share of ``lr``.

        Warm-up rises linearly from 0.1 (0.1, 0.4, 0.7 at the starts of three epochs), then a cosine falls from 1 to
        1e-3 at the end of the phase, or it falls to a tenth at each milestone.
        """
        if self.per_epoch:
            epoch = math.floor(epoch)
        if epoch < self.warmup_epochs:
            return 0.1 + 0.9 * epoch / self.warmup_epochs
        if self.milestones:
            return 0.1 ** sum(epoch >= m for m in self.milestones)
        done = (epoch - self.warmup_epochs) / max(self.epochs - self.warmup_epochs, 1e-9)
        return 1e-3 + (1 - 1e-3) * (1 + math.cos(math.pi * min(done, 1.0))) / 2

    def averaging_weight(self, steps_per_epoch: int) -> float:
        """The weight of one step in a moving average over ``averaging_epochs``."""
        return min(1.0, 1 / (self.averaging_epochs * steps_per_epoch))
