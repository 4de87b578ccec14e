"""The store of trained phases.

A run is a chain of phases.  Each lies in a folder named by a hash over everything that determines it: data, model,
seed, the code of the numerics, and all phases up to it.  So recipes that begin alike share their beginning, and an
interrupted phase goes on after its last finished epoch.
"""
from __future__ import annotations

import contextlib
import dataclasses
import functools
import glob
import hashlib
import json
import shutil
import time
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from .. import models
from ..errors import InputError
from ..models.weights import shipped_file, shipped_files
from ..recipes import Recipe
from ..system import distributed
from ..system.code_hash import numerics
from ..system.paths import alone, atomic, runs_dir
from ..system.provenance import code_version, demand_unchanged, environment, forget_peak_memory, peak_memory
from ..training import checkpoint
from ..training.aiwq import STEP_COLUMNS
from ..training.engine import Diverged, Trainer
from ..training.history import HISTORY_COLUMNS, check_history
from ..training.phases import SHIPPED, Phase
from ..training.progress import tell
from . import descriptions, phase_trainer

FINAL = ("net", "ema", "history", "seconds", "aiwq")
FEW = 20_000    # training images up to which a teacher's answers are kept: 50 MB for 60 epochs
OUT_OF_MEMORY = ", perhaps for want of memory: train fewer at a time (--workers), or a smaller profile or batch"


