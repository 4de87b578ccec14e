"""Recorded runs as they lie in data/recorded/, a folder each: found by their recipe, checked as they are read, replaced
as a whole, listed in an index, whose warning names what is damaged and keeps no others from being found."""
from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from ..errors import InputError, brief
from ..recipes import Recipe
from ..system import paths
from ..training.history import HISTORY_COLUMNS, check_history
from . import descriptions
from .descriptions import Description

PACKED, INDEX = "network.packed", "index.csv"
FIRST = "model", "width", "data", "train_images", "seed"        # what tells most recipes from each other
COLUMNS = {"history": ("phase", "epoch", "split", "metric", "value"), "layers": ("layer",)}


def read(name: str) -> Description:
    """What the run.json of one recorded run says; InputError if it is damaged, or there is no such run."""
    file = paths.recorded_dir() / name / "run.json"
    if not name or not file.parent.is_dir():
        raise InputError(f"no recorded run {name!r}: data/recorded/index.csv lists them")
    try:
        return _known(os.fspath(file), _version(os.fspath(file)))
    except OSError:
        return _read(file)      # which says what is the matter


def places(recipe: Recipe) -> list[Path]:
    """The folders with this recipe's run: one, or none, or several where a folder was copied."""
    return [paths.recorded_dir() / name for name, told in _descriptions(recipe).items()
            if told.recipe.known_by == recipe.known_by]


def recorded_at(recipe: Recipe) -> Path | None:
    """The folder in data/recorded/ with this recipe's run, if it is there and can be read."""
    return next(iter(places(recipe)), None)


def usual_place(recipe: Recipe) -> Path:
    """The folder for this recipe's run, unless it is told another name."""
    label = "-".join(re.findall(r"[a-z0-9]+", recipe.label.lower()))
    digest = hashlib.sha256(recipe.known_by.encode()).hexdigest()
    return paths.recorded_dir() / f"{label}_{recipe.model}_{recipe.seed}_{digest[:6]}"


def table(folder: Path, name: str) -> pd.DataFrame | None:
    """A table that a recorded run brings along, None if it has none of that name; InputError if it is damaged."""
    file = next(iter(sorted(folder.glob(f"{name}.csv*"))), folder / f"{name}.csv")
    if not file.exists() and name not in COLUMNS:
        return None
    try:
        with paths.opened(file) as opened:
            found = pd.read_csv(opened, compression="gzip" if file.suffix == ".gz" else None)
        if lacking := [column for column in COLUMNS.get(name, ()) if column not in found]:
            raise ValueError(f"it has no column {lacking[0]!r}")
        if name == "history" and found.empty:
            raise ValueError("it has no rows")
        for column in ("epoch", "value") if name == "history" else ():
            if found[column].dtype.kind not in "if" or found[column].isna().any():
                raise ValueError(f"not every {column} is a number")
    except (OSError, EOFError, ValueError, zlib.error) as error:        # pandas' own errors are ValueErrors
        raise InputError(f"{file} is damaged ({brief(error)}): {_cure(folder)}") from error
    return found


def history(folder: Path, recipe: Recipe) -> pd.DataFrame:
    """The history of a recorded run; InputError if it is damaged or not all of the recipe's phases."""
    found = table(folder, "history")
    try:
        of = {phase.name: [] for phase in recipe.phases}
        for phase, *row in found[HISTORY_COLUMNS].values.tolist():
            of.get(phase, []).append(row)
        for phase in recipe.phases:
            check_history(of[phase.name], phase.epochs)
    except (KeyError, ValueError) as error:
        raise InputError(f"{folder / 'history.csv'} is damaged ({error}): {_cure(folder)}") from error
    return found


@contextmanager
def replaced(name: str, recipe: Recipe, key: str) -> Iterator[Path]:
    """Yield an empty folder; what the body writes there becomes the recorded run ``name``, once it is whole.

    It begins with what the run of the same key there has.  One process at a time.  InputError if the name leads
    elsewhere or belongs to another recipe's run.
    """
    paths.plain_name(name, "a recorded run")
    place = paths.recorded_dir() / name
    with paths.alone(place.parent):
        before = read(name) if place.exists() else None
        if before and before.recipe.known_by != recipe.known_by:
            raise InputError(f"{place} holds another run: choose another name")
        with paths.atomic_folder(place) as folder:
            if before and before.key == key:
                shutil.copytree(place, folder, dirs_exist_ok=True)
            yield folder


