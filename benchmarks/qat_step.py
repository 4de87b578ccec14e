"""Time and memory of a quantized training step (forward, backward, SGD), as ratios to the float step.

All variants take turns within one run, so that a machine whose speed drifts is fair to all, each time in another order,
since one step's memory traffic slows the next one; medians are shown.  Other libraries take part if they are installed
(benchmarks/peers.py).  ``--csv`` adds a run to a file; steps.csv beside this file holds those of the README's table
(steps_table.py).  ``python benchmarks/qat_step.py --help`` lists the options.
"""
from __future__ import annotations

import argparse
import contextlib
import copy
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pandas as pd
import peers
import torch
import torch.nn.functional as F
from torch import nn

from paperlib import models
from paperlib.quantizers import kernels
from paperlib.system.provenance import environment

DUQ, PLAIN_PADDING = models.Scheme(), models.Scheme(negative_padding=False)
COMPILED = ", torch.compile"        # what the name of a variant ends with that torch.compile makes faster
COMPILABLE = ("float", "DuQ 4/4", "DuQ 4/4, negative padding")
OURS = {  # name -> (scheme, fused, with the loops in C)
    "float": (None, False, True),
    "DuQ 4/4": (PLAIN_PADDING, False, True),
    "DuQ 4/4, negative padding": (DUQ, False, True),
    "DuQ 4/4, no compiler": (PLAIN_PADDING, False, False),
    "DuQ 4/4, fused": (PLAIN_PADDING, True, True),
    "DuQ 4/4, negative padding, fused": (DUQ, True, True),
    "DuQ 4/4, fused, no compiler": (PLAIN_PADDING, True, False),
    "LSQ 4/4, fused": (models.Scheme("lsq", "lsq", negative_padding=False), True, True),
    "PACT + SAWB 4/4": (models.Scheme("sawb", "pact", negative_padding=False), False, True),
}


@contextlib.contextmanager
def loops(in_c: bool) -> Iterator[None]:
    """With paperlib's loops in C, or with torch alone."""
    with contextlib.ExitStack() as stack:
        for name in () if in_c else ("library", "in_c"):
            stack.enter_context(mock.patch.object(kernels, name, lambda: None))
        yield


def step(net: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor) -> float:
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


def float_network(name: str, x: torch.Tensor, **settings) -> nn.Module:
    """A float network as training would have it: residual branches at work, running statistics of real activations."""
    net = models.build(name, input_size=x.shape[-1], **settings).to(x.device)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.ones_(norm.weight)
        norm.momentum = None
    with torch.no_grad():
        net.train()(x)
    for norm in norms:
        norm.momentum = 0.1
    return net


def networks(base: nn.Module, x: torch.Tensor, with_peers: list[str], compiled: list[str]
             ) -> dict[str, tuple[nn.Module, bool]]:
    """{variant: (network, with the loops in C)}; on a GPU without those that a CPU alone has."""
    nets = {}
    for name, (scheme, fused, in_c) in OURS.items():
        if x.is_cuda and (fused or not in_c):
            continue
        net = base if scheme is None else models.calibrate(models.quantize(base, scheme), x).train()
        nets[name] = models.fuse(net) if fused else net, in_c
    for name in compiled:       # each a network of its own: compiled code knows where its parameters lie
        net = copy.deepcopy(nets[name][0])
        net.compile()
        nets[name + COMPILED] = net, False
    for name in with_peers:
        nets[f"{name} {peers.version(name)}"] = peers.PEERS[name](base, x), True
    return nets


