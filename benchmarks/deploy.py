"""Inference of a 4-bit network: PyTorch, ONNX Runtime and integers of our own, as ratios to PyTorch in float.

All variants take turns within one run, so that a machine whose speed drifts is fair to all; medians are shown
(IntegerNet, exact but not fast, has one turn), the size of the file each starts from (of the C file: compiled), and
the memory that a fresh process has more once it has loaded that file and computed one image.  The C file has one
thread, and PyTorch the last of the given numbers.  Weights are random, which speed does not depend on; every variant is
first checked to agree with PyTorch, roughly.  ``python benchmarks/deploy.py --help`` lists the options.
Small images, for which the C file is meant: ``--size 32 --batch 1 --threads 2 1``, on a machine that does nothing else.
"""
from __future__ import annotations

import argparse
import ctypes
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pandas as pd
import torch
from qat_step import float_network
from torch import nn

from paperlib import models
from paperlib.deploy import to_c
from paperlib.deploy.integer_net import IntegerNet
from paperlib.deploy.onnx_export import session, to_onnx

PIXELS = ((torch.arange(256) - 128) / 64).expand(3, -1)        # what a byte of an image is to the networks
GROWTH = """
import sys, ctypes, numpy, onnxruntime
def resident():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])
file, size, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
image, logits, before = numpy.zeros((1, 3, size, size), numpy.float32), (ctypes.c_int32 * 10000)(), resident()
if file.endswith(".so"):
    ctypes.CDLL(file).net(bytes(3 * size * size), logits, None)
else:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    session.run(None, {"images": image})
print(resident() - before)
"""


def images(count: int, size: int) -> torch.Tensor:
    """Random images, float32 (count, 3, size, size), of bytes."""
    return PIXELS[0][torch.randint(0, 256, (count, 3, size, size))]


def c_program(net: nn.Module, size: int, classes: int, folder: Path) -> tuple[Callable, Path]:
    """(function of a batch, library): the network as a C file, compiled for this machine."""
    source, library = to_c(net, folder / "net.c", input_size=size, pixels=PIXELS), folder / "net.so"
    subprocess.run(["cc", "-std=c99", "-O3", "-march=native", "-shared", "-fPIC", "-s", "-DNET_LIBRARY", source, "-o",
                    library], check=True)
    compute = ctypes.CDLL(str(library)).net

    def run(x: torch.Tensor) -> torch.Tensor:
        pixels = (64 * x + 128).byte().permute(0, 2, 3, 1).contiguous()
        logits = torch.empty(len(x), classes, dtype=torch.int32)
        for image, answer in zip(pixels, logits):
            compute(ctypes.c_void_p(image.data_ptr()), ctypes.c_void_p(answer.data_ptr()), None)
        return logits / 2**20

    return run, library


def growth(file: Path, size: int, threads: int) -> float:
    """Megabytes that a process grows by when it loads a network and computes one image."""
    done = subprocess.run([sys.executable, "-c", GROWTH, file, str(size), str(threads)], check=True,
                          capture_output=True, text=True)
    return int(done.stdout) / 1000


def stored(net: nn.Module, path: Path) -> int:
    """Bytes of the network as PyTorch saves it."""
    torch.save(net.state_dict(), path)
    return path.stat().st_size


def variants(name: str, size: int, args: argparse.Namespace, folder: Path) -> dict[str, tuple]:
    """{variant: (function of a batch, bytes of its file or None, megabytes of memory or None)}."""
    x = images(16, size)
    net = float_network(name, x, num_classes=args.classes, width=args.width).eval()
    scheme = models.Scheme(w_bits=args.bits, a_bits=args.bits)
    quantized = models.calibrate(models.quantize(net, scheme).train(), x).eval()
    net.eval()
    found = {"PyTorch float": (net, stored(net, folder / "float.pt"), None),
             "PyTorch fake-quantized": (quantized, None, None),
             "IntegerNet": (IntegerNet(quantized, rescale="float"), None, None)}
    for label, source, carrier in (("float", net, "int8"), ("int8", quantized, "int8"), ("int4", quantized, "int4")):
        path = to_onnx(source, folder / f"{label}.onnx", input_size=size, carrier=carrier)
        for threads in args.threads:
            run = session(path, threads=threads)
            found[f"ONNX Runtime {label}, threads: {threads}"] = (
                lambda x, run=run: torch.from_numpy(run.run(None, {"images": x.contiguous().numpy()})[0]),
                path.stat().st_size, growth(path, size, threads))
    run, library = c_program(quantized, size, args.classes, folder)
    found["C file"] = run, library.stat().st_size, growth(library, size, 1)
    expected = {False: net(x), True: quantized(x)}
    for label, (run, *_) in found.items():
        # in an untrained network one number that rounding moves to another code moves many behind it
        both = torch.stack([run(x).flatten(), expected["float" not in label].flatten()])
        if not torch.corrcoef(both)[0, 1] >= 0.5:      # NaN where all logits are equal
            raise SystemExit(f"{name}: {label} computes something else than PyTorch")
    return found


@torch.no_grad()
def measure(name: str, args: argparse.Namespace, folder: Path) -> pd.DataFrame:
    torch.manual_seed(0)
    found = variants(name, args.size, args, folder)
    table = pd.DataFrame({"file MB": {label: size and size / 1e6 for label, (_, size, _) in found.items()},
                          "memory MB": {label: memory for label, (*_, memory) in found.items()}})
    for batch in args.batch:
        x = images(batch, args.size).to(memory_format=torch.channels_last)
        times: dict[str, list[float]] = {label: [] for label in found}
        repeats = max(args.repeats, min(8 * args.repeats, 32 // batch))
        for i in range(repeats + 1):
            for label, (run, *_) in found.items():
                if i and label == "IntegerNet":
                    continue
                start = time.perf_counter()
                run(x)
                if i or label == "IntegerNet":
                    times[label].append(time.perf_counter() - start)
        milliseconds = pd.Series({label: 1000 * statistics.median(t) for label, t in times.items()})
        table[f"ms at {batch}"], table[f"ratio at {batch}"] = milliseconds, milliseconds / milliseconds.iloc[0]
    print(f"\n{name} x {args.width:g}, {args.bits} bits, images of {args.size}x{args.size}, batches of {args.batch}, "
          f"threads {args.threads}, torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}; "
          "ratios to PyTorch float")
    print(table.round({c: 1 if "memory" in c or "file" in c else 2 for c in table}).to_string(na_rep=""), flush=True)
    return table.rename_axis("variant").assign(network=name, width=args.width, size=args.size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["mobilenet_v2", "mobilenet_v3_large"], help="default: both")
    parser.add_argument("--size", type=int, default=224, help="pixels of the images (default: %(default)s)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64], help="default: 1 64")
    parser.add_argument("--width", type=float, default=1.0, help="of the networks (default: %(default)s)")
    parser.add_argument("--classes", type=int, default=1000, help="of the networks (default: %(default)s)")
    parser.add_argument("--csv", type=Path, help="a file for the tables, which are replaced")
    parser.add_argument("--bits", type=int, default=4, help="of weights and activations (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="counted turns of large batches; small ones have up to "
                        "8 times as many (default: %(default)s)")
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()],
                        help="of ONNX Runtime, each in its turn (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads[-1])
    tables = []
    for name in args.model:
        with tempfile.TemporaryDirectory() as folder:       # one each: a library is loaded once from a place
            tables.append(measure(name, args, Path(folder)))
    if args.csv:
        pd.concat(tables).to_csv(args.csv, float_format="%.4g")


if __name__ == "__main__":
    main()
