"""Further seeds of the runs that a claim rests on, trained on this machine: how long they take, and what they say."""
from __future__ import annotations

import dataclasses
import difflib
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from .. import runs
from ..data.imagenet import PICTURES
from ..errors import InputError
from ..recipes import Recipe
from ..runs import parallel, selftest
from ..runs.loading import resolve
from ..runs.phase_store import StoredPhase
from ..runs.rates import Rates, kind
from ..system.paths import runs_dir
from ..system.provenance import code_version, environment
from ..training.engine import Diverged
from . import confirmations, recording
from .confirmations import NO_NUMBER, Confirmation, Machine
from .experiments import Wanted
from .scoreboard import Judged
from .verdict import Verdict, effect, in_words

MOST = 10       # seeds in one file
GUESS = selftest.KIND, 500.0        # images per second, where nothing is known


def find(claim: str, judged: Sequence[Judged]) -> Judged:
    """Find the claim of this id.  InputError if there is none, which names those that are near or have all of these
    words, or if it rests on no training."""
    by_id = {one.id: one for one in judged}
    if claim not in by_id:
        words = claim.lower().split()
        near = [one.id for one in judged if words and all(word in one.verdict.claim.lower() for word in words)]
        near = dict.fromkeys(near[:5] + difflib.get_close_matches(claim, by_id, 3))
        told = "; ".join(f"{name} ({by_id[name].verdict.claim})" for name in near)
        raise InputError(f"no claim {claim!r}: {f'do you mean {told}? ' * bool(near)}"
                         "`python -m paperlib confirm` lists them all")
    if not confirmable(by_id[claim]):
        raise InputError(f"{claim} rests on no training whose seed could change: there is nothing to confirm")
    return by_id[claim]


def confirmable(one: Judged) -> bool:
    """Whether further seeds could say more of a claim."""
    return bool(one.verdict.runs) and not one.verdict.counted


def listing(judged: Sequence[Judged]) -> pd.DataFrame:
    """Tabulate the claims that can be confirmed: id; seeds; effect, its interval and unit; minutes that a further seed
    takes here; claim."""
    rates = rates_here(judged)
    return pd.DataFrame([
        {"id": one.id, "seeds": len(one.seeds) + len(one.further), "effect": one.together.summary(),
         "unit": one.verdict.unit, "minutes": math.ceil(seconds(trainings(one, _next(one, 1)), rates, 1) / 60),
         "claim": f"{one.verdict.claim} ({one.scale})"} for one in judged if confirmable(one)])


def rates_here(judged: Sequence[Judged]) -> Rates:
    """Learn how long trainings take from all that the store has; where it has nothing, from the recorded runs of these
    claims, which were trained elsewhere."""
    rates = Rates(GUESS)
    for file in runs_dir().glob("*/final.pt"):
        try:
            rates.learn(StoredPhase.at(file.parent.name))
        except InputError:      # damaged: `python -m paperlib runs` names it
            continue
    if not rates.learned:
        for run in {run.key: run for one in judged for run in one.runs if not run.absent}.values():
            epochs = sum(phase.epochs for phase in run.recipe.phases)
            rates.learned[kind(run.recipe, run.recipe.phases[-1])].append(run.seconds / (epochs * _images(run.recipe)))
    return rates


def trainings(one: Judged, seeds: Sequence[int]) -> list[Recipe]:
    """List the recipes that a claim rests on, for these seeds."""
    return [dataclasses.replace(recipe, seed=seed, recorded=False) for seed in seeds
            for recipe in confirmations.recipes(one.verdict).values()]


def seconds(recipes: Sequence[Recipe], rates: Rates, workers: int) -> float:
    """Estimate how long it takes to train what the store lacks of these recipes, whatever they share once.

    All data count as here: nothing is loaded."""
    missing = [{stored.key: rates.seconds(recipe, stored.phase, _images(recipe)) for stored in StoredPhase.chain(recipe)
                if not stored.done} for recipe in recipes]
    shared = {key: needed for chain in missing for key, needed in chain.items()}
    return max(sum(shared.values()) / workers, *(sum(chain.values()) for chain in missing))


