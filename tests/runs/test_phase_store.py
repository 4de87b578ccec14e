"""The store under damage: what cannot be trusted is named with its cure and never trained on; the rest is listed."""
import copy
import dataclasses
import json
import os
import subprocess
import sys
import threading
import time

import pytest
import torch
from filelock import FileLock

from paperlib import recipes, runs
from paperlib.data.cifar10_batches import Batches
from paperlib.data.cifar10_images import load_subset
from paperlib.errors import InputError
from paperlib.runs import inventory
from paperlib.runs.phase_store import StoredPhase
from paperlib.system import paths
from paperlib.training import checkpoint
from paperlib.training.engine import Trainer
from paperlib.training.phases import Phase

DONE = {"net": {}, "ema": {}, "seconds": 1.0, "aiwq": None,
        "history": [[0, 0, "val", "loss", 2.3], [0, 0, "val", "accuracy", 10.0]]}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def link(seed=0, epochs=0):
    recipe = recipes.weights_alone(4, profile="smoke", seed=seed)
    return StoredPhase(dataclasses.replace(recipe, phases=(dataclasses.replace(recipe.phases[0], epochs=epochs),)), 0)


def laid(seed=0, **changes):
    """The folder of a phase that is done, as far as its files tell."""
    made = link(seed)
    info = {"key": made.key, "previous": None, "code": "c", "recipe": made.identity, "environment": {},
            "accuracy": 10.0, "seconds": 1.5, "images_per_s": None, "peak_memory_mb": 99,
            "finished": "2024-01-01 00:00:00"}
    made._write("link.json", json.loads(json.dumps({**info, **changes}, default=str)))
    checkpoint.save({**DONE, **changes.get("state", {})}, made.folder / "final.pt")
    return made.folder


def rewritten(file, change):
    file.write_text(json.dumps(change(json.loads(file.read_text()))))


def in_recipe(**settings):
    return lambda info: {**info, "recipe": {**info["recipe"], **settings}}


DAMAGED = {
    "empty": b"", "half": b'{"key": "', "null": b"null", "number": b"5", "list": b"[]", "text": b'"x"',
    "binary": b"\xff\0",
    "deep": b"[" * 100_000, "number too long": b'{"key": ' + b"9" * 5000 + b"}", "no recipe": b'{"key": "k"}',
    "a key as number": lambda info: {**info, "key": 5}, "no environment": lambda info: {**info, "environment": None},
    "previous as list": lambda info: {**info, "previous": []},
    "accuracy as text": lambda info: {**info, "accuracy": "9"},
    "seconds infinite": lambda info: {**info, "seconds": float("inf")},
    "finished as dict": lambda info: {**info, "finished": {}}, "lines in a name": in_recipe(model="a\nb"),
    "recipe as list": lambda info: {**info, "recipe": []}, "unknown field": in_recipe(sparsity=0.5),
    "no phases": in_recipe(phases=[]), "phases as dict": in_recipe(phases={}), "phase as text": in_recipe(phases=["x"]),
    "phase without epochs": in_recipe(phases=[{"name": "x", "lr": 0.1}]),
    "unknown method": in_recipe(phases=[{"name": "x", "epochs": 1, "lr": 0.1, "scheme": {"weight": "of tomorrow"}}]),
    "seed as list": in_recipe(seed=[0]), "true for a number": in_recipe(seed=True),
    "width as text": in_recipe(width="1")}


@pytest.mark.parametrize("how", DAMAGED)
def test_a_damaged_description_is_named_and_the_others_are_listed(how, paperlib):
    bad, good = laid(0), laid(1)
    file, content = bad / "link.json", DAMAGED[how]
    file.write_bytes(content) if isinstance(content, bytes) else rewritten(file, content)
    code, listed, said = paperlib("runs")
    rows = {line.split()[0]: line.split()[1] for line in listed.splitlines()[1:]}
    assert code == 0 and rows == {bad.name: "damaged", good.name: "done"}
    assert said.startswith(f"damaged: {file} is damaged or of another version (") and said.count("\n") == 1
    assert f"delete the folder {bad}" in said
    code, _, said = paperlib("export", bad.name, "--to", "packed")
    assert code == 2 and str(file) in said


def test_folders_that_are_no_phases_links_to_nowhere_and_stores_that_cannot_be_written(folder, monkeypatch):
    laid(0)
    (folder / "gone").symlink_to(folder / "nowhere")
    (folder / ".ipynb_checkpoints").mkdir()
    broken = folder / "begun"
    broken.mkdir()
    (broken / "last.pt").symlink_to(folder / "nowhere")
    headless = folder / "headless"
    headless.mkdir()
    (headless / "final.pt").write_text("")

    def read_only(*args, **options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(inventory, "FileLock", read_only)
    table = runs.listing().set_index("phase run")
    assert table.status.to_dict() == {link().key: "done", "begun": "interrupted", "headless": "damaged"}
    assert len(table.attrs["damaged"]) == 1 and f"{headless / 'link.json'} is missing" in table.attrs["damaged"][0]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything is readable")
def test_a_folder_that_cannot_be_read_is_named(folder):
    laid(0).chmod(0)
    assert "cannot be read" in runs.listing().attrs["damaged"][0]


def test_no_flipped_bit_is_loaded(tmp_path):
    file = tmp_path / "final.pt"
    checkpoint.save({"net": {"w": torch.arange(8.0)}}, file)
    whole = file.read_bytes()
    assert torch.equal(torch.load(file, weights_only=True)["net"]["w"], checkpoint.load(file)["net"]["w"])
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1:])
        with pytest.raises(InputError, match="is damaged .*delete the folder"):
            checkpoint.load(file)
    for content in (whole[:-1], whole + b"\0", whole[:-40], b""):
        file.write_bytes(content)
        with pytest.raises(InputError, match="is damaged"):
            checkpoint.load(file)


