"""AIWQ: how far a weight update, amplified by the rounding of weights, moves the statistics of a layer's output."""
from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor, nn

from . import distributed
from .errors import InputError
from .layers import QuantConv2d, QuantLinear
from .quantizers.functional import SMALLEST

STEP_COLUMNS = ["iteration", "layer", "metric", "value"]
DEAD = 4e-6         # a channel whose deviation is below this share of its mean is constant up to rounding


def channel_dim(output: Tensor) -> int:
    """1 in (N, C, H, W), else the last."""
    return 1 if output.dim() == 4 else output.dim() - 1


def rows(output: Tensor) -> Tensor:
    """An output (N, C, H, W) or (..., C) as (values, C), without a copy where memory is channels_last."""
    return output.movedim(channel_dim(output), -1).flatten(0, -2)


class Moments:
    """Mean and variance (float64) of each output channel over batch, height and width, and how many values there were.

    ``of`` takes (values, channels); :meth:`pooled` makes them those over all processes.
    """

    def __init__(self, mean: Tensor, var: Tensor, count: int):
        self.mean, self.var, self.count = mean.double(), var.double(), count

    @classmethod
    def of(cls, values: Tensor) -> Moments:
        return cls(*torch.batch_norm_update_stats(values.float(), None, None, 0.0), len(values))

    def pooled(self) -> Moments:
        if distributed.world() == 1:
            return self
        sums = torch.stack([self.mean, self.var + self.mean**2]) * self.count
        count = distributed.total(torch.cat([sums.flatten(), sums.new_tensor([self.count])]))
        mean, square = (count[:-1] / count[-1]).view(2, -1)
        return Moments(mean, square - mean**2, int(count[-1]))

    @property
    def dead(self) -> Tensor:
        """Channels that are constant, so that their Gaussian has no width."""
        return self.var <= (DEAD * self.mean)**2 + torch.finfo(torch.float64).tiny


def divergence(new: Moments, old: Moments) -> Tensor:
    """KL(new || old) of the Gaussians of each channel, in nats: float64 (C,); NaN where one of them is dead.

    ln(sigma_old / sigma_new) + (sigma_new**2 + (mu_new - mu_old)**2) / (2 sigma_old**2) - 1/2, as PROFIT measures it.
    """
    ratio = new.var / old.var
    kl = 0.5 * (ratio - 1 - ratio.log() + (new.mean - old.mean)**2 / old.var)
    return kl.masked_fill(new.dead | old.dead, math.nan)


