"""Two processes on one machine train what one process trains.

This file is also what the two processes run, see ``main``.
"""
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from forks import Module
from PIL import Image
from torch import nn

from paperlib import models, recipes, runs
from paperlib.data.cifar10_batches import Batches
from paperlib.data.cifar10_images import load_subset
from paperlib.models import Scheme
from paperlib.recipes import profiles
from paperlib.runs import phase_store
from paperlib.runs.phase_store import StoredPhase
from paperlib.system import distributed, paths
from paperlib.training import checkpoint
from paperlib.training.engine import Trainer
from paperlib.training.phases import Phase

HAS_GLOO = torch.distributed.is_available() and torch.distributed.is_gloo_available()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not HAS_GLOO, reason="this torch has no gloo")]

SETTINGS = {"width": 0.1, "train_images": 60, "test_images": 50, "batch_size": 15, "float_epochs": 0,
            "stage_epochs": 3, "lr": 0.01}      # 15 images a batch: 8 in one process and 7 in the other
COMMAND = ["-m", "paperlib", "train", "--recipe", "activations_then_weights", "--method", "duq",
           "--model", "mobilenet_v2", "--profile", "smoke",
           *(f"--set={name}={value}" for name, value in SETTINGS.items())]


def stages(model="mobilenet_v2"):
    return recipes.activations_then_weights("duq", model=model, profile=profiles.changed("smoke", **SETTINGS))


def recipe(name):
    """ "float", "quantized" with AIWQ, "photographs", "bfloat16"."""
    plain = dataclasses.replace(stages("vgg7"), width=0.0625, phases=(Phase("float", 2, lr=0.02, warmup_epochs=0),))
    if name == "photographs":
        return dataclasses.replace(plain, model="mobilenet_v2", width=0.1, data="imagenet", num_classes=3,
                                   input_size=224, train_images=0, test_images=0, batch_size=4)
    if name == "quantized":
        scheme = stages().phases[2].scheme
        return dataclasses.replace(plain, phases=(*plain.phases, Phase(
            "sampling", 2, lr=0.002, scheme=scheme, warmup_epochs=0, measure=True, every_step=True, teacher="float")))
    return dataclasses.replace(plain, precision="bfloat16" if name == "bfloat16" else "float32")


DROPOUT = nn.Dropout.forward
NAMES = ("float", "quantized", "photographs", "bfloat16")
NORMS = [(torch.float64, 0.1), (torch.float32, 0.1), (torch.float32, None)]


def batch_norm(dtype, momentum, part):
    """Output, gradients and statistics of a batch norm, trained on two batches and used once, on ``part`` of each."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(5, momentum=momentum).to(dtype)
    nn.init.uniform_(norm.weight, 0.5, 1.5), nn.init.normal_(norm.bias)
    norm, found = distributed.synchronized(nn.Sequential(norm))[0], {}
    for i in range(3):
        x, slope = (5 * torch.randn(2, 7, 5, 4, 3, dtype=dtype) + 3).unbind()
        x = x[part].detach().requires_grad_()
        y = norm.train(i < 2)(x)
        (y * slope[part]).sum().backward()
        found |= {f"y{i}": y.detach(), f"x{i}": x.grad}
    return {**found, **norm.state_dict(), "weight.grad": norm.weight.grad, "bias.grad": norm.bias.grad}


class Doubled(Batches):
    """Images in double precision, in which two processes are told from one by errors and not by rounding."""

    def epoch(self, i=0, start=0):
        return ((x.double(), y) for x, y in super(Doubled, self).epoch(i, start))


def in_double(quantized):
    """Two epochs of four batches of 15, of a network with a batch norm and dropout's like; what it ends in."""
    torch.manual_seed(0)
    share = {"rank": distributed.rank(), "world": distributed.world()}
    train, test = (Doubled(images.stratified(n), b, train=t, **share)
                   for images, n, b, t in zip(load_subset(), (60, 50), (15, 23), (True, False)))
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.Hardswish(),
                        nn.Conv2d(8, 8, 3, groups=8, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
                        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10)).double()
    teacher = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 10)).double()
    phase = Phase("lesson", 2, lr=0.02, weight_decay=1e-3, warmup_epochs=0.5, quantizer_lr=1.0)
    if quantized:
        phase = dataclasses.replace(phase, scheme=Scheme(), measure=True, every_step=True)
        net = models.calibrate(models.quantize(net, phase.scheme), load_subset()[0].stratified(60).x.double() / 64 - 2)
    trainer = Trainer(net, phase, train, test, seed=0, teacher=teacher)
    trainer.run()
    history = pd.DataFrame(trainer.history, columns=["epoch", "step", "split", "metric", "value"])
    return {"history": history.to_dict("list"),
            "net": {k: v for k, v in net.state_dict().items() if torch.is_tensor(v)},
            "ema": {k: v for k, v in trainer.ema.module.state_dict().items() if torch.is_tensor(v)},
            "steps": trainer.aiwq.history().to_dict("list") if quantized else {}}


