"""Where numbers come from: the code, the machine, the versions."""
from __future__ import annotations

import contextlib
import functools
import platform
from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import InputError
from . import code_hash

# torch is imported where it is needed: to ask which code made a notebook takes no torch

LIBRARY = Path(__file__).parents[1]
IMPORTED = code_hash.read(LIBRARY)       # paperlib/__init__ has this done before other modules are imported


@functools.cache
def code_version() -> str:
    """A hash over the code that decides numbers, as this process imported it (``code_hash.numerics``)."""
    return code_hash.numerics(IMPORTED)


@functools.cache
def library_version() -> str:
    """A hash over all of the library, as this process imported it: what a notebook was executed with."""
    return code_hash.whole(IMPORTED)


def demand_unchanged(version: Callable[[Mapping[str, bytes]], str]) -> None:
    """InputError if ``version`` (``code_hash.numerics`` or ``whole``) of the files differs from the code in use here
    any more: what it makes would pass for the work of other code."""
    now = code_hash.read(LIBRARY)
    if now != IMPORTED and version(now) != version(IMPORTED):
        changed = ", ".join(sorted(path for path in now | IMPORTED if now.get(path) != IMPORTED.get(path))[:3])
        raise InputError(f"the library has changed since it was imported here (paperlib/: {changed}): restart the "
                         "kernel, or run the command again")


def environment() -> dict:
    """The machine and the versions that numbers were made with."""
    import numpy as np
    import torch

    from . import distributed

    cpu = platform.processor() or "unknown"
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
            "system": f"{platform.system()} {platform.machine()}", "cpu": cpu, "cpu_threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "processes": distributed.world()}


def forget_peak_memory() -> None:
    """Let :func:`peak_memory` begin anew, on Linux and on GPUs."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int | None:
    """The most memory so far, in MB: of the GPU, or else of this process; None where the system does not say."""
    import torch

    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 1e6)
    try:
        import resource
    except ImportError:     # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if platform.system() == "Darwin" else 1e3))