class _Watched:
    """One layer: the weight it had before the last update, and what the updates have done so far."""

    def __init__(self, layer: nn.Module):
        self.layer = layer
        self.previous: tuple[Tensor, Tensor] | None = None      # quantized weight and its scale
        self.average = self.total = self.largest = 0.0
        self.iterations = self.dead = self.not_finite = 0

    def scale(self) -> Tensor:
        """The scale of the weight's grid, shaped to multiply the weight; 1 without an evenly spaced grid."""
        quantizer = self.layer.weight_quantizer
        affine = None if quantizer is None else quantizer.affine()
        scale = 1.0 if affine is None else affine.out_scale
        return torch.as_tensor(scale, device=self.layer.weight.device).detach().float().clamp_min(SMALLEST)

    def compare(self, new: Tensor, old: Tensor, ratio: Tensor, scale: Tensor) -> Tensor:
        """old - new * ratio, exactly 0 where the codes are equal."""
        change, quantizer = old - new * ratio, self.layer.weight_quantizer
        if quantizer is None or quantizer.affine() is None:
            return change
        return torch.where(change.abs() > 0.5 * scale / quantizer.grid.steps, change, 0.0)

    def measure(self, weight: Tensor, output: Tensor, respond: Callable[..., Tensor]) -> float | None:
        """AIWQ of this iteration; ``respond`` as paperlib/layers.py has it.

        None where there is nothing to compare with, or where all channels are constant.

        Quantized weights are few distinct numbers times a scale; from one step to the next the scale moves and hardly
        any weight gets another code.  So the output with the old weight is the new output times the ratio of the scales
        plus a correction from few channels to few channels.
        """
        previous = self.previous
        self.previous = weight.clone() if weight is self.layer.weight else weight, self.scale()
        if previous is None:
            return None
        (old_weight, old_scale), scale = previous, self.previous[1]
        ratio = old_scale / scale
        change = self.compare(weight, old_weight, ratio, old_scale)
        bias = weight.new_zeros(len(weight)) if self.layer.bias is None else self.layer.bias.detach()
        ratio = ratio.flatten().expand(len(weight))
        new = Moments.of(rows(output.detach())).pooled()
        old = Moments((new.mean - bias) * ratio + bias, new.var * ratio.double()**2, new.count)
        touched = change.flatten(2).any(2) if change.dim() > 2 else change != 0     # (output channels, input channels)
        if touched.any():
            outputs, inputs = (touched.any(dim).nonzero().flatten() for dim in (1, 0))
            kept = output.detach()[(slice(None),) * channel_dim(output) + (outputs,)]
            line, offset = ratio[outputs], (1 - ratio[outputs]) * bias[outputs]
            before = rows(kept) * line + offset + rows(respond(change[outputs][:, inputs], outputs, inputs))
            part = Moments.of(before).pooled()
            old.mean[outputs], old.var[outputs] = part.mean, part.var
        return self.add(divergence(new, old))

    def add(self, kl: Tensor) -> float | None:
        alive, finite = ~kl.isnan(), kl.isfinite()
        self.dead = int((~alive).sum())
        self.not_finite += int((alive & ~finite).sum())
        return kl[finite].mean().item() if finite.any() else None


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

    Exact without a second convolution: the new moments are taken from the output that training computes anyway, a
    change of the weight's scale alone moves them by a known factor, and only those output channels are computed again
    in which a weight got another code.

    A constant ("dead") channel has no divergence: it is left out of the mean and counted, as are infinite ones.  With
    several processes the moments are those over all of them.  ``history=True`` keeps a row per iteration, layer and
    metric (see :meth:`history`).

    *Reference*: Park & Yoo, PROFIT, ECCV 2020, section 3, and the authors' released code.

    *Differences*: the released code pads with 0 where the layer pads with -3/8, drops values above 1, lets one NaN
    stay for good, starts its average at 0, skips linear layers and counts only on the first GPU.
    """

    def __init__(self, net: nn.Module, *, decay: float = 0.999, history: bool = False):
        if not 0 <= decay < 1:
            raise InputError(f"decay must be at least 0 and below 1, got {decay}")
        self.net, self.decay = net, decay
        self.layers = {name: _Watched(m) for name, m in net.named_modules() if isinstance(m, (QuantConv2d, QuantLinear))}
        if not self.layers:
            raise InputError("this network is not quantized, so there is no AIWQ to measure: call "
                             "models.quantize(net, scheme) first")
        self.norms = {name: m for name, m in net.named_modules()
                      if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is not None}
        self.rows: list[tuple] | None = [] if history else None
        self.iteration, self._seen, self._running = 0, set(), {}

    def __enter__(self) -> Aiwq:
        for name, watched in self.layers.items():
            watched.layer.watch = self._watch(name, watched)
        self._hooks = [self.net.register_forward_pre_hook(lambda *_: self._begin()),
                       self.net.register_forward_hook(lambda *_: self._end())]
        return self

    def __exit__(self, *exception) -> None:
        for watched in self.layers.values():
            watched.layer.watch = None
        for hook in self._hooks:
            hook.remove()

    def _begin(self) -> None:
        self._seen = set()
        if self.net.training:
            self.iteration += 1

    def _watch(self, name: str, watched: _Watched) -> Callable:
        @torch.no_grad()
        def watch(weight: Tensor, output: Tensor, again: Callable[[Tensor, Tensor], Tensor]) -> None:
            if not watched.layer.training or name in self._seen:     # a layer called twice: its first call counts
                return
            self._seen.add(name)
            value = watched.measure(weight.detach(), output, again)
            if value is not None:
                watched.iterations += 1
                watched.average = self.decay * watched.average + (1 - self.decay) * value
                watched.total += value
                watched.largest = max(watched.largest, value)
                self._row(name, "aiwq", value)
        return watch

    @torch.no_grad()
    def _end(self) -> None:
        if self.rows is None or not self.net.training:
            return
        for name, norm in self.norms.items():
            mean, var = norm.running_mean.double(), norm.running_var.double()
            self._row(name, "running_mean", mean.mean().item())
            self._row(name, "running_var", var.mean().item())
            if name in self._running:
                old_mean, old_var = self._running[name]
                self._row(name, "mean_drift", ((mean - old_mean).abs() / (old_var + norm.eps).sqrt()).mean().item())
                self._row(name, "var_drift", ((var + norm.eps) / (old_var + norm.eps)).log().abs().mean().item())
            self._running[name] = mean, var

    def _row(self, layer: str, metric: str, value: float) -> None:
        if self.rows is not None:
            self.rows.append((self.iteration, layer, metric, value))

    def table(self) -> pd.DataFrame:
        """One row per layer, in the network's order.

        layer, kind; aiwq (nats, the moving average), mean and max over iterations, iterations; dead: constant channels
        in the last one; not_finite: infinite values left out so far.  NaN where nothing was measured yet.
        """
        rows = []
        for name, w in self.layers.items():
            n = w.iterations
            rows.append({"layer": name, "kind": w.layer.kind,
                         "aiwq": w.average / (1 - self.decay**n) if n else math.nan, "mean": w.total / n if n else math.nan,
                         "max": w.largest if n else math.nan, "iterations": n, "dead": w.dead,
                         "not_finite": w.not_finite})
        return pd.DataFrame(rows)

    def history(self) -> pd.DataFrame:
        """Columns iteration, layer, metric, value.

        Metrics: aiwq of a layer; of a batch norm running_mean and running_var (means over channels), mean_drift (mean
        of |change of running mean| in running standard deviations) and var_drift (mean of |change of ln variance|).
        InputError unless made with ``history=True``.
        """
        if self.rows is None:
            raise InputError("no history was kept: make it with Aiwq(net, history=True)")
        return pd.DataFrame(self.rows, columns=STEP_COLUMNS)

    def state(self) -> dict:
        """Everything measured so far, for :meth:`load` to go on from."""
        keep = ("previous", "average", "total", "largest", "iterations", "dead", "not_finite")
        return {"iteration": self.iteration, "rows": self.rows,
                "layers": {name: {k: getattr(w, k) for k in keep} for name, w in self.layers.items()}}

    def load(self, state: dict) -> None:
        self.iteration, self.rows = state["iteration"], state["rows"]
        for name, values in state["layers"].items():
            for key, value in values.items():
                setattr(self.layers[name], key, value)
