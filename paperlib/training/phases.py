"""A phase: one stretch of training with one optimizer and one learning-rate schedule, as plain data."""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import InputError
from ..models import Scheme
from ..system import kinds
from ..system.kinds import Above, Amount, Epochs, Momentum, Name, Share

Order = Literal["aiwq", "reverse", "random"]
ORDERS = get_args(Order)
# what the name of a teacher starts with that has torchvision's weights, or those of a folder in data/pretrained/
TORCHVISION, SHIPPED = "torchvision/", "pretrained/"


@dataclass(frozen=True)
class Freeze:
    """Which layers' weights and biases rest during a phase, to the bit.

    ``share`` of all quantized layers: those first in ``order``, which is "aiwq" (largest first, PROFIT), "reverse" or
    "random", by what the earlier phase ``measured_in`` measured; 1.0 needs no order.  ``layers`` are frozen by name, in
    addition.  ``norms`` and ``quantizers`` say whether the batch norm after a frozen layer and the layer's two
    quantizers go on training; in the paper both do.  A batch norm that does not train keeps its statistics as well.
    """

    share: Share = 0.0
    order: Order = "aiwq"
    measured_in: Name | None = None
    layers: tuple[Name, ...] = ()
    norms: bool = True
    quantizers: bool = True

    def __post_init__(self):
        kinds.settle(self)
        if 0 < self.share < 1 and self.order != "random" and self.measured_in is None:
            raise InputError(f"freezing by {self.order} needs measured_in, the name of an earlier phase with "
                             "measure=True")


@dataclass(frozen=True)
class Oscillations:
    """Single weights that jump to and fro between two levels are counted during a phase, and kept from it.

    ``dampening``: the final weight of a loss that pulls weights towards their levels (0: none).  ``freeze_above``: the
    frequencies of oscillation above which a weight is frozen, at the phase's beginning and at its end (none: weights
    are not frozen).  See :class:`paperlib.training.oscillations.OscillationTracker`.
    """

    dampening: Amount = 0.0
    freeze_above: tuple[Amount, ...] = ()

    def __post_init__(self):
        kinds.settle(self)
        if len(self.freeze_above) not in (0, 2):
            raise InputError("freeze_above are two frequencies, at the beginning and at the end, or none: got "
                             f"{len(self.freeze_above)}")


BN_ONLY = Freeze(1.0)     # all weights stand still; batch norms and quantizers train


@dataclass(frozen=True)
class Phase:
    """What happens between two changes of the network.

    ``scheme``: the quantization that the phase starts with (None: the float network).  No ``epochs`` at all means that
    the network is evaluated as it is.

    Learning rate: from 0.1 to 1 of ``lr`` in ``warmup_epochs`` (may be fractional), then a cosine to 1e-3 of it;
    with ``milestones`` instead to a tenth at each of these epochs. ``per_epoch``: it changes once an epoch, as in
    PROFIT's code, not every step. ``quantizer_lr`` is the rate of the quantizers' parameters relative to ``lr``,
    ``linear_lr`` the rate of fully connected layers, which their quantizers don't exceed: the gradient of a range is a
    sum over all weights, so that QIL's intervals may leap out of the weights of a wide layer.

    ``averaging_epochs`` is the horizon of both moving averages, the weights' EMA and batch norm's statistics, in
    epochs.  PROFIT's constants, EMA 0.9997 and BN momentum 3e-4 at 5 005 steps an epoch, are two thirds of an epoch
    each; stated so, they carry over to a data set of any size.  ``bn_momentum`` overrides it for batch norm.

    ``teacher``: the name of an earlier phase, whose network as that phase left it teaches this one, or
    "torchvision/resnet101" for one with torchvision's weights, or "pretrained/" and the name of a folder in
    data/pretrained/ (None: labels only).  The loss is ``label_weight`` times
    the cross-entropy with the labels plus ``teacher_weight`` times ``teacher_loss``: "cross_entropy" with the teacher's
    softmax, or "mse" of the logits.

    ``freeze``: what does not train.  ``measure``: AIWQ is measured along the way; ``every_step`` keeps its history.
    ``oscillations`` of single weights are counted, and stopped if it says so; what the phase just before counted
    goes on, if the levels are the same.
    ``track``: the quantizers' parameters are kept after each epoch, as rows of the history with split "quantizer".
    """

    name: Name
    epochs: Epochs
    lr: Amount
    scheme: Scheme | None = None
    weight_decay: Amount = 4e-5
    momentum: Momentum = 0.9
    nesterov: bool = True
    warmup_epochs: Amount = 3
    milestones: tuple[Amount, ...] = ()
    per_epoch: bool = False
    averaging_epochs: Above = 2 / 3
    bn_momentum: Share | None = None
    quantizer_lr: Amount = 0.01
    linear_lr: Amount = 1.0
    teacher: Name | None = None
    label_weight: Amount = 1.0
    teacher_weight: Amount = 1.0
    teacher_loss: Literal["cross_entropy", "mse"] = "cross_entropy"
    freeze: Freeze | None = None
    measure: bool = False
    every_step: bool = False
    track: bool = False
    oscillations: Oscillations | None = None

    def __post_init__(self):
        kinds.settle(self)
        if self.nesterov and not self.momentum:
            raise InputError(f"phase {self.name!r} has Nesterov's momentum of 0: give it some, or nesterov=False")
        if self.measure and self.scheme is None:
            raise InputError(f"phase {self.name!r} is float: AIWQ is measured in quantized ones")
        if self.oscillations is not None and self.scheme is None:
            raise InputError(f"phase {self.name!r} is float: the weights of quantized networks oscillate")
        if self.every_step and not self.measure:
            raise InputError(f"phase {self.name!r} keeps every step of what it does not measure: give it measure=True")

    def lr_factor(self, epoch: float) -> float:
        """Return the learning rate at a (fractional) epoch as a share of ``lr``.

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
        """Return the weight of one step in a moving average over ``averaging_epochs``."""
        return min(1.0, 1 / (self.averaging_epochs * steps_per_epoch))
