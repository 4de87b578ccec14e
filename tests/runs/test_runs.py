"""Runs and their store: what is trained, what is found again, what survives an interruption."""

import contextlib
import dataclasses
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
import torch

from paperlib import models, recipes, runs
from paperlib.data.cifar10_batches import Batches
from paperlib.data.cifar10_images import load_subset
from paperlib.errors import InputError
from paperlib.runs import parallel
from paperlib.runs.phase_store import StoredPhase
from paperlib.system import paths
from paperlib.training import checkpoint
from paperlib.training.engine import Trainer, evaluate

pytestmark = pytest.mark.slow

EPOCHS = [("float", 1), *(("activations", k) for k in (1, 2, 3, 4)), ("weights", 1)]
same_table = pd.testing.assert_frame_equal


def tiny(method="duq", phase=0, bits=4, change={}, **changes):
    """A recipe of 1, 4 and 1 epochs with four steps each; `change` is for the phase with this index."""
    recipe = recipes.activations_then_weights(method, model="vgg7", profile="smoke", bits=bits)
    phases = [dataclasses.replace(p, epochs=n) for p, n in zip(recipe.phases, (1, 4, 1))]
    phases[phase] = dataclasses.replace(phases[phase], **change)
    return dataclasses.replace(recipe, **{"width": 0.0625, "train_images": 100, "test_images": 100,
                                          "batch_size": 25, "phases": tuple(phases), **changes})


def stored(recipe):
    """What each phase left, as plain values and bytes: history, network and moving average."""
    finals = [checkpoint.load(link.folder / "final.pt") for link in StoredPhase.chain(recipe)]
    return [[f["history"], *({k: v.numpy().tobytes() if torch.is_tensor(v) else v for k, v in f[part].items()}
                             for part in ("net", "ema"))] for f in finals]


def trained(recipe, interrupt=None):
    """Obtain the run, or break off at (phase, epoch, batch); returns the (phase, epoch) that were trained."""
    seen = []

    def watch(*, phase, epoch, batch, **numbers):
        seen.append((phase, epoch))
        if (phase, epoch, batch) == interrupt:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt) if interrupt else contextlib.nullcontext():
        runs.obtain(recipe, progress=watch)
    return list(dict.fromkeys(seen))


