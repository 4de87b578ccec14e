"""From recipes to runs: what has not been trained before is trained, whatever runs share only once."""
from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from torch import nn

from .. import models
from ..errors import InputError
from ..recipes import Recipe
from ..system import distributed, paths
from ..system.paths import plain_name
from ..system.provenance import code_version
from ..training.progress import Progress
from . import parallel, recorded
from .loading import resolve, splits
from .phase_store import StoredPhase
from .run import Run, not_there

CURVE = ["phase", "epoch", "split", "metric"]        # what names a number of a history


def trained(name: str, *, any_code: bool = False) -> tuple[nn.Module, Recipe]:
    """A trained network and its recipe: of the phase whose key begins so, or of the recorded run of that name.

    InputError if there is none, or if other code than today's trained it, which may compute other numbers from the
    same weights; ``any_code``: a warning instead, as for recorded runs.
    """
    if name and (folder := paths.recorded_dir() / plain_name(name, "a run")).is_dir():
        recipe = dataclasses.replace(recorded.read(name).recipe, recorded=True)
        run = Run.read(folder, recipe)
        net, same = run.model(), run.key == StoredPhase.chain(recipe)[-1].key
        cure, any_code = "train its recipe anew", True
    else:
        link = StoredPhase.at(name)
        net, recipe, same = link.network(), link.recipe, link.info.code == code_version()
        cure = "train its recipe anew, check out the code that trained it, or take it as it is (--any-code)"
    if not same:
        fault = f"{name} was trained by other code than today's, so its numbers may come out otherwise: {cure}"
        if not any_code:
            raise InputError(fault)
        warnings.warn(fault, stacklevel=2)
    return net, recipe


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
    links = StoredPhase.chain(recipe)
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
               environment=last.info.environment)


def obtain_all(recipes: Sequence[Recipe], *, workers: int | None = None) -> list[Run]:
    """:func:`obtain` for several recipes, with ``workers`` processes at a time for what needs training.

    By default :func:`paperlib.runs.parallel.at_a_time`.  What several recipes begin with is trained once.
    """
    if distributed.world() == 1:
        prepare(recipes, workers=workers)
    return [obtain(r) for r in recipes]


def prepare(recipes: Sequence[Recipe], *, workers: int | None = None, until: float | None = None,
            each: Callable[[], None] = lambda: None, fits: Callable[[Recipe], bool] | None = None) -> int:
    """Train what :func:`obtain_all` would have to train, and say how many runs that were.

    Recorded ones are passed over.  ``until``: the time.monotonic() at which TimeoutError ends it, after the step under
    way; what was trained is kept, and the next call goes on from there.  ``each`` is called whenever something has been
    trained.  ``fits``: :func:`paperlib.runs.parallel.train`.  A run that fails does not keep others from being trained; its
    error comes at the end.
    """
    recipes = [resolve(r) for r in recipes if not r.recorded]
    missing = {chain[-1].key: r for r, chain in ((r, StoredPhase.chain(r)) for r in recipes)
               if not all(link.done for link in chain)}
    for recipe in missing.values():
        _check(StoredPhase.chain(recipe))
    errors, one_thread = [], [r for r in missing.values() if r.threads]
    for group in filter(None, (one_thread, [r for r in missing.values() if not r.threads])):
        at_a_time = parallel.at_a_time(group) if workers is None else workers
        # several are trained in processes of their own, one here
        together = min(at_a_time, len(group)) > 1 or until is not None
        for part in [group] if together else [[recipe] for recipe in group]:
            try:
                if together:
                    parallel.train(part, at_a_time, until, each, fits)
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


def repeat(name: str) -> pd.DataFrame:
    """Train a recorded run once more by nothing but its run.json, and lay the curves beside each other.

    Columns phase, epoch, split, metric (loss, or accuracy in per cent), recorded, repeated, difference.  The same code
    on the same kind of machine gives the same numbers; attrs["same_code"] says whether the code that decides numbers is
    still the one that recorded it, attrs["trained"] how many phases were trained: those in the store (data/runs, or
    where PAPERLIB_RUNS says) are not.
    """
    told, before = recorded.read(name), recorded.table(paths.recorded_dir() / name, "history")
    if resolve(told.recipe) != told.recipe:
        raise InputError(f"{name} was trained on all of CIFAR-10, which is not here: `make data` gets it")
    trained = sum(not link.done for link in StoredPhase.chain(told.recipe))
    after = obtain(told.recipe)
    table = before.merge(after.history, on=CURVE, suffixes=("_recorded", "_repeated"))
    table = table.rename(columns={"value_recorded": "recorded", "value_repeated": "repeated"})
    table = table[[*CURVE, "recorded", "repeated"]].assign(difference=table.repeated - table.recorded)
    table.attrs.update(same_code=told.key == after.key, trained=trained)
    return table


def _check(links: list[StoredPhase]) -> None:
    """InputError for data that are not there or a phase whose network cannot be built, before anything is trained."""
    splits(links[0].recipe)
    for link in links:
        link.architecture()


def _recorded(recipe: Recipe) -> Run:
    folders = recorded.places(recipe)
    if len(folders) > 1:
        names = " and data/recorded/".join(folder.name for folder in folders)
        raise InputError(f"data/recorded/{names} hold runs of one recipe, {recipe.label!r}, seed {recipe.seed}: "
                         "delete all but one")
    if not folders and not is_recorded(recipe):
        raise not_there(recipe)
    return Run.read(*folders or [recorded.usual_place(recipe)], recipe)


def recorded_at(recipe: Recipe) -> Path | None:
    """The folder in data/recorded/ with this recipe's run, if it is there and can be read."""
    return next(iter(recorded.places(recipe)), None)


def is_recorded(recipe: Recipe) -> bool:
    """Whether data/recorded/ has this recipe's run, be it damaged."""
    return recorded_at(recipe) is not None or recorded.usual_place(recipe).is_dir()
