"""The parameters of notebooks: which values each may have, and where pictures of other values than the shipped go.

A notebook calls :func:`check` after its parameters cell, however it was started; the command line calls :func:`read`
before it starts one.  Defaults are listed here as well as in the notebooks, so that an edited parameters cell is known
for one: what is drawn with it is an experiment and never replaces a shipped figure (:func:`folder`).
"""
from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import InputError
from ..recipes import profiles
from ..system.paths import ROOT, figures_dir

Value = int | float | str | bool


@dataclasses.dataclass(frozen=True)
class Parameter:
    """What a parameter is unless told otherwise, and what it may be: in words, and as a function of the value and of
    all values."""

    default: Value
    allowed: str
    holds: Callable[[Value, Mapping[str, Value]], bool]


def number(default: float, least: float, most: float | str) -> Parameter:
    """From ``least`` to ``most``, which may be another parameter's name; not nan."""
    return Parameter(default, f"from {least:g} to {most}",
                     lambda value, others: least <= value <= (others[most] if isinstance(most, str) else most))


def one_of(default: Value, *others: Value) -> Parameter:
    return Parameter(default, f"one of {', '.join(map(str, dict.fromkeys((default, *others))))}",
                     lambda value, _: value in (default, *others))


def some_of(default: str, *choices: str) -> Parameter:
    """Words with spaces between; none only where that is the default."""
    def holds(value, _):
        words = value.split()
        return set(words) <= set(choices) and len(set(words)) == len(words) and bool(words or not default)

    return Parameter(default, f"some of {', '.join(choices)}, each at most once, with spaces between", holds)


WIDTHS, NETWORKS = (4, 8, 5, 3, 2), ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large")
PROFILE, SEEDS, BITS = one_of("recorded", *profiles.names()), number(0, 0, 100), one_of(*WIDTHS)
SEVERAL_BITS, SWITCH = some_of("", *map(str, sorted(WIDTHS, reverse=True))), one_of(True, False)
LAYERS = ("features.4.0", "features.1.0", "features.3.0", "features.6.0", "features.7.0", "classifier.0")

NOTEBOOKS: dict[str, dict[str, Parameter]] = {
    "profit_fig2_4_aiwq": {"profile": PROFILE, "seeds": SEEDS, "model": one_of(NETWORKS[2], *NETWORKS[:2]),
                           "bits": BITS},
    "profit_supp_fig1_loss_curves": {"profile": PROFILE, "seeds": SEEDS, "w_bits": BITS, "a_bits": BITS},
    "profit_supp_fig2_pact_vs_duq": {"profile": PROFILE, "seeds": SEEDS, "bits": BITS,
                                     "quantizer_lr": number(1.0, 0, 100), "extension": SWITCH},
    "profit_supp_fig3_hswish_histograms": {"profile": PROFILE, "seeds": number(1, 1, 100), "bits": BITS},
    "profit_supp_fig4_cost_accuracy": {"profile": PROFILE, "seeds": SEEDS, "bits": SEVERAL_BITS},
    "profit_supp_s5_bn_folding": {"profile": PROFILE, "seeds": SEEDS},
    "profit_table1_accuracy": {"profile": PROFILE, "seeds": SEEDS, "bits": SEVERAL_BITS,
                               "networks": some_of(" ".join(NETWORKS), *NETWORKS)},
    "profit_table3_ablation": {"profile": PROFILE, "seeds": SEEDS, "bits": SEVERAL_BITS},
    "qil_fig1_3_quantizer": {"profile": PROFILE, "w_bits": number(3, 2, 8), "a_bits": number(2, 1, 8),
                             "c": number(0.5, 0.01, 100), "d": number(0.4, 0.01, "c"), "images": number(2, 1, 1000)},
    "qil_fig4_5_intervals": {"profile": PROFILE, "seeds": SEEDS, "layer": one_of(*LAYERS)},
    "qil_table1_2_cifar10": {"profile": PROFILE, "seeds": SEEDS},
    "qil_table3_4_imagenet": {"profile": PROFILE},
    "deploy_integers": {"profile": PROFILE, "model": one_of(NETWORKS[2], NETWORKS[1]), "batches": number(1, 0, 1000),
                        "fraction": number(20, 1, 30)},
    "scoreboard": {"profile": PROFILE, "seeds": SEEDS},
    "own_network": {"bits": number(4, 2, 8), "float_epochs": number(5, 1, 1000), "epochs": number(2, 1, 1000),
                    "lr": number(0.1, 0, 10)},
}

_open: tuple[str, Mapping] | None = None        # the notebook of this kernel, and its variables as they change


def read(notebook: str, given: Mapping[str, object]) -> dict[str, Value]:
    """``given`` with text from a command line turned into the parameters' types, in the order of the notebook.

    InputError names a parameter that the notebook does not have, and one whose value it cannot have.
    """
    known = NOTEBOOKS.get(notebook, {})
    for key in given.keys() - known.keys():
        raise InputError(f"notebook {notebook!r} has no parameter {key!r}: it has {', '.join(known) or 'none'}")
    values = {key: _typed(notebook, key, given[key], type(known[key].default)) for key in known if key in given}
    everything = {key: parameter.default for key, parameter in known.items()} | values
    for key, value in values.items():
        if not known[key].holds(value, everything):
            raise InputError(f"parameter {key!r} of notebook {notebook!r} must be {known[key].allowed}, got {value!r}")
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
    read(notebook, {key: variables[key] for key in NOTEBOOKS[notebook]})
    _open = notebook, variables


def changed(notebook: str, values: Mapping[str, Value]) -> dict[str, Value]:
    """Those of the values, but for the profile, that are not the defaults."""
    return {key: value for key, value in values.items()
            if key != "profile" and value != NOTEBOOKS[notebook][key].default}


def experiment() -> dict[str, Value]:
    """What the notebook of this kernel has :func:`changed`; nothing where none has begun."""
    return changed(_open[0], _values()) if _open else {}


def folder(profile: str) -> Path:
    """Where this kernel's notebook writes its pictures; without a notebook, the folder of ``profile``."""
    return folder_of(_open[0], _values()) if _open else figures_dir(profiles.get(profile).name)


def _values() -> dict[str, Value]:
    notebook, variables = _open
    return read(notebook, {key: variables[key] for key in NOTEBOOKS[notebook]})


def folder_of(notebook: str, values: Mapping[str, Value]) -> Path:
    """figures/PROFILE; with other values than the defaults figures/experiments/PROFILE-NAME-VALUE..., which git
    ignores."""
    profile, others = values["profile"], changed(notebook, values)
    if not others:
        return figures_dir(profile)
    name = "-".join([profile, *(f"{key}-{value}" for key, value in others.items())])
    return figures_dir("experiments") / re.sub(r"[^\w.+-]+", "-", name)
