"""What measuring AIWQ adds to a quantized training step, as ratios to that step.

A network is trained in float for some steps on the embedded CIFAR-10 subset, quantized, and trained on; all variants
take turns on the same batches.  "two convolutions" is the definition itself: every layer is computed again with its
weight before the update.  ``python benchmarks/aiwq.py --help`` lists the options.
"""
from __future__ import annotations

import argparse
import copy
import statistics

import pandas as pd
import torch
import torch.nn.functional as F
from qat_step import arguments, measure_all, step
from torch import nn

from paperlib import models
from paperlib.data.cifar10_batches import Batches
from paperlib.data.cifar10_images import load_subset
from paperlib.training import aiwq
from paperlib.training.output_moments import Moments, Snapshot, divergence, moments_again, rows, smallest_change


class TwoConvolutions(aiwq.Aiwq):
    """AIWQ by its definition."""

    def _watch(self, name, watched):
        @torch.no_grad()
        def watch(layer, weight, output, seen):
            if watched.previous is not None:
                old = moments_again(layer, watched.previous, seen)
                watched.add(divergence(Moments.of(rows(output.detach(), layer)), old).numpy(), self.decay)
            watched.previous = Snapshot.of(layer, weight.detach())
        return watch


def trained(name: str, size: int, batches: Batches, steps: int) -> nn.Module:
    """A float network after some steps."""
    net = models.build(name, input_size=size).train()
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, nesterov=True)
    for _, (x, y) in zip(range(steps), endless(batches, size)):
        step(net, optimizer, x, y)
    return net


def endless(batches: Batches, size: int):
    """(x, y) without end, enlarged to ``size`` pixels."""
    for epoch in range(10**9):
        for x, y in batches.epoch(epoch):
            if size != 32:
                x = F.interpolate(x, (size, size), mode="bilinear").contiguous(memory_format=torch.channels_last)
            yield x, y


def measure(name: str, batch: int, size: int, args: argparse.Namespace) -> None:
    torch.manual_seed(0)
    batches = Batches(load_subset()[0], batch, train=True)
    data = endless(batches, size)
    base = trained(name, size, batches, args.warmup)
    plain = models.calibrate(models.quantize(base, models.Scheme(w_bits=args.bits, a_bits=args.bits)), next(data)[0])
    nets = {"plain": plain, "plain, AIWQ": copy.deepcopy(plain), "plain, two convolutions": copy.deepcopy(plain),
            "fused": models.fuse(plain), "fused, AIWQ": models.fuse(plain)}
    meters = {variant: (TwoConvolutions if "two" in variant else aiwq.Aiwq)(nets[variant])
              for variant in nets if "," in variant}
    for meter in meters.values():
        meter.__enter__()
    optimizers = {variant: torch.optim.SGD(net.train().parameters(), args.lr, momentum=0.9, nesterov=True)
                  for variant, net in nets.items()}
    times: dict[str, list[float]] = {variant: [] for variant in nets}
    watched, changed, weights = list(meters["plain, AIWQ"].layers.values()), 0, 0
    for i, (x, y) in zip(range(args.settle + args.steps), data):
        before = [w.previous for w in watched]
        for variant, net in nets.items():
            seconds = step(net, optimizers[variant], x, y)
            if i >= args.settle:
                times[variant].append(seconds)
        for w, old in zip(watched, before if i >= args.settle else ()):
            change = old.weight - w.previous.weight * (old.scale / w.previous.scale)
            changed += int((change.abs() > smallest_change(w.layer, old)).sum())
            weights += old.weight.numel()
    table = pd.DataFrame({"variant": list(times), "ms": [1000 * statistics.median(t) for t in times.values()]})
    table["time"] = table.ms / table.ms[0]
    print(f"\n{name}, batch {batch} at {size}x{size}, {args.bits} bits, learning rate {args.lr:g}, "
          f"{torch.get_num_threads()} threads, median of {args.steps}; {changed / weights:.2%} of the weights change "
          "their code in a step; time as a ratio to plain")
    print(table.round({"ms": 1, "time": 2}).to_string(index=False), flush=True)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--bits", type=int, default=4, help="of weights and activations (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=0.02,
                        help="learning rate (default: %(default)s, half of the laptop profile's first)")
    parser.add_argument("--warmup", type=int, default=60, help="float steps before (default: %(default)s)")
    parser.add_argument("--settle", type=int, default=20, help="quantized steps before (default: %(default)s)")
    measure_all(measure, parser.parse_args())


if __name__ == "__main__":
    main()