def take(folder: Path) -> str:
    """File a run that was recorded elsewhere, and say what was done; one of the same recipe and key stays as it is.

    InputError if ``folder`` holds no whole recorded run, or its name belongs to another recipe's.
    """
    told = descriptions.read(folder / "run.json", "have it recorded anew", needed=("label", "seconds"))
    history(folder, told.recipe)
    table(folder, "layers")
    there = recorded_at(told.recipe)
    if there is not None and read(there.name).key == told.key:
        return f"{there.name}: is here already"
    name = there.name if there else folder.name
    with replaced(name, told.recipe, told.key) as place:
        shutil.copytree(folder, place, dirs_exist_ok=True)
    return f"{name}: {'replaced' if there else 'filed'}"


def index() -> pd.DataFrame:
    """One row for each recorded run, by name: label, network, data, bits, seed; epochs and minutes of training;
    accuracy (validation, in per cent, after the last epoch); whether its network lies there; the machine; the key.
    What is damaged is left out, with a warning."""
    rows = []
    for name, told in _descriptions().items():
        try:
            curves = table(folder := paths.recorded_dir() / name, "history")
        except InputError as error:
            warnings.warn(f"a recorded run is left out: {error}", stacklevel=2)
            continue
        r, scheme = told.recipe, told.recipe.phases[-1].scheme
        accuracy = curves[(curves.split == "val") & (curves.metric == "accuracy")].value
        rows.append({"run": name, "label": r.label, "network": r.model, "width": r.width, "data": r.data,
                     "train_images": r.train_images, "test_images": r.test_images,
                     "w_bits": scheme.w_bits if scheme else 32, "a_bits": scheme.a_bits if scheme else 32,
                     "seed": r.seed, "epochs": sum(phase.epochs for phase in r.phases),
                     "minutes": round(told.seconds / 60, 1),
                     "accuracy": None if accuracy.empty else round(accuracy.iloc[-1], 2),
                     "packed": (folder / PACKED).exists(),
                     "machine": told.environment.get("gpu") or told.environment.get("cpu"), "key": told.key})
    return pd.DataFrame(rows)


def write_index() -> None:
    """Write :func:`index` to data/recorded/index.csv."""
    folder = paths.recorded_dir()
    with paths.alone(folder), paths.atomic(folder / INDEX) as temp:
        index().to_csv(temp, index=False, lineterminator="\n")


def _descriptions(of: Recipe | None = None) -> dict[str, Description]:
    """{name: its description}, in the order of names; ``of``: of runs that may be this recipe's alone, since checking
    them all takes seconds."""
    found, folder = {}, os.fspath(paths.recorded_dir())
    first = of and tuple(getattr(of, field) for field in FIRST)
    # hundreds of folders, each time that a run is looked for: strings and one look at each file take a tenth of the
    # time that Path and glob would
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        try:
            file = f"{folder}/{name}/run.json"
            if not name.startswith(".") and (of is None or _first(file, _version(file)) in (first, None)):
                found[name] = _known(file, _version(file))
        except OSError:
            continue        # no recorded run
        except InputError as error:
            warnings.warn(f"a recorded run is left out: {error}", stacklevel=3)
    return found


def _version(file: str) -> tuple[int, ...]:
    """What changes when a file does."""
    facts = os.stat(file)
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


@functools.cache
def _first(file: str, version: tuple[int, ...]) -> tuple | None:
    """What its recipe says of FIRST, unchecked; None where it does not say."""
    try:
        with open(file, "rb") as opened:
            recipe = json.load(opened)["recipe"]
        return tuple(recipe[field] for field in FIRST)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


@functools.cache
def _known(file: str, version: tuple[int, ...]) -> Description:
    """A run's description, read only once while the file stays the same."""
    return _read(Path(file))


def _read(file: Path) -> Description:
    return descriptions.read(file, _cure(file.parent), needed=("label", "seconds"))


def _cure(folder: Path) -> str:
    return f"bring it back with `git checkout -- data/recorded/{folder.name}`, or delete the folder"
