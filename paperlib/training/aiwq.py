"""AIWQ: how far a weight update, amplified by the rounding of weights, moves the statistics of a layer's output."""
from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..models.layers import LayerInput, QuantConv2d, QuantLinear
from .output_moments import Moments, Snapshot, divergence, moments_again, moments_before, rows

STEP_COLUMNS = ["iteration", "layer", "metric", "value"]
TRIMMED = 0.1   # share of a layer's channels that the trimmed mean leaves out at either end
LATER = 64      # iterations whose numbers stay on a GPU before they are read, since reading waits for the device


def waits(x: Tensor) -> bool:
    """Say whether to read a number of this tensor's device means to wait for it."""
    return x.device.type != "cpu"


class _Watched:
    """One layer: the weight it had before the last update, and what the updates have done so far."""

    def __init__(self, layer: nn.Module):
        self.layer = layer
        self.previous: Snapshot | None = None
        self.version: int | None = None         # torch's count of changes in place, of the weight that was last counted
        self.average = self.total = self.largest = 0.0
        self.iterations = self.dead = self.not_finite = 0
        channels = layer.weight.shape[0]
        self.averages, self.counts = np.zeros(channels), np.zeros(channels, dtype=int)     # of each channel

    def moments(self, now: Snapshot, output: Tensor, seen: LayerInput) -> tuple[Moments, Moments] | None:
        """Take the moments of ``output`` and of what the last weight would have given; None if there is none yet."""
        if self.previous is None:
            return None
        new = Moments.of(rows(output, self.layer))
        if waits(output):
            return new, moments_again(self.layer, self.previous, seen)
        return new, moments_before(self.layer, now, self.previous, new, output, seen)

    def keep(self, now: Snapshot) -> None:
        self.previous, self.version = now, self.layer.weight._version

    def trimmed(self, decay: float) -> float:
        """Take the mean over channels of their moving averages, without the largest tenth and the smallest tenth."""
        channels = np.sort(self.averages[self.counts > 0] / (1 - decay ** self.counts[self.counts > 0]))
        cut = int(TRIMMED * len(channels))
        return float(channels[cut:len(channels) - cut].mean()) if len(channels) else math.nan

    def add(self, kl: np.ndarray, decay: float) -> float | None:
        """Count one iteration, with this divergence of each channel; None if all channels are constant."""
        dead, finite = np.isnan(kl), np.isfinite(kl)
        self.dead = int(dead.sum())
        self.not_finite += int((~dead & ~finite).sum())
        if not finite.any():
            return None
        value = float(kl[finite].mean())
        self.iterations += 1
        self.average = decay * self.average + (1 - decay) * value
        self.averages[finite] += (1 - decay) * (kl[finite] - self.averages[finite])
        self.counts += finite
        self.total += value
        self.largest = max(self.largest, value)
        return value


class _Hook:
    """What is hung on the network to measure it.  A copy of it, or one from a file, does nothing.

    An object, since torch.compile sees that one has come or gone, which it does not of a function that it is to leave
    alone.
    """

    def __init__(self, call: Callable | None):
        self.call = call and torch.compiler.disable(call)

    def __call__(self, *args) -> None:
        if self.call is not None:
            self.call(*args)

    def __reduce__(self):
        return _Hook, (None,)


