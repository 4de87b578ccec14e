"""What a recipe is."""
from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Literal

import pandas as pd

from ..errors import InputError
from ..models import Scheme
from ..models import names as models
from ..models import weights as known_weights
from ..system import kinds
from ..system.kinds import Classes, Count, Data, Name, Pixels, Positive, Seed, Threads, Width
from ..training.phases import SHIPPED, TORCHVISION, Phase
from . import profiles

TWINS = {"CIFAR10_V1": "CIFAR10_PADDED_V1"}     # {weights: those of the network that padded with -3/8 as it learned}


@dataclass(frozen=True)
class Recipe:
    """A network, data, a seed and the phases to train: everything that determines a result.

    ``label`` is what figures call it; ``recorded`` asks for the run in data/recorded/ and never trains.  These two
    do not count for the identity of a run.  ``weights``: what the first phase starts with, a file or a name such as
    "IMAGENET1K_V1" (None: random).  ``train_images`` and ``test_images`` of 0 mean all.  ``precision``: "float32", or
    "bfloat16" for autocast; ``compiled``: with torch.compile, True or one of its modes, such as "reduce-overhead" (CUDA
    graphs).
    """

    label: str
    model: Name
    width: Width
    data: Data
    train_images: Count
    test_images: Count
    batch_size: Positive
    seed: Seed
    threads: Threads
    phases: tuple[Phase, ...]
    num_classes: Classes = 10
    input_size: Pixels = 32
    weights: Name | None = None
    augmentation: Literal["random_crop", "random_resized_crop"] | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    compiled: Literal[False, True, "reduce-overhead"] = False
    recorded: bool = False

    def __post_init__(self):
        kinds.settle(self)
        if self.model not in models():
            raise InputError(f"unknown model {self.model!r}: choose from {', '.join(models())}")
        if self.data in ("subset", "cifar10") and (self.input_size != 32 or self.num_classes < 10 or self.augmentation):
            raise InputError(f"data={self.data!r} has images of 32 pixels and 10 classes, augmented in its own way: "
                             f"not input_size={self.input_size}, num_classes={self.num_classes}, "
                             f"augmentation={self.augmentation}")
        if not self.phases:
            raise InputError("a recipe without phases trains nothing: give it at least one Phase")
        names = [p.name for p in self.phases]
        for i, phase in enumerate(self.phases):
            fault = self._fault(phase, self.phases[:i])
            if fault:
                raise InputError(f"phase {phase.name!r} {fault}")
        if len(set(names)) < len(names):
            raise InputError(f"two phases have the same name: {', '.join(names)}")

    def _fault(self, phase: Phase, before: tuple[Phase, ...]) -> str:
        """What keeps a phase from coming after these, and the cure, or nothing."""
        names, measured = [p.name for p in before], [p.name for p in before if p.measure]
        teacher, freeze = phase.teacher, phase.freeze
        scheme = "give it a Scheme, with w_bits=32 and a_bits=32 if nothing is to be quantized"
        if phase.scheme is None and before and before[-1].scheme is not None:
            return f"is float but follows a quantized one: {scheme}"
        if phase.scheme is None and freeze is not None:
            return f"is float and has nothing to freeze: {scheme}"
        if freeze is not None and freeze.measured_in not in (None, *measured):
            return (f"freezes by the AIWQ of {freeze.measured_in!r}, which is no earlier phase with measure=True: "
                    f"choose from {', '.join(measured) or 'none'}")
        if teacher is None or teacher in names:
            return ""
        if teacher.startswith(SHIPPED):
            there = [*known_weights.shipped_files()]
            if teacher.removeprefix(SHIPPED) in there and self.num_classes == 10 and self.input_size == 32:
                return ""
            return (f"has teacher {teacher!r}, num_classes={self.num_classes} and input_size={self.input_size}, but "
                    f"data/pretrained/ has {', '.join(there) or 'none'}, for CIFAR-10: choose another")
        if not teacher.startswith(TORCHVISION):
            return (f"has teacher {teacher!r}, which is no earlier phase: choose from {', '.join(names) or 'none'}, or "
                    f"name one as {TORCHVISION}resnet101")
        theirs = known_weights.TORCHVISION
        if teacher.removeprefix(TORCHVISION) not in theirs or self.num_classes != 1000:
            return (f"has teacher {teacher!r} and num_classes={self.num_classes}, but torchvision's know 1000 classes "
                    f"and are {', '.join(theirs)}: choose another")
        return ""

    @classmethod
    def of(cls, profile: str | profiles.Profile, label: str, model: str, seed: int, phases: Iterable[Phase]) -> Recipe:
        """A recipe at the scale of a profile.

        Of the networks in data/pretrained/, one that is going to pad with -3/8 starts from the twin that has learned
        so, as in the paper.
        """
        s, phases, weights = profiles.scale(profile), list(phases), profiles.scale(profile).weights
        if weights in TWINS and model.startswith("mobilenet_v3") and any(p.scheme and p.scheme.negative_padding
                                                                         for p in phases):
            weights, phases[0] = TWINS[weights], replace(phases[0], scheme=Scheme(w_bits=32, a_bits=32))
        return cls(label, model, s.width, s.data, s.train_images, s.test_images, s.batch_size, seed, s.threads,
                   tuple(phases), num_classes=s.num_classes, input_size=s.input_size, weights=weights,
                   recorded=bool(profiles.get(profile).replays))

    def build(self) -> dict:
        """The arguments of ``models.build`` that give the network, but for its weights."""
        return {"name": self.model, "num_classes": self.num_classes, "width": self.width,
                "input_size": self.input_size}

    def table(self) -> pd.DataFrame:
        """One row per phase; what no phase freezes or measures has no column."""
        rows = []
        for p in self.phases:
            s = p.scheme
            rows.append({"phase": p.name, "epochs": p.epochs, "lr": p.lr,
                         "weights": "float" if s is None or s.w_bits == 32 else f"{s.weight} {s.w_bits} bits",
                         "activations": "float" if s is None or s.a_bits == 32 else f"{s.activation} {s.a_bits} bits",
                         "quantizer lr": "" if s is None else f"{p.lr * p.quantizer_lr:g}",
                         "negative padding": bool(s and s.negative_padding), "teacher": p.teacher or "none",
                         "frozen": _frozen(p), "measures": "AIWQ" if p.measure else ""})
        table = pd.DataFrame(rows)
        return table.drop(columns=[name for name in ("frozen", "measures") if not table[name].any()])

    def to_dict(self) -> dict:
        """Plain dicts, lists, numbers and strings; :meth:`from_dict` is the inverse."""
        return asdict(self)

    def identity(self) -> dict:
        """What a run is known by: :meth:`to_dict` without the fields that do not change the result."""
        return {k: v for k, v in self.to_dict().items() if k not in ("label", "recorded")}

    @functools.cached_property
    def known_by(self) -> str:
        """:meth:`identity` as one line of text."""
        return json.dumps(self.identity(), sort_keys=True)

    @classmethod
    def from_dict(cls, d: dict) -> Recipe:
        """The recipe that :meth:`to_dict` gave; InputError names a field that is missing, unknown or wrong."""
        return kinds.build(cls, d)


def _frozen(phase: Phase) -> str:
    freeze = phase.freeze
    if freeze is None or not freeze.share and not freeze.layers:
        return ""
    if freeze.share in (0.0, 1.0):
        return "all weights" if freeze.share else f"{len(freeze.layers)} layers"
    return f"{freeze.share:.0%} by {freeze.order}"
