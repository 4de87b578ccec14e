"""From the words of ``python -m paperlib train`` to recipes; a word that a recipe has no use for is refused."""
from __future__ import annotations

import argparse
import dataclasses
import inspect
from collections.abc import Callable

from .. import recipes
from ..errors import InputError
from ..system import kinds
from . import Recipe, profiles
from .baselines import METHODS
from .profiles import Profile

OPTIONS = ("model", "w_bits", "a_bits", "distillation", "order", "method")      # as argparse calls them
SWEPT = {"order": ["aiwq"], "method": ["duq", "pact"]}      # options of several values, a recipe for each


def checked(read: Callable[[str], object]) -> Callable[[str], object]:
    """An option's type: ``read``, whose InputError argparse tells of like of any other wrong word."""
    def option(text: str):
        try:
            return read(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return option


def number(kind) -> Callable[[str], object]:
    """An option's type: a number of one of :mod:`paperlib.system.kinds`."""
    return checked(lambda text: kinds.parse("it", text, kind))


def add_profile(options: argparse.ArgumentParser, default: str) -> None:
    options.add_argument("--profile", default=default, metavar="NAME",
                         help=f"how large: {', '.join(profiles.names())} (default: %(default)s)")


def add_recipe(options: argparse.ArgumentParser) -> None:
    """Add the words that :func:`recipes_of` understands."""
    options.add_argument("--recipe", choices=("profit", "qil", "activations_then_weights"), default="profit",
                         help="default: %(default)s")
    options.add_argument("--model", metavar="NAME", help="network (default: mobilenet_v3_large; QIL: resnet18)")
    options.add_argument("--w-bits", type=int, metavar="N", help="of weights, 1 to 8 (default: 4)")
    options.add_argument("--a-bits", type=int, metavar="N",
                         help="of activations; activations_then_weights takes --w-bits for both (default: 4)")
    add_profile(options, "laptop")
    options.add_argument("--set", action="append", type=_setting, default=[], metavar="NAME=VALUE",
                         help="change a setting of the profile, e.g. train_images=960; may be repeated")
    options.add_argument("--order", nargs="+", choices=("aiwq", "reverse", "random", "none"),
                         help="PROFIT: which layers freeze first; none: the same schedule without freezing "
                         "(default: aiwq)")
    options.add_argument("--without", nargs="+", default=[], help="PROFIT: parts to leave out",
                         choices=("teacher", "progressive", "bn_stages", "negative_padding"))
    options.add_argument("--distillation", type=float, metavar="SHARE",
                         help="QIL: the teacher's share of the loss (default: 0)")
    options.add_argument("--method", nargs="+", metavar="NAME",
                         help=f"activations_then_weights: {', '.join(METHODS)} (default: duq pact)")
    options.add_argument("--weights", metavar="WEIGHTS", help="a file, a name such as IMAGENET1K_V1, or none "
                         "(default: the profile's)")
    options.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="default: %(default)s")
    options.add_argument("--compile", action="store_true", help="with torch.compile")
    options.add_argument("--seeds", type=number(kinds.Positive), default=1, metavar="N",
                         help="how many seeds (default: %(default)s)")
    options.add_argument("--first-seed", type=int, default=0, metavar="N", help="default: %(default)s")


def recipes_of(args: argparse.Namespace) -> list[Recipe]:
    """The recipes that ``train`` was asked for.  InputError for words that do not suit its recipe or profile."""
    make = getattr(recipes, args.recipe)
    takes = inspect.signature(make).parameters
    given = {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}
    words = {name: f"--{name.replace('_', '-')}" for name in given}
    for part in args.without:
        given[part], words[part] = False, f"--without {part}"
    if "w_bits" in given and "bits" in takes:
        given["bits"], words["bits"] = given.pop("w_bits"), "--w-bits"
    useless = [words[name] for name in given if name not in takes]
    if useless:
        raise InputError(f"the recipe {args.recipe} has no use for {', '.join(useless)}: leave it out")
    swept = next((name for name in SWEPT if name in takes), None)
    sweep = [{swept: value} for value in given.pop(swept, SWEPT[swept])] if swept else [{}]
    seeds = kinds.read("--seeds", args.seeds, kinds.Seeds)
    wanted = [make(**given, **one, profile=_profile(args), seed=seed)
              for seed in range(args.first_seed, args.first_seed + seeds) for one in sweep]
    return [dataclasses.replace(recipe, precision=args.precision, compiled=args.compile) for recipe in wanted]


def _profile(args: argparse.Namespace) -> str | Profile:
    settings = dict(args.set)
    if len(settings) < len(args.set):
        raise InputError("a setting is given twice: --set each of them once")
    if args.weights is not None:
        if "weights" in settings:
            raise InputError("--weights and --set weights=... say the same thing: leave one out")
        settings["weights"] = args.weights
    return profiles.changed(args.profile, **settings) if settings else args.profile


def _setting(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not value:
        raise argparse.ArgumentTypeError(f"write NAME=VALUE, not {text!r}")
    return name, value
