"""From the words of ``python -m paperlib train`` to recipes; a word that a recipe has no use for is refused."""
from __future__ import annotations

import argparse
import dataclasses
import inspect

from .. import recipes
from ..errors import InputError
from ..system import kinds
from . import Recipe, profiles
from .profiles import Profile

OPTIONS = ("model", "w_bits", "a_bits", "distillation", "order", "method")      # as argparse calls them
SWEPT = {"order": ["aiwq"], "method": ["duq", "pact"]}      # options of several values, a recipe for each: the usual ones


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
    settings = dict(args.set or [])
    if len(settings) < len(args.set or []):
        raise InputError("a setting is given twice: --set each of them once")
    if args.weights is not None:
        if "weights" in settings:
            raise InputError("--weights and --set weights=... say the same thing: leave one out")
        settings["weights"] = args.weights
    return profiles.changed(args.profile, **settings) if settings else args.profile
