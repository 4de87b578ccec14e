"""The float networks in data/pretrained/: how one gets there, and how to do without it.

A folder NETWORK-WIDTH-WEIGHTS holds the weights in float16 (models/weights.py reads them), ``run.json`` with the
recipe, the machine and the seconds, and ``history.csv`` with the curves; ``index.csv`` lists them all.
"""
from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pandas as pd
import torch

from ..errors import InputError
from ..models.weights import shipped_file, shipped_files, shipped_name
from ..recipes import Recipe
from ..system import paths
from . import descriptions, recorded
from .phase_store import StoredPhase


def ship(key: str, weights: str) -> Path:
    """Put a trained float network, the phase whose key begins so, into data/pretrained/ as ``weights``; return its
    folder.

    Every number is rounded to float16; counters stay integers.  InputError if there is no such phase, if the phase
    quantizes something, or if ``weights`` is no name such as CIFAR10_V1.
    """
    stored = StoredPhase.at(key)
    scheme, recipe = stored.phase.scheme, stored.recipe
    if scheme and not scheme.w_bits == scheme.a_bits == 32:
        raise InputError(f"phase {stored.phase.name!r} of {stored.folder} is quantized: ship a float one")
    if not weights.isidentifier():
        raise InputError(f"{weights!r} is no name for weights: choose one such as CIFAR10_V1")
    state = {name: value.half() if value.is_floating_point() else value
             for name, value in stored.network().state_dict().items()}
    chain = [StoredPhase.at(found) for found in _keys(stored)]
    place = paths.pretrained_dir() / shipped_name(recipe.model, recipe.width, weights)
    with paths.atomic_folder(place) as folder:
        torch.save(state, file := folder / "float16.pt")
        file.rename(folder / f"float16-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pt")
        pd.concat([link.history for link in chain]).to_csv(folder / "history.csv", index=False, lineterminator="\n",
                                                           float_format="%.6g")
        told = {"label": "float", "key": stored.key, "code": stored.info.code,
                "seconds": round(sum(link.final["seconds"] for link in chain)),
                "environment": stored.info.environment, "recipe": recipe.identity()}
        (folder / "run.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    with paths.atomic(place.with_name("index.csv")) as temp:
        shipped().to_csv(temp, index=False, lineterminator="\n")
    return place


def _keys(stored: StoredPhase) -> list[str]:
    """The keys of a phase in the store and of those before it, the first one first."""
    before = stored.info.previous
    return [*(_keys(StoredPhase.at(before)) if before else ()), stored.key]


def shipped() -> pd.DataFrame:
    """Tabulate data/pretrained/: folder, network, width, weights; epochs and hours of training; accuracy (validation,
    in per cent, after the last epoch) and train_accuracy (over that epoch, augmented); megabytes."""
    rows = []
    for name, file in shipped_files().items():
        told, (model, width, weights) = _described(name), name.split("-")
        curves = recorded.table(file.parent, "history")
        last = {split: rows.value.iloc[-1] for split, rows in curves[curves.metric == "accuracy"].groupby("split")}
        rows.append({"folder": name, "network": model, "width": float(width), "weights": weights,
                     "epochs": sum(phase.epochs for phase in told.recipe.phases),
                     "hours": round(told.seconds / 3600, 1),
                     "accuracy": last["val"], "train_accuracy": round(last["train"], 2),
                     "megabytes": round(file.stat().st_size / 1e6, 1)})
    return pd.DataFrame(rows)


def from_scratch(recipe: Recipe) -> Recipe:
    """The recipe that trains the float network it starts with, as the one in data/pretrained/ was trained, instead of
    loading it.  InputError if it starts with none of these."""
    file = shipped_file(recipe.model, recipe.width, recipe.weights or "")
    if file is None or not file.parent.name.startswith(f"{recipe.model}-"):
        raise InputError(f"{recipe.label} starts with weights={recipe.weights!r}, which data/pretrained/ does not have "
                         f"for {recipe.model} of width {recipe.width:g}: it is trained from scratch or cannot be")
    theirs, (first, *rest) = _described(file.parent.name).recipe, recipe.phases
    names = [*(f"{first.name} {i + 1}" for i in range(len(theirs.phases) - 1)), first.name]
    beginning = [dataclasses.replace(phase, name=name) for phase, name in zip(theirs.phases, names)]
    return dataclasses.replace(recipe, weights=None, train_images=theirs.train_images, phases=(*beginning, *rest))


def _described(folder: str) -> descriptions.Description:
    file = paths.pretrained_dir() / folder / "run.json"
    return descriptions.read(file, "bring it back with `git checkout -- data/pretrained`", needed=("seconds",))
