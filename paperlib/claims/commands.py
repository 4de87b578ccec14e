"""Commands that draw figures and record what they show: each function adds its command's options and returns what it
does."""
from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

from .. import runs
from ..errors import InputError
from ..recipes import profiles
from ..recipes.command_line import add_profile, number
from ..runs import bundle, selftest
from ..runs.commands import add_workers
from ..system import distributed, kinds
from . import confirming, contents, gpu_experiments, recording, scoreboard


def figure_command(options: ArgumentParser) -> Callable:
    from . import notebooks  # here: runs are recorded where no Jupyter is installed, too

    options.add_argument("item", help="name of the notebook, without .ipynb")
    add_profile(options, "recorded")
    options.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                         help="a parameter of the notebook; may be repeated. With other values than its own the "
                         "figure goes into figures/experiments/")

    def work(args):
        profiles.get(args.profile)
        given = dict(args.parameter)
        if len(given) < len(args.parameter):
            raise InputError("a parameter is given twice: name each of them once")
        for file in notebooks.make_figure(args.item, args.profile, given):
            print(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)
    return work


def refresh_command(options: ArgumentParser) -> Callable:
    from . import notebooks

    options.add_argument("notebook", help="name of the notebook, without .ipynb")
    return lambda args: notebooks.refresh(args.notebook)


def prepare_command(options: ArgumentParser) -> Callable:
    options.add_argument("item", nargs="*", help="name of a notebook, without .ipynb (default: all of them)")
    add_profile(options, "laptop")
    add_workers(options)

    def work(args):
        recipes = [recipe for item in args.item or [None] for recipe, _ in contents.needed(args.profile, item)]
        if all(recipe.recorded for recipe in recipes):
            print("nothing to train: these runs are shown from data/recorded/, see `python -m paperlib record "
                  "--status`")
            return
        trained = runs.prepare(recipes, workers=args.workers)
        print(f"{trained} runs trained; " * bool(trained) + f"all runs of profile {args.profile} are there")
    return work


def record_command(options: ArgumentParser) -> Callable:
    options.add_argument("item", nargs="*", help="name of a notebook, without .ipynb (default: all of them)")
    add_profile(options, "recorded")
    options.add_argument("--seeds", type=number(kinds.Positive), default=0, metavar="N",
                         help="how many seeds (default: the profile's)")
    options.add_argument("--minutes", type=number(kinds.Above), metavar="M",
                         help="stop then; the same command goes on from there")
    add_workers(options)
    options.add_argument("--again", action="store_true", help="also what is recorded already")
    options.add_argument("--list", choices=("notebooks", "gpu", "trial"), help="what to record: runs of notebooks; "
                         "full-size runs for a GPU, best first, by the fastest way that a self-test of a minute finds; "
                         "or a trial of that in small (default: gpu for the profile cifar10 on a GPU, else notebooks)")
    options.add_argument("--deliver", metavar="FOLDER",
                         help="also put each recorded run into files of up to 15 MB there")
    options.add_argument("--status", action="store_true", help="print what is there and what is missing, train nothing")

    def work(args):
        start, changes, workers, rates = time.monotonic(), {}, args.workers, None
        on_gpu = distributed.device().type == "cuda" and args.profile == "cifar10" and not args.item
        which = args.list or ("gpu" if on_gpu else "notebooks")
        if which == "notebooks":
            tasks = recording.tasks(args.profile, args.item, args.seeds)
            shown = profiles.scale("recorded")
            if profiles.scale(args.profile) != shown:
                print(f"mind: notebooks open on recorded runs of profile {shown.name}; those of {args.profile} will "
                      "lie beside them, for your own use")
        elif args.item:
            raise InputError(f"the list {which!r} is not by notebooks: leave out {', '.join(args.item)}")
        else:
            if not args.status:
                choice = selftest.report(**(selftest.TRIAL if which == "trial" else {}))
                changes, workers, rates = choice.changes, args.workers or choice.workers, choice.rates()
            tasks = (gpu_experiments.trial if which == "trial" else gpu_experiments.tasks)(**changes)
        if not args.status:
            left = args.minutes and max(0.0, args.minutes - (time.monotonic() - start) / 60)
            kept = {"kept": bundle.Deliveries(Path(args.deliver)).add} if args.deliver else {}
            recording.work(tasks, minutes=left, workers=workers, again=args.again, rates=rates, **kept)
        print(recording.status(tasks).to_string())
    return work


def confirm_command(options: ArgumentParser) -> Callable:
    from ..runs import check_env  # here: runs are recorded where the packages of its checks are not installed, too

    options.add_argument("claim", nargs="?", help="its id, as the scoreboard shows it (default: list those that can "
                         "be confirmed, with seeds and effect so far, and the minutes that a further seed takes here)")
    options.add_argument("--minutes", type=number(kinds.Above), default=20.0, metavar="M",
                         help="stop then; the same command goes on from there (default: %(default)g)")
    options.add_argument("--seeds", type=number(kinds.Positive), default=confirming.MOST, metavar="N",
                         help="at most so many, even where there is time for more (default: %(default)s)")
    add_workers(options)

    def work(args):
        judged = scoreboard.judge("recorded")
        if args.claim is None:
            for row in confirming.listing(judged).itertuples():
                effect = f": {row.effect} ({row.unit})" if row.effect else ""
                print(f"{row.id}: {row.claim}\n    {row.seeds} seeds{effect}; {row.minutes} min for a further one")
            if not check_env.cifar10_is_here():
                print("Most of them need all of CIFAR-10, which is not here: `make data` gets it")
            return
        one = confirming.find(args.claim, judged)
        confirming.confirm(one, confirming.rates_here(judged), minutes=args.minutes, most=args.seeds,
                           workers=args.workers)
    return work