def measure(name: str, batch: int, size: int, args: argparse.Namespace) -> pd.DataFrame:
    torch.manual_seed(0)
    device = args.device
    layout = torch.contiguous_format if args.contiguous else torch.channels_last
    x = torch.randn(batch, 3, size, size, device=device).to(memory_format=layout)
    y = torch.randint(0, 10, (batch,), device=device)
    nets = networks(float_network(name, x).to(memory_format=layout), x, args.peers, args.compile)
    optimizers = {variant: torch.optim.SGD(net.parameters(), 1e-4, momentum=0.9, nesterov=True, fused=True)
                  for variant, (net, _) in nets.items()}
    times: dict[str, list[float]] = {variant: [] for variant in nets}
    for i in range(args.steps + 2):
        for variant, (net, in_c) in random.Random(i).sample(list(nets.items()), len(nets)):
            with loops(in_c):
                seconds = step(net, optimizers[variant], x, y)
            if i >= 2:
                times[variant].append(seconds)
    rows = []
    for variant, (net, in_c) in nets.items():
        with loops(in_c):
            rows.append({"variant": variant, "ms": 1000 * statistics.median(times[variant]),
                         "saved MB": saved_megabytes(net, x, y)})
    table = pd.DataFrame(rows)
    table["time"], table["memory"] = table.ms / table.ms[0], table["saved MB"] / table["saved MB"][0]
    if "float" in args.compile:
        table["of compiled float"] = table.ms / table.ms[table.variant == "float" + COMPILED].item()
    print(f"\n{name}, batch {batch} at {size}x{size}, {'contiguous' if args.contiguous else 'channels_last'}, "
          f"{torch.get_num_threads()} threads, {device}, torch {torch.__version__}, median of {args.steps}; "
          "time and memory as ratios to float")
    print(table.round({"ms": 1, "saved MB": 1, "time": 2, "memory": 2, "of compiled float": 2}).to_string(index=False),
          flush=True)
    if args.csv:
        keep(table[["variant", "ms", "saved MB", "time", "memory"]].assign(network=name, batch=batch, size=size),
             args.csv)
    return table


def keep(table: pd.DataFrame, file: Path) -> None:
    """Add a table to a CSV file, with its run's number (one more than its network and size have there), the machine and
    the version of torch."""
    before = pd.read_csv(file) if file.exists() else pd.DataFrame()
    here = environment()
    table = table.assign(cpu=here["cpu"], threads=here["cpu_threads"], torch=here["torch"])
    same = before.merge(table[["network", "batch", "size"]].drop_duplicates()) if len(before) else before
    table.insert(0, "run", 1 + same.run.max() if len(same) else 1)
    pd.concat([before, table]).to_csv(file, index=False, float_format="%.4g")


def arguments(doc: str) -> argparse.ArgumentParser:
    """The options that all benchmarks of steps have."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["mobilenet_v2", "mobilenet_v3_large"], help="default: both")
    parser.add_argument("--setting", nargs="+", default=["64x32", "16x224"], metavar="BATCHxSIZE",
                        help="batch and image size (default: 64x32 16x224)")
    parser.add_argument("--steps", type=int, default=9, help="counted steps of each variant (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")
    return parser


def measure_all(measure: Callable[..., None], args: argparse.Namespace) -> None:
    """``measure(model, batch, size, args)`` for every setting and network asked for."""
    torch.set_num_threads(args.threads)
    for setting in args.setting:
        batch, size = map(int, setting.split("x"))
        for name in args.model:
            measure(name, batch, size, args)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu",
                        help="default: the GPU if there is one")
    parser.add_argument("--compile", nargs="*", choices=COMPILABLE, metavar="VARIANT",
                        help="also with torch.compile, which takes minutes (after a bare --compile: float and DuQ)")
    parser.add_argument("--contiguous", action="store_true", help="NCHW memory instead of channels_last")
    parser.add_argument("--peers", nargs="*", default=list(peers.PEERS), choices=list(peers.PEERS), metavar="NAME",
                        help="which other libraries take part (default: all that are installed; none after a bare "
                             "--peers).  All of them together want more than 24 GB at 16x224")
    parser.add_argument("--csv", type=Path, help="a file to add the tables to; for a CPU and channels_last")
    args = parser.parse_args()
    if args.csv and (args.contiguous or args.device != "cpu"):
        parser.error("--csv is for --device cpu without --contiguous: its file does not tell others apart")
    args.compile = [] if args.compile is None else args.compile or list(COMPILABLE)
    if missing := [name for name in args.peers if peers.version(name) is None]:
        print("not installed (pyproject.toml, extra \"peers\"):", ", ".join(sorted(missing)))
        args.peers = [name for name in args.peers if name not in missing]
    measure_all(measure, args)


if __name__ == "__main__":
    main()
