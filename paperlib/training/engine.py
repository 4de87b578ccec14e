"""The training loop of one phase.  It knows batches, losses and learning rates, and nothing of any paper."""
from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .. import models
from ..errors import InputError
from ..quantizers import Quantizer
from ..system import distributed
from . import freezing
from .aiwq import Aiwq
from .collapse import collapsed
from .evaluation import ImageBatches, evaluate
from .interrupt import Stop, Stopped
from .losses import distillation
from .oscillations import OscillationTracker
from .phases import Phase

SAVE_EVERY = 900        # seconds between two saves within an epoch
TOO_MUCH = 3            # times the loss of guessing at which a training counts as diverged


class Diverged(InputError):
    """The loss is no number any more, or absurd."""


def begin(net: nn.Module, phase: Phase, x: Tensor, *, fast: bool = True) -> nn.Module:
    """Make the network that ``phase`` starts with: quantized by its scheme, new ranges set from the images ``x``.

    ``fast``: with the fused layers of ``models.fuse``, if they can be used on this device.
    """
    if phase.scheme is None:
        return net
    net = models.calibrate(models.quantize(net, phase.scheme), x, only_new=True)
    return models.fuse(net) if fast and not x.is_cuda else net


def parameter_groups(net: nn.Module, phase: Phase) -> list[dict]:
    """Weights with decay, biases and batch norm without; quantizers and fully connected layers at their own rates, a
    quantizer of such a layer at the lower of the two; nothing that is frozen."""
    linear = {module for layer in net.modules() if isinstance(layer, nn.Linear) for module in layer.modules()}
    groups: dict[tuple[float, bool], list] = {}
    for module in net.modules():
        for parameter in module.parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if isinstance(module, Quantizer):
                highest = phase.linear_lr if module in linear else math.inf
                key = (min(phase.quantizer_lr, highest), module.weight_decay)
            else:
                key = (phase.linear_lr if module in linear else 1.0, parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [{"params": parameters, "lr": phase.lr * scale, "weight_decay": phase.weight_decay if decay else 0.0}
            for (scale, decay), parameters in groups.items()]


def quantizer_parameters(net: nn.Module) -> dict[str, float]:
    """Collect {"<layer> <role> <parameter>": value}; where each channel has its own, their mean."""
    return {f"{name.rpartition('.')[0]} {module.role} {parameter}": value.detach().float().mean().item()
            for name, module in net.named_modules() if isinstance(module, Quantizer)
            for parameter, value in module.named_parameters()}


def _tensors_by_type(*nets: nn.Module) -> list[tuple[list[Tensor], ...]]:
    """Collect the parameters and buffers of networks of one architecture: for each dtype a list from each network."""
    groups: dict[torch.dtype, list] = {}
    for same in zip(*([*net.parameters(), *net.buffers()] for net in nets)):
        groups.setdefault(same[0].dtype, []).append(same)
    return [tuple(map(list, zip(*group))) for group in groups.values()]


class Trainer:
    """One phase on one network: ``run()`` trains from wherever ``state`` says, one epoch after another.

    ``history`` is a list of rows (epoch, step, split, metric, value); splits are "train" (running mean over the
    epoch, augmented, dropout on), "val" and, after the last epoch, "val_ema" (the moving average of the weights);
    "quantizer" has the parameters of :func:`quantizer_parameters`, if the phase tracks them; "collapsed" names, after
    the last epoch, the quantizers that have collapsed (collapse.py), each with the value 1.
    Epoch 0 is the network before any step.  ``seed`` and the epoch's number, counted from ``first_epoch``, fix dropout
    and the order of the data, so that an epoch does not depend on how the ones before it came about.

    ``frozen``: names of the layers that phase.freeze is about.  ``oscillations``: the state of the tracker of the phase
    before.  ``precision``: "float32", or "bfloat16" for autocast.  ``compiled``: with torch.compile, True or one of its
    modes (not where AIWQ is measured).  Under torchrun each process trains on its share of every batch, with gradients,
    batch norm, metrics and AIWQ over all of them.
    """

    def __init__(self, net: nn.Module, phase: Phase, train: ImageBatches, test: ImageBatches, *, seed: int,
                 first_epoch: int = 0, teacher: nn.Module | None = None, frozen: Sequence[str] = (),
                 oscillations: dict | None = None, precision: str = "float32", compiled: bool | str = False):
        self.net, self.phase, self.train_batches, self.test_batches = distributed.synchronized(net), phase, train, test
        self.teacher = None if teacher is None else teacher.eval().requires_grad_(False)
        self.seed, self.first_epoch, self.epoch, self.step, self.history = seed, first_epoch, 0, 0, []
        self.seconds, self.sums = 0.0, torch.zeros(4, dtype=torch.float64)
        self.device, self.precision = train.device, precision
        self.frozen_norms = [] if phase.freeze is None else freezing.apply(net, phase.freeze, frozen)
        weight = phase.averaging_weight(len(train))
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = weight if phase.bn_momentum is None else phase.bn_momentum
        self.ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(1 - weight), use_buffers=True)
        self.ema.n_averaged = self.ema.n_averaged.cpu()     # looked at in every step, which waits for a GPU
        self.averages = _tensors_by_type(self.ema.module, net)
        self.aiwq = Aiwq(net, history=phase.every_step) if phase.measure else None
        self.oscillations = OscillationTracker(net, phase.oscillations, oscillations) if phase.oscillations else None
        groups = parameter_groups(net, phase)
        if not groups and phase.epochs:
            raise InputError(f"in phase {phase.name!r} everything is frozen: leave something to train, or give the "
                             "phase no epochs")
        self.optimizer = torch.optim.SGD(groups or [{"params": [torch.zeros(1)], "lr": 0.0}], momentum=phase.momentum,
                                         nesterov=phase.nesterov, fused=self.device.type == "cpu" or None)
        if self.device.type == "cpu" and phase.momentum:    # the fused form wants it of each parameter
            for parameter in (p for group in self.optimizer.param_groups for p in group["params"]):
                self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: phase.lr_factor(step / len(train)))
        self.model = net
        if compiled and not phase.measure:
            self.model = torch.compile(net, mode=None if compiled is True else compiled)
        if distributed.world() > 1:
            self.model = nn.parallel.DistributedDataParallel(self.model)

    def state(self) -> dict:
        """Everything that :meth:`load` needs to go on as if nothing had happened."""
        return {"net": self.net.state_dict(), "ema": self.ema.state_dict(), "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(), "epoch": self.epoch, "step": self.step, "sums": self.sums,
                "history": self.history, "seconds": self.seconds,
                "aiwq": None if self.aiwq is None else self.aiwq.state(),
                "oscillations": None if self.oscillations is None else self.oscillations.state()}

    def load(self, state: dict) -> None:
        for name in ("net", "ema", "optimizer", "schedule"):
            getattr(self, name).load_state_dict(state[name])
        self.epoch, self.step, self.sums = state["epoch"], state["step"], state["sums"]
        self.history, self.seconds = list(state["history"]), state["seconds"]
        if self.aiwq is not None:
            self.aiwq.load(state["aiwq"])
        if self.oscillations is not None:
            self.oscillations.load(state["oscillations"])

    def run(self, *, save: Callable[[dict], None] = lambda state: None,
            report: Callable[..., None] = lambda **event: None) -> None:
        """Train what is left; ``report`` gets numbers to show, ``save`` the state after each epoch and now and then.

        On Ctrl-C or SIGTERM the step under way is finished and saved, then KeyboardInterrupt is raised.  InputError if
        the loss becomes NaN, infinite or absurd.
        """
        with Stop() as stop, self.aiwq or contextlib.nullcontext():
            try:
                if not self.history:
                    self.history = self._rows("val", evaluate(self.net, self.test_batches, stop)) + self._tracked()
                while self.epoch < self.phase.epochs:
                    self._train_epoch(report, save, stop)
                    self._finish_epoch(stop)
                    save(self.state())
                if not self.phase.epochs:
                    save(self.state())
                if distributed.total(torch.tensor(float(stop.requested), device=self.device)):
                    raise Stopped       # it came while the last epoch was evaluated or saved
            except Stopped:
                save(self.state())
                raise

    def _rows(self, split: str, metrics: dict[str, float]) -> list[list]:
        epoch = self.epoch + (self.step > 0)
        return [[epoch, epoch * len(self.train_batches), split, metric, value] for metric, value in metrics.items()]

    def _tracked(self) -> list[list]:
        return self._rows("quantizer", quantizer_parameters(self.net)) if self.phase.track else []

    def _collapsed(self) -> list[list]:
        if self.phase.scheme is None:
            return []
        images, _ = next(iter(self.test_batches.epoch()))
        return self._rows("collapsed", dict.fromkeys(collapsed(self.net, images), 1.0))

    def _check(self, loss: float, when: str, limit: float = math.inf) -> None:
        if math.isfinite(loss) and loss <= limit:
            return
        raise Diverged(
            f"the loss became {loss:.3g} {when} of phase {self.phase.name!r}: lower the learning rate "
            f"({self.phase.lr:g}); " + (f"the state after epoch {self.epoch} is kept" if self.epoch else
                                        "nothing of this phase is kept"))

    def _finish_epoch(self, stop: Stop) -> None:
        """Evaluate; the epoch counts once this is done."""
        label_loss, _, correct, images = self.sums.tolist()
        rows = self._rows("train", {"loss": label_loss / images, "accuracy": 100 * correct / images})
        val = evaluate(self.net, self.test_batches, stop)
        self._check(val["loss"], f"after epoch {self.epoch + 1}")
        rows += self._rows("val", val)
        if self.epoch + 1 == self.phase.epochs:
            rows += self._rows("val_ema", evaluate(self.ema, self.test_batches, stop)) + self._collapsed()
        self.history += rows + self._tracked()
        self.epoch, self.step, self.sums = self.epoch + 1, 0, torch.zeros_like(self.sums)

    def _train_epoch(self, report, save, stop: Stop) -> None:
        self.net.train()
        for norm in self.frozen_norms:
            norm.eval()
        batches, every = len(self.train_batches), 1 if self.device.type == "cpu" else 50     # looking stalls a GPU
        start = saved = time.perf_counter()
        images_before, seconds_before, pending = self.sums[3].item(), self.seconds, 0
        data = self.train_batches.epoch(self.first_epoch + self.epoch, self.step)
        for step, (x, y) in enumerate(data, self.step + 1):
            torch.manual_seed((((self.seed * 100_003 + self.first_epoch + self.epoch) * 1_000_003 + step) * 1009
                               + distributed.rank()) % 2**63)       # for dropout
            pending = pending + self.train_step(x, y)
            if step % every and step < batches:
                continue
            *sums, stopped = distributed.total(torch.cat([pending, pending.new_tensor([stop.requested])])).tolist()
            self._check(sums[1], f"in epoch {self.epoch + 1}, step {step}")
            self.sums, self.step, pending = self.sums + torch.tensor(sums, dtype=torch.float64), step, 0
            now = time.perf_counter()
            self.seconds = seconds_before + now - start
            label_loss, _, correct, images = self.sums.tolist()
            report(epoch=self.epoch + 1, batch=step, batches=batches, loss=label_loss / images,
                   accuracy=100 * correct / images, images_per_s=(images - images_before) / (now - start))
            if step == batches:     # guessing costs ln(classes)
                self._check(label_loss / images, f"in the mean over epoch {self.epoch + 1}",
                            TOO_MUCH * math.log(self.classes))
            if stopped:
                raise Stopped
            if now - saved > SAVE_EVERY:
                save(self.state())
                saved = now

    @torch.no_grad()
    def _average(self) -> None:
        """Do what the moving average's ``update_parameters`` does, which searches the network for tensors each time."""
        for averaged, current in self.averages:
            if self.ema.n_averaged:
                self.ema.multi_avg_fn(averaged, current, None)
            else:
                torch._foreach_copy_(averaged, current)
        self.ema.n_averaged += 1

    def train_step(self, x: Tensor, y: Tensor) -> Tensor:
        """Make one update, without waiting for the device; returns sums over the images at hand.

        These are label loss, loss, right answers and images.
        """
        phase = self.phase
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            logits = self.model(x)
            if self.teacher is not None:
                with torch.no_grad():
                    target = self.teacher(x)
        logits = logits.float()
        label_loss = F.cross_entropy(logits, y)
        loss = phase.label_weight * label_loss
        if self.teacher is not None:
            loss = loss + phase.teacher_weight * distillation(logits, target.float(), phase.teacher_loss)
        self.optimizer.zero_grad(set_to_none=True)
        # processes average their gradients, whatever number of images each has
        whole = min(self.train_batches.batch_size, self.train_batches.n_images)
        (loss * (len(y) * distributed.world() / whole)).backward()
        done = self.schedule.last_epoch / max(1, phase.epochs * len(self.train_batches))
        if self.oscillations is not None:
            self.oscillations.dampen(done)
        self.optimizer.step()
        if self.oscillations is not None:
            self.oscillations.after_step(done)
        self.schedule.step()
        self._average()
        self.classes = logits.shape[1]
        correct = (logits.detach().argmax(1) == y).sum().float()
        return torch.stack([label_loss.detach() * len(y), loss.detach() * len(y), correct,
                            torch.full_like(correct, len(y))])
