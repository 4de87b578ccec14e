"""No setting is ignored in silence."""
from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import get_type_hints

from ..errors import InputError
from ..system import kinds
from . import profiles


def heeding(make):
    """Decorate a function that makes a recipe for a ``profile``: it refuses arguments that are not of the kinds that
    their annotations say, and settings that change nothing of the recipe.

    A setting that differs from its profile's own value is set back to it; InputError that names the setting if the
    recipe stays what it is.
    """
    hints, signature = get_type_hints(make, include_extras=True), inspect.signature(make)

    @functools.wraps(make)
    def made(*args, profile=signature.parameters["profile"].default, **options):
        given = signature.bind(*args, **options)
        for name, value in given.arguments.items():
            given.arguments[name] = kinds.read(name, value, hints[name])
        args, options = given.args, given.kwargs
        recipe = make(*args, profile=profile, **options)
        for name, value in profiles.differences(profile).items() if isinstance(profile, profiles.Profile) else ():
            try:
                without = make(*args, profile=dataclasses.replace(profile, **{name: value}), **options)
            except InputError:
                continue        # it does change something
            if without.known_by == recipe.known_by:
                raise InputError(f"the recipe {make.__name__} ({recipe.label}, {recipe.model}) has no use for {name}="
                                 f"{getattr(profile, name)!r}: leave {name} out"
                                 + (", or add paper=False" if profile.paper else ""))
        return recipe

    return made
