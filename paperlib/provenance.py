"""Where numbers come from: the code, the machine, the versions."""
from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import platform
from collections.abc import Iterable
from pathlib import Path

# torch is imported where it is needed: to ask which code made a notebook takes no torch

NUMERICS = ("batches.py", "fused.py", "images.py", "instability.py", "kernels.c", "kernels.py", "layers.py", "models",
            "moments.py", "photobatches.py", "photofiles.py", "quantizers", "training/engine.py",
            "training/evaluation.py", "training/freezing.py", "training/losses.py", "training/phases.py")


@functools.cache
def code_version() -> str:
    """A hash over the code that decides numbers, without comments and docstrings: rewording costs no retraining."""
    return _digest(NUMERICS)


@functools.cache
def library_version() -> str:
    """The same over all of the library: what a notebook was executed with."""
    return _digest(sorted(file.name for file in Path(__file__).parent.iterdir() if file.name != "__pycache__"))


def _digest(names: Iterable[str]) -> str:
    here, digest = Path(__file__).parent, hashlib.sha256()
    for name in names:
        for file in sorted((here / name).rglob("*.py")) if (here / name).is_dir() else [here / name]:
            if file.suffix != ".py":
                digest.update(file.read_bytes())
                continue
            tree = ast.parse(file.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
                    del node.body[0]
            digest.update(f"{file.relative_to(here).as_posix()}\n{ast.unparse(tree)}\n".encode())
    return digest.hexdigest()[:12]


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
