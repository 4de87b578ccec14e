"""The packages that pyproject.toml requires: which are here, and the cure for those that are not."""
from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

Check = tuple[bool, str, str]       # holds, what was found, the cure if it does not hold


def packages() -> Iterator[Check]:
    """Check every direct requirement that is not an extra, at a version that it allows."""
    for line in requires("paperlib") or []:
        wanted = Requirement(line)
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            yield False, f"{wanted.name} is not installed", "make PROFILE=smoke figures, or pip install -e ."
            continue
        yield (wanted.specifier.contains(found, prereleases=True), f"{wanted.name} {found}",
               f"pip install '{wanted}'")
