"""From recipes to runs: what has not been trained before is trained, whatever runs share only once."""
from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

import pandas as pd
from torch import nn

from ..errors import InputError
from ..recipes import Recipe
from ..system import distributed, paths
from ..system.provenance import code_version
from ..training.progress import Progress, waiting
from . import parallel, recorded
from .loading import resolve, splits
from .phase_store import StoredPhase
from .run import Run, not_there

READY = "getting ready to train"
CURVE = ["phase", "epoch", "split", "metric"]        # what names a number of a history


def trained(name: str, *, any_code: bool = False) -> tuple[nn.Module, Recipe]:
    """A trained network and its recipe: of the phase whose key begins so, or of the recorded run of that name.

    InputError if there is none, or if other code than today's trained it, which may compute other numbers from the
    same weights; ``any_code``: a warning instead, as for recorded runs.
    """
    if name and (folder := paths.recorded_dir() / paths.plain_name(name, "a run")).is_dir():
        recipe = dataclasses.replace(recorded.read(name).recipe, recorded=True)
        run = Run.read(folder, recipe)
        net, same = run.model(), run.key == StoredPhase.chain(recipe)[-1].key
        cure, any_code = "train its recipe anew", True
    else:
        stored = StoredPhase.at(name)
        net, recipe, same = stored.network(), stored.recipe, stored.info.code == code_version()
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
    with waiting(READY) if distributed.rank() == 0 else contextlib.nullcontext():
        chain = StoredPhase.chain(resolve(recipe))
        if not (done := distributed.agreed(_done(chain))):
            check(chain)
    if not done:
        train(chain, progress)
    return Run.trained(chain)


def obtain_all(recipes: Sequence[Recipe], *, workers: int | None = None) -> list[Run]:
    """:func:`obtain` for several recipes, with ``workers`` processes at a time for what needs training.

    By default :func:`paperlib.runs.parallel.at_a_time`.  What several recipes begin with is trained once.
    """
    if distributed.world() > 1:
        return [obtain(recipe) for recipe in recipes]
    with waiting(READY):
        chains = [None if recipe.recorded else StoredPhase.chain(resolve(recipe)) for recipe in recipes]
    _train_all(filter(None, chains), workers=workers)
    return [Run.trained(chain) if chain else _recorded(recipe) for chain, recipe in zip(chains, recipes)]


def prepare(recipes: Sequence[Recipe], *, workers: int | None = None, until: float | None = None,
            each: Callable[[], None] = lambda: None, fits: Callable[[Recipe], bool] | None = None) -> int:
    """Train what :func:`obtain_all` would have to train, and say how many runs that were.

    Recorded ones are passed over.  ``until``: the time.monotonic() at which TimeoutError ends it, after the step under
    way; what was trained is kept, and the next call goes on from there.  ``each`` is called whenever something has been
    trained.  ``fits``: :func:`paperlib.runs.parallel.train`.  A run that fails does not keep others from being
    trained; its error comes at the end.
    """
    return _train_all((StoredPhase.chain(resolve(recipe)) for recipe in recipes if not recipe.recorded),
                      workers=workers, until=until, each=each, fits=fits)


def obtain_each(wanted: Mapping[Hashable, Sequence[Recipe]], *, complete: bool = False) -> dict[Hashable, list[Run]]:
    """:func:`obtain_all` for recipes under names, one for each seed: {name: runs}.

    Recorded runs that are not there are left out; where a name has none at all, absent ones (Run.unrecorded) stand for
    the seeds that other names have.  ``complete``: InputError instead.  Names may have names of their own, which are
    then obtained one after the other.
    """
    if any(isinstance(group, Mapping) for group in wanted.values()):
        return {name: obtain_each(group, complete=complete) for name, group in wanted.items()}
    there = {name: [r for r in recipes if complete or not r.recorded or is_recorded(r)]
             for name, recipes in wanted.items()}
    found = iter(obtain_all([recipe for recipes in there.values() for recipe in recipes]))
    seeds = {recipe.seed for recipes in there.values() for recipe in recipes}
    return {name: [next(found) for _ in recipes]
            or [Run.unrecorded(r) for r in wanted[name] if r.seed in seeds or not seeds]
            for name, recipes in there.items()}


# of a loss: what sixty steps make of the rounding of another processor of the same make, and of another make's (Intel
# against AMD) in a single epoch; another seed lies beyond the first
TOLERANCE, ACROSS_MAKES = 0.02, 0.15


