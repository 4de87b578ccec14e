"""The shelf of recorded runs: what data/recorded/ holds, as a table, and whether a run comes out the same again."""
from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from . import runs
from .errors import InputError
from .paths import atomic, recorded_dir
from .recipes import Recipe
from .sources import resolve
from .store import Link

INDEX = "index.csv"
CURVE = ["phase", "epoch", "split", "metric"]


def recipe(name: str) -> Recipe:
    """The recipe of a recorded run, by the name of its folder, as one to train; InputError if there is none."""
    return _recipe(_info(name))


def key(name: str) -> str:
    """The key of a recorded run: another one than its recipe has today if other code decided its numbers."""
    return _info(name)["key"]


def index() -> pd.DataFrame:
    """One row for each recorded run, by name: label, network, data, bits, seed; epochs and minutes of training;
    accuracy (validation, in per cent, after the last epoch); whether its network lies there; the machine; the key."""
    rows = []
    for file in sorted(recorded_dir().glob("*/run.json")):
        name, info = file.parent.name, _info(file.parent.name)
        r = _recipe(info)
        scheme, history = r.phases[-1].scheme, pd.read_csv(file.parent / "history.csv")
        accuracy = history[(history.split == "val") & (history.metric == "accuracy")].value
        rows.append({"run": name, "label": r.label, "network": r.model, "width": r.width, "data": r.data,
                     "train_images": r.train_images, "test_images": r.test_images,
                     "w_bits": scheme.w_bits if scheme else 32, "a_bits": scheme.a_bits if scheme else 32,
                     "seed": r.seed, "epochs": sum(phase.epochs for phase in r.phases),
                     "minutes": round(info["seconds"] / 60, 1), "accuracy": round(accuracy.iloc[-1], 2),
                     "packed": (file.parent / runs.PACKED).exists(),
                     "machine": info["environment"]["gpu"] or info["environment"]["cpu"], "key": info["key"]})
    return pd.DataFrame(rows)


def write_index() -> Path:
    """:func:`index` as data/recorded/index.csv."""
    with atomic(recorded_dir() / INDEX) as temp:
        index().to_csv(temp, index=False, lineterminator="\n")
    return recorded_dir() / INDEX


def repeat(name: str) -> pd.DataFrame:
    """Train a recorded run once more by nothing but its run.json, and lay the curves beside each other.

    Columns phase, epoch, split, metric (loss, or accuracy in per cent), recorded, repeated, difference.  The same code
    on the same kind of machine gives the same numbers; attrs["same_code"] says whether the code that decides numbers is
    still the one that recorded it, attrs["trained"] how many phases were trained: those in the store (data/runs, or
    where PAPERLIB_RUNS says) are not.
    """
    wanted, before = recipe(name), pd.read_csv(recorded_dir() / name / "history.csv")
    if resolve(wanted) != wanted:
        raise InputError(f"{name} was trained on all of CIFAR-10, which is not here: `make data` gets it")
    trained = sum(not link.done for link in Link.chain(wanted))
    after = runs.obtain(wanted)
    both = before.merge(after.history, on=CURVE, suffixes=("_recorded", "_repeated"))
    table = both[CURVE].assign(recorded=both.value_recorded, repeated=both.value_repeated,
                               difference=both.value_repeated - both.value_recorded)
    table.attrs.update(same_code=key(name) == after.key, trained=trained)
    return table


def _recipe(info: dict) -> Recipe:
    return Recipe.from_dict({"label": info["label"], **info["recipe"]})


def _info(name: str) -> dict:
    file = recorded_dir() / name / "run.json"
    if not name or not file.exists():
        raise InputError(f"no recorded run {name!r}: data/recorded/{INDEX} lists them")
    return json.loads(file.read_text(encoding="utf-8"))
