"""The command line: what it shows, refuses, and leaves behind when it is stopped."""
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from forks import Module

from paperlib import deploy, recipes, runs
from paperlib.claims import contents, experiments
from paperlib.errors import InputError
from paperlib.recipes import profiles
from paperlib.runs import commands
from paperlib.runs.loading import resolve
from paperlib.runs.phase_store import StoredPhase
from paperlib.system import paths
from paperlib.training import checkpoint

SETTINGS = {"width": 0.0625, "train_images": 60, "test_images": 50, "batch_size": 15, "float_epochs": 0,
            "stage_epochs": 4, "lr": 0.01}


def training(*words):
    """A short training, with more words; a setting among them takes the place of one of SETTINGS."""
    kept = [f"{name}={value}" for name, value in SETTINGS.items() if not any(w.startswith(f"{name}=") for w in words)]
    return ["train", "--recipe", "activations_then_weights", "--model", "vgg7", "--profile", "smoke",
            *(word for setting in kept for word in ("--set", setting)), *words]


TRAIN = training()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def test_help_names_every_option(paperlib):
    code, text, _ = paperlib("train", "--help")
    assert code == 0
    for option in ("--recipe", "--model", "--w-bits", "--a-bits", "--profile", "--set", "--order", "--without",
                   "--method", "--weights", "--precision", "--compile", "--seeds", "--first-seed", "--workers",
                   "--show", "--record"):
        assert re.search(rf"^  {option}\b.*\n?.*\w", text, re.M), option
    assert all(name in text for name in profiles.names())
    code, text, _ = paperlib("--help")
    assert code == 0 and all(word in text for word in ("figure", "refresh", "train", "prepare", "record", "runs",
                                                         "data", "check-env"))