@pytest.fixture(scope="module", autouse=True)
def cpu():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder, the runs of both methods, trained in it one after the other, and what they stored."""
    folder, both = tmp_path_factory.mktemp("finished"), [tiny("duq"), tiny("pact")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAPERLIB_RUNS", str(folder))
        assert [trained(recipe) for recipe in both] == [EPOCHS, EPOCHS[1:]]     # the float phase is there
        return folder, [runs.obtain(recipe) for recipe in both], [stored(recipe) for recipe in both]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def kept(finished, folder):
    """The runs of `finished`, with a copy of their folder in `folder`."""
    shutil.copytree(finished[0], folder)
    return finished[1]


@pytest.fixture
def processes(forked, monkeypatch):
    """The processes that the test starts; none of them outlives it."""
    started, start = [], subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **b: started.append(start(*a, **b)) or started[-1])
    yield started
    for process in started:
        process.kill() or process.wait()


def test_second_call_trains_nothing(kept, monkeypatch, folder):
    monkeypatch.setattr(Trainer, "run", None)
    monkeypatch.setattr(subprocess, "Popen", None)
    both = [tiny("duq"), tiny("pact")]
    for old, *again in zip(kept, map(runs.obtain, both), runs.obtain_all(both, workers=2), strict=True):
        for run in again:
            same_table(run.history, old.history, check_exact=True)
            same_table(run.layers, old.layers)
            assert (run.key, run.seconds, run.environment) == (old.key, old.seconds, old.environment)
    duq, pact = kept
    assert len(list(folder.iterdir())) == 5 and duq.key != pact.key     # three phases each, one in common
    assert duq.seconds > 0 and duq.values("activations", "val").index.tolist() == [0, 1, 2, 3, 4]


def test_model_is_the_network_that_the_history_is_about(kept):
    test = Batches(load_subset()[1].stratified(100), 500, train=False)
    torch.set_num_threads(1)
    for run, phase in itertools.product(kept, (None, "float", "activations", "weights")):
        last = {name: run.values(phase or "weights", "val", name).iloc[-1] for name in ("loss", "accuracy")}
        assert evaluate(run.model(phase), test) == pytest.approx(last, rel=1e-4)    # training's convolutions are fused
    torch.set_num_threads(2)
    same_table(run.layers, models.plan(run.model()))
    assert set(run.layers.w_bits) == {4} and set(run.layers.a_bits) == {4, 8}
    for ask in (lambda: run.model("x"), lambda: run.values("float", "x"), lambda: run.values("x", "val")):
        with pytest.raises(InputError, match=" x |'x'"):
            ask()


def test_interrupted_run_goes_on_as_if_nothing_had_happened(finished):
    assert trained(tiny(), interrupt=("float", 1, 3)) == EPOCHS[:1]
    assert trained(tiny(), interrupt=("activations", 3, 2)) == EPOCHS[:4]   # no epoch was finished before
    assert trained(tiny()) == EPOCHS[3:] and stored(tiny()) == finished[2][0] and torch.get_num_threads() == 2
    same_table(runs.obtain(tiny()).history, finished[1][0].history, check_exact=True)


def test_interrupted_between_last_epoch_and_final_file(kept, finished, monkeypatch):
    seen, epoch = [], Batches.epoch
    shutil.rmtree(StoredPhase(tiny(), 2).folder)
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(Batches, "epoch",
                      lambda self, i=0, start=0: seen.append((self.train, i)) or epoch(self, i, start))
        patch.setattr(pd.DataFrame, "to_csv", lambda *args, **options: 1 / 0)
        runs.obtain(tiny())
    assert [i for train, i in seen if train] == [0, 5]      # to calibrate; then the sixth epoch's order
    assert not StoredPhase(tiny(), 2).done and trained(tiny()) == [] and stored(tiny()) == finished[2][0]


def test_killed_worker_loses_at_most_an_epoch_and_a_stopped_one_nothing(finished, tmp_path, monkeypatch, processes):
    def end(how):
        process = subprocess.Popen([sys.executable, "-m", "paperlib.runs.worker"], cwd=paths.ROOT, text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   env={**os.environ, "PAPERLIB_RUNS": str(tmp_path / how)})
        job = StoredPhase.chain(tiny())[-1].key, tiny().to_dict()
        print(json.dumps(job), file=process.stdin, flush=True)
        for event in map(json.loads, process.stdout):
            if event["phase"] == "activations" and event["batch"] == event["batches"]:
                break
        last = tmp_path / how / StoredPhase(tiny(), 1).key / "last.pt"     # there soon after the epoch's last batch
        while not last.exists() and process.poll() is None:
            time.sleep(0.002)
        {"killed": process.kill, "abandoned": process.stdin.close, "terminated": process.terminate}[how]()
        return process.wait(60)

    ends = {"killed": -9, "abandoned": 130, "terminated": 130}
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(end, ends)) == list(ends.values())
    for how in ends:
        monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / how))
        state = checkpoint.load(StoredPhase(tiny(), 1).folder / "last.pt")
        steps = 4 * state["epoch"] + state["step"]      # a stopped one finishes a step after the saved epoch
        assert (4 if how == "killed" else 5) <= steps <= 16 and not StoredPhase(tiny(), 1).done
        assert trained(tiny()) == EPOCHS[1 + steps // 4:] and stored(tiny()) == finished[2][0]


def test_workers_give_what_one_process_gives(finished, folder, monkeypatch, processes):
    seen = []       # three runs, two of them the same: one worker trains what they share and goes on with one of them
    monkeypatch.setattr(parallel.Progress, "__call__", lambda self, **event: seen.append(event))
    found = runs.obtain_all([tiny("duq"), tiny("pact"), tiny("duq", label="again")], workers=3)
    for run, expected in zip(found, [*finished[1], finished[1][0]], strict=True):
        same_table(run.history, expected.history, check_exact=True)
        assert run.key == expected.key
    assert [stored(tiny("duq")), stored(tiny("pact"))] == finished[2] and len(list(folder.iterdir())) == 5
    ends = [(event["phase"], event["epoch"]) for event in seen if event["batch"] == event["batches"]]
    assert sorted(ends) == sorted(EPOCHS + EPOCHS[1:])
    assert [process.wait(5) for process in processes] == [-signal.SIGTERM] * 2      # as they waited for more


class Fake:
    """Stands for a worker's process: what it says, how it ends, and whether it was ended."""
    def __init__(self, lines=None, code=1):
        self.ended, self.stdin = threading.Event(), io.StringIO()
        self.stdout = ("" for _ in "1" if not self.ended.wait(60)) if lines is None else lines
        self.wait, self.terminate, self.returncode = lambda: code, self.ended.set, code

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


