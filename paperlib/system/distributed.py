"""Several processes as one: a thin layer over torch.distributed that does nothing in a single process.

``torchrun`` starts the processes; :func:`started` joins them (gloo on CPUs, nccl on GPUs).  All else can be called
in any case.
"""
from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import InputError, brief
from . import kinds
from .kinds import Count

PLACES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")      # numbers that torchrun sets


def world() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process; 0 writes and speaks."""
    return dist.get_rank() if world() > 1 else 0


def device() -> torch.device:
    """This process's GPU, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) if world() > 1 else torch.cuda.current_device())


@contextmanager
def started() -> Iterator[None]:
    """Join the processes that torchrun has started, for the duration of the block; without torchrun, nothing.

    InputError if the environment is not as torchrun makes it.
    """
    places = {name: kinds.parse(name, os.environ[name], Count) for name in PLACES if os.environ.get(name)}
    if places.get("WORLD_SIZE", 1) == 1 or world() > 1:
        yield
        return
    missing = [name for name in PLACES[:3] if name not in places]
    if missing or not places["RANK"] < places["WORLD_SIZE"]:
        raise InputError(f"WORLD_SIZE={places['WORLD_SIZE']} is for torchrun, which sets RANK, below it, and "
                         "LOCAL_RANK: start with torchrun, or unset WORLD_SIZE")
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(places["LOCAL_RANK"])
    try:
        dist.init_process_group("nccl" if on_gpu else "gloo")
    except (ValueError, RuntimeError) as error:
        raise InputError(f"the processes did not find each other ({brief(error)}): start them with torchrun") from error
    try:
        yield
    finally:
        dist.destroy_process_group()


def total(x: Tensor) -> Tensor:
    """The sum of ``x`` over all processes, in place."""
    if world() > 1:
        dist.all_reduce(x)
    return x


def agreed(value):
    """What process 0 says, in all of them."""
    if world() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, device=device() if torch.cuda.is_available() else None)
    return box[0]


def barrier() -> None:
    """Wait for all processes."""
    if world() > 1:
        dist.barrier()


class _Total(torch.autograd.Function):
    """:func:`total` with its gradient, which is the same sum."""

    @staticmethod
    def forward(ctx, x):
        return total(x.clone())

    @staticmethod
    def backward(ctx, grad):
        return total(grad.clone())


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch norm (N, C, H, W) with the statistics of all processes' batches, on any device; torch's own wants a GPU."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world() == 1:
            return super().forward(input)
        x = input if input.dtype.itemsize >= 4 else input.float()
        n = total(x.new_tensor([x.numel() // x.shape[1]])).item()
        mean = _Total.apply(x.sum((0, 2, 3))) / n
        centred = x - mean.view(-1, 1, 1)
        var = _Total.apply(centred.square().sum((0, 2, 3))) / n
        with torch.no_grad():
            self.num_batches_tracked += 1
            momentum = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(var * (n / max(n - 1, 1)), momentum)
        output = centred * (self.weight * (var + self.eps).rsqrt()).view(-1, 1, 1) + self.bias.view(-1, 1, 1)
        return output.to(input.dtype)


def synchronized(net: nn.Module) -> nn.Module:
    """The network with batch norms that share their statistics, changed in place; parameters keep their names."""
    if world() == 1:
        return net
    if torch.cuda.is_available():
        return nn.SyncBatchNorm.convert_sync_batchnorm(net)
    for module in net.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncBatchNorm
    return net


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
