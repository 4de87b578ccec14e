"""Training of several recipes in processes of their own, whatever they share only once."""
from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import psutil
import torch

from .errors import InputError
from .paths import ROOT
from .recipes import Recipe
from .store import Link
from .training.progress import Progress

MEMORY = 2 * 2**30      # bytes that a training takes on a CPU, and a bit


def at_a_time(recipes: Sequence[Recipe]) -> int:
    """How many trainings have cores (``recipe.threads`` each) and free memory to themselves; one where there is a
    GPU."""
    if torch.cuda.is_available():
        return 1
    cores = os.cpu_count() or 1
    threads = max((recipe.threads or cores for recipe in recipes), default=1)
    return max(1, min(cores // threads, psutil.virtual_memory().available // MEMORY))


@dataclasses.dataclass
class Stretch:
    """What one worker trains at a time: the phases of ``recipe`` that come after the stretch ``after``, if any.

    It ends where a recipe ends or where recipes part.  ``epochs`` of its own, ``ahead`` from its beginning to the end
    of the longest recipe that goes through it.
    """

    recipe: Recipe
    after: str | None
    epochs: int
    ahead: int = 0


def stretches(recipes: Sequence[Recipe]) -> dict[str, Stretch]:
    """What has to be trained for these resolved recipes: {key of the last link: stretch}, those before others first."""
    chains, onward = [Link.chain(recipe) for recipe in recipes], defaultdict(set)
    for chain in chains:
        for link, following in zip(chain, [*chain[1:], None]):
            onward[link.key].add(following and following.key)
    found: dict[str, Stretch] = {}
    for chain in chains:
        after, first = None, 0
        for i, link in enumerate(chain):
            if None not in onward[link.key] and len(onward[link.key]) == 1:
                continue        # all go on, and the same way
            if not link.done:
                new = Stretch(dataclasses.replace(link.recipe, phases=link.recipe.phases[:i + 1]), after,
                              sum(phase.epochs for phase in link.recipe.phases[first:i + 1]))
                stretch = found.setdefault(link.key, new)
                stretch.ahead = max(stretch.ahead, sum(phase.epochs for phase in link.recipe.phases[first:]))
                after = link.key
            first = i + 1
    return found


def train(recipes: Sequence[Recipe], workers: int, until: float | None = None) -> None:
    """Train resolved recipes, each stretch in a process (paperlib/worker.py), at most ``workers`` at a time.

    The stretch with the longest way ahead comes first.  TimeoutError when time.monotonic() comes to ``until`` before
    the end; like after Ctrl-C, no finished step is lost.
    """
    missing = stretches(recipes)
    # glibc would hand large blocks back to the system after every step and fetch them anew
    env = {**os.environ, "MALLOC_TRIM_THRESHOLD_": str(2**33), "MALLOC_MMAP_THRESHOLD_": str(2**32),
           "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
    processes: list[subprocess.Popen] = []
    starting, ended = threading.Lock(), threading.Event()

    def work(recipe: Recipe) -> None:
        with starting:
            if ended.is_set():
                return
            # a session of its own: Ctrl-C in a terminal reaches us alone, even while the worker is still importing
            process = subprocess.Popen([sys.executable, "-m", "paperlib.worker"], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, text=True, env=env, start_new_session=True)
            processes.append(process)
        process.stdin.write(json.dumps(recipe.to_dict()) + "\n")
        process.stdin.flush()       # stays open: its end tells the worker that we are gone
        for line in process.stdout:
            event = json.loads(line)
            if "error" in event:
                raise InputError(event["error"])
            progress(**event)
        if process.wait() != 0:
            raise RuntimeError(f"training {recipe.label!r} ended with exit code {process.returncode}; "
                               "its last finished epoch is kept")

    pool, running = ThreadPoolExecutor(workers), {}
    with Progress(total=sum(stretch.epochs for stretch in missing.values())) as progress:
        try:
            while missing or running:
                coming = {*missing, *(key for key, _ in running.values())}
                ready = [key for key, stretch in missing.items() if stretch.after not in coming]
                for key in sorted(ready, key=lambda key: -missing[key].ahead)[:workers - len(running)]:
                    stretch = missing.pop(key)
                    running[pool.submit(work, stretch.recipe)] = key, stretch.epochs
                left = None if until is None else max(0.0, until - time.monotonic())
                finished = wait(running, left, FIRST_COMPLETED).done
                if not finished:
                    raise TimeoutError("the time given for training is over")
                for done in finished:
                    done.result()
                    progress.finish(*running.pop(done))
        finally:
            ended.set()
            with starting:
                for process in processes:
                    process.terminate()
            pool.shutdown()
