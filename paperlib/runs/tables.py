"""Names for the tables that are made of a run's networks: a recorded run keeps each as <name>.csv (``Run.find``)."""
from __future__ import annotations

import re
from collections.abc import Callable

from ..errors import InputError

OF_EVERY_RUN = ("history", "layers", "instability", "steps")
_makers: dict[str, str] = {}


def named(name: str) -> Callable[[Callable], Callable]:
    """Decorate a function of a run that makes a table: the table's name, whatever the function is called.

    InputError if the name is taken, or could not be a file's on every system.
    """
    def register(make: Callable) -> Callable:
        maker = f"{make.__module__}.{make.__qualname__}"
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise InputError(f"a table cannot be called {name!r}: use lower-case letters, digits and underscores")
        if name in OF_EVERY_RUN or _makers.setdefault(name, maker) != maker:       # a module may be loaded again
            raise InputError(f"two tables cannot both be called {name!r}, and {_makers.get(name, 'every run')} has "
                             "one: choose another name")
        make.table = name
        return make
    return register


def name(make: Callable) -> str:
    """The name of the table that ``make`` makes; InputError if it has none."""
    try:
        return make.table
    except AttributeError:
        raise InputError(f"the table that {make.__qualname__} makes has no name: put @tables.named('...') above the "
                         "function") from None
