"""What run.json and link.json say of a run: read and checked in one place, whoever wrote them."""
from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

from ..errors import InputError
from ..recipes import Recipe
from ..system import kinds, paths


@dataclass(frozen=True)
class Description:
    """A recorded run or a phase in the store.  ``seconds``: of training; ``finished``: when; ``accuracy``: in per cent,
    of validation; ``previous``: the key of the phase before; ``code``: the version that trained it."""

    recipe: Recipe
    key: str
    environment: dict
    seconds: float | None = None
    label: str = ""
    previous: str | None = None
    code: str | None = None
    finished: str | None = None
    images_per_s: float | None = None
    peak_memory_mb: float | None = None
    accuracy: float | None = None

    def __post_init__(self):
        kinds.settle(self)


def read(file: Path, cure: str, *, needed: tuple[str, ...] = ()) -> Description:
    """The description in ``file``, which must have what is ``needed``; InputError names the file, its fault and the
    ``cure``."""
    try:
        with paths.opened(file) as opened:
            info = json.loads(opened.read().decode("utf-8"), object_pairs_hook=once)
        if not isinstance(info, dict) or not isinstance(info.get("recipe"), dict):
            raise InputError("it holds no recipe")
        info = {field.name: info[field.name] for field in fields(Description) if field.name in info}
        told = kinds.build(Description, {**info, "recipe": {"label": info.get("label", ""), **info["recipe"]}})
        if lacking := [name for name in needed if getattr(told, name) in (None, "")]:
            raise InputError(f"{lacking[0]} is missing")
        if not told.recipe.phases:
            raise InputError("recipe.phases is empty")
    except FileNotFoundError as error:
        raise InputError(f"{file} is missing: {cure}") from error
    except (OSError, ValueError, TypeError, RecursionError, OverflowError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:160] or type(error).__name__
        raise InputError(f"{file} is damaged or of another version ({reason}): {cure}") from error
    return told


def once(pairs: list[tuple]) -> dict:
    """A dict of these, which JSON would make of the last of each name."""
    found, names = dict(pairs), [name for name, _ in pairs]
    if len(found) < len(names):
        raise InputError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found
