"""The training loop of one phase.  It knows batches, losses and learning rates, and nothing of any paper."""
from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .. import models
from ..batches import Batches
from ..errors import InputError
from ..quantizers import Quantizer
from .losses import distillation
from .phases import Phase


def begin(net: nn.Module, phase: Phase, x: torch.Tensor) -> nn.Module:
    """The network that ``phase`` starts with: quantized by its scheme, new ranges set from the images ``x``."""
    return net if phase.scheme is None else models.calibrate(models.quantize(net, phase.scheme), x)


def parameter_groups(net: nn.Module, phase: Phase) -> list[dict]:
    """Weights with decay, biases and batch norm without; quantizers at their own rate."""
    groups: dict[tuple[float, bool], list] = {}
    for module in net.modules():
        for parameter in module.parameters(recurse=False):
            if isinstance(module, Quantizer):
                key = (phase.quantizer_lr, module.weight_decay)
            else:
                key = (1.0, parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [{"params": parameters, "lr": phase.lr * scale, "weight_decay": phase.weight_decay if decay else 0.0}
            for (scale, decay), parameters in groups.items()]


@torch.no_grad()
def evaluate(net: nn.Module, batches: Batches) -> dict[str, float]:
    """Mean cross-entropy ("loss") and top-1 accuracy in percent over all images, in evaluation mode."""
    was_training = net.training
    net.eval()
    loss = correct = images = 0
    for x, y in batches.epoch():
        logits = net(x)
        loss += F.cross_entropy(logits, y, reduction="sum").item()
        correct += (logits.argmax(1) == y).sum().item()
        images += len(y)
    net.train(was_training)
    return {"loss": loss / images, "accuracy": 100 * correct / images}


class Trainer:
    """One phase on one network: ``run()`` trains from wherever ``state`` says, one epoch after another.

    ``history`` is a list of rows (epoch, step, split, metric, value); splits are "train" (running mean over the
    epoch, augmented, dropout on), "val" and, after the last epoch, "val_ema" (the moving average of the weights).
    Epoch 0 is the network before any step.  ``seed`` and the epoch's number, counted from ``first_epoch``, fix dropout
    and the order of the data, so that an epoch does not depend on how the ones before it were reached.
    """

    def __init__(self, net: nn.Module, phase: Phase, train: Batches, test: Batches, *, seed: int,
                 first_epoch: int = 0, teacher: nn.Module | None = None):
        self.net, self.phase, self.train_batches, self.test_batches = net, phase, train, test
        self.teacher = None if teacher is None else teacher.eval().requires_grad_(False)
        self.seed, self.first_epoch, self.epoch, self.history, self.seconds = seed, first_epoch, 0, [], 0.0
        weight = phase.averaging_weight(len(train))
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = weight if phase.bn_momentum is None else phase.bn_momentum
        self.ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(1 - weight), use_buffers=True)
        self.optimizer = torch.optim.SGD(parameter_groups(net, phase), momentum=phase.momentum, nesterov=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: phase.lr_factor(step / len(train)))

    def state(self) -> dict:
        """Everything that :meth:`load` needs to go on as if nothing had happened."""
        return {"net": self.net.state_dict(), "ema": self.ema.state_dict(), "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(), "epoch": self.epoch, "history": self.history,
                "seconds": self.seconds}

    def load(self, state: dict) -> None:
        for name in ("net", "ema", "optimizer", "schedule"):
            getattr(self, name).load_state_dict(state[name])
        self.epoch, self.history, self.seconds = state["epoch"], list(state["history"]), state["seconds"]

    def run(self, *, save: Callable[[dict], None] = lambda state: None,
            report: Callable[..., None] = lambda **event: None) -> None:
        """Train the epochs that are left; ``save`` gets the state after each, ``report`` numbers to show."""
        if self.epoch == 0 and not self.history:
            self._record("val", evaluate(self.net, self.test_batches))
        while self.epoch < self.phase.epochs:
            start = time.perf_counter()
            torch.manual_seed(self.seed * 100_003 + self.first_epoch + self.epoch)      # for dropout
            train = self._train_epoch(report)
            self.seconds += time.perf_counter() - start
            self.epoch += 1
            self._record("train", train)
            val = evaluate(self.net, self.test_batches)
            if not math.isfinite(val["loss"]):
                raise self._diverged(val["loss"], f"after epoch {self.epoch}", self.epoch - 1)
            self._record("val", val)
            if self.epoch == self.phase.epochs:
                self._record("val_ema", evaluate(self.ema, self.test_batches))
            save(self.state())

    def _diverged(self, loss: float, when: str, good: int) -> InputError:
        kept = f"the state after epoch {good} is kept" if good else "nothing of this phase is kept"
        return InputError(f"the loss became {loss} {when} of phase {self.phase.name!r}: lower the learning rate "
                          f"({self.phase.lr:g}); {kept}")

    def _record(self, split: str, metrics: dict[str, float]) -> None:
        step = self.epoch * len(self.train_batches)
        self.history += [[self.epoch, step, split, metric, value] for metric, value in metrics.items()]

    def _train_epoch(self, report) -> dict[str, float]:
        self.net.train()
        batches, start = len(self.train_batches), time.perf_counter()
        loss_sum = correct = images = 0
        for i, (x, y) in enumerate(self.train_batches.epoch(self.first_epoch + self.epoch)):
            logits = self.net(x)
            label_loss = F.cross_entropy(logits, y)
            loss = label_loss
            if self.teacher is not None:
                with torch.no_grad():
                    target = self.teacher(x)
                loss = loss + distillation(logits, target)
            if not math.isfinite(loss.item()):
                raise self._diverged(loss.item(), f"in epoch {self.epoch + 1}, step {i + 1}", self.epoch)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            self.ema.update_parameters(self.net)
            loss_sum += label_loss.detach() * len(y)
            correct += (logits.detach().argmax(1) == y).sum()
            images += len(y)
            report(epoch=self.epoch + 1, batch=i + 1, batches=batches, loss=loss_sum.item() / images,
                   accuracy=100 * correct.item() / images, images_per_s=images / (time.perf_counter() - start))
        return {"loss": loss_sum.item() / images, "accuracy": 100 * correct.item() / images}