def curves(name):
    run = runs.obtain(recipe(name), progress=lambda **event: None)
    return {"history": run.history.to_dict("list"), "instability": run.instability.to_dict("list"),
            "steps": run.steps.to_dict("list")}


def without_dropout(self, input):
    """Dropout draws for each process's own images, so it is never that of one process."""
    return input


def main():
    """What each of the two processes does; its argument is a folder."""
    torch.set_num_threads(1)
    nn.Dropout.forward = without_dropout
    with distributed.started():
        rank = distributed.rank()
        if rank:
            for module in (phase_store, checkpoint):
                module.atomic = None            # whoever writes calls it
        found = {"world": distributed.world(), "agreed": distributed.agreed(f"process {rank}"),
                 "total": distributed.total(torch.tensor([1.0, rank])).tolist(),
                 "norms": [batch_norm(*n, slice(rank, None, 2)) for n in NORMS],
                 "double": [in_double(q) for q in (False, True)], **{name: curves(name) for name in NAMES}}
        nn.Dropout.forward = DROPOUT
        runs.obtain(stages(), progress=lambda **event: None)
        torch.save(found, Path(sys.argv[1]) / f"{rank}.pt")


def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def environment(folder, photographs):
    return {**{k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}, "PAPERLIB_RUNS":
            str(folder), "PAPERLIB_IMAGENET": str(photographs), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": str(paths.ROOT)}


def two(command, env, errors):
    """Two processes with one command, as torchrun would start them."""
    env = {**env, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port())}
    return [Module([sys.executable, *command], cwd=paths.ROOT, stderr=errors,
                   env={**env, "RANK": rank, "LOCAL_RANK": rank}) for rank in "01"]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Three classes with 3 pictures to train and, in all, 5 to test: the last batch has none for the second process."""
    root, rng = tmp_path_factory.mktemp("imagenet"), np.random.default_rng(0)
    for split, counts in (("train", (3, 3, 3)), ("val", (2, 2, 1))):
        for k, n in enumerate(counts):
            (root / split / f"class{k}").mkdir(parents=True)
            for i in range(n):
                small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
                small.resize((240, 230)).save(root / split / f"class{k}" / f"{i}.JPEG")
    return root


@pytest.fixture(scope="module")
def both(photographs, tmp_path_factory):
    """What the two processes found, and their folder."""
    folder = tmp_path_factory.mktemp("two")
    with open(folder / "errors", "w") as errors:
        processes = two(["-m", "test_distributed", str(folder)], environment(folder / "runs", photographs), errors)
    try:
        assert [process.wait(300) for process in processes] == [0, 0], (folder / "errors").read_text()
    finally:
        for process in processes:
            process.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)], folder


@pytest.fixture(scope="module")
def one(photographs, tmp_path_factory):
    """What one process finds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setenv("PAPERLIB_RUNS", str(tmp_path_factory.mktemp("one")))
        patch.setenv("PAPERLIB_IMAGENET", str(photographs))
        patch.setattr(nn.Dropout, "forward", without_dropout)
        yield {"double": [in_double(q) for q in (False, True)], **{name: curves(name) for name in NAMES}}
    torch.set_num_threads(threads)


def test_both_processes_say_the_same(both):
    first, second = both[0]
    assert first["world"] == second["world"] == 2 and first["agreed"] == second["agreed"] == "process 0"
    assert first["total"] == second["total"] == [2.0, 1.0]
    for name in NAMES:      # AIWQ to the bit, since both sort layers by it
        for table in first[name]:
            pd.testing.assert_frame_equal(*(pd.DataFrame(f[name][table]) for f in both[0]), check_exact=True)


