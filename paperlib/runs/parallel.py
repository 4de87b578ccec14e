"""Training of several recipes in processes of their own, whatever they share only once."""
from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import psutil
import torch

from ..errors import InputError
from ..recipes import Recipe
from ..system.distributed import cores
from ..system.paths import environment
from ..training.engine import Diverged
from ..training.progress import Progress, tell
from .loading import PHOTOGRAPHS
from .phase_store import OUT_OF_MEMORY, StoredPhase

MEMORY, ON_PHOTOGRAPHS = 2 * 2**30, 3 * 2**30      # bytes that a training with one thread takes on a CPU, and a bit
LIMIT = Path("/sys/fs/cgroup/memory.max")       # what a container may take


def at_a_time(recipes: Sequence[Recipe]) -> int:
    """How many trainings have cores (``recipe.threads`` each) and free memory to themselves; one where there is a
    GPU."""
    if torch.cuda.is_available():
        return 1
    threads = max((recipe.threads or cores() for recipe in recipes), default=1)
    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):      # no such file, or no limit in it
        free = min(free, int(LIMIT.read_text()) - int(LIMIT.with_name("memory.current").read_text()))
    needed = ON_PHOTOGRAPHS if any(recipe.data in PHOTOGRAPHS for recipe in recipes) else MEMORY
    return max(1, min(cores() // threads, free // needed))


def environment_of_workers() -> dict[str, str]:
    """The variables that a process which trains is started with."""
    # glibc would hand large blocks back to the system after every step and fetch them anew, in pages of 4 kB
    return {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", **environment(), "MALLOC_TRIM_THRESHOLD_": str(2**33),
            "MALLOC_MMAP_THRESHOLD_": str(2**32)}


@dataclasses.dataclass
class TrainingJob:
    """What one worker trains at a time: the phases of ``recipe`` that come after the job ``after``, if any.

    It ends where a recipe ends or where recipes part.  ``epochs`` of its own, ``ahead`` from its beginning to the end
    of the longest recipe that goes through it.
    """

    recipe: Recipe
    after: str | None
    epochs: int
    ahead: int = 0


def training_jobs(chains: Sequence[Sequence[StoredPhase]]) -> dict[str, TrainingJob]:
    """What has to be trained for these runs: {key of its last phase: job}, those that others go on from first."""
    onward = defaultdict(set)
    for chain in chains:
        for stored, following in zip(chain, [*chain[1:], None]):
            onward[stored.key].add(following and following.key)
    jobs: dict[str, TrainingJob] = {}
    for chain in chains:
        phases, after, first = chain[-1].recipe.phases, None, 0
        for i, stored in enumerate(chain):
            if None not in onward[stored.key] and len(onward[stored.key]) == 1:
                continue        # all go on, and the same way
            if not stored.done:
                new = TrainingJob(dataclasses.replace(stored.recipe, phases=phases[:i + 1]), after,
                                  sum(phase.epochs for phase in phases[first:i + 1]))
                job = jobs.setdefault(stored.key, new)
                job.ahead = max(job.ahead, sum(phase.epochs for phase in phases[first:]))
                after = stored.key
            first = i + 1
    return jobs


def ready_jobs(waiting: Mapping[str, TrainingJob], running: Collection[str], longest_first: bool = True) -> list[str]:
    """The keys of the jobs that can begin: they go on from none that is waiting or running.  The one with the longest
    way ahead comes first, or else they come in their own order."""
    ready = [key for key, job in waiting.items() if job.after not in waiting and job.after not in running]
    return sorted(ready, key=lambda key: -waiting[key].ahead) if longest_first else ready


def train(chains: Sequence[Sequence[StoredPhase]], workers: int, until: float | None = None,
          each: Callable[[], None] = lambda: None, fits: Callable[[Recipe], bool] | None = None) -> None:
    """Train the phases of resolved recipes in ``workers`` processes (worker.py), each of which does one job after the
    other, and call ``each`` whenever a job has ended.

    The job with the longest way ahead comes first.  With a time limit, ``until``, they come in the order of the recipes
    instead, so that whole runs are there when it ends; with ``fits``, one that does not fit into the time left is left
    out, with what goes on from it.  TimeoutError when time.monotonic() comes to ``until`` before the end; like after
    Ctrl-C, no finished step is lost.  What fails takes along what goes on from it, and nothing else: the error, or an
    InputError that tells of several, comes at the end.
    """
    waiting, errors = training_jobs(chains), []
    running: dict[Future, tuple[str, TrainingJob]] = {}

    def drop_followers(key: str) -> None:
        lost = {key}
        for other, job in [*waiting.items()]:
            if job.after in lost:
                lost.add(other)
                del waiting[other]

    epochs = sum(job.epochs for job in waiting.values())
    with Progress(total=epochs) as progress, _processes(workers, progress) as start:
        while waiting or running:
            ready = ready_jobs(waiting, [key for key, _ in running.values()],
                               longest_first=until is None and fits is None)
            for key in ready[:workers - len(running)]:
                job = waiting.pop(key)
                recipe = job.recipe
                if fits is not None and not fits(recipe):
                    drop_followers(key)
                    tell(f"left out, for want of time: {recipe.label}, {recipe.model}, seed {recipe.seed}")
                    progress.finish(key, job.epochs)
                    continue
                progress.begin(key, f"{recipe.label}, seed {recipe.seed}", next_phase(StoredPhase.chain(recipe)))
                running[start(key, recipe)] = key, job
            if not running:
                continue
            left = None if until is None else max(0.0, until - time.monotonic())
            finished = wait(running, left, FIRST_COMPLETED).done
            if not finished:
                raise TimeoutError("the time given for training is over")
            for done in finished:
                key, job = running.pop(done)
                if error := done.exception():
                    errors.append(error)
                    drop_followers(key)
                    tell(f"failed, the others go on: {error}")
                progress.finish(key, job.epochs)
            each()
    complain(errors)


@contextlib.contextmanager
def _processes(most: int, report: Callable[..., None]) -> Iterator[Callable[[str, Recipe], Future]]:
    """Yield a function that starts the training of a recipe whose last phase has this key, at most so many at a time,
    in processes that take up one after another; none outlives the block."""
    processes, idle, starting, ended = [], [], threading.Lock(), threading.Event()

    def process_for_it() -> subprocess.Popen | None:
        with starting:
            if ended.is_set():
                return None
            if idle:
                return idle.pop()
            # a session of its own: Ctrl-C in a terminal reaches us alone, even while the worker is still importing
            process = subprocess.Popen([sys.executable, "-m", "paperlib.runs.worker"], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, text=True, env=environment_of_workers(),
                                       start_new_session=True)
            processes.append(process)
            return process

    def train(key: str, recipe: Recipe) -> None:
        process = process_for_it()
        if process is None:
            return
        # its input stays open: the end of it tells the worker that we are gone
        with contextlib.suppress(BrokenPipeError):      # its exit code tells more
            process.stdin.write(json.dumps([key, recipe.to_dict()]) + "\n")
            process.stdin.flush()
        for line in process.stdout:
            event = json.loads(line)
            if "error" in event:
                raise (Diverged if event["diverged"] else InputError)(event["error"])
            if "done" in event:
                idle.append(process)
                return
            report(**event)
        code = process.wait()
        told = f"training {recipe.label!r}, seed {recipe.seed}, "
        kept = "what its last finished epoch left is kept, and the same command goes on from there"
        if code < 0:
            memory = OUT_OF_MEMORY if code == -signal.SIGKILL else ""
            raise InputError(f"{told}was killed by signal {-code}{memory}; {kept}")
        if code:
            raise RuntimeError(f"{told}ended with exit code {code}; {kept}")

    pool = ThreadPoolExecutor(most)
    try:
        yield functools.partial(pool.submit, train)
    finally:
        ended.set()
        with starting:
            for process in processes:
                process.terminate()
        pool.shutdown()
        for process in processes:
            with contextlib.suppress(BrokenPipeError), process:     # closes its pipes and waits for its end
                pass


def next_phase(chain: Sequence[StoredPhase]) -> str:
    """The name of the first phase that is not trained yet."""
    return next((stored.phase.name for stored in chain if not stored.done), "")


def complain(errors: Sequence[BaseException]) -> None:
    """Raise the only one of these errors, or an InputError that tells of all, Diverged if all are; nothing if there
    are none."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        cause = Diverged if all(isinstance(error, Diverged) for error in errors) else InputError
        raise cause(f"{len(errors)} trainings failed:\n" + "\n".join(map(str, errors)))