def test_error_in_a_worker_arrives_when_the_others_have_ended(monkeypatch, processes, capsys):
    start, other, calls = subprocess.Popen, Fake([], code=0), itertools.count()
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **b: other if next(calls) else start(*a, **b))
    last = StoredPhase(tiny(), 0).folder / "last.pt"
    last.parent.mkdir(parents=True)
    last.write_text("not a checkpoint")
    with pytest.raises(InputError, match=f"{last} is damaged"):
        runs.obtain_all([tiny(), tiny(seed=1)], workers=2)
    assert f"failed, the others go on: {last} is damaged" in capsys.readouterr().err
    assert processes[0].wait(5) in (1, -15)


def test_data_that_are_not_there_stop_before_any_worker_starts(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(InputError, match="cannot take 105 images .* multiple of 10"):
        runs.obtain_all([tiny(train_images=105), tiny(train_images=105, seed=1)], workers=2)


def test_worker_that_dies_is_reported(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **b: Fake([], code=-11))
    with pytest.raises(InputError, match="2 trainings failed:\ntraining 'DuQ.* was killed by signal 11; what"):
        runs.obtain_all([tiny(), tiny(seed=1)], workers=2)
    with pytest.raises(InputError, match="was killed by signal 11; what its last finished epoch left is kept"):
        parallel.train([StoredPhase.chain(tiny())], 1)
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **b: Fake([], code=-9))
    with pytest.raises(InputError, match="signal 9, perhaps for want of memory: train fewer at a time"):
        parallel.train([StoredPhase.chain(tiny())], 1)
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **b: Fake([], code=1))
    with pytest.raises(RuntimeError, match="ended with exit code 1"):
        parallel.train([StoredPhase.chain(tiny())], 1)


def test_worker_that_starts_late_is_ended_too(monkeypatch):
    late, second_starts = Fake(), threading.Event()
    early = Fake([], code=0)
    fakes = iter([early, late])
    early.wait = lambda: second_starts.wait(9) and 0

    def start(*args, **options):
        fake = next(fakes)
        if fake is late:
            second_starts.set()
            time.sleep(0.3)         # meanwhile the first has ended, and what is called then is interrupted
        return fake

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(KeyboardInterrupt):
        parallel.train([StoredPhase.chain(tiny(seed=seed)) for seed in (0, 1)], 2, each=interrupted)
    assert late.ended.is_set()


def test_teacher_is_an_earlier_phase(kept):
    taught = tiny(phase=1, change={"teacher": "float"})
    assert trained(taught) == EPOCHS[1:] and taught.table().teacher.tolist() == ["none", "float", "none"]
    assert runs.obtain(taught).values("activations", "train")[1] != kept[0].values("activations", "train")[1]
    with pytest.raises(InputError, match="teacher 'weights', which is no earlier phase: choose from float, or name"):
        runs.obtain(tiny(phase=1, change={"teacher": "weights"}))


def test_what_a_teacher_says_serves_all_that_it_teaches(kept, folder):
    taught = [tiny(method, phase=1, change={"teacher": "float"}) for method in ("duq", "pact")]
    trained(taught[0])
    said = {file: file.stat().st_mtime_ns for file in folder.glob(".teachers/*/*/*/*")}
    assert len(said) == 4 * 4       # epochs, steps
    before = stored(taught[0])
    for link in StoredPhase.chain(taught[0])[1:]:
        shutil.rmtree(link.folder)
    trained(taught[0])
    assert stored(taught[0]) == before
    trained(taught[1])
    assert {file: file.stat().st_mtime_ns for file in folder.glob(".teachers/*/*/*/*")} == said
    assert StoredPhase(tiny(seed=1, phase=1, change={"teacher": "float"}), 1)._remembered() not in {
        file.parent for file in said}
    assert StoredPhase(taught[0], 2)._remembered() is None      # without a teacher


def test_damaged_file_costs_one_phase(kept, finished):
    link = StoredPhase(tiny(), 1)
    for file in ("final.pt", "last.pt"):
        (link.folder / file).write_text("not a checkpoint")
        with pytest.raises(InputError, match=f"delete the folder {link.folder} and run"):
            runs.obtain(tiny())
        (link.folder / file).unlink()
    shutil.rmtree(link.folder)
    assert trained(tiny()) == EPOCHS[1:5] and stored(tiny()) == finished[2][0]


def test_float_network_alone_can_be_recorded(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "recorded_dir", lambda: tmp_path)
    run = runs.obtain(tiny(phases=tiny().phases[:1]))
    run.record("float")
    same_table(runs.obtain(dataclasses.replace(run.recipe, recorded=True)).history, run.history, rtol=1e-5)
