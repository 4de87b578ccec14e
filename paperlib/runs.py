"""Runs: ``obtain(recipe)`` returns the run of a recipe and trains only what has not been trained before."""
from __future__ import annotations

import functools
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout
from torch import nn

from . import deploy, distributed, models, outcomes, parallel
from .errors import InputError
from .paths import atomic, plain_name, recorded_dir, runs_dir
from .recipes import Recipe
from .sources import resolve, splits
from .store import Link
from .training.progress import Progress

PACKED = "network.packed"
AS_IT_IS = models.Scheme(w_bits=32, a_bits=32, negative_padding=False)     # a float network in a quantized one's form
TABLES = ("history", "layers", "instability", "steps")      # of a run; recorded ones have those that are not empty


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
    def unrecorded(cls, recipe: Recipe) -> Run:
        """In the place of a recorded run that is not there yet."""
        return cls(recipe, outcomes.unrecorded(recipe), pd.DataFrame(columns=["layer"]),
                   pd.DataFrame(columns=["layer", "aiwq"], dtype=float), key="", seconds=0.0, environment={})

    @property
    def absent(self) -> bool:
        return not self.key

    @functools.cached_property
    def failures(self) -> list[str]:
        return outcomes.failures(self)

    @property
    def outcome(self) -> str:
        return outcomes.NOT_RECORDED if self.absent else outcomes.FAILED if self.failures else ""

    def model(self, phase: str | None = None, *, averaged: bool = False) -> nn.Module:
        """The network after the last phase, or after the named one; ``averaged``: the moving average of its weights.

        Some recorded runs bring their last network along, packed (deploy.pack); InputError for others.
        """
        if self.absent:
            raise _not_there(self.recipe)
        if self.folder is not None:
            if phase or averaged or not (self.folder / PACKED).exists():
                raise InputError(f"the recorded run {self.folder.name} does not carry these weights: use "
                                 "profile='laptop', which trains them")
            return deploy.load(self.folder / PACKED)
        links = {link.phase.name: link for link in Link.chain(self.recipe)}
        if phase is not None and phase not in links:
            raise InputError(f"no phase {phase!r} in this run: choose from {', '.join(links)}")
        return links[phase or self.recipe.phases[-1].name].network(averaged=averaged)

    def values(self, phase: str, split: str, metric: str = "loss") -> pd.Series:
        """One curve: the metric by epoch."""
        h = self.history
        rows = h[(h.phase == phase) & (h.split == split) & (h.metric == metric)]
        if rows.empty:
            raise InputError(f"this run has no {split} {metric} in a phase {phase!r}")
        return rows.set_index("epoch")["value"]

    def find(self, look: Callable[[Run], pd.DataFrame]) -> pd.DataFrame:
        """The table that ``look`` makes of this run's networks, made once; a recorded run brings it along.

        InputError if a recorded run does not.
        """
        name = look.__name__
        if self.absent:
            raise _not_there(self.recipe)
        if name not in self._found and self.folder is not None:
            file = self.folder / f"{name}.csv"
            if not file.exists():
                raise InputError(f"the recorded run {self.folder.name} has no table {name!r}, and no weights to make "
                                 "it from: use profile='laptop', which trains them")
            self._found[name] = pd.read_csv(file)
        elif name not in self._found:
            self._found[name] = look(self)
        return self._found[name]

    @property
    def name(self) -> str:
        """What its folder in data/recorded/ is called."""
        r, label = self.recipe, "-".join(re.findall(r"[a-z0-9]+", self.recipe.label.lower()))
        return f"{label}_{r.model}_{r.seed}_{hashlib.sha256(_plain(r).encode()).hexdigest()[:6]}"

    def record(self, name: str | None = None, *, packed: bool = False) -> Path:
        """Keep the tables and provenance for readers, in data/recorded/<name>/, with all that was found before.

        A run of this recipe that lies there is replaced, with all that was made of it if other code trained it.  A new
        one is called :attr:`name` unless told otherwise.  ``packed``: the network after the last phase as well.
        InputError if the folder is another recipe's.
        """
        there = recorded_at(self.recipe)
        folder = recorded_dir() / plain_name(name or (there.name if there else self.name), "a recorded run")
        if (file := folder / "run.json").exists():
            info = json.loads(file.read_text(encoding="utf-8"))
            if _plain(Recipe.from_dict({"label": "", **info["recipe"]})) != _plain(self.recipe):
                raise InputError(f"{folder} holds another run: choose another name")
            if info["key"] != self.key:
                shutil.rmtree(folder)
        tables = {file: getattr(self, file) for file in TABLES}
        for file, table in (tables | self._found).items():
            if table.empty and file not in ("history", "layers"):
                continue
            large = file == "steps"
            with atomic(folder / f"{file}.csv{'.gz' if large else ''}") as temp:
                table.to_csv(temp, index=False, lineterminator="\n", float_format="%.4g" if large else "%.6g",
                             compression={"method": "gzip", "mtime": 1} if large else None)
        if packed:
            net = self.model() if len(self.layers) else models.quantize(self.model(), AS_IT_IS)
            deploy.pack(net, folder / PACKED, build=self.recipe.build())
        with atomic(folder / "run.json") as temp:
            temp.write_text(json.dumps({"label": self.recipe.label, "key": self.key, "seconds": round(self.seconds),
                                        "environment": self.environment, "recipe": self.recipe.identity()},
                                       indent=1) + "\n", encoding="utf-8")
        return folder


