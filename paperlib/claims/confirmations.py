"""Confirmations: what further seeds, trained on a reader's machine, say of a claim; a small file each, in
data/confirmations/.

They do not enter a verdict.  A verdict rests on the runs in data/recorded/, whose curves anyone can read and train
again, while of a confirmation only the differences are there; and who has something to send is no random sample.  So
the scoreboard has both: the verdict of the recorded seeds, and beside it the effect and interval of all seeds together.

A seed counts once.  Where it was recorded, the recorded difference counts; where several machines trained it, their
mean, since the same seed is no independent trial on another processor.  Seeds are trained in order, and one with a gap
before it waits, so that nobody can choose those that are sent.  A failed training is part of the file, and counts as a
recorded one would.  So does a difference that is infinite, as a ratio to nothing is: no mean could hold it.
"""
from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from ..errors import InputError
from ..recipes import Recipe
from ..runs.descriptions import once
from ..runs.outcomes import FAILED, NOT_RECORDED
from ..system import kinds, paths
from ..system.kinds import Above, Name
from .verdict import Verdict

NO_NUMBER = "no number: a failed training, or infinite"
LARGEST_FILE = 20_000       # bytes
LARGEST = {"points": 100.0, "correlation": 2.0}     # difference, by unit
LARGEST_OTHER, LONGEST = 20.0, 10_000.0     # of other units; hours


@dataclasses.dataclass(frozen=True)
class Machine:
    """The machine and the versions that seeds were trained with, and nothing that names its owner."""

    python: Name
    torch: Name
    numpy: Name
    system: Name
    cpu: Name
    gpu: Name | None = None

    def __post_init__(self):
        kinds.settle(self)

    @classmethod
    def of(cls, environment: Mapping) -> Machine:
        """Take what belongs here of a run's ``environment``."""
        return cls(**{field.name: environment.get(field.name) for field in dataclasses.fields(cls)})


@dataclasses.dataclass(frozen=True)
class Confirmation:
    """What some seeds say of a claim.

    ``claim``: its id on the scoreboard, and in ``words``; ``recipes``: :func:`recipes` of the claim; ``code``: the
    version of the code that decides numbers; ``hours`` of training; ``differences``: {comparison: {seed: difference, or
    None for NO_NUMBER}}.
    """

    claim: Name
    words: Name
    recipes: tuple[Name, ...]
    code: Name
    machine: Machine
    hours: Above
    differences: dict

    def __post_init__(self):
        kinds.settle(self)
        number, found = kinds.Finite | None, {}
        for comparison, by_seed in self.differences.items():
            name = f"differences of {comparison!r}"
            by_seed = kinds.read(name, by_seed, dict)
            found[comparison] = {kinds.parse(f"a seed of the {name}", seed, kinds.Seed):
                                 kinds.read(f"one of the {name}", value, number) for seed, value in by_seed.items()}
        if not found or not all(found.values()) or len({tuple(sorted(by_seed)) for by_seed in found.values()}) > 1:
            raise InputError("differences must be of the same seeds, at least one, in each comparison")
        object.__setattr__(self, "differences", found)

    @property
    def seeds(self) -> list[int]:
        return sorted(next(iter(self.differences.values())))

    def table(self) -> pd.DataFrame:
        """Tabulate comparison, seed, difference and outcome as a verdict does."""
        rows = [(comparison, seed, value, FAILED if value is None else "")
                for comparison, by_seed in self.differences.items() for seed, value in by_seed.items()]
        table = pd.DataFrame(rows, columns=["comparison", "seed", "difference", "outcome"])
        return table.astype({"difference": float})

    def write(self) -> Path:
        """Write it to data/confirmations/, under a name that tells claim, seeds and, by a hash, the content."""
        text = json.dumps(dataclasses.asdict(self), indent=1) + "\n"
        span = "-".join(map(str, sorted({self.seeds[0], self.seeds[-1]})))
        digest = hashlib.sha256(text.encode()).hexdigest()[:6]
        file = paths.confirmations_dir() / f"{self.claim}_seeds_{span}_{digest}.json"
        with paths.atomic(file) as temp:
            temp.write_text(text, encoding="utf-8")
        return file