@pytest.mark.parametrize("package", ["torch", "tqdm"])
def test_a_missing_package_is_named_with_all_that_is_missing(package, tmp_path):
    """`check-env` needs packages itself: it must say so where one of them is what is missing."""
    (tmp_path / "sitecustomize.py").write_text(f"""
import importlib.metadata as metadata, sys
sys.modules[{package!r}], of = None, metadata.version
def version(name):
    if name in ({package!r}, "onnx"):
        raise metadata.PackageNotFoundError(name)
    return of(name)
metadata.version = version
""")
    done = subprocess.run([sys.executable, "-m", "paperlib", "check-env"], cwd=paths.ROOT, capture_output=True,
                          text=True, env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{paths.ROOT}"})
    first, *others = done.stderr.splitlines()
    assert done.returncode == 1 and first.startswith(f"error: the package {package} cannot be imported; `pip install")
    assert {line.split("  ->  ")[0].strip() for line in others} == {
        f"FAIL {name} is not installed" for name in (package, "onnx")}


@pytest.mark.parametrize("words, recipe", [
    (["--profile", "imagenet", "--model", "mobilenet_v1"], recipes.profit("mobilenet_v1", profile="imagenet")),
    (["--w-bits", "3", "--order", "reverse"], recipes.profit(w_bits=3, order="reverse")),
    (["--without", "teacher", "bn_stages"], recipes.profit(teacher=False, bn_stages=False)),
    (["--set", "round_epochs=7", "--set", "lr=0.5"], recipes.profit(
        profile=profiles.changed("laptop", round_epochs=7, lr=0.5))),
    (["--recipe", "activations_then_weights", "--method", "pact", "--w-bits", "3"],
     recipes.activations_then_weights("pact", bits=3))])
def test_show_prints_the_phases_and_trains_nothing(words, recipe, paperlib, folder):
    code, text, errors = paperlib("train", "--show", *words)
    assert (code, text, errors) == (0, recipe.table().to_string(index=False) + "\n", "") and not folder.exists()


@pytest.mark.parametrize("words, cause", [
    (["--set", "=3"], "a profile has no setting ''"), (["--set", "epochs=3"], "no setting 'epochs': choose from data"),
    (["--set", "lr=0.1", "--set", "lr=0.2"], "a setting is given twice"),
    (["--set", "lr=fast"], "lr must be a finite number of at least 0, got 'fast'"),
    (["--set", "bn_epochs=1.5"], "bn_epochs must be a whole number .*, got '1.5'"),
    (["--set", "step_epochs=-1"], "step_epochs must be a whole number from 0 to 1000000, got -1"),
    (["--set", "conclusive=maybe"], "conclusive must be"),
    (["--set", "train_images=960", "--profile", "recorded"], "'recorded' trains nothing: change 'laptop' instead"),
    (["--profile", "huge"], "unknown profile 'huge'"),
    (["--w-bits", "12"], "w_bits must be a whole number from 1 to 8")])
def test_settings_that_cannot_be(words, cause, paperlib, folder):
    code, text, errors = paperlib("train", "--show", *words)
    assert code == 2 and text == "" and re.search(cause, errors) and len(errors.strip().splitlines()) == 1, errors
    assert not folder.exists()


@pytest.mark.parametrize("words, cause", [
    (["--set", "lr"], "write NAME=VALUE, not 'lr'"), (["--order", "up"], "invalid choice"),
    (["--without", "everything"], "invalid choice"), (["--w-bits", "four"], "invalid int value"), (["--sets"], "")])
def test_words_that_are_no_options(words, cause, paperlib):
    code, text, errors = paperlib("train", "--show", *words)
    assert code == 2 and text == "" and cause in errors and "usage:" in errors


@pytest.mark.parametrize("words, cause", [
    (["--set", "train_images=955"], "cannot take 955 images .* multiple of 10"),
    (["--set", "batch_size=0"], "batch_size must be a whole number from 1"),
    (["--set", "data=cifar100"], "cifar100"), (["--weights", "nowhere.pt"], "nowhere.pt")])
def test_settings_that_the_data_refuse(words, cause, paperlib):
    code, text, errors = paperlib(*training("--method", "duq", *words))
    assert code == 2 and re.search(cause, errors.splitlines()[-1]) and "Traceback" not in errors, errors


def test_prepare_trains_what_items_need_and_only_that(paperlib, monkeypatch):
    asked = []
    monkeypatch.setattr(runs, "prepare", lambda recipes, workers: asked.append((recipes, workers))
                        or sum(not recipe.recorded for recipe in recipes))
    code, text, _ = paperlib("prepare", "profit_table3_ablation", "--profile", "smoke", "--workers", "3")
    (wanted, workers), = asked
    assert (code, text, workers) == (0, "8 runs trained; all runs of profile smoke are there\n", 3)
    assert [recipe for recipe in wanted if not recipe.recorded] == [
        recipe for group in experiments.ablation("smoke").values() for recipe in group]
    assert paperlib("prepare", "--profile", "laptop")[0] == 0
    assert asked[1][0] == [recipe for recipe, _ in contents.needed("laptop")] and asked[1][1] is None


def test_prepare_has_nothing_to_do_for_recorded_runs(paperlib):
    code, text, _ = paperlib("prepare", "--profile", "recorded")
    assert code == 0 and text.startswith("nothing to train: these runs are shown from data/recorded/")
    code, text, errors = paperlib("prepare", "fig9")
    assert code == 2 and "'fig9' has no runs of its own: choose from profit_fig2_4_aiwq" in errors


def test_runs_that_are_there(paperlib, folder, monkeypatch):
    code, text, _ = paperlib("runs")
    assert code == 0 and text == f"no runs in {folder} yet\n"
    recipe = recipes.activations_then_weights("duq", model="vgg7", seed=3, profile=profiles.changed(
        "smoke", **{**SETTINGS, "stage_epochs": 1}))

    def stop(*, phase, **event):
        if phase == "weights":
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        runs.obtain(recipe, progress=stop)
    (folder / "stray").write_text("not a run")
    (folder / "empty").mkdir()
    code, text, _ = paperlib("runs")
    assert code == 0
    lines = {line.split()[0]: line for line in text.splitlines()}
    first, second, third = StoredPhase.chain(recipe)
    assert re.search(r"done +vgg7 +float +3 ", lines[first.key])
    assert re.search(rf"done +vgg7 +activations +{first.key} +3 +\d", lines[second.key])
    assert re.search(rf"interrupted +vgg7 +weights +{second.key} +3 ", lines[third.key])
    assert "interrupted" in lines["empty"] and "stray" not in lines and len(lines) == 5


def test_last_phase_without_epochs(paperlib):
    code, text, errors = paperlib(*training("--method", "duq", "--set", "stage_epochs=0"))
    assert code == 0 and re.fullmatch(r"\w{16}  DuQ .*, seed 0: \d+\.\d % validation accuracy\n", text), errors


def recipe(method):
    return recipes.activations_then_weights(method, model="vgg7", profile=profiles.changed("smoke", **SETTINGS))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """{method: what each phase left}."""
    threads, found = torch.get_num_threads(), {}
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAPERLIB_RUNS", str(tmp_path_factory.mktemp("whole")))
        patch.setattr(torch.cuda, "is_available", lambda: False)
        for method in ("duq", "pact"):
            runs.obtain(recipe(method), progress=lambda **event: None)
            found[method] = finals(recipe(method))
    torch.set_num_threads(threads)
    return found


@pytest.mark.slow
def test_export(paperlib, folder, tmp_path, monkeypatch):
    run = runs.obtain(recipe("duq"), progress=lambda **event: None)
    images, net = torch.randn(2, 3, 32, 32), run.model().eval()
    for form, suffix in commands.EXPORTS.items():
        code, text, errors = paperlib("export", run.key[:9], "--to", form, "--out", str(tmp_path / f"net.{suffix}"))
        size, floats = map(int, re.findall(r" (\d+)", text))
        assert code == 0 and size == (tmp_path / f"net.{suffix}").stat().st_size < floats, errors
    assert torch.equal(deploy.load(tmp_path / "net.packed")(images), net(images))
    assert deploy.predictions({"torch": net, "onnx": deploy.runner(tmp_path / "net.onnx")},
                              [(images, torch.zeros(2, dtype=torch.long))]).logit_difference.max() < 1e-3
    monkeypatch.setattr(paths, "recorded_dir", lambda: tmp_path / "shelf")
    shelf = run.record(packed=True)
    carried, found = runs.trained(shelf.name)
    assert torch.equal(carried(images), net(images)) and found.recorded and run.record() == shelf
    with pytest.raises(InputError, match="does not carry these weights"):
        runs.obtain(found).model("weights")
    key = StoredPhase(resolve(recipe("duq")), 0).key
    given = paperlib("export", key, "--to", "packed", "--out", str(tmp_path / "float"))
    assert given[0] == 2 and "not quantized" in given[2] and not (tmp_path / "float").exists()
    for key in ("f" * 16, ""):
        code, _, errors = paperlib("export", key, "--to", "packed")
        assert code == 2 and f"begins with {key!r}: `python -m paperlib runs` lists them all" in errors


def test_a_run_trained_by_other_code_is_found_by_its_key(paperlib, folder, monkeypatch):
    settings = {name: value for name, value in SETTINGS.items() if name != "stage_epochs"}
    run = runs.obtain(recipes.weights_alone(4, model="vgg7", profile=profiles.changed(
        "smoke", **{**settings, "round_epochs": 0, "float_epochs": 0})),
        progress=lambda **event: None)
    weights = run.model().state_dict()
    for module in ("phase_store", "obtaining"):
        monkeypatch.setattr(f"paperlib.runs.{module}.code_version", lambda: "younger")
    code, _, errors = paperlib("export", run.key, "--to", "packed", "--out", str(folder / "x.packed"))
    assert code == 2 and "was trained by other code than today's" in errors and not (folder / "x.packed").exists()
    with pytest.warns(UserWarning, match="other code than today's, so its numbers may come out otherwise"):
        net, found = runs.trained(run.key, any_code=True)
    assert found.identity() == run.recipe.identity() and StoredPhase.at(run.key).key == run.key
    assert all(torch.equal(a, b) for a, b in zip(weights.values(), net.state_dict().values()) if torch.is_tensor(a))


def finals(recipe):
    states = [checkpoint.load(link.folder / "final.pt") for link in StoredPhase.chain(recipe)]
    return [[s["history"], {k: v.numpy().tobytes() if torch.is_tensor(v) else v for k, v in s["net"].items()}]
            for s in states]


HOW = {"SIGTERM": (["duq"], signal.SIGTERM), "SIGINT": (["duq"], signal.SIGINT),
       "two workers": (["duq", "pact"], signal.SIGINT)}


def stopped(how, folder):
    """(exit code, standard error) of a training that gets a signal as soon as its first quantized epoch is saved."""
    (methods, number), said = HOW[how], folder.with_suffix(".errors")
    with open(said, "w") as errors:
        process = Module(
            [sys.executable, "-m", "paperlib", *TRAIN, "--method", *methods, "--workers", str(len(methods))],
            cwd=paths.ROOT, env={**os.environ, "PAPERLIB_RUNS": str(folder), "CUDA_VISIBLE_DEVICES": ""}, stderr=errors)
    try:
        last = folder / StoredPhase(recipe("duq"), 1).key / "last.pt"
        while not last.exists() and process.poll() is None:
            time.sleep(0.005)
        os.killpg(process.pid, number)          # a terminal's Ctrl-C reaches all processes
        return process.wait(90), process.stdout.read(), said.read_text()
    finally:
        process.kill()


def read(file):
    try:
        return file.read_bytes()
    except OSError:     # the process is gone
        return b""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="sees workers in /proc")
