"""The store of trained phases.

A run is a chain of phases.  Each link of the chain lies in a folder named by a hash over everything that determines
it: data, model, seed, the code of the numerics, and all phases up to it.  So recipes that begin alike share their
beginning, and an interrupted phase goes on after its last finished epoch.
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
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from torch import nn

from . import data, models
from .batches import Batches
from .errors import InputError
from .paths import atomic, runs_dir, unwritable
from .recipes import Recipe
from .training import checkpoint
from .training.engine import Trainer, begin

HISTORY_COLUMNS = ["phase", "epoch", "step", "split", "metric", "value"]
NUMERICS = ("batches.py", "images.py", "layers.py", "models", "quantizers", "training/engine.py", "training/losses.py",
            "training/phases.py")


@functools.cache
def code_version() -> str:
    """A hash over the code that decides numbers, without comments and docstrings: rewording costs no retraining."""
    here, digest = Path(__file__).parent, hashlib.sha256()
    for name in NUMERICS:
        for file in sorted((here / name).rglob("*.py")) if (here / name).is_dir() else [here / name]:
            tree = ast.parse(file.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
                    del node.body[0]
            digest.update(f"{file.relative_to(here).as_posix()}\n{ast.unparse(tree)}\n".encode())
    return digest.hexdigest()[:12]


def environment() -> dict:
    """The machine and the versions that numbers were made with."""
    cpu = platform.processor() or "unknown"
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__,
            "system": f"{platform.system()} {platform.machine()}", "cpu": cpu, "cpu_threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None}


@functools.cache
def images(name: str) -> tuple[data.Images, data.Images]:
    """(train, test) of a recipe's ``data``, kept in memory."""
    return data.cifar10("auto" if name == "cifar10" else name)


def resolve(recipe: Recipe) -> Recipe:
    """The recipe with the data that can be had: without the full CIFAR-10 it names the embedded subset instead."""
    train, test = images(recipe.data)
    if recipe.data == "cifar10" and len(train) < 50_000:
        recipe = dataclasses.replace(recipe, data="subset", train_images=min(recipe.train_images, len(train)),
                                     test_images=min(recipe.test_images, len(test)))
    return recipe


@dataclasses.dataclass(frozen=True)
class Link:
    """Phase ``index`` of a resolved ``recipe``, with all that comes before it."""

    recipe: Recipe
    index: int

    @classmethod
    def chain(cls, recipe: Recipe) -> list[Link]:
        return [cls(recipe, i) for i in range(len(recipe.phases))]

    @property
    def phase(self):
        return self.recipe.phases[self.index]

    @functools.cached_property
    def identity(self) -> dict:
        """Everything of the recipe that this link depends on."""
        identity = self.recipe.identity()
        return {**identity, "phases": identity["phases"][: self.index + 1]}

    @functools.cached_property
    def key(self) -> str:
        text = json.dumps([code_version(), self.identity], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def folder(self) -> Path:
        return runs_dir() / self.key

    @property
    def done(self) -> bool:
        return (self.folder / "final.pt").exists()

    @property
    def info(self) -> dict:
        """What ``link.json`` says: recipe, code version, environment, time, images per second."""
        return json.loads((self.folder / "link.json").read_text(encoding="utf-8"))

    @functools.cached_property
    def final(self) -> dict:
        """net, ema (state dicts), history and seconds, as the phase left them."""
        return checkpoint.load(self.folder / "final.pt", keys=("net", "ema", "history", "seconds"))

    @property
    def history(self) -> pd.DataFrame:
        return pd.DataFrame([(self.phase.name, *row) for row in self.final["history"]], columns=HISTORY_COLUMNS)

    def architecture(self) -> nn.Module:
        """The network of this phase with untrained weights.  InputError if scheme and network do not fit."""
        net = _build(self.recipe)
        return net if self.phase.scheme is None else models.quantize(net, self.phase.scheme)

    def network(self) -> nn.Module:
        """The network as this phase left it."""
        net = self.architecture()
        try:
            net.load_state_dict(self.final["net"])
        except RuntimeError as error:
            raise InputError(f"{self.folder} holds another network ({str(error).splitlines()[0]}): delete it and run "
                             "again") from error
        return net

    def obtain(self, report) -> None:
        """Train this phase unless it is done; the phases before it must be.  One process at a time does it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock")
            lock.acquire()      # where another process trains this very phase, wait and use its result
        except (OSError, NotImplementedError) as error:
            raise unwritable(self.folder, error) from error
        threads = torch.get_num_threads()
        try:
            if not self.done:
                torch.set_num_threads(self.recipe.threads or threads)
                with torch.random.fork_rng():
                    self._train(report)
        finally:
            torch.set_num_threads(threads)
            lock.release()

    def _train(self, report) -> None:
        recipe, phase, last = self.recipe, self.phase, self.folder / "last.pt"
        for stray in self.folder.glob(".[0-9]*"):       # what a killed process was writing
            stray.unlink()
        train, test = _batches(recipe)
        before = [Link(recipe, i) for i in range(self.index)]
        torch.manual_seed(recipe.seed)
        net = (before[-1].network() if before else _build(recipe)).to(train.device)
        net = begin(net, phase, next(iter(train.epoch(0)))[0])
        teacher = next((b.network().to(train.device) for b in before if b.phase.name == phase.teacher), None)
        epochs_before = sum(b.phase.epochs for b in before)     # every phase sees the data in an order of its own
        trainer = Trainer(net, phase, train, test, seed=recipe.seed, first_epoch=epochs_before, teacher=teacher)
        if last.exists():
            trainer.load(checkpoint.load(last, keys=tuple(trainer.state())))
        progress = functools.partial(
            report, key=Link.chain(recipe)[-1].key, run=f"{recipe.label}, seed {recipe.seed}", phase=phase.name,
            epochs_before=epochs_before, epochs=sum(p.epochs for p in recipe.phases))
        trainer.run(save=lambda state: checkpoint.save(state, last), report=progress)

        state = trainer.state()
        rate = phase.epochs * len(train) * recipe.batch_size / state["seconds"]
        with atomic(self.folder / "link.json") as temp:
            temp.write_text(json.dumps({
                "key": self.key, "previous": before[-1].key if before else None, "code": code_version(),
                "recipe": self.identity, "finished": time.strftime("%Y-%m-%d %H:%M:%S"),
                "seconds": round(state["seconds"], 1), "images_per_s": round(rate), "environment": environment(),
            }, indent=1), encoding="utf-8")
        with atomic(self.folder / "history.csv") as temp:
            pd.DataFrame(state["history"], columns=HISTORY_COLUMNS[1:]).to_csv(temp, index=False)
        checkpoint.save({k: state[k] for k in ("net", "ema", "history", "seconds")}, self.folder / "final.pt")
        last.unlink(missing_ok=True)


def _build(recipe: Recipe) -> nn.Module:
    with torch.random.fork_rng():       # leave the caller's random state as it is
        return models.build(recipe.model, num_classes=recipe.num_classes, width=recipe.width,
                            input_size=recipe.input_size)


def _batches(recipe: Recipe) -> tuple[Batches, Batches]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train, test = images(recipe.data)
    return (Batches(train.stratified(recipe.train_images), recipe.batch_size, train=True, seed=recipe.seed,
                    device=device),
            Batches(test.stratified(recipe.test_images), 500, train=False, device=device))
