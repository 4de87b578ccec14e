"""Trained weights: those in data/pretrained/ and torchvision's by name, or a file's.

What doesn't fit is named, and nothing is loaded then.
"""
from __future__ import annotations

import hashlib
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import InputError, brief
from ..system import kinds, paths
from ..system.kinds import Name

# the networks that are torchvision's own, under torchvision's names
TORCHVISION = ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "resnet18", "resnet50", "resnet101")


def load_weights(net: nn.Module, name: str, weights: str | os.PathLike, width: float = 1.0) -> None:
    """Load ``weights`` into the float network ``net``, which :func:`paperlib.models.build` calls ``name``.

    ``weights``: a name of those in data/pretrained/ (CIFAR10_V1 and the like, for a network of this ``width``), or of
    torchvision's (IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT), downloaded once into torch's cache, or the path of a file
    that ``torch.save`` wrote: a state dict, alone or under "state_dict" or "model"; the prefix "module." of parallel
    training is dropped.  InputError if the weights can't be had, or if a single name or shape differs; ``net`` is
    untouched then.
    """
    weights = kinds.read("weights", os.fspath(weights) if isinstance(weights, os.PathLike) else weights, Name)
    if os.path.isfile(weights):
        state = _from_file(Path(weights))
    elif (file := shipped_file(name, width, weights)) is not None:
        _check_digest(file, "bring it back with `git checkout -- data/pretrained`")
        state = _from_file(file)
    else:
        state = _from_torchvision(name, width, weights)
    _compare(net, state, weights)
    net.load_state_dict(state)


def shipped_file(name: str, width: float, weights: str) -> Path | None:
    """Find the file in data/pretrained/ with these weights of a network, in float16; None if there is none.

    VGG-7 with Hardtanh begins with the weights of VGG-7 with ReLU."""
    return shipped_files().get(shipped_name(name.removesuffix("_hardtanh"), width, weights))


def shipped_name(name: str, width: float, weights: str) -> str:
    """Name the folder in data/pretrained/ of a network's weights."""
    return f"{name}-{width:g}-{weights}"


def shipped_files() -> dict[str, Path]:
    """List the folders in data/pretrained/, each with its file of weights.

    The file's name ends with the first eight hex digits of its SHA-256, as torchvision's do.
    """
    return {file.parent.name: file for file in sorted(paths.pretrained_dir().glob("*/float16-????????.pt"))}


def _check_digest(file: Path, cure: str) -> None:
    if not hashlib.sha256(file.read_bytes()).hexdigest().startswith(file.stem.rpartition("-")[2]):
        raise InputError(f"{file} is damaged or another file (its SHA-256 doesn't begin as its name says): {cure}")


def _from_torchvision(name: str, width: float, weights: str) -> dict[str, Tensor]:
    from torchvision.models import get_model_weights
    known = get_model_weights(name).__members__ if name in TORCHVISION else {}
    if weights not in known:
        here = [folder for folder in shipped_files() if folder.startswith(f"{name}-")]
        raise InputError(f"weights={weights!r} is no file, data/pretrained/ has {', '.join(here) or 'nothing'} for "
                         f"{name} (this one has width {width:g}), and torchvision has " + (
            f"only {', '.join(known)}: choose one of these or a path" if known else
            "none: give the path of a file"))
    url = known[weights].url
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if file.is_file():      # torch checks downloads only
        _check_digest(file, "delete it and run again")
    try:
        return known[weights].get_state_dict(check_hash=True, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"cannot get {url} ({brief(error)}): lay the file at {file}, or set TORCH_HOME to a folder "
                         f"that holds it as hub/checkpoints/{file.name}") from error
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"{url} arrived damaged ({brief(error)}): run again") from error


def _from_file(path: Path) -> dict[str, Tensor]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:       # torch does not look at the checksums
                    raise zipfile.BadZipFile
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:      # what torch raises depends on where the damage is
        raise InputError(f"cannot read weights from {path} ({type(error).__name__}): it must be a file that "
                         "torch.save(net.state_dict(), path) wrote") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state or not all(
            isinstance(k, str) and isinstance(v, Tensor) and v.layout == torch.strided
            and not (v.is_quantized or v.is_complex() or v.is_meta) for k, v in state.items()):
        raise InputError(f"{path} holds no state dict of a float network: write it with "
                         "torch.save(net.state_dict(), path)")
    return {key.removeprefix("module."): value for key, value in state.items()}


def _compare(net: nn.Module, state: dict[str, Tensor], source: str | os.PathLike) -> None:
    """InputError unless ``state`` has the names and shapes of ``net`` and finite numbers; batch norm's counters may
    lack, as in torch."""
    wanted = net.state_dict()
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in wanted]
    wrong = {k: f"{k} is {_shape(state[k])} in the file and {_shape(wanted[k])} in the network"
             for k in wanted if k in state and state[k].shape != wanted[k].shape}
    if not (missing or unexpected or wrong):
        if damaged := [k for k in state if not state[k].double().isfinite().all()]:
            raise InputError(f"{damaged[0]} in {source} is not finite: get the weights again")
        return
    last = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)][-1]
    classes = state[f"{last}.bias"].numel() if f"{last}.bias" in wrong else 0
    if classes and not missing and not unexpected and all(k.rpartition(".")[0] == last for k in wrong):
        raise InputError(f"the weights in {source} are for {classes} classes, the network has "
                         f"{len(wanted[f'{last}.bias'])}: build it with num_classes={classes}, then replace its last "
                         f"layer, {last}, if other classes are wanted")
    faults = [f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})" for what, keys in (
        ("missing", missing), ("unexpected", unexpected), ("of another shape", list(wrong.values()))) if keys]
    raise InputError(f"the weights in {source} do not fit: {'; '.join(faults)}; check the network's name, width and "
                     "input_size")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