class Aiwq:
    """Activation instability induced by weight quantization, layer by layer, while a network trains.

    ::

        with instability.Aiwq(qnet) as aiwq:
            for x, y in batches:
                ...                             # a training step like any other
        aiwq.table()

    For every quantized layer and every forward pass in training mode: the KL divergence between its output with the
    weight as it is and its output on the same input with the weight of the pass before, as Gaussians of each output
    channel over batch, height and width, mean over channels, then a moving average over iterations (``decay``, started
    without bias).  Padding is the layer's own.  Input and weight are the quantized ones; so AIWQ also contains what an
    update of the weight quantizer does.

    Exact mostly without a second convolution: the new moments are taken from the output that training computes anyway,
    a change of the weight's scale alone moves them by a known factor, and only those output channels are looked at
    again in which a weight got another code.  Where many did, without a C compiler, and on a GPU, where to look for
    these would wait for the device in every layer, the second convolution is made; numbers of a GPU are read every 64
    iterations.

    A constant ("dead") channel has no divergence: it is left out of the mean and counted, as are infinite ones.  With
    several processes the moments are those over all of them.  ``history=True`` keeps a row per iteration, layer and
    metric (see :meth:`history`).

    Copies of the network are not measured.  Calls of its layers that bypass it (``net.forward(x)``, or features and
    classifier one by one) are not counted, and a warning says so.

    *Reference*: Park & Yoo, PROFIT, ECCV 2020, section 3, and the authors' released code.

    *Differences*: the released code pads with 0 where the layer pads with -3/8, drops values above 1, lets one NaN
    stay for good, starts its average at 0, skips linear layers and counts only on the first GPU.
    """

    def __init__(self, net: nn.Module, *, decay: float = 0.999, history: bool = False):
        if not 0 <= decay < 1:
            raise InputError(f"decay must be at least 0 and below 1, got {decay}")
        self.net, self.decay = net, decay
        self.layers = {name: _Watched(m) for name, m in net.named_modules()
                       if isinstance(m, (QuantConv2d, QuantLinear))}
        if not self.layers:
            raise InputError("this network is not quantized, so there is no AIWQ to measure: call "
                             "models.quantize(net, scheme) first")
        self.norms = {name: m for name, m in net.named_modules()
                      if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is not None}
        self.rows: list[tuple] | None = [] if history else None
        self.iteration, self._running = 0, {}
        self._unread: list[tuple[int, list[str], list[int], Tensor | None, Tensor | None]] = []
        self._pending: dict[str, tuple] | None = None       # of the pass under way, None between passes

    def __enter__(self) -> Aiwq:
        if any(watched.layer.watch is not None for watched in self.layers.values()):
            raise InputError("another Aiwq is measuring this network: leave its with block first, or use its table")
        self._pending, self._bypassed = None, False
        for name, watched in self.layers.items():
            watched.layer.watch = _Hook(self._watch(name, watched))
        self._hooks = [self.net.register_forward_pre_hook(_Hook(self._begin)),
                       self.net.register_forward_hook(_Hook(self._end))]
        return self

    def __exit__(self, *exception) -> None:
        for watched in self.layers.values():
            del watched.layer.watch
        for hook in self._hooks:
            hook.remove()

    def _begin(self, module: nn.Module, *_) -> None:
        if module is self.net:
            self._pending = {}
            self.iteration += module.training

    def _watch(self, name: str, watched: _Watched) -> Callable:
        @torch.no_grad()
        def watch(layer: nn.Module, weight: Tensor, output: Tensor, seen: LayerInput) -> None:
            if not layer.training:
                return
            if self._pending is None or layer is not watched.layer:
                self._say_bypassed(name, watched)
            elif name not in self._pending:             # a layer called twice: its first call counts
                now = Snapshot.of(layer, weight.detach())
                self._pending[name] = now, watched.moments(now, output.detach(), seen)
        return watch

    def _say_bypassed(self, name: str, watched: _Watched) -> None:
        """Warn once; not if the weight has been counted as it is, as when a backward pass computes a layer again."""
        if not self._bypassed and watched.version != watched.layer.weight._version:
            self._bypassed = True
            warnings.warn(f"AIWQ counts calls of the network as a whole, net(x), but {name} was called otherwise (by "
                          "net.forward, by itself, or in a shallow copy): such calls are not counted", stacklevel=2)

    @torch.no_grad()
    def _end(self, module: nn.Module, *_) -> None:
        if module is not self.net or self._pending is None:
            return
        pending, self._pending = self._pending, None
        for name, (now, _) in pending.items():
            self.layers[name].keep(now)
        measured = {name: pair for name, (_, pair) in pending.items() if pair is not None}
        kl = divergence(*map(Moments.joined, zip(*measured.values()))) if measured else None
        norms = self._norms() if self.rows is not None and self.net.training else None
        channels = [len(new.mean) for new, _ in measured.values()]
        self._unread.append((self.iteration, list(measured), channels, kl, norms))
        if len(self._unread) >= LATER or not waits(next(self.net.parameters())):
            self._read()

    def _norms(self) -> Tensor:
        """Make a row per batch norm: means over channels of running mean and variance, and how far both moved."""
        rows = []
        for name, norm in self.norms.items():
            mean, var = norm.running_mean.double(), norm.running_var.double()
            old_mean, old_var = self._running.get(name, (mean.new_full((), math.nan), var))
            rows.append(torch.stack([mean.mean(), var.mean(),
                                     ((mean - old_mean).abs() / (old_var + norm.eps).sqrt()).mean(),
                                     ((var + norm.eps) / (old_var + norm.eps)).log().abs().mean()]))
            self._running[name] = mean, var
        return torch.stack(rows) if rows else torch.empty(0, 4)

    def _read(self) -> None:
        """Count the iterations whose numbers have not been read yet."""
        unread, self._unread = self._unread, []
        for iteration, names, channels, kl, norms in unread:
            parts = np.split(kl.cpu().numpy(), np.cumsum(channels)[:-1]) if names else []
            for name, part in zip(names, parts):
                value = self.layers[name].add(part, self.decay)
                if value is not None and self.rows is not None:
                    self.rows.append((iteration, name, "aiwq", value))
            for name, values in zip(self.norms, [] if norms is None else norms.tolist()):
                moved = [] if math.isnan(values[2]) else [("mean_drift", values[2]), ("var_drift", values[3])]
                self.rows += [(iteration, name, *pair) for pair in (
                    ("running_mean", values[0]), ("running_var", values[1]), *moved)]

    def table(self) -> pd.DataFrame:
        """One row per layer, in the network's order.

        layer, kind; aiwq (nats, the moving average); trimmed: the mean of the channels' own moving averages, without
        the largest tenth and the smallest tenth, so that no nearly constant channel carries it away; mean and max over
        iterations, iterations; dead: constant channels in the last one; not_finite: infinite values left out so far.
        NaN where nothing was measured yet.
        """
        self._read()
        rows = []
        for name, w in self.layers.items():
            n = w.iterations
            rows.append({"layer": name, "kind": w.layer.kind,
                         "aiwq": w.average / (1 - self.decay**n) if n else math.nan,
                         "trimmed": w.trimmed(self.decay),
                         "mean": w.total / n if n else math.nan, "max": w.largest if n else math.nan,
                         "iterations": n, "dead": w.dead, "not_finite": w.not_finite})
        return pd.DataFrame(rows)

    def history(self) -> pd.DataFrame:
        """Columns iteration, layer, metric, value.

        Metrics: aiwq of a layer; of a batch norm running_mean and running_var (means over channels), mean_drift (mean
        of |change of running mean| in running standard deviations) and var_drift (mean of |change of ln variance|).
        InputError unless made with ``history=True``.
        """
        if self.rows is None:
            raise InputError("no history was kept: make it with Aiwq(net, history=True)")
        self._read()
        return pd.DataFrame(self.rows, columns=STEP_COLUMNS)

    def state(self) -> dict:
        """Everything measured so far, for :meth:`load` to go on from."""
        self._read()
        keep = ("average", "total", "largest", "iterations", "dead", "not_finite")
        return {"iteration": self.iteration, "rows": self.rows, "running": self._running,
                "layers": {name: {k: getattr(w, k) for k in keep} | {
                    "averages": torch.from_numpy(w.averages.copy()), "counts": torch.from_numpy(w.counts.copy()),
                    "previous": w.previous and tuple(w.previous)} for name, w in self.layers.items()}}

    def load(self, state: dict) -> None:
        self.iteration, self.rows = state["iteration"], state["rows"]
        self._running = {name: tuple(t.to(self.norms[name].running_mean.device) for t in pair)
                         for name, pair in state["running"].items()}
        for name, values in state["layers"].items():
            watched = self.layers[name]
            for key, value in values.items():
                if key == "previous" and value is not None:
                    value = Snapshot(*(t.to(watched.layer.weight.device) for t in value))
                elif key in ("averages", "counts"):
                    value = value.numpy().copy()
                setattr(watched, key, value)
