"""Oscillations: how often single weights jump back to the level that they came from, and what keeps them from it."""
from __future__ import annotations

import math

import pandas as pd
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..models.layers import QuantConv2d, QuantLinear
from ..quantizers import functional as F
from .phases import Oscillations

NEWEST = 0.01       # weight of the newest step in the moving averages
OFTEN = 0.005       # the frequency from which on a weight counts as oscillating
CARRIED = ("direction", "frequency", "average", "frozen")


class OscillationTracker:
    """The codes of all quantized weights of a network, step after step of its training.

    A weight *oscillates* in a step in which its integer code changes in the direction opposite to its last change.  Its
    *frequency* is the moving average of that, with a weight of 0.01 for the newest step.  Call :meth:`dampen` between
    the backward pass and the optimizer's step, and :meth:`after_step` after the latter; ``done`` is the share of the
    phase that is over, from 0 to 1.  ``before``: the :meth:`state` of the phase before, to go on from; with other
    levels counting starts anew.

    *Dampening* adds ``lambda * (clip(w) - point)**2``, summed over all weights, to the loss; clip keeps w to the range
    of the grid, and point is where its code lies.  lambda rises from 0 to ``settings.dampening`` along a cosine.

    *Freezing*: once the frequency of a weight is above a threshold, its code stays, for the rest of the training, the
    rounded moving average of its codes.  The threshold falls from the first to the second of ``settings.freeze_above``
    along a cosine.  Ranges go on training, and a frozen weight moves with its level.

    *Reference*: Nagel, Fournarakis, Bondarenko, Blankevoort, Overcoming Oscillations in Quantization-Aware Training,
    ICML 2022, and the authors' released code.

    *Differences*: theirs watches weights of at most 4 bits, here all are watched.  Dampening and freezing need evenly
    spaced levels; InputError for others.
    """

    def __init__(self, net: nn.Module, settings: Oscillations, before: dict | None = None):
        self.settings = settings
        self.layers = {name: m for name, m in net.named_modules()
                       if isinstance(m, (QuantConv2d, QuantLinear)) and m.weight_quantizer is not None}
        if not self.layers:
            raise InputError("this network has no quantized weights, so none can oscillate: quantize its weights, or "
                             "leave out oscillations")
        uneven = [name for name, layer in self.layers.items() if layer.weight_quantizer.affine() is None]
        if uneven and (settings.dampening or settings.freeze_above):
            raise InputError(f"the levels of {uneven[0]}'s weights are not evenly spaced, so oscillations can be "
                             "measured and not stopped: leave out dampening and freeze_above")
        self.codes = self._codes()
        self.sizes = torch.tensor([m.weight.numel() for m in self.layers.values()], device=self.codes.device)
        self.direction = torch.zeros_like(self.codes)
        self.frequency = torch.zeros_like(self.codes, dtype=torch.float32)
        self.average, self.frozen = self.codes.float(), torch.zeros_like(self.codes, dtype=torch.bool)
        self.levels = {name: (m.weight_quantizer.grid.code_min, m.weight_quantizer.grid.code_max)
                       for name, m in self.layers.items()}
        if before is not None and before["levels"] == self.levels:
            for name in CARRIED:
                getattr(self, name).copy_(before[name])
        self.steps, self.changed, self.turned = 0, torch.zeros_like(self.sizes), torch.zeros_like(self.sizes)

    @torch.no_grad()
    def dampen(self, done: float) -> None:
        """Add the gradient of the dampening loss to the gradient of each weight."""
        strength = self.settings.dampening * (1 - math.cos(math.pi * done)) / 2
        if not strength:
            return
        for layer, code in zip(self.layers.values(), self._parts(self.codes)):
            if layer.weight.grad is not None:
                affine, grid = layer.weight_quantizer.float32_affine(), layer.weight_quantizer.grid
                place = F.position(layer.weight, affine, grid).clamp_(grid.code_min, grid.code_max)
                layer.weight.grad.add_(place.sub_(code.view_as(place)) * (2 * strength / grid.steps * affine.in_scale))

    @torch.no_grad()
    def after_step(self, done: float) -> None:
        """Count what the step has done, and freeze."""
        if self.settings.freeze_above:
            self._hold()
        codes = self._codes()
        places = (codes != self.codes).nonzero().flatten()      # few weights get another code in a step
        move = (codes[places] - self.codes[places]).sign_()
        turned = places[move * self.direction[places] < 0]
        self.frequency.mul_(1 - NEWEST)
        self.frequency[turned] += NEWEST
        self.direction[places] = move
        self.codes, self.steps = codes, self.steps + 1
        self.changed += self._by_layer(places)
        self.turned += self._by_layer(turned)
        if self.settings.freeze_above:
            first, last = self.settings.freeze_above
            self.average.lerp_(torch.where(self.frozen, self.average, codes.float()), NEWEST)
            self.frozen |= self.frequency > last + (first - last) * (1 + math.cos(math.pi * done)) / 2

    def table(self) -> pd.DataFrame:
        """A row for each layer, in per cent of its weights, in the network's order.

        layer; changed, turned: that got another code, and that oscillated, in a step, the mean over all steps of this
        phase (NaN before the first one); oscillating: whose frequency is above 0.005 now; frozen.
        """
        often, frozen = (self._by_layer(which.nonzero().flatten()) for which in (self.frequency > OFTEN, self.frozen))
        steps = self.steps or math.nan
        counts = torch.stack([self.changed / steps, self.turned / steps, often, frozen]) / self.sizes
        table = pd.DataFrame(100 * counts.cpu().numpy().T, columns=["changed", "turned", "oscillating", "frozen"])
        table.insert(0, "layer", list(self.layers))
        return table

    def state(self) -> dict:
        """Everything counted so far, for :meth:`load` to go on from."""
        return {name: getattr(self, name) for name in (*CARRIED, "levels", "codes", "steps", "changed", "turned")}

    def load(self, state: dict) -> None:
        for name, value in state.items():
            setattr(self, name, value.to(self.codes.device) if isinstance(value, Tensor) else value)

    def _codes(self) -> Tensor:
        """The integer codes of all weights, one layer after another."""
        return torch.cat([layer.weight_quantizer.encode(layer.weight).flatten() for layer in self.layers.values()])

    def _parts(self, values: Tensor) -> tuple[Tensor, ...]:
        return values.split([layer.weight.numel() for layer in self.layers.values()])

    def _by_layer(self, places: Tensor) -> Tensor:
        """How many of these places, in the order of all weights, lie in each layer."""
        return torch.bucketize(places, self.sizes.cumsum(0), right=True).bincount(minlength=len(self.sizes))

    def _hold(self) -> None:
        """Put frozen weights back to where their code lies."""
        for layer, frozen, code in zip(self.layers.values(), self._parts(self.frozen), self._parts(self.average)):
            affine, weight = layer.weight_quantizer.float32_affine(), layer.weight
            points = affine._replace(out_scale=affine.in_scale, out_offset=affine.in_offset)
            point = F.values_(code.round().view_as(weight), points, layer.weight_quantizer.grid)
            weight.copy_(torch.where(frozen.view_as(weight), point, weight))
