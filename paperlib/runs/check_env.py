"""Does this machine have what the companion needs?  One line per requirement: OK, or FAIL with the cure."""
from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator

from ..system.paths import ROOT, data_dir, figures_dir, runs_dir
from ..system.requirements import Check, packages


def checks() -> Iterator[Check]:
    """All requirements, in the order in which they are met."""
    yield sys.version_info >= (3, 10), f"Python {sys.version.split()[0]}", "install Python 3.10 or newer"
    yield from packages()
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU (none is needed)"
    yield True, f"{os.cpu_count()} CPU cores, {gpu}", ""
    from ..quantizers import kernels
    from ..system import c_compiler

    try:
        kernels.load()
        yield True, "fast loops in C", ""
    except c_compiler.Unavailable as reason:
        yield True, f"no fast loops in C (none are needed): {reason}", ""
    from jupyter_client.kernelspec import KernelSpecManager

    yield ("python3" in KernelSpecManager().find_kernel_specs(), "Jupyter kernel 'python3'",
           f"{sys.executable} -m ipykernel install --sys-prefix")
    for folder, variable in ((figures_dir(""), "PAPERLIB_FIGURES"), (runs_dir(), "PAPERLIB_RUNS"),
                             (data_dir(), "PAPERLIB_DATA")):
        place = next(p for p in (folder, *folder.parents) if p.exists())
        yield (place.is_dir() and os.access(place, os.W_OK), f"can write in {folder}",
               f"make it writable or set {variable} to another folder")
    free = shutil.disk_usage(place).free / 1e9      # where data come to lie
    yield free > 1, f"{free:.0f} GB free for data and runs", "make at least 1 GB of room, or set PAPERLIB_DATA"
    from ..data import cifar10_images

    cifar10_images.load_subset()
    yield True, "embedded CIFAR-10 subset, SHA-256 as expected", ""
    full = cifar10_is_here()
    yield True, "all of CIFAR-10 is here" if full else "all of CIFAR-10 is not here yet; `make data` gets it", ""


def cifar10_is_here() -> bool:
    """Whether all of CIFAR-10 lies here; nothing is read or downloaded."""
    from ..data import cifar10_images

    return cifar10_images.cache_file().exists() or cifar10_images.user_file() is not None


def main() -> int:
    """Print the checks; returns 0 if all hold, else 1."""
    print(f"paperlib in {ROOT}")
    good = True
    for holds, found, cure in checks():
        good &= holds
        print(f"  {'OK  ' if holds else 'FAIL'} {found}" + ("" if holds else f"  ->  {cure}"))
    print("all is well" if good else "some requirements are not met: see the cures behind FAIL")
    return 0 if good else 1