@pytest.mark.parametrize("case", range(len(NORMS)))
def test_batch_norm_of_two_processes_is_that_of_the_whole_batch(case, both):
    dtype, momentum = NORMS[case]
    whole, parts = batch_norm(dtype, momentum, slice(None)), [found["norms"][case] for found in both[0]]
    for key, value in whole.items():
        if key[0] in "xy":
            found = torch.empty_like(value)
            found[0::2], found[1::2] = (p[key] for p in parts)
        elif key.endswith("grad"):
            found = parts[0][key] + parts[1][key]
        else:
            assert torch.equal(parts[0][key], parts[1][key]), key
            found = parts[0][key]
        tolerance = (1e-12 if dtype == torch.float64 else 2e-6) * max(value.abs().max().item(), 1)
        torch.testing.assert_close(found, value, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name, tolerance", [("float", 0.05), ("photographs", 0.15), ("quantized", 0.1),
                                             ("bfloat16", 0.1)])
def test_loss_curves_are_those_of_one_process(name, tolerance, both, one):
    """Roughly: batch norms of a few hardly differing values magnify rounding from step to step."""
    two, single = (pd.DataFrame(found[name]["history"]) for found in (both[0][0], one))
    keys = ["phase", "epoch", "step", "split", "metric"]
    assert two[keys].equals(single[keys]) and len(two) > 4
    losses = two.metric == "loss"
    assert two.value[:2].tolist() == pytest.approx(single.value[:2].tolist(), rel=1e-5)     # before the first step
    assert two.value[losses].tolist() == pytest.approx(single.value[losses].tolist(), rel=tolerance)
    train = two[losses & (two.split == "train")].value
    assert train.nunique() == len(train)        # something was trained


@pytest.mark.parametrize("quantized", [False, True], ids=["float", "quantized"])
def test_in_double_precision_two_processes_train_what_one_does(quantized, both, one):
    """Networks, moving averages, curves and AIWQ, though the processes have 8 and 7 images of each batch."""
    two, single = both[0][0]["double"][quantized], one["double"][quantized]
    for table in ("history", "steps"):
        a, b = (pd.DataFrame(found[table]) for found in (two, single))
        assert list(a.columns) == list(b.columns) and len(a) == len(b)
        for column in a:
            if column != "value":
                assert a[column].equals(b[column])
            else:               # AIWQ takes its moments in single precision
                assert a.value.tolist() == pytest.approx(b.value.tolist(), rel=1e-6 if table == "history" else 2e-3,
                                                         abs=1e-7)
    for part in ("net", "ema"):
        for name, value in single[part].items():
            torch.testing.assert_close(two[part][name], value, rtol=1e-7, atol=1e-9, msg=name)
    if quantized:
        aiwq = [value for metric, value in zip(single["steps"]["metric"], single["steps"]["value"]) if metric == "aiwq"]
        assert len(aiwq) == 7 * 3 and max(aiwq) > 1e-4


def test_two_processes_stopped_and_started_again_by_torchrun(both, photographs, tmp_path):
    """What is lost is nothing: the end is that of two processes that were never stopped."""
    links, env = StoredPhase.chain(stages()), environment(tmp_path, photographs)
    with open(tmp_path / "errors", "w") as errors:
        first = two(COMMAND, env, errors)
    try:
        last, deadline = tmp_path / links[1].key / "last.pt", time.monotonic() + 120
        while not last.exists() and first[0].poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        for process in first:       # as torchrun does when it is told to stop
            process.send_signal(signal.SIGTERM)
        assert 0 not in [process.wait(60) for process in first]
    finally:
        for process in first:
            process.kill()
    assert last.exists() and not (tmp_path / links[2].key).exists(), (tmp_path / "errors").read_text()
    state = checkpoint.load(last)
    assert 4 * state["epoch"] + state["step"] >= 4
    second = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2",
                             "--master-addr=127.0.0.1", f"--master-port={port()}", *COMMAND],
                            cwd=paths.ROOT, text=True, capture_output=True, env=env, timeout=120)
    assert second.returncode == 0, second.stderr
    assert len(second.stdout.splitlines()) == 1 and second.stdout.startswith(links[2].key)
    for link in links:
        finals = [checkpoint.load(folder / link.key / "final.pt") for folder in (tmp_path, both[1] / "runs")]
        assert finals[0]["history"] == finals[1]["history"]
        for name, value in finals[0]["net"].items():
            assert not torch.is_tensor(value) or torch.equal(value, finals[1]["net"][name]), name
