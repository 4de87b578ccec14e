"""What data/recorded/ should hold, what of it is there, and the way to the rest: best first, within a given time."""
from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from .. import runs
from ..errors import InputError
from ..recipes import Recipe, profiles
from ..runs import recorded
from ..runs.loading import resolve, splits
from ..runs.phase_store import StoredPhase
from ..runs.rates import Rates
from . import contents

MOST_WORTH = ("profit_supp_fig1_loss_curves", "profit_table3_ablation", "qil_table1_2_cifar10",
              "profit_table1_accuracy", "profit_fig2_4_aiwq", "profit_supp_s5_bn_folding")
STATES = ("recorded", "trained", "begun", "to do")


@dataclasses.dataclass
class Task:
    """A run that the notebooks ``items`` open on, with the tables that they make of its network; ``packed``: with the
    network itself."""

    recipe: Recipe
    items: list[str] = dataclasses.field(default_factory=list)
    tables: list[Callable] = dataclasses.field(default_factory=list)
    packed: bool = False

    @property
    def recorded(self) -> bool:
        """Whether data/recorded/ has all of it."""
        folder = runs.recorded_at(self.recipe)
        files = [f"{look.__name__}.csv" for look in self.tables] + [runs.PACKED] * self.packed
        return folder is not None and all((folder / file).exists() for file in files)

    @property
    def phases(self) -> list[StoredPhase]:
        """Its phases in the store."""
        return StoredPhase.chain(self.recipe)

    @property
    def stale(self) -> bool:
        """Whether it was recorded with other code than today's, of what decides numbers."""
        folder = runs.recorded_at(self.recipe)
        return folder is not None and recorded.read(folder.name).key != self.phases[-1].key

    def state(self) -> tuple[str, list[StoredPhase]]:
        """Tell which of STATES it is in, and list the phases that are not trained.  "begun": more of it is there than
        its float network."""
        if self.recorded:
            return "recorded", []
        phases = self.phases
        missing = [stored for stored in phases if not stored.done]
        begun = any(stored.folder.exists() for stored in phases[1:])
        return "trained" if not missing else "begun" if begun else "to do", missing

    def record(self) -> Path:
        """Record the trained run."""
        run = runs.obtain(self.recipe)
        for look in self.tables:
            run.find(look)
        return run.record(packed=self.packed)


def tasks(profile: str = "recorded", names: Iterable[str] = (), seeds: int = 0) -> list[Task]:
    """List the runs of these items (default: all, those first whose claims need it most), each once: of an item the
    first seed of all rows, then the second ..., since a claim is judged by several.

    The profile that ``recorded`` replays has its list, which is longer than what the profile itself trains.  ``seeds``:
    0 for as many as the profile shows.  InputError for unknown names.
    """
    profile = next((p for p in profiles.names() if profiles.get(p).replays == profile), profile)
    found: dict[str, Task] = {}
    for item in names or sorted(contents.names(), key=lambda name: (*MOST_WORTH, name).index(name)):
        for recipe, looks in contents.needed(profile, item, seeds):
            recipe = dataclasses.replace(recipe, recorded=False)
            task = found.setdefault(recipe.known_by, Task(recipe))
            task.items += [item] * (item not in task.items)
            task.tables += [look for look in looks if look not in task.tables]
            task.packed |= contents.NOTEBOOKS[item].packed
    order = list(dict.fromkeys(task.items[0] for task in found.values()))
    return sorted(found.values(), key=lambda task: (order.index(task.items[0]), task.recipe.seed))


def status(tasks: Sequence[Task]) -> pd.DataFrame:
    """Count the runs of each item and all of them by STATES, the epochs that are left to train, and those recorded with
    older code.  Looks at what is here and fetches nothing.

    A run that several items show counts for each of them, and once in the last row.
    """
    states = [(task, *task.state()) for task in tasks]
    names = dict.fromkeys(item for task in tasks for item in task.items)
    groups = {name: [row for row in states if name in row[0].items] for name in names} | {"all runs": states}
    rows = {}
    for name, group in groups.items():
        epochs = {stored.key: stored.phase.epochs for _, _, missing in group for stored in missing}
        rows[name] = {state: sum(row[1] == state for row in group) for state in STATES} | {
            "epochs left": sum(epochs.values()), "of older code": sum(task.stale for task, *_ in group)}
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.loc[:, [column for column in table if column in ("recorded", "epochs left") or table[column].any()]]


def work(tasks: Sequence[Task], *, minutes: float | None = None, workers: int | None = None, again: bool = False,
         rates: Rates | None = None, kept: Callable[[Path], object] = lambda folder: None,
         say: Callable[[str], None] = print) -> None:
    """Train and record what is not recorded yet (``again``: all), an item after the other, in ``minutes`` if given.

    With ``rates`` the runs come in the order of ``tasks`` instead, and what would not end in time, as far as rates are
    known by then, does not begin.  ``kept`` is called with the folder of each run that has been recorded.

    A run is recorded as soon as it is whole.  What ends before everything is done, by the clock, by Ctrl-C or by
    SIGTERM, keeps each step that was trained; the same call goes on from there.  Runs whose data are not on this
    machine are left out, with the reason; what fails does not keep the others from it, and InputError tells of it at
    the end.
    """
    until, failed = None if minutes is None else time.monotonic() + 60 * minutes, []
    left = list(_possible([task for task in tasks if again or not task.recorded], say))

    def keep() -> None:
        for task in [task for task in left if all(stored.done for stored in task.phases)]:
            left.remove(task)
            try:
                folder = task.record()
                say(f"recorded in {folder}")
                kept(folder)
            except (InputError, OSError) as error:
                failed.append(f"not recorded: {task.recipe.label}, {task.recipe.model}: {error}")

    known = set()

    def fits(recipe: Recipe) -> bool:
        for stored in (stored for task in tasks for stored in task.phases if stored.key not in known and stored.done):
            known.add(stored.key)
            rates.learn(stored)
        images, missing = len(splits(recipe)[0]), Task(recipe).state()[1]
        seconds = sum(rates.seconds(recipe, stored.phase, images) for stored in missing)
        return until is None or time.monotonic() + seconds < until

    items = [None] if rates else list(dict.fromkeys(task.items[0] for task in left))     # None: all of them at once
    try:
        keep()
        for item in items:
            try:
                runs.prepare([task.recipe for task in left if item in (None, task.items[0])], workers=workers,
                             until=until, each=keep, fits=fits if rates else None)
            except TimeoutError:
                if until is None or time.monotonic() < until:
                    raise
                say(f"{minutes:g} minutes are over; the same command goes on from here")
                break
            except (InputError, RuntimeError) as error:
                failed.append(str(error))
    finally:
        keep()
        recorded.write_index()
    if failed:
        raise InputError("\n".join(failed))


def _possible(tasks: Sequence[Task], say: Callable[[str], None]) -> Iterator[Task]:
    """Pick the tasks whose data are here or can be fetched; of the others, say why not.  Data are tried once."""
    refused: dict[tuple, str] = {}
    for task in tasks:
        r = task.recipe
        data = r.data, r.train_images, r.test_images, r.batch_size, r.input_size
        if data not in refused:
            refused[data] = refusal(r)
        if refused[data]:
            say(f"left out: {r.label}, {r.model}: {refused[data]}")
        else:
            yield task


def refusal(recipe: Recipe) -> str:
    """Say why the data of a recipe cannot be had here; "" if they can."""
    if resolve(recipe) != recipe:
        return "all of CIFAR-10 is not here: `make data` gets it"
    try:
        splits(recipe)
    except InputError as error:
        return str(error)
    return ""
