"""The run store: ``obtain(recipe)`` returns the run, and trains only what has not been trained before.

A run is a chain of phases.  Each link lies in a folder named by a hash over everything that determines it: data, model,
seed, the code of the numerics, and all phases up to it.  So recipes that begin alike share their beginning, and an
interrupted phase goes on after its last finished epoch.
"""
from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import hashlib
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from torch import nn

from . import data, models
from .batches import Batches
from .errors import InputError
from .paths import atomic, recorded_dir, runs_dir, unwritable
from .recipes import Recipe
from .training import checkpoint
from .training.engine import Trainer
from .training.progress import Progress

COLUMNS = ["epoch", "step", "split", "metric", "value"]
NUMERICS = ("batches.py", "layers.py", "models", "quantizers", "training/engine.py", "training/losses.py",
            "training/phases.py")


@functools.cache
def code_version() -> str:
    """A hash over the code that decides numbers, without comments and docstrings: rewording costs no retraining."""
    here, digest = Path(__file__).parent, hashlib.sha256()
    for name in NUMERICS:
        for file in sorted((here / name).rglob("*.py")) if (here / name).is_dir() else [here / name]:
            tree = ast.parse(file.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                body = getattr(node, "body", None)
                if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(
                        body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
                    del body[0]
            digest.update(f"{file.relative_to(here).as_posix()}\n{ast.unparse(tree)}\n".encode())
    return digest.hexdigest()[:12]


def environment() -> dict:
    """The machine and versions that a run was made with."""
    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
            "system": f"{platform.system()} {platform.machine()}", "cpu": _cpu(), "cpu_threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None}


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


@dataclasses.dataclass(frozen=True)
class Link:
    """Phase ``index`` of ``recipe``, with all that comes before it."""

    recipe: Recipe
    index: int

    @property
    def phase(self):
        return self.recipe.phases[self.index]

    @functools.cached_property
    def key(self) -> str:
        identity = self.recipe.identity()
        identity["phases"] = identity["phases"][: self.index + 1]
        text = json.dumps([code_version(), identity], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def folder(self) -> Path:
        return runs_dir() / self.key

    @property
    def done(self) -> bool:
        return (self.folder / "final.pt").exists()

    def load(self) -> dict:
        return checkpoint.load(self.folder / "final.pt")

    def network(self) -> nn.Module:
        """The network as this phase left it."""
        net = _build(self.recipe)
        if self.phase.scheme is not None:
            net = models.quantize(net, self.phase.scheme)
        try:
            net.load_state_dict(self.load()["net"])
        except RuntimeError as error:
            raise InputError(f"{self.folder} holds another network ({str(error).splitlines()[0]}): delete it and run "
                             "again") from error
        return net


class Run:
    """A finished run: ``recipe``, ``history``, ``layers``, ``seconds``, ``environment``, ``key`` and ``model()``.

    ``history``: DataFrame with columns phase, epoch, step, split, metric, value.  ``layers``: the plan of the final
    network, one row per layer.  ``seconds``: pure training time, evaluation apart.
    """

    def __init__(self, recipe: Recipe, history: pd.DataFrame, layers: pd.DataFrame, info: dict):
        self.recipe, self.history, self.layers = recipe, history, layers
        self.key, self.seconds, self.environment = info["key"], info["seconds"], info["environment"]

    def model(self, phase: str | None = None) -> nn.Module:
        """The network after the last phase, or after the named one.  InputError for a recorded run without one."""
        if self.recipe.recorded:
            raise InputError("this recorded run carries no weights: obtain it with profile='laptop', which trains it")
        names = [p.name for p in self.recipe.phases]
        if phase is not None and phase not in names:
            raise InputError(f"no phase {phase!r} in this run: choose from {', '.join(names)}")
        return Link(self.recipe, len(names) - 1 if phase is None else names.index(phase)).network()

    def values(self, phase: str, split: str, metric: str = "loss") -> pd.Series:
        """One curve: the metric by epoch."""
        h = self.history
        rows = h[(h.phase == phase) & (h.split == split) & (h.metric == metric)]
        if rows.empty:
            raise InputError(f"the run has no {split} {metric} in phase {phase!r}")
        return rows.set_index("epoch")["value"]

    def record(self, name: str) -> Path:
        """Keep this run for readers: history, layers and provenance in data/recorded/<name>/."""
        folder = recorded_dir() / name
        _write_json(folder / "run.json", {"label": self.recipe.label, "key": self.key, "seconds": self.seconds,
                                          "environment": self.environment, "recipe": self.recipe.to_dict()})
        for table, file in ((self.history, "history.csv"), (self.layers, "layers.csv")):
            with atomic(folder / file) as temp:
                table.to_csv(temp, index=False, lineterminator="\n", float_format="%.6g")
        return folder


def obtain(recipe: Recipe, *, progress: Callable[..., None] | None = None) -> Run:
    """The run of ``recipe``: from the store, after training what is missing; from data/recorded/ if it says so.

    Two processes that ask for the same run train it once.  Ctrl-C loses at most the epoch under way: the same call
    goes on from there.  InputError if data or disk are missing, or a recorded run is not there.
    """
    if recipe.recorded:
        return _recorded(recipe)
    recipe = resolve(recipe)
    links = [Link(recipe, i) for i in range(len(recipe.phases))]
    if not all(link.done for link in links):
        with contextlib.ExitStack() as stack:
            report = stack.enter_context(Progress()) if progress is None else progress
            for i in range(len(links)):
                _train_link(links, i, report)
    states = [link.load() for link in links]
    history = pd.concat([pd.DataFrame(s["history"], columns=COLUMNS).assign(phase=link.phase.name)
                         for s, link in zip(states, links)], ignore_index=True)
    net = links[-1].network()
    layers = models.plan(net) if recipe.phases[-1].scheme else pd.DataFrame()
    info = json.loads((links[-1].folder / "link.json").read_text(encoding="utf-8"))
    return Run(recipe, history[["phase", *COLUMNS]], layers,
               {**info, "seconds": sum(s["seconds"] for s in states)})


def resolve(recipe: Recipe) -> Recipe:
    """The recipe with the data that can be had: without the full CIFAR-10 it names the embedded subset instead."""
    train, test = _images(recipe.data)
    if recipe.data != "subset" and len(train) < 50_000:
        recipe = dataclasses.replace(recipe, data="subset", train_images=min(recipe.train_images, len(train)),
                                     test_images=min(recipe.test_images, len(test)))
    return recipe


@functools.cache
def _images(name: str):
    return data.cifar10("auto" if name == "cifar10" else name)


def _build(recipe: Recipe) -> nn.Module:
    return models.build(recipe.model, num_classes=recipe.num_classes, width=recipe.width,
                        input_size=recipe.input_size)


def _train_link(links: list[Link], i: int, report) -> None:
    link, recipe, lock = links[i], links[i].recipe, FileLock(links[i].folder / ".lock")
    try:
        link.folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            lock.acquire()      # another process trains this very phase: wait for it, then use its result
    except (OSError, NotImplementedError) as error:
        raise unwritable(link.folder, error) from error
    threads = torch.get_num_threads()
    try:
        if not link.done:
            torch.set_num_threads(recipe.threads or threads)
            with torch.random.fork_rng():
                _train(links, i, report)
    finally:
        torch.set_num_threads(threads)
        lock.release()


def _train(links: list[Link], i: int, report) -> None:
    link, recipe = links[i], links[i].recipe
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train, test = _images(recipe.data)
    train = Batches(train.stratified(recipe.train_images), recipe.batch_size, train=True, seed=recipe.seed,
                    device=device)
    test = Batches(test.stratified(recipe.test_images), 500, train=False, device=device)
    torch.manual_seed(recipe.seed)
    net = (_build(recipe) if i == 0 else links[i - 1].network()).to(device)
    if link.phase.scheme is not None:
        net = models.quantize(net, link.phase.scheme)
        models.calibrate(net, next(iter(train.epoch(0)))[0])
    teacher = None
    if link.phase.teacher is not None:
        earlier = {other.phase.name: other for other in links[:i]}
        if link.phase.teacher not in earlier:
            raise InputError(f"phase {link.phase.name!r} has teacher {link.phase.teacher!r}, which is no earlier phase: "
                             f"choose from {', '.join(earlier) or 'none'}")
        teacher = earlier[link.phase.teacher].network().to(device)
    # each phase goes through the data in its own order, the same for every recipe
    trainer = Trainer(net, link.phase, train, test, seed=recipe.seed, first_epoch=sum(
        p.epochs for p in recipe.phases[:i]), teacher=teacher)
    last = link.folder / "last.pt"
    if last.exists():
        trainer.load(checkpoint.load(last))
    before, total = (sum(p.epochs for p in recipe.phases[:n]) * len(train) for n in (i, len(links)))
    title = f"{recipe.label}, seed {recipe.seed}"
    trainer.run(save=lambda state: checkpoint.save(state, last),
                report=lambda **event: report(
                    run=title, phase=link.phase.name, total=total,
                    done=before + (event["epoch"] - 1) * event["batches"] + event["batch"], **event))
    state = trainer.state()
    identity = recipe.identity()
    identity["phases"] = identity["phases"][: i + 1]
    _write_json(link.folder / "link.json", {
        "key": link.key, "code": code_version(), "previous": links[i - 1].key if i else None, "recipe": identity,
        "finished": time.strftime("%Y-%m-%d %H:%M:%S"), "seconds": round(state["seconds"], 1),
        "images_per_s": round(link.phase.epochs * len(train) * recipe.batch_size / state["seconds"]),
        "environment": environment()})
    with atomic(link.folder / "history.csv") as temp:
        pd.DataFrame(state["history"], columns=COLUMNS).to_csv(temp, index=False)
    checkpoint.save({k: state[k] for k in ("net", "ema", "history", "seconds")}, link.folder / "final.pt")
    last.unlink(missing_ok=True)


def _recorded(recipe: Recipe) -> Run:
    wanted = json.loads(json.dumps(recipe.identity()))
    for file in sorted(recorded_dir().glob("*/run.json")):
        info = json.loads(file.read_text(encoding="utf-8"))
        found = Recipe.from_dict(info["recipe"])
        if json.loads(json.dumps(found.identity())) == wanted:
            tables = [pd.read_csv(file.with_name(name)) for name in ("history.csv", "layers.csv")]
            return Run(recipe, *tables, info)
    raise InputError(f"no recorded run of {recipe.label!r} with seed {recipe.seed} and these settings: train it with "
                     "another profile, such as PROFILE=laptop")


def _write_json(path: Path, content: dict) -> None:
    with atomic(path) as temp:
        temp.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