def repeat(name: str) -> pd.DataFrame:
    """Train a recorded run once more by nothing but its run.json, and lay the curves beside each other.

    Columns phase, epoch, split, metric (loss, or accuracy in per cent), recorded, repeated, difference.  The same code
    on the same kind of machine gives the same numbers; attrs["same_code"] says whether the code that decides numbers is
    still the one that recorded it, attrs["trained"] how many phases were trained: those in the store (data/runs, or
    where PAPERLIB_RUNS says) are not; attrs["recorded_cpu"] and attrs["cpu"] name the processors.
    """
    told, before = recorded.read(name), recorded.table(paths.recorded_dir() / name, "history")
    if resolve(told.recipe) != told.recipe:
        raise InputError(f"{name} was trained on all of CIFAR-10, which is not here: `make data` gets it")
    trained = sum(not stored.done for stored in StoredPhase.chain(told.recipe))
    after = obtain(told.recipe)
    table = before.merge(after.history, on=CURVE, suffixes=("_recorded", "_repeated"))
    table = table.rename(columns={"value_recorded": "recorded", "value_repeated": "repeated"})
    table = table[[*CURVE, "recorded", "repeated"]].assign(difference=table.repeated - table.recorded)
    table.attrs.update(same_code=told.key == after.key, trained=trained, cpu=after.environment["cpu"],
                       recorded_cpu=told.environment["cpu"])
    return table


def train(chain: Sequence[StoredPhase], progress: Callable[..., None] | None = None) -> None:
    """Train the phases that the store does not have, here; under torchrun in all of its processes together.

    ``progress`` is called with what is reported after each step; None shows a bar.
    """
    with Progress() as bar:
        if progress is None and distributed.rank() == 0:
            recipe = chain[-1].recipe
            bar.begin(chain[-1].key, f"{recipe.label}, seed {recipe.seed}", parallel.next_phase(chain))
        for stored in chain:
            stored.obtain(progress or bar)


def _train_all(chains: Iterable[Sequence[StoredPhase]], *, workers: int | None, until: float | None = None,
               each: Callable[[], None] = lambda: None, fits: Callable[[Recipe], bool] | None = None) -> int:
    """What :func:`prepare` promises, for the phases of resolved recipes."""
    with waiting(READY):
        missing = {chain[-1].key: chain for chain in chains if not _done(chain)}
        check(*missing.values())
    errors: list[Exception] = []
    for fixed in (True, False):     # those of so many threads, then those that take all cores
        group = [chain for chain in missing.values() if bool(chain[-1].recipe.threads) == fixed]
        if not group:
            continue
        at_a_time = parallel.at_a_time([chain[-1].recipe for chain in group]) if workers is None else workers
        # several are trained in processes of their own, one here
        together = min(at_a_time, len(group)) > 1 or until is not None
        for part in [group] if together else group:
            try:
                if together:
                    parallel.train(part, at_a_time, until, each, fits)
                else:
                    train(part)
                    each()
            except (InputError, RuntimeError) as error:
                errors.append(error)
    parallel.complain(errors)
    return len(missing)


def _done(chain: Sequence[StoredPhase]) -> bool:
    return all(stored.done for stored in chain)


def check(*chains: Sequence[StoredPhase]) -> None:
    """InputError for data that are not there or a phase whose network cannot be built, before anything is trained."""
    networks = {}
    for chain in chains:
        splits(chain[0].recipe)
        for stored in chain:
            networks[repr((stored.recipe.build(), stored.phase.scheme, stored.phase.freeze))] = stored
    for stored in networks.values():
        stored.architecture()


def _recorded(recipe: Recipe) -> Run:
    folders = recorded.places(recipe)
    if len(folders) > 1:
        names = " and data/recorded/".join(folder.name for folder in folders)
        raise InputError(f"data/recorded/{names} hold runs of one recipe, {recipe.label!r}, seed {recipe.seed}: "
                         "delete all but one")
    folder = folders[0] if folders else recorded.usual_place(recipe)
    if not folder.is_dir():
        raise not_there(recipe)
    return Run.read(folder, recipe)


def is_recorded(recipe: Recipe) -> bool:
    """Whether data/recorded/ has this recipe's run, be it damaged."""
    return recorded.usual_place(recipe).is_dir() or recorded.recorded_at(recipe) is not None