def recipes(verdict: Verdict) -> dict[str, Recipe]:
    """Find what a claim rests on: {hash: recipe}, whatever the seed."""
    return dict(sorted({recipe_hash(run.recipe): run.recipe for run in verdict.runs}.items()))


def recipe_hash(recipe: Recipe) -> str:
    """Name all that determines a run but its seed."""
    text = dataclasses.replace(recipe, seed=0).known_by
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read(file: Path, claims: Mapping[str, Verdict]) -> Confirmation:
    """Read a confirmation of one of ``claims``, {id: verdict}.  InputError that names the file and its fault: one that
    is damaged or too large, of a claim, comparisons or recipes that are not today's, or with impossible numbers."""
    try:
        with paths.opened(file) as opened:
            text = opened.read(LARGEST_FILE + 1)
        if len(text) > LARGEST_FILE:
            raise InputError(f"it has more than {LARGEST_FILE} bytes")
        told = kinds.build(Confirmation, json.loads(text.decode("utf-8"), object_pairs_hook=once))
        if told.claim not in claims:
            raise InputError(f"the scoreboard has no claim {told.claim!r}")
        _compare(told, claims[told.claim])
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:200]
        raise InputError(f"{file} cannot be counted ({reason}): have `python -m paperlib confirm` write it anew, or "
                         "delete it") from error
    return told


def _compare(told: Confirmation, verdict: Verdict) -> None:
    """InputError unless this can be a confirmation of the claim."""
    if list(told.recipes) != list(recipes(verdict)):
        raise InputError("its runs were trained by other recipes than the claim's of today")
    if unlike := set(told.differences) ^ set(verdict.differences.comparison):
        raise InputError(f"its comparisons are not the claim's: {min(unlike)!r}")
    largest = LARGEST.get(verdict.unit, LARGEST_OTHER)
    if (told.table().difference.abs() > largest).any():
        raise InputError(f"a difference is beyond {largest:g} {verdict.unit}")
    if told.hours > LONGEST:
        raise InputError(f"it took more than {LONGEST:g} hours")


def everything(claims: Mapping[str, Verdict]) -> dict[str, list[Confirmation]]:
    """Read all of data/confirmations/: {claim: its confirmations}; a file that cannot be counted is left out, with a
    warning."""
    found = defaultdict(list)
    for file in sorted(paths.confirmations_dir().glob("[!.]*.json")):
        try:
            told = read(file, claims)
            found[told.claim].append(told)
        except InputError as error:
            warnings.warn(f"a confirmation is left out: {error}", stacklevel=2)
    return found


def seeds(differences: pd.DataFrame) -> list[int]:
    """List the seeds that all comparisons have, trained or failed."""
    there = differences[differences.outcome != NOT_RECORDED]
    counts = there.groupby("seed").comparison.nunique()
    return counts.index[counts == differences.comparison.nunique()].tolist()


def together(verdict: Verdict, confirmed: Sequence[Confirmation]) -> Verdict:
    """Judge the claim by the recorded seeds and the seeds of its confirmations, as the top of this file says."""
    if not confirmed:
        return verdict
    absent = verdict.differences.outcome == NOT_RECORDED
    new = pd.concat([one.table() for one in confirmed]).groupby(["comparison", "seed"], sort=False, as_index=False).agg(
        difference=("difference", lambda values: values.mean(skipna=False)), outcome=("outcome", "max"))

    def joined(new: pd.DataFrame) -> pd.DataFrame:
        rows = pd.concat([verdict.differences[~absent], new, verdict.differences[absent]])
        return rows.drop_duplicates(["comparison", "seed"], ignore_index=True)

    gap = next(further(joined(new)))
    return dataclasses.replace(verdict, differences=joined(new[new.seed < gap]))


def further(differences: pd.DataFrame) -> Iterator[int]:
    """Go through the seeds that are not there yet, lowest first."""
    there = set(seeds(differences))
    return (seed for seed in itertools.count() if seed not in there)