def test_ctrl_c_reaches_no_worker(folder):
    """One that still imports would show a traceback; the command ends them all."""
    process = subprocess.Popen(
        [sys.executable, "-m", "paperlib", *TRAIN, "--method", "duq", "pact", "--workers", "2"], cwd=paths.ROOT,
        env={**os.environ, "PAPERLIB_RUNS": str(folder), "CUDA_VISIBLE_DEVICES": ""}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        workers = []
        while process.poll() is None and not workers:
            time.sleep(0.005)
            workers = [int(file.parent.name) for file in Path("/proc").glob("[0-9]*/cmdline")
                       if b"paperlib.runs.worker" in read(file)
                       and f"PPid:\t{process.pid}\n".encode() in read(file.with_name("status"))]
        assert os.getpgid(workers[0]) == workers[0] != os.getpgid(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=90)
        assert process.returncode == 130 and output == "" and "Traceback" not in errors, errors
        assert not read(Path(f"/proc/{workers[0]}/cmdline"))        # gone, or a zombie that nobody has buried
    finally:
        process.kill()


@pytest.mark.slow
def test_stopped_by_a_signal_and_started_again(uninterrupted, tmp_path, monkeypatch, paperlib):
    with ThreadPoolExecutor(3) as pool:
        ends = dict(zip(HOW, pool.map(lambda how: stopped(how, tmp_path / how), HOW)))
    for how, (code, output, errors) in ends.items():
        assert code == 130 and output == "", (how, errors)
        assert errors.splitlines()[-1] == (
            "stopped; all finished steps are kept, and the same command goes on from there")
        assert "Traceback" not in errors, errors
        monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / how))
        link = StoredPhase(recipe("duq"), 1)
        assert not link.done and not StoredPhase(recipe("duq"), 2).folder.exists()
        state = checkpoint.load(link.folder / "last.pt")
        assert 4 * state["epoch"] + state["step"] > 4, how      # the step under way was finished and saved
        for method in HOW[how][0]:
            code, output, _ = paperlib(*TRAIN, "--method", method)
            assert code == 0 and output.startswith(StoredPhase(recipe(method), 2).key)
            assert finals(recipe(method)) == uninterrupted[method]
