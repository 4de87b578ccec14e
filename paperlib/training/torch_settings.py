"""Torch's settings that decide numbers: the same in every training, whatever the process has set for itself."""
from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def assumed(threads: int = 0) -> Iterator[None]:
    """Within the block torch computes as in a fresh process, with so many ``threads`` (0: as many as were set).

    That is in float32 at full precision, with gradients, without an autocast from outside, with mkldnn and cuDNN in
    their usual ways.  What was set before comes back afterwards, the state of the random numbers, too.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.random.fork_rng())
        for device in filter(torch.is_autocast_enabled, ("cpu", "cuda")):
            stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for get, put, value in _settings(threads or torch.get_num_threads()):
            stack.callback(put, get())
            put(value)
        yield


def _settings(threads: int) -> Iterator[tuple[Callable, Callable, object]]:
    """(how to ask, how to set, what is assumed) of each; those that this torch does not have are left out."""
    yield torch.get_num_threads, torch.set_num_threads, threads
    yield torch.get_default_dtype, torch.set_default_dtype, torch.float32
    yield _flushes, torch.set_flush_denormal, False
    yield torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, 0
    backends = torch.backends
    wanted = [(backends.mkldnn, {"enabled": True, "deterministic": False}),
              (backends.cudnn, {"enabled": True, "deterministic": False, "benchmark": False})]
    # "none": as set_float32_matmul_precision says, which changes some of these and is therefore set last
    wanted += [(holder, {"fp32_precision": "none"}) for holder in (
        backends, *(getattr(backends.mkldnn, what, None) for what in ("conv", "matmul")))]
    for holder, values in wanted:
        for name, value in values.items():
            if hasattr(holder, name):
                yield functools.partial(getattr, holder, name), functools.partial(setattr, holder, name), value
    yield torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"


def _flushes() -> bool:
    """Say whether numbers below float32's normal range become 0; torch sets this and does not tell."""
    return not (torch.tensor(2.0**-126, dtype=torch.float32) * 0.5).item()
