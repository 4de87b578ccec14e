"""The shelf of recorded runs: what data/recorded/ holds, as a table, and whether a run comes out the same again."""
from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd

from ..errors import InputError
from ..recipes import Recipe
from ..system import paths
from ..system.paths import atomic
from . import obtaining, recorded
from .loading import resolve
from .phase_store import StoredPhase

INDEX = "index.csv"
CURVE = ["phase", "epoch", "split", "metric"]


def recipe(name: str) -> Recipe:
    """The recipe of a recorded run, by the name of its folder, as one to train; InputError if there is none."""
    return recorded.read(name).recipe


def key(name: str) -> str:
    """The key of a recorded run: another one than its recipe has today if other code decided its numbers."""
    return recorded.read(name).key


def index() -> pd.DataFrame:
    """One row for each recorded run, by name: label, network, data, bits, seed; epochs and minutes of training;
    accuracy (validation, in per cent, after the last epoch); whether its network lies there; the machine; the key.
    What is damaged is left out, with a warning."""
    rows = []
    for name, told in recorded.everything().items():
        try:
            history = recorded.table(folder := paths.recorded_dir() / name, "history")
        except InputError as error:
            warnings.warn(f"a recorded run is left out: {error}", stacklevel=2)
            continue
        r, scheme = told.recipe, told.recipe.phases[-1].scheme
        accuracy = history[(history.split == "val") & (history.metric == "accuracy")].value
        rows.append({"run": name, "label": r.label, "network": r.model, "width": r.width, "data": r.data,
                     "train_images": r.train_images, "test_images": r.test_images,
                     "w_bits": scheme.w_bits if scheme else 32, "a_bits": scheme.a_bits if scheme else 32,
                     "seed": r.seed, "epochs": sum(phase.epochs for phase in r.phases),
                     "minutes": round(told.seconds / 60, 1),
                     "accuracy": None if accuracy.empty else round(accuracy.iloc[-1], 2),
                     "packed": (folder / recorded.PACKED).exists(),
                     "machine": told.environment.get("gpu") or told.environment.get("cpu"), "key": told.key})
    return pd.DataFrame(rows)


def write_index() -> Path:
    """:func:`index` as data/recorded/index.csv."""
    with recorded.alone() as folder, atomic(folder / INDEX) as temp:
        index().to_csv(temp, index=False, lineterminator="\n")
    return folder / INDEX


def repeat(name: str) -> pd.DataFrame:
    """Train a recorded run once more by nothing but its run.json, and lay the curves beside each other.

    Columns phase, epoch, split, metric (loss, or accuracy in per cent), recorded, repeated, difference.  The same code
    on the same kind of machine gives the same numbers; attrs["same_code"] says whether the code that decides numbers is
    still the one that recorded it, attrs["trained"] how many phases were trained: those in the store (data/runs, or
    where PAPERLIB_RUNS says) are not.
    """
    wanted, before = recipe(name), recorded.table(paths.recorded_dir() / name, "history")
    if resolve(wanted) != wanted:
        raise InputError(f"{name} was trained on all of CIFAR-10, which is not here: `make data` gets it")
    trained = sum(not link.done for link in StoredPhase.chain(wanted))
    after = obtaining.obtain(wanted)
    both = before.merge(after.history, on=CURVE, suffixes=("_recorded", "_repeated"))
    table = both[CURVE].assign(recorded=both.value_recorded, repeated=both.value_repeated,
                               difference=both.value_repeated - both.value_recorded)
    table.attrs.update(same_code=key(name) == after.key, trained=trained)
    return table
