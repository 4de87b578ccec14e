"""The parameters of the notebook that runs: checked, and where pictures of other values than the shipped go.

A notebook calls :func:`check` after its parameters cell, however it was started; the command line calls :func:`read`
before it starts one.  What is drawn with other values than the defaults (contents.py) is an experiment and never
replaces a shipped figure (:func:`folder`).
"""
from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import InputError
from ..recipes import profiles
from ..system.paths import ROOT, figures_dir
from .choices import Parameter, Value
from .contents import NOTEBOOKS

_open: tuple[str, Mapping[str, object]] | None = None    # this kernel's notebook, and its variables as they change


def known(notebook: str) -> Mapping[str, Parameter]:
    """The parameters that a notebook has."""
    return NOTEBOOKS[notebook].parameters if notebook in NOTEBOOKS else {}


def read(notebook: str, given: Mapping[str, object]) -> dict[str, Value]:
    """Turn text from a command line into the parameters' types, in the order of the notebook.

    InputError names a parameter that the notebook does not have, and one whose value it cannot have.
    """
    its = known(notebook)
    for key in given.keys() - its.keys():
        raise InputError(f"notebook {notebook!r} has no parameter {key!r}: it has {', '.join(its) or 'none'}")
    values = {key: _typed(notebook, key, given[key], type(its[key].default)) for key in its if key in given}
    everything = {key: parameter.default for key, parameter in its.items()} | values
    for key, value in values.items():
        if not its[key].holds(value, everything):
            raise InputError(f"parameter {key!r} of notebook {notebook!r} must be {its[key].allowed}, got {value!r}")
    return values


def _typed(notebook: str, key: str, value: object, kind: type) -> Value:
    if isinstance(value, str) and kind is bool:
        value = {"true": True, "false": False}.get(value.lower(), value)
    elif isinstance(value, str) and kind in (int, float) or type(value) is int and kind is float:
        try:
            value = kind(value)
        except (ValueError, OverflowError):
            pass
    if type(value) is not kind:
        raise InputError(f"parameter {key!r} of notebook {notebook!r} is of type {kind.__name__}, got {value!r}")
    return value


def check(notebook: str, variables: Mapping[str, object]) -> None:
    """Begin a notebook: check its parameters, which are among its ``variables`` (globals()), and remember where its
    pictures go.  InputError, too, if the library that was imported is another clone's than the notebook."""
    global _open
    around = Path.cwd().resolve().parent
    if (around / "notebooks" / f"{notebook}.ipynb").exists() and around != ROOT.resolve():
        raise InputError(f"this notebook is {around}'s, and the library that it has imported {ROOT}'s: "
                         f"start it with `make lab` in {around}")
    _open = notebook, variables
    _values()


def changed(notebook: str, values: Mapping[str, Value]) -> dict[str, Value]:
    """Pick the values, but for the profile, that are not the defaults."""
    return {key: value for key, value in values.items()
            if key != "profile" and value != known(notebook)[key].default}


def experiment() -> dict[str, Value]:
    """Tell what the notebook of this kernel has :func:`changed`; nothing where none has begun."""
    return changed(_open[0], _values()) if _open else {}


def folder(profile: str) -> Path:
    """Name the folder of this kernel's notebook's pictures; without a notebook, the folder of ``profile``."""
    return folder_of(_open[0], _values()) if _open else figures_dir(profiles.get(profile).name)


def _values() -> dict[str, Value]:
    notebook, variables = _open
    return read(notebook, {key: variables[key] for key in known(notebook)})


def folder_of(notebook: str, values: Mapping[str, Value]) -> Path:
    """Name the folder figures/PROFILE; with other values than the defaults figures/experiments/PROFILE-NAME-VALUE...,
    which git ignores."""
    profile, others = values["profile"], changed(notebook, values)
    if not others:
        return figures_dir(profile)
    name = "-".join([profile, *(f"{key}-{value}" for key, value in others.items())])
    return figures_dir("experiments") / re.sub(r"[^\w.+-]+", "-", name)