@pytest.fixture(scope="module")
def small():
    """(a new trainer of a phase of two epochs with two steps each, the state after the first)."""
    train, test = (images.stratified(40) for images in load_subset())
    batches = Batches(train, 20, train=True), Batches(test, 40, train=False)

    def trainer():
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))
        return Trainer(net, Phase("x", 2, lr=0.001), *batches, seed=0)

    states, one = [], trainer()
    one.run(save=lambda state: states.append(copy.deepcopy(state)))
    return trainer, states


WRONG = {"epoch 99": {"epoch": 99}, "epoch -5": {"epoch": -5}, "epoch of another": {"epoch": 2},
         "no epoch": {"epoch": None}, "epoch as text": {"epoch": "1"}, "no history": {"history": []},
         "step 3": {"step": 3}, "step -1": {"step": -1},
         "step 1": {"step": 1}, "history of text": {"history": "abc"}, "rows of two": {"history": [[0, 0]]},
         "seconds": {"seconds": float("nan")}, "sums": {"sums": torch.zeros(3)}, "schedule": {"schedule": {}},
         "optimizer": {"optimizer": {}}, "another network": {"net": {"w": torch.zeros(1)}}, "aiwq": {"schedule": None}}


@pytest.mark.parametrize("how", WRONG)
def test_a_state_that_this_training_cannot_have_left_is_refused(how, small, tmp_path):
    trainer, states = small
    file = tmp_path / "last.pt"
    checkpoint.save({**states[0], **WRONG[how]}, file)
    with pytest.raises(InputError, match=f"{file} is damaged .*delete the folder"):
        checkpoint.resume(trainer(), file)


def test_every_state_that_training_leaves_goes_on(small, tmp_path):
    trainer, states = small
    fresh = trainer().state()       # what an interruption in the very first evaluation leaves
    for state in (fresh, *states):
        checkpoint.save(state, tmp_path / "last.pt")
        checkpoint.resume(again := trainer(), tmp_path / "last.pt")
        again.run()
        assert again.history == states[-1]["history"]


def test_a_history_of_other_epochs_is_no_result():
    with pytest.raises(InputError, match="final.pt is damaged .its history is not that of 0 epochs"):
        laid(0, state={"history": []})
        link(0).final
    checkpoint.save({**DONE, "history": DONE["history"] * 2}, link(0).folder / "final.pt")
    with pytest.raises(InputError, match="is damaged"):
        link(0).final


def test_what_a_kill_after_the_last_file_leaves_goes_when_it_is_found():
    last = laid(0) / "last.pt"
    last.write_text("x")
    assert link(0).history.value.tolist() == [2.3, 10.0] and not last.exists()


def test_who_waits_for_another_process_says_so(monkeypatch, capsys):
    monkeypatch.setattr(paths, "PATIENCE", 0.05)
    folder = laid(0)
    held = threading.Event()

    def hold():
        with FileLock(folder / ".lock"):
            held.set()
            time.sleep(0.3)

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    link(0).obtain(None)
    other.join()
    label = link(0).recipe.label
    assert f"waiting for another process, which trains phase 'float' of {label!r}, seed 0, in {folder}" in (
        capsys.readouterr().err)
    link(0).obtain(None)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError(
    "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")])
def test_want_of_memory_is_one_line_with_a_cure(monkeypatch, error):
    def train(*args, **options):
        raise error

    monkeypatch.setattr(StoredPhase, "_train", train)
    with pytest.raises(InputError, match="phase 'float' of .* broke off, perhaps for want of memory: train fewer"):
        link(0).obtain(None)
    error = RuntimeError("a defect")
    with pytest.raises(RuntimeError, match="a defect"):
        link(0).obtain(None)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
@pytest.mark.parametrize("name", ["link.json", "final.pt"])
@pytest.mark.parametrize("there", ["pipe", "device"])
def test_what_may_never_end_is_not_read(name, there, paperlib):
    file = laid() / name
    file.unlink()
    os.mkfifo(file) if there == "pipe" else file.symlink_to("/dev/zero")
    assert paperlib("runs")[0] == 0
    code, _, said = paperlib("export", link().key, "--to", "packed")
    assert code == 2 and said.count("\n") == 1 and f"{file} is damaged" in said


def test_a_name_that_is_there_twice_is_no_description(paperlib):
    file = laid() / "link.json"
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 7, "seed": 0'))
    code, _, said = paperlib("runs")
    assert code == 0 and "twice" in said and f"delete the folder {file.parent}" in said


def test_links_in_a_circle_and_names_that_are_no_text_do_not_hide_the_rest(folder):
    laid()
    (folder / "circle").symlink_to("circle")
    os.mkdir(os.fsencode(folder) + b"/\xff\xfe")
    said = subprocess.run([sys.executable, "-m", "paperlib", "runs"], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(paths.ROOT)})
    assert said.returncode == 0 and not said.stderr
    assert link().key in said.stdout and r"\udcff\udcfe" in said.stdout