def trained(name: str) -> tuple[nn.Module, Recipe]:
    """A trained network and its recipe: of the phase whose key begins so, or of the recorded run of that name.

    InputError if there is none.
    """
    file = recorded_dir() / plain_name(name or "none", "a run") / "run.json"
    if name and file.exists():
        info = json.loads(file.read_text(encoding="utf-8"))
        recipe = Recipe.from_dict({"label": info["label"], **info["recipe"], "recorded": True})
        return _recorded(recipe).model(), recipe
    link = Link.at(name)
    return link.network(), link.recipe


def obtain(recipe: Recipe, *, progress: Callable[..., None] | None = None) -> Run:
    """The run of ``recipe``: from the store, after training what is missing; or from data/recorded/ if it says so.

    Two processes that ask for the same run train it once.  Ctrl-C and SIGTERM end after the step under way, anything
    harsher loses at most an epoch or a quarter of an hour: the same call goes on from there.  Under torchrun all
    processes call this with the same recipe.  InputError if data or disk space are missing or a recorded run is not
    there.
    """
    if recipe.recorded:
        return _recorded(recipe)
    recipe = resolve(recipe)
    links = Link.chain(recipe)
    if not distributed.agreed(all(link.done for link in links)):
        _check(links)
        with Progress() as bar:
            if progress is None and distributed.rank() == 0:
                bar.begin(links[-1].key, f"{recipe.label}, seed {recipe.seed}",
                          next((link.phase.name for link in links if not link.done), ""))
            for link in links:
                link.obtain(progress or bar)
    last = links[-1]
    layers = models.plan(last.network()) if last.phase.scheme else pd.DataFrame(columns=["layer"])

    def joined(tables, columns):
        tables = [table.assign(phase=link.phase.name) for link, table in zip(links, tables) if table is not None]
        table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["phase", *columns])
        return table[["phase", *(column for column in table if column != "phase")]]

    return Run(recipe, pd.concat([link.history for link in links], ignore_index=True), layers,
               joined([link.instability for link in links], ["layer", "aiwq"]),
               joined([link.steps for link in links], ["iteration", "layer", "metric", "value"]),
               key=last.key, seconds=sum(link.final["seconds"] for link in links),
               environment=last.info["environment"])


def obtain_all(recipes: Sequence[Recipe], *, workers: int | None = None) -> list[Run]:
    """:func:`obtain` for several recipes, with ``workers`` processes at a time for what needs training.

    By default :func:`paperlib.parallel.at_a_time`.  What several recipes begin with is trained once.
    """
    if distributed.world() == 1:
        prepare(recipes, workers=workers)
    return [obtain(r) for r in recipes]


def prepare(recipes: Sequence[Recipe], *, workers: int | None = None, until: float | None = None,
            each: Callable[[], None] = lambda: None) -> int:
    """Train what :func:`obtain_all` would have to train, and say how many runs that were.

    Recorded ones are passed over.  ``until``: the time.monotonic() at which TimeoutError ends it, after the step under
    way; what was trained is kept, and the next call goes on from there.  ``each`` is called whenever something has been
    trained.  A run that fails does not keep others from being trained; its error comes at the end.
    """
    recipes = [resolve(r) for r in recipes if not r.recorded]
    missing = {chain[-1].key: r for r, chain in ((r, Link.chain(r)) for r in recipes)
               if not all(link.done for link in chain)}
    for recipe in missing.values():
        _check(Link.chain(recipe))
    errors, one_thread = [], [r for r in missing.values() if r.threads]
    for group in filter(None, (one_thread, [r for r in missing.values() if not r.threads])):
        at_a_time = parallel.at_a_time(group) if workers is None else workers
        # several are trained in processes of their own, one here
        together = min(at_a_time, len(group)) > 1 or until is not None
        for part in [group] if together else [[recipe] for recipe in group]:
            try:
                if together:
                    parallel.train(part, at_a_time, until, each)
                else:
                    obtain(*part)
                    each()
            except (InputError, RuntimeError) as error:
                errors.append(error)
    parallel.complain(errors)
    return len(missing)


