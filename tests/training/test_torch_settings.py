"""What decides numbers beside the code: settings of the process, edits under it, keys in processes of their own."""
import contextlib
import dataclasses
import json
import subprocess
import sys

import pytest
import torch

from paperlib import recipes, runs
from paperlib.errors import InputError
from paperlib.runs.phase_store import StoredPhase
from paperlib.system import code_hash, paths, provenance
from paperlib.training import checkpoint
from paperlib.training.torch_settings import assumed


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "runs"))
    return tmp_path


def tiny(**changes):
    """A float phase of one epoch and a quantized one, of two steps each."""
    recipe = recipes.activations_then_weights("duq", model="vgg7", profile="smoke")
    phases = tuple(dataclasses.replace(phase, epochs=1) for phase in recipe.phases[:2])
    return dataclasses.replace(recipe, **{"width": 0.0625, "train_images": 40, "test_images": 20, "batch_size": 20,
                                          "phases": phases, **changes})


def left(recipe):
    """History and bytes of the network of each phase."""
    finals = [checkpoint.load(link.folder / "final.pt") for link in StoredPhase.chain(recipe)]
    return [(f["history"], {k: v.numpy().tobytes() for k, v in f["net"].items() if torch.is_tensor(v)}) for f in finals]


def settings():
    b = torch.backends
    precision = [getattr(getattr(b.mkldnn, name, None), "fp32_precision", None) for name in ("conv", "matmul")]
    small = torch.tensor(1e-38, dtype=torch.float32, device="cpu") / 9
    return (torch.get_num_threads(), torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"), torch.get_float32_matmul_precision(),
            torch.get_deterministic_debug_mode(), b.mkldnn.enabled, b.mkldnn.deterministic, b.cudnn.benchmark,
            *precision, small.item() == 0, torch.get_rng_state().tolist())


@contextlib.contextmanager
def odd():
    """A process in which everything is set that anybody might set."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_float32_matmul_precision("medium")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.set_flush_denormal(True)
        torch.backends.mkldnn.enabled = False
        torch.backends.cudnn.benchmark = True
        with contextlib.suppress(AttributeError):       # torch < 2.9
            torch.backends.mkldnn.conv.fp32_precision = "bf16"
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            yield
    finally:
        torch.set_num_threads(before)
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        with contextlib.suppress(AttributeError):
            torch.backends.mkldnn.conv.fp32_precision = "none"
        torch.set_float32_matmul_precision("highest")
        torch.use_deterministic_algorithms(False)
        torch.set_flush_denormal(False)
        torch.backends.mkldnn.enabled, torch.backends.cudnn.benchmark = True, False


def test_settings_of_the_process_do_not_reach_a_training(folder, monkeypatch):
    runs.obtain(tiny())
    expected = left(tiny())
    monkeypatch.setenv("PAPERLIB_RUNS", str(folder / "again"))
    with odd():
        before = settings()
        for link in StoredPhase.chain(tiny()):
            link.obtain(lambda **event: None)
        assert settings() == before
    assert left(tiny()) == expected


def test_a_fresh_process_is_what_is_assumed():
    before = settings()
    with assumed():
        assert settings() == before
        with odd(), assumed(3):
            assert settings()[1:-1] == before[1:-1] and torch.get_num_threads() == 3
    assert settings() == before


def test_nothing_is_trained_under_edited_files(monkeypatch):
    edited = {**provenance.IMPORTED, "runs/loading.py": b"NUMBER = 1"}
    monkeypatch.setattr(code_hash, "read", lambda folder: edited)
    with pytest.raises(InputError, match=r"the library has changed .*runs/loading.py\): restart the kernel"):
        runs.obtain(tiny())
    assert not paths.runs_dir().exists()


def test_a_worker_trains_nothing_under_another_key(forked):
    """The right key gets as far as the data, which are refused."""
    recipe = tiny(train_images=45)
    for key, says in (("0" * 16, "has changed since this training was asked for: restart the kernel"),
                      (StoredPhase.chain(recipe)[-1].key, "cannot take 45 images")):
        with subprocess.Popen([sys.executable, "-m", "paperlib.runs.worker"], cwd=paths.ROOT, text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            print(json.dumps([key, recipe.to_dict()]), file=process.stdin, flush=True)
            assert says in json.loads(process.stdout.readline())["error"] and process.wait(60) == 1
    assert not list(paths.runs_dir().rglob("*.json"))