def confirm(one: Judged, rates: Rates, *, minutes: float = 20.0, most: int = MOST, workers: int | None = None,
            say: Callable[[str], None] = print) -> Path | None:
    """Train as many further seeds as ``minutes`` have room for, at ``most`` so many, tell what they change, and write
    them to data/confirmations/.  None if not even one was finished in time.

    What ends before that, by the clock, by Ctrl-C or by SIGTERM, keeps each step that was trained; the same call goes
    on from there.  A seed whose training diverges counts as failed.  InputError if the data are not here, if one seed
    would take longer, or if a training ends in any other way, after the seeds before it have been written.
    """
    for recipe in trainings(one, _next(one, 1)):
        if reason := recording.refusal(recipe):
            raise InputError(f"{one.id} rests on {recipe.label}, {recipe.model}: {reason}")
    until, several, needed = time.monotonic() + 60 * minutes, _next(one, most), [0.0]
    workers = workers or parallel.at_a_time(trainings(one, several))
    while len(needed) <= len(several) and needed[-1] <= minutes:
        needed.append(seconds(trainings(one, several[:len(needed)]), rates, workers) / 60)
    chosen = [seed for seed, total in zip(several, needed[1:]) if total <= minutes]
    if not chosen:
        raise InputError(f"a further seed of {one.id} takes about {math.ceil(needed[1])} minutes here: give it "
                         f"--minutes {math.ceil(1.2 * needed[1])}, or choose a shorter one from `python -m paperlib "
                         "confirm`")
    wanted = trainings(one, chosen)
    say(f"{one.verdict.claim} ({one.scale}), in {one.verdict.unit}\nfurther seeds: "
        f"{', '.join(map(str, chosen))}; runs: {len(wanted)}; about {math.ceil(needed[len(chosen)])} min")
    failed = None
    try:
        runs.prepare(wanted, workers=workers, until=until)
    except TimeoutError:
        if time.monotonic() < until:
            raise
        say(f"{minutes:g} minutes are over; the same command goes on from here")
    except (InputError, RuntimeError) as error:     # all others have been trained
        failed = error
    diverged = isinstance(failed, Diverged)
    whole = list(itertools.takewhile(lambda seed: diverged or _trained(one, seed), chosen))
    if not whole:
        if failed:
            raise failed
        return None
    new = measured(one, whole)
    after = dataclasses.replace(one, confirmed=(*one.confirmed, new))
    say(told(one, after, new))
    file = new.write()
    say(f"written to {file}: CONTRIBUTING.md says how to send it")
    if failed and not diverged:
        raise failed
    return file


def measured(one: Judged, seeds: Sequence[int]) -> Confirmation:
    """Judge seeds, each by itself, and make a confirmation of what they say.

    One whose training is not in the store has diverged, and has failed in all comparisons.  An infinite difference, a
    ratio to nothing, is no number either."""
    judged = {seed: _judged(one, seed) for seed in seeds if _trained(one, seed)}
    differences = {comparison: dict.fromkeys(map(str, seeds)) for comparison in one.verdict.differences.comparison}
    for verdict in judged.values():
        for row in verdict.differences.itertuples():
            if math.isfinite(row.difference):
                differences[row.comparison][str(row.seed)] = row.difference
    hours = sum(stored.info.seconds for stored in _stored(one, seeds) if stored.done) / 3600
    machine = next((verdict.runs[0].environment for verdict in judged.values()), None) or environment()
    return Confirmation(one.id, f"{one.verdict.claim} ({one.scale})", tuple(confirmations.recipes(one.verdict)),
                        code_version(), Machine.of(machine), max(round(hours, 4), 1e-4), differences)


def told(before: Judged, after: Judged, new: Confirmation) -> str:
    """Write effect and interval of each comparison, without and with the new seeds, what these say, and the verdicts
    that this makes."""
    rows = [one.together.table().set_index("comparison") for one in (before, after)]
    lines = []
    for comparison, by_seed in new.differences.items():
        seeds = ", ".join(f"seed {seed}: {NO_NUMBER if value is None else format(value, '+.3g')}"
                          for seed, value in by_seed.items())
        lines.append(f"{comparison}\n  before: {effect(rows[0].loc[comparison])}\n  after:  "
                     f"{effect(rows[1].loc[comparison])}\n  new:    {seeds}")
    words = [in_words(one.together) for one in (before, after)]
    return "\n".join([*lines, f"verdict before: {words[0]}", f"verdict after:  {words[1]}"])


def _judged(one: Judged, seed: int) -> Verdict:
    """The claim, judged by this seed alone: its own runs from the store, others as they were recorded, if they were."""
    own = set(confirmations.recipes(one.verdict))

    def of_this_seed(recipe: Recipe) -> Recipe:
        return dataclasses.replace(recipe, seed=seed, recorded=confirmations.recipe_hash(recipe) not in own)

    def one_each(wanted: Wanted) -> Wanted:
        return {name: one_each(group) if isinstance(group, Mapping) else [of_this_seed(group[0])]
                for name, group in wanted.items()}

    found = runs.obtain_each(one_each(one.shown.recipes("recorded", 1)))
    return next(verdict for verdict in one.shown.verdicts(found, "recorded") if verdict.claim == one.verdict.claim)


def _stored(one: Judged, seeds: Sequence[int]) -> list[StoredPhase]:
    """All phases of the claim's runs of these seeds, each once."""
    chains = map(StoredPhase.chain, map(resolve, trainings(one, seeds)))
    return list({stored.key: stored for chain in chains for stored in chain}.values())


def _trained(one: Judged, seed: int) -> bool:
    return all(stored.done for stored in _stored(one, [seed]))


def _next(one: Judged, count: int) -> list[int]:
    return list(itertools.islice(confirmations.further(one.together.differences), count))


def _images(recipe: Recipe) -> int:
    return recipe.train_images or PICTURES["train"]
