"""Which way of computing a training step is fastest on this machine and agrees with plain float32: tried, not assumed.

Each way trains the same tiny network on the same batches in a process of its own, so that a way that fails, hangs or
spoils the device ends nothing but itself.  ``python -m paperlib.runs.selftest`` prints the table.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from dataclasses import dataclass

import pandas as pd
import torch

from ..errors import InputError
from ..system.distributed import cores, device
from ..system.paths import ROOT
from ..training.torch_settings import assumed
from .parallel import environment_of_workers
from .rates import Kind, Rates

# {name: what it changes of a recipe}; the first is what all others are held against
WAYS = {"float32": {}, "bfloat16": {"precision": "bfloat16"}, "float32, compiled": {"compiled": True},
        "bfloat16, compiled": {"precision": "bfloat16", "compiled": True},
        "float32, CUDA graphs": {"compiled": "reduce-overhead"},
        "bfloat16, CUDA graphs": {"precision": "bfloat16", "compiled": "reduce-overhead"}}
REFERENCE = "float32"
TOLERANCE = {"float32": 0.02, "bfloat16": 0.1}      # of the mean training loss, which begins near ln 10 = 2.3
CPU, FLOAT = "CPU, float32", "float network, float32"       # rows beside the ways: the truth, and no quantizers
SIZE = {"width": 0.25, "batch": 128, "images": 2048}
KIND = Kind("mobilenet_v3_large", 0.25, 32, quantized=True, taught=False, measured=False)    # what it trains
TRIAL = {"size": {**SIZE, "batch": 16, "images": 64}, "most": 2, "seconds": 120.0, "period": 0.5,
         "ways": {name: WAYS[name] for name in (REFERENCE, "bfloat16")}}
COLUMNS = ["way", "loss", "difference", "agrees", "ready_s", "images_per_s", "ratio", "fault"]


@dataclass
class Choice:
    """What the self-test settled on: ``changes`` of a recipe, ``workers`` trainings side by side, and the images per
    second of the tiny network that all of them process together."""

    changes: dict
    workers: int
    images_per_s: float

    def rates(self) -> Rates:
        """How long trainings take on this machine, as far as this tells."""
        return Rates((KIND, max(1.0, self.images_per_s / self.workers)))     # 1: nothing known


class _Process:
    """One way at work in a process of its own; :meth:`ask` waits for its next line, and never beyond a time."""

    def __init__(self, device: str, changes: dict, quantized: bool, size: dict):
        job = json.dumps({"device": device, "changes": changes, "quantized": quantized, **size})
        self.errors, self.reader = tempfile.TemporaryFile("w+"), ThreadPoolExecutor(1)
        self.process = subprocess.Popen([sys.executable, "-m", "paperlib.runs.selftest", "--job", job], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                        env=environment_of_workers(), start_new_session=True, cwd=ROOT)

    def ask(self, until: float) -> dict:
        """The next answer; InputError with the reason if there is none in time."""
        try:
            line = self.reader.submit(self.process.stdout.readline).result(max(0.0, until - time.monotonic()))
        except TimeoutError:
            raise InputError("not ready in time") from None
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().split("\n")
        raise InputError(next((text.strip()[:90] for text in reversed(said) if text.strip()),
                              f"ended with exit code {code}"))

    def ready(self, start: float, until: float) -> dict:
        """What it has learned in its first epoch and after how long, or why it has not."""
        try:
            return {**self.ask(until), "ready_s": round(time.monotonic() - start, 1), "fault": ""}
        except InputError as error:
            return {"fault": str(error)}

    def go(self, seconds: float) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{seconds}\n")
            self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def run(*, device: str = "cuda", seconds: float = 60.0, period: float | None = None, size: dict = SIZE, most: int = 8,
        ways: dict[str, dict] = WAYS) -> tuple[pd.DataFrame, Choice]:
    """Try all ``ways`` on ``device`` against float32 on the CPU, within ``seconds``; each speed is measured for
    ``period`` seconds, a thirtieth of them all if it is None.

    Returns a table with a row for each way (loss: mean over the training steps; difference: to the CPU's; agrees: it
    is within TOLERANCE; images_per_s: of one training alone; ratio: of that to a float network's; fault: why there is
    no number), and the choice: the fastest way that agrees, or plain float32, and as many trainings side by side, up
    to ``most``, as process most images per second in all.  No way's failure ends it.
    """
    start, period = time.monotonic(), period or seconds / 30
    until = start + seconds
    with contextlib.ExitStack() as at_end:
        def begin(device: str, changes: dict, quantized: bool = True) -> _Process:
            process = _Process(device, changes, quantized, size)
            at_end.callback(process.end)
            return process

        processes = {CPU: begin("cpu", {}), FLOAT: begin(device, {}, quantized=False),
                     **{name: begin(device, changes) for name, changes in ways.items()}}
        rows = {name: process.ready(start, start + 0.6 * seconds) for name, process in processes.items()}
        for name, row in rows.items():
            row["difference"] = row.get("loss", math.nan) - rows[CPU].get("loss", math.nan)
            tolerance = TOLERANCE.get(ways.get(name, {}).get("precision", "float32"), 0.0)
            row["agrees"] = name != FLOAT and abs(row["difference"]) <= tolerance
        for name in (FLOAT, *ways):         # one after the other, alone
            rows[name]["images_per_s"] = _rate([processes[name]], period, until) if "loss" in rows[name] else 0.0
        best = max((name for name in ways if rows[name]["agrees"]), key=lambda name: rows[name]["images_per_s"],
                   default=REFERENCE)
        for name in processes.keys() - {best}:
            processes[name].end()
        workers, rate = _side_by_side(processes[best], rows[best]["images_per_s"], lambda: begin(device, ways[best]),
                                      most, period, until)
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("way").reset_index()
    table["ratio"] = table.images_per_s / (rows[FLOAT]["images_per_s"] or math.nan)
    return table.reindex(columns=COLUMNS), Choice(ways[best], workers, rate)


def report(**options) -> Choice:
    """:func:`run`, on the device that trainings use unless told otherwise, with everything printed."""
    options = {"device": device().type, **options}
    on_gpu = options["device"] == "cuda"
    name, cudnn = (torch.cuda.get_device_name(), torch.backends.cudnn.version()) if on_gpu else ("CPU", None)
    print(f"{name}, {cores()} cores; Python {sys.version.split()[0]}, torch {torch.__version__}, CUDA "
          f"{torch.version.cuda}, cuDNN {cudnn}", flush=True)
    table, choice = run(**options)
    print(table.round(3).to_string(index=False), f"\nchosen: {choice}", flush=True)
    return choice


def _rate(processes: list[_Process], seconds: float, until: float) -> float:
    """Images per second of all these processes at once; 0 if one of them gives up."""
    for process in processes:
        process.go(seconds)
    try:
        return sum(answer["images"] / answer["seconds"] for answer in [process.ask(until) for process in processes])
    except InputError:
        return 0.0


def _side_by_side(first: _Process, alone: float, another: Callable[[], _Process], most: int, seconds: float,
                  until: float) -> tuple[int, float]:
    """How many trainings at a time reach most images per second in all, and how many images that are."""
    others, best, count = [another() for _ in range(1, most)], (1, alone), 2
    ready = [process for process in others if "loss" in process.ready(0.0, until - 4 * seconds)]
    while count <= 1 + len(ready) and time.monotonic() + seconds < until:
        rate = _rate([first, *ready][:count], seconds, until)
        if rate > 1.05 * best[1]:       # less is within what two measurements differ by
            best = count, rate
        count *= 2
    return best


def _job(device: str, changes: dict, quantized: bool, width: float, batch: int, images: int) -> None:
    """What one process does: train an epoch, tell the loss, then train for as long as each line of input says."""
    from .. import models
    from ..data.cifar10_batches import Batches
    from ..data.image_arrays import Images
    from ..training.engine import Trainer, begin
    from ..training.phases import Phase

    torch.manual_seed(0)
    y = torch.randint(0, 10, (images,))
    patterns, noise = torch.randint(0, 256, (10, 3, 1, 1)), torch.randint(0, 256, (images, 3, 32, 32))
    made_up = Images(((patterns[y] + noise) // 2).to(torch.uint8), y, "made up")    # easy: the loss has to fall
    train = Batches(made_up, batch, train=True, device=device)
    net = models.build("mobilenet_v3_large", width=width).to(device)
    for module in net.modules():        # in full motion from the first step
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)
            module.momentum = 1.0
        elif isinstance(module, torch.nn.Linear):
            torch.nn.init.kaiming_normal_(module.weight)
    phase = Phase("self-test", 1, 0.05, scheme=models.Scheme() if quantized else None, warmup_epochs=0)
    x = next(iter(train.epoch()))[0]
    with torch.no_grad():       # so that running statistics, and ranges after them, are those of these images
        net.train()(x)
    net = begin(net, phase, x, fast=not changes)
    trainer = Trainer(net, phase, train, Batches(made_up, batch, train=False, device=device), seed=0,
                      **{"precision": "float32", "compiled": False} | changes)
    trainer.run()
    loss = next(value for _, _, split, metric, value in trainer.history if (split, metric) == ("train", "loss"))
    print(json.dumps({"loss": loss}), flush=True)
    net.train()
    for line in sys.stdin:
        start, done, i = time.perf_counter(), 0, 0
        while time.perf_counter() - start < float(line):
            for x, y in train.epoch(i):
                trainer.train_step(x, y)
                done += len(y)
            if device == "cuda":
                torch.cuda.synchronize()
            i += 1
        print(json.dumps({"images": done, "seconds": time.perf_counter() - start}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m paperlib.runs.selftest", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default=device().type)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        with assumed(threads=1):        # as in every training
            _job(**json.loads(args.job))
    else:
        report(device=args.device, seconds=args.seconds)


if __name__ == "__main__":
    main()
