"""The working half of the companion: quantizers, networks, training and runs.  The notebooks tell the story.

Each room is a package, and its ``__init__`` says what it is for; a file imports only from its own room and from rooms
below it (CONTRIBUTING.md draws the plan).
"""
import importlib as _importlib

from .system import provenance as _provenance  # first of all: it reads the code that is about to be imported

__version__ = "0.1.0"

# public names of modules that lie in a room: `from paperlib import cost` goes on working
ALIASES = {"cost": "models.cost", "instability": "training.aiwq", "items": "claims.experiments",
           "profiles": "recipes.profiles", "published": "claims.published"}


def __getattr__(name: str):
    if name in ALIASES:
        return _importlib.import_module(f"{__name__}.{ALIASES[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
