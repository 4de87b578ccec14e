"""What a run is, trained or recorded, and how it is recorded."""
from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from torch import nn

from .. import deploy, models
from ..errors import InputError
from ..recipes import Recipe
from ..system import paths
from ..training.aiwq import STEP_COLUMNS
from . import outcomes, recorded
from .phase_store import StoredPhase
from .recorded import PACKED

TABLES = ("history", "layers", "instability", "steps")      # of every run
AS_IT_IS = models.Scheme(w_bits=32, a_bits=32, negative_padding=False)     # a float network in a quantized one's form


class Run:
    """A finished run.

    ``recipe`` as it was run; ``history``: DataFrame with columns phase, epoch, step, split, metric, value;
    ``layers``: the plan of the final network, one row per layer; ``instability``: AIWQ by phase and layer, of the
    phases that measured it; ``steps``: its history with columns phase, iteration, layer, metric, value, if kept;
    ``key``: the hash that names the run; ``seconds``: training time; ``environment``: machine and versions;
    ``folder``: where a recorded run lies.  ``absent``: one that is not recorded yet; its history has no numbers (NaN).
    ``failures``: why it is no result (outcomes.py), a sentence each.  ``outcome``: "", "not recorded yet" or "failed
    training".
    """

    def __init__(self, recipe: Recipe, history: pd.DataFrame, layers: pd.DataFrame,
                 instability: pd.DataFrame | None = None, steps: pd.DataFrame | None = None, *, key: str,
                 seconds: float, environment: dict, folder: Path | None = None):
        self.recipe, self.history, self.layers = recipe, history, layers
        self.instability, self.steps = (pd.DataFrame() if t is None else t for t in (instability, steps))
        self.key, self.seconds, self.environment, self.folder = key, seconds, environment, folder
        self._found: dict[str, pd.DataFrame] = {}

    @classmethod
    def trained(cls, chain: Sequence[StoredPhase]) -> Run:
        """The run whose phases these are, all of which the store has."""
        last = chain[-1]
        instability = _joined({stored.phase.name: stored.instability for stored in chain}, ["layer", "aiwq"])
        steps = _joined({stored.phase.name: stored.steps for stored in chain}, STEP_COLUMNS)
        return cls(last.recipe, pd.concat([stored.history for stored in chain], ignore_index=True), last.layers,
                   instability, steps, key=last.key, seconds=sum(stored.final["seconds"] for stored in chain),
                   environment=last.info.environment)

    @classmethod
    def unrecorded(cls, recipe: Recipe) -> Run:
        """Make what takes the place of a recorded run that is not there yet."""
        return cls(recipe, outcomes.unrecorded(recipe), pd.DataFrame(columns=["layer"]),
                   pd.DataFrame(columns=["layer", "aiwq"], dtype=float), key="", seconds=0.0, environment={})

    @classmethod
    def read(cls, folder: Path, recipe: Recipe) -> Run:
        """The recorded run in ``folder``; InputError if something there is damaged."""
        told = recorded.read(folder.name)
        others = (recorded.table(folder, name) for name in TABLES if name != "history")
        run = cls(recipe, recorded.history(folder, told.recipe), *others, key=told.key,
                  seconds=told.seconds, environment=told.environment, folder=folder)
        # one that was replaced meanwhile is read once more
        return run if recorded.read(folder.name) == told else cls.read(folder, recipe)

    @property
    def absent(self) -> bool:
        return not self.key

    @functools.cached_property
    def failures(self) -> list[str]:
        return outcomes.failures(self)

    @property
    def outcome(self) -> str:
        return outcomes.NOT_RECORDED if self.absent else outcomes.FAILED if self.failures else ""

    @functools.cached_property
    def beginning(self) -> tuple[float, ...]:
        """The validation losses of the first phase by epoch, by which float networks are told apart."""
        first = self.recipe.phases[0].name
        h = self.history
        return tuple(h[(h.phase == first) & (h.split == "val") & (h.metric == "loss")].value.round(4))

    def model(self, phase: str | None = None, *, averaged: bool = False) -> nn.Module:
        """The network after the last phase, or after the named one; ``averaged``: the moving average of its weights.

        Some recorded runs bring their last network along, packed (deploy.pack); InputError for others.
        """
        if self.absent:
            raise not_there(self.recipe)
        if self.folder is not None:
            if phase or averaged or not (self.folder / PACKED).exists():
                raise InputError(f"the recorded run {self.folder.name} does not carry these weights: use "
                                 "profile='laptop', which trains them")
            return deploy.load(self.folder / PACKED)
        chain = {stored.phase.name: stored for stored in StoredPhase.chain(self.recipe)}
        if phase is not None and phase not in chain:
            raise InputError(f"no phase {phase!r} in this run: choose from {', '.join(chain)}")
        return chain[phase or self.recipe.phases[-1].name].network(averaged=averaged)

    def values(self, phase: str, split: str, metric: str = "loss") -> pd.Series:
        """One curve: the metric by epoch."""
        h = self.history
        rows = h[(h.phase == phase) & (h.split == split) & (h.metric == metric)]
        if rows.empty:
            raise InputError(f"this run has no {split} {metric} in a phase {phase!r}")
        return rows.set_index("epoch")["value"]

    def accuracy(self, phase: str | None = None, *, averaged: bool = False) -> float:
        """The validation accuracy (%) at the end of a phase, or of the whole run; ``averaged``: of the moving average
        of the weights."""
        split = "val_ema" if averaged else "val"
        return self.values(phase or self.recipe.phases[-1].name, split, "accuracy").iloc[-1]

    def find(self, look: Callable[[Run], pd.DataFrame]) -> pd.DataFrame:
        """The table that ``look`` makes of this run's networks, made once; a recorded run brings it along, in a file
        that is named as this function is.

        InputError if a recorded run does not.
        """
        if self.absent:
            raise not_there(self.recipe)
        name = look.__name__
        if name not in self._found:
            table = look(self) if self.folder is None else recorded.table(self.folder, name)
            if table is None:
                raise InputError(f"the recorded run {self.folder.name} has no table {name!r}, and no weights to make "
                                 "it from: use profile='laptop', which trains them")
            self._found[name] = table
        return self._found[name]

    @property
    def name(self) -> str:
        """What its folder in data/recorded/ is called."""
        return recorded.usual_place(self.recipe).name

    def record(self, name: str | None = None, *, packed: bool = False) -> Path:
        """Keep the tables and provenance for readers, in data/recorded/<name>/, with all that was found before.

        A run of this recipe that lies there is replaced, with all that was made of it if other code trained it.  A new
        one is called :attr:`name` unless told otherwise.  ``packed``: the network after the last phase as well.
        InputError if the folder is another recipe's.
        """
        there = recorded.recorded_at(self.recipe)
        name = name or (there.name if there else self.name)
        with recorded.replaced(name, self.recipe, self.key) as folder:
            for file, table in ({file: getattr(self, file) for file in TABLES} | self._found).items():
                if table.empty and file not in recorded.COLUMNS:
                    continue
                large = file == "steps"
                table.to_csv(folder / f"{file}.csv{'.gz' if large else ''}", index=False, lineterminator="\n",
                             float_format="%.4g" if large else "%.6g",
                             compression={"method": "gzip", "mtime": 1} if large else None)
            if packed:
                net = self.model() if len(self.layers) else models.quantize(self.model(), AS_IT_IS)
                deploy.pack(net, folder / PACKED, build=self.recipe.build())
            told = {"label": self.recipe.label, "key": self.key, "seconds": round(self.seconds),
                    "environment": self.environment, "recipe": self.recipe.identity()}
            with open(folder / "run.json", "w", encoding="utf-8") as file:
                json.dump(told, file, indent=1)
                file.write("\n")
        return paths.recorded_dir() / name


def _joined(tables: Mapping[str, pd.DataFrame | None], columns: Sequence[str]) -> pd.DataFrame:
    """The tables of those phases that have one, below each other, the phase in the first column."""
    found = [table.assign(phase=phase) for phase, table in tables.items() if table is not None]
    if not found:
        return pd.DataFrame(columns=["phase", *columns])
    joined = pd.concat(found, ignore_index=True)
    return joined[["phase", *joined.columns.drop("phase")]]


def not_there(recipe: Recipe) -> InputError:
    """Make the error for a recorded run that is not there."""
    return InputError(f"no recorded run of {recipe.label!r}, seed {recipe.seed}, with these settings: train it with "
                      "another profile, such as laptop")
