"""Time and memory of a quantized training step (forward, backward, SGD), as ratios to the float step.

All variants take turns within one run, so that a machine whose speed drifts is fair to all; medians are shown.
``python benchmarks/qat_step.py --help`` lists the options.
"""
from __future__ import annotations

import argparse
import statistics
import time

import pandas as pd
import torch
import torch.nn.functional as F

from paperlib import models

VARIANTS = {
    "float": None,
    "DuQ, activations 4": models.Scheme(w_bits=32, negative_padding=False),
    "DuQ 4/4": models.Scheme(negative_padding=False),
    "DuQ 4/4, negative padding": models.Scheme(),
    "PACT + SAWB 4/4": models.Scheme(weight="sawb", activation="pact", negative_padding=False),
}


def step(net, optimizer, x, y) -> float:
    """Seconds of one training step."""
    start = time.perf_counter()
    loss = F.cross_entropy(net(x), y)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def saved_megabytes(net, x, y) -> float:
    """Memory that autograd keeps for the backward pass, each storage counted once, parameters left out."""
    parameters = {p.untyped_storage().data_ptr() for p in net.parameters()}
    seen = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        F.cross_entropy(net(x), y)
    return sum(seen.values()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mobilenet_v3_large", help="default: %(default)s")
    parser.add_argument("--width", type=float, default=1.0, help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--size", type=int, default=32, help="image size (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=15, help="counted steps of each variant (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.randn(args.batch, 3, args.size, args.size, device=device).to(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (args.batch,), device=device)
    base = models.build(args.model, width=args.width, input_size=args.size).to(device)
    nets = {name: base if scheme is None else models.calibrate(models.quantize(base, scheme), x).train()
            for name, scheme in VARIANTS.items()}
    optimizers = {name: torch.optim.SGD(net.parameters(), 1e-4, momentum=0.9, nesterov=True)
                  for name, net in nets.items()}
    times = {name: [] for name in nets}
    for i in range(args.steps + 2):
        for name, net in nets.items():
            seconds = step(net, optimizers[name], x, y)
            if i >= 2:
                times[name].append(seconds)
    rows = [{"variant": name, "ms": 1000 * statistics.median(times[name]), "saved_MB": saved_megabytes(net, x, y)}
            for name, net in nets.items()]
    table = pd.DataFrame(rows)
    table["time_ratio"] = table.ms / table.ms[0]
    table["memory_ratio"] = table.saved_MB / table.saved_MB[0]
    print(f"{args.model} x {args.width:g}, batch {args.batch} at {args.size}x{args.size}, channels_last, "
          f"{args.threads} threads, {device}, torch {torch.__version__}, median of {args.steps}")
    print(table.round({"ms": 1, "saved_MB": 1, "time_ratio": 2, "memory_ratio": 2}).to_string(index=False))


if __name__ == "__main__":
    main()