def obtain_each(wanted: Mapping[Hashable, Sequence[Recipe]], *, complete: bool = False) -> dict[Hashable, list[Run]]:
    """:func:`obtain_all` for recipes under names, one for each seed: {name: runs}.

    Recorded runs that are not there are left out; where a name has none at all, absent ones (Run.unrecorded) stand for
    the seeds that other names have.  ``complete``: InputError instead.
    """
    def there(recipes):
        return [r for r in recipes if complete or not r.recorded or is_recorded(r)]

    every, wanted = wanted, {name: there(recipes) for name, recipes in wanted.items()}
    found = iter(obtain_all([recipe for recipes in wanted.values() for recipe in recipes]))
    obtained = {name: [next(found) for _ in recipes] for name, recipes in wanted.items()}
    seeds = {recipe.seed for recipes in wanted.values() for recipe in recipes}
    return {name: group or [Run.unrecorded(r) for r in every[name] if r.seed in seeds or not seeds]
            for name, group in obtained.items()}


def _check(links: list[Link]) -> None:
    """InputError for data that are not there or a phase whose network cannot be built, before anything is trained."""
    splits(links[0].recipe)
    for link in links:
        link.architecture()


def _recorded(recipe: Recipe) -> Run:
    folder = recorded_at(recipe)
    if folder is None:
        raise _not_there(recipe)
    info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    tables = [next(map(pd.read_csv, sorted(folder.glob(f"{name}.csv*"))), None) for name in TABLES]
    return Run(recipe, *tables, key=info["key"], seconds=info["seconds"], environment=info["environment"],
               folder=folder)


def _not_there(recipe: Recipe) -> InputError:
    return InputError(f"no recorded run of {recipe.label!r}, seed {recipe.seed}, with these settings: train it with "
                      "another profile, such as laptop")


def recorded_at(recipe: Recipe) -> Path | None:
    """The folder in data/recorded/ with this recipe's run, if it is there."""
    folder = recorded_dir()
    return _shelf(folder, folder.stat().st_mtime_ns).get(_plain(recipe)) if folder.is_dir() else None


@functools.cache
def _shelf(folder: Path, changed: int) -> dict[str, Path]:
    """{what a recipe is known by: its folder}, of all recorded runs."""
    shelf = {}
    for file in sorted(folder.glob("*/run.json")):
        recipe = json.loads(file.read_text(encoding="utf-8"))["recipe"]
        # settings younger than the run get their defaults
        shelf.setdefault(_plain(Recipe.from_dict({"label": "", **recipe})), file.parent)
    return shelf


def _plain(recipe: Recipe) -> str:
    return json.dumps(recipe.identity(), sort_keys=True)


def is_recorded(recipe: Recipe) -> bool:
    """Whether data/recorded/ has this recipe's run."""
    return recorded_at(recipe) is not None


def listing() -> pd.DataFrame:
    """All phases in the store, one row each: key, phase, status, seed, time, accuracy, size and so on."""
    rows = []
    for folder in sorted(filter(Path.is_dir, runs_dir().glob("*")), key=lambda f: f.stat().st_mtime):
        file = folder / "link.json"
        info = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        recipe = info.get("recipe", {"phases": [{}]})
        status = "done" if (folder / "final.pt").exists() else "training" if _locked(folder) else "interrupted"
        rows.append({"phase run": folder.name, "status": status, "model": recipe.get("model"),
                     "phase": recipe["phases"][-1].get("name"), "after": info.get("previous"),
                     "seed": recipe.get("seed", ""), "accuracy": info.get("accuracy"), "seconds": info.get("seconds"),
                     "images/s": info.get("images_per_s"), "peak MB": info.get("peak_memory_mb"),
                     "finished": info.get("finished"),
                     "MB": round(sum(f.stat().st_size for f in folder.iterdir()) / 1e6, 1)})
    return pd.DataFrame(rows)


def _locked(folder: Path) -> bool:
    """Whether some process is at work there just now."""
    try:
        with FileLock(folder / ".lock", timeout=0):
            return False
    except Timeout:
        return True