@dataclasses.dataclass(frozen=True)
class StoredPhase:
    """Phase ``index`` of a resolved ``recipe``, with all that comes before it."""

    recipe: Recipe
    index: int

    @classmethod
    def chain(cls, recipe: Recipe) -> list[StoredPhase]:
        """All phases of a resolved recipe."""
        return [cls(recipe, i) for i in range(len(recipe.phases))]

    @classmethod
    def at(cls, key: str) -> StoredPhase:
        """The finished phase whose key begins so, whatever code trained it; InputError unless there is just one."""
        folders = [f for f in sorted(runs_dir().glob(f"{glob.escape(key)}*")) if (f / "final.pt").exists()]
        if len(folders) != 1 or not key:
            raise InputError(f"{len(folders)} finished phases in {runs_dir()} have a key that begins with {key!r}: "
                             "`python -m paperlib runs` lists them all")
        recipe = descriptions.read(folders[0] / "link.json", checkpoint.cure(folders[0])).recipe
        stored = cls(recipe, len(recipe.phases) - 1)
        stored.__dict__["key"] = folders[0].name      # not the key that today's code would give
        return stored

    @property
    def phase(self) -> Phase:
        return self.recipe.phases[self.index]

    @functools.cached_property
    def identity(self) -> dict:
        """Everything of the recipe that this phase depends on; a file of weights by its content."""
        identity, weights = self.recipe.identity(), self.recipe.weights
        if weights is not None and Path(weights).is_file():
            identity["weights"] = f"sha256 {_sha256(Path(weights), Path(weights).stat().st_mtime_ns)}"
        return {**identity, "phases": identity["phases"][: self.index + 1]}

    @functools.cached_property
    def key(self) -> str:
        text = json.dumps([code_version(), self.identity, *self._shipped()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _shipped(self) -> list[str]:
        """The files in data/pretrained/ that the run starts with or learns from: their names tell of their content."""
        r = self.recipe
        teachers = {p.teacher for p in r.phases[:self.index + 1] if p.teacher and p.teacher.startswith(SHIPPED)}
        files = [shipped_file(r.model, r.width, r.weights)] if r.weights else []
        files += [shipped_files().get(name.removeprefix(SHIPPED)) for name in sorted(teachers)]
        return [file.name for file in files if file]

    @property
    def folder(self) -> Path:
        return runs_dir() / self.key

    @property
    def done(self) -> bool:
        return (self.folder / "final.pt").exists()

    @property
    def info(self) -> descriptions.Description:
        """What ``link.json`` says: recipe, code version, environment, time, images per second."""
        return descriptions.read(self.folder / "link.json", checkpoint.cure(self.folder))

    @functools.cached_property
    def final(self) -> dict:
        """net, ema (state dicts), history, aiwq and seconds, as the phase left them."""
        state = checkpoint.load(file := self.folder / "final.pt", keys=FINAL)
        try:
            check_history(state["history"], self.phase.epochs)
        except checkpoint.ERRORS as error:
            raise checkpoint.damaged(file, error) from error
        with contextlib.suppress(OSError):
            (self.folder / "last.pt").unlink(missing_ok=True)       # a kill just after final.pt has left it
        return state

    @property
    def history(self) -> pd.DataFrame:
        return pd.DataFrame([(self.phase.name, *row) for row in self.final["history"]], columns=HISTORY_COLUMNS)

    @property
    def instability(self) -> pd.DataFrame | None:
        """AIWQ and oscillations by layer, of a phase that measures either."""
        return pd.DataFrame(self.final["aiwq"]["table"]) if self.final["aiwq"] else None

    @property
    def steps(self) -> pd.DataFrame | None:
        """The history of AIWQ of a phase that keeps one."""
        return pd.DataFrame(self.final["aiwq"]["rows"], columns=STEP_COLUMNS) if self.phase.every_step else None

    @property
    def layers(self) -> pd.DataFrame:
        """The plan of the network (models.plan), without rows for a float one."""
        if "layers" in self.final:      # so that nothing has to be built
            return pd.DataFrame(self.final["layers"])
        return models.plan(self.network()) if self.phase.scheme else pd.DataFrame(columns=["layer"])

    def architecture(self) -> nn.Module:
        """The network of this phase, untrained; InputError if scheme, frozen layers and network do not fit."""
        return phase_trainer.architecture(self.recipe, self.phase)

    def network(self, *, averaged: bool = False) -> nn.Module:
        """The network as this phase left it, or the moving average of its weights."""
        net, state = self.architecture(), self.final["net"]
        if averaged:
            state = {name.removeprefix("module."): value for name, value in self.final["ema"].items()
                     if name != "n_averaged"}
        try:
            net.load_state_dict(state)
        except RuntimeError as error:
            raise InputError(f"{self.folder} holds another network ({str(error).splitlines()[0]}): delete it and run "
                             "again") from error
        return net

    def obtain(self, report) -> None:
        """Train this phase unless it is done; the phases before it must be.  One process at a time does it.

        Under torchrun all processes call this, do it together, and share the folder; process 0 writes.  InputError if
        the code has been edited since it was imported: its key would be another.
        """
        if not self.done:
            demand_unchanged(numerics)
        writes = distributed.rank() == 0
        # where another process trains this very phase, wait and use its result
        with alone(self.folder, self._say_who_is_awaited) if writes else contextlib.nullcontext():
            try:
                if not distributed.agreed(self.done):
                    with phase_trainer.conditions(self.recipe):
                        self._train(report if writes else lambda **event: None, writes=writes)
                distributed.barrier()
            except (MemoryError, RuntimeError) as error:
                if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "allocate memory" not in str(error):
                    raise
                raise InputError(f"phase {self.phase.name!r} of {self.recipe.label!r} broke off{OUT_OF_MEMORY}"
                                 ) from error

    def _say_who_is_awaited(self) -> None:
        tell(f"waiting for another process, which trains phase {self.phase.name!r} of {self.recipe.label!r}, seed "
             f"{self.recipe.seed}, in {self.folder}")

    def _train(self, report, *, writes: bool) -> None:
        recipe, phase, last = self.recipe, self.phase, self.folder / "last.pt"
        chain = StoredPhase.chain(recipe)
        before = chain[:self.index]
        config = {"key": self.key, "previous": before[-1].key if before else None, "code": code_version(),
                  "recipe": self.identity, "environment": environment()}
        if writes:
            self._write("link.json", config)
        forget_peak_memory()
        trainer = phase_trainer.trainer(recipe, phase, before, self._remembered())
        if last.exists():
            checkpoint.resume(trainer, last)
        progress = functools.partial(
            report, key=chain[-1].key, run=f"{recipe.label}, seed {recipe.seed}", phase=phase.name,
            epochs_before=phase_trainer.epochs(before), epochs=sum(p.epochs for p in recipe.phases))
        try:
            trainer.run(save=(lambda state: checkpoint.save(state, last)) if writes else lambda state: None,
                        report=progress)
        except Diverged as error:
            raise Diverged(f"{error} in {last}" if last.exists() else str(error)) from error
        if writes:
            self._keep(trainer, config)
            last.unlink(missing_ok=True)

    def _remembered(self) -> Path | None:
        """A folder for what the teacher says, the same for all runs that it teaches; None where that is much.

        It is named by the teacher and by all that decides which images it sees.  What earlier versions of the code have
        left there is removed.
        """
        recipe, teacher = self.recipe, self.phase.teacher
        if teacher is None or distributed.world() > 1 or not 0 < recipe.train_images <= FEW:
            return None
        names = [phase.name for phase in recipe.phases]
        known = self.identity["phases"][:names.index(teacher) + 1] if teacher in names else []
        text = json.dumps([code_version(), {**self.identity, "phases": known}, teacher, *self._shipped()],
                          sort_keys=True)
        folder = runs_dir() / ".teachers" / code_version()
        for other in folder.parent.glob("*") if not folder.exists() else ():
            shutil.rmtree(other, ignore_errors=True)
        return folder / hashlib.sha256(text.encode()).hexdigest()[:16]

    def _keep(self, trainer: Trainer, config: dict) -> None:
        """Write what a finished phase leaves; final.pt, which makes it one, last."""
        phase, state = self.phase, trainer.state()
        table = models.plan(trainer.net) if phase.scheme else pd.DataFrame(columns=["layer"])
        state["layers"] = table.to_dict("list")
        if measured := [m.table() for m in (trainer.aiwq, trainer.oscillations) if m is not None]:
            by_layer = functools.reduce(lambda one, other: one.merge(other, on="layer", how="left"), measured)
            state["aiwq"] = {"table": by_layer.to_dict("list"), "rows": state["aiwq"] and state["aiwq"]["rows"]}
            table = table.merge(by_layer.drop(columns="kind", errors="ignore"), on="layer", how="left")
        history = pd.DataFrame(state["history"], columns=HISTORY_COLUMNS[1:])
        with atomic(self.folder / "history.csv") as temp:
            history.to_csv(temp, index=False)
        with atomic(self.folder / "layers.csv") as temp:
            table.to_csv(temp, index=False)
        images = phase.epochs * len(trainer.train_batches) * self.recipe.batch_size
        self._write("link.json", {
            **config, "finished": time.strftime("%Y-%m-%d %H:%M:%S"), "seconds": round(state["seconds"], 1),
            "images_per_s": round(images / state["seconds"]) if images else None, "peak_memory_mb": peak_memory(),
            "accuracy": history[(history.split == "val") & (history.metric == "accuracy")].value.iloc[-1]})
        checkpoint.save({k: state[k] for k in (*FINAL, "layers", "oscillations") if k in FINAL or state[k]},
                        self.folder / "final.pt")

    def _write(self, name: str, content: dict) -> None:
        with atomic(self.folder / name) as temp:
            temp.write_text(json.dumps(content, indent=1), encoding="utf-8")


@functools.cache
def _sha256(file: Path, changed: int) -> str:
    """The SHA-256 of a file as it is since ``changed``; every phase of a chain asks for it."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
