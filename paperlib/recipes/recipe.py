"""What a recipe is."""
from __future__ import annotations

from dataclasses import asdict, dataclass

import pandas as pd

from ..errors import InputError
from ..models import Scheme
from ..training.phases import Phase


@dataclass(frozen=True)
class Recipe:
    """A network, data, a seed and the phases to train: everything that determines a result.

    ``label`` is what figures call it; ``recorded`` asks for the run in data/recorded/ and never trains.  These two
    do not count for the identity of a run.
    """

    label: str
    model: str
    width: float
    data: str
    train_images: int
    test_images: int
    batch_size: int
    seed: int
    threads: int
    phases: tuple[Phase, ...]
    num_classes: int = 10
    input_size: int = 32
    recorded: bool = False

    def __post_init__(self):
        object.__setattr__(self, "width", float(self.width))        # 1 and 1.0 are the same recipe
        names = [p.name for p in self.phases]
        for i, phase in enumerate(self.phases):
            if phase.scheme is None and i and self.phases[i - 1].scheme is not None:
                raise InputError(f"phase {phase.name!r} is float but follows a quantized one: give it a Scheme, with "
                                 "w_bits=32 and a_bits=32 if nothing is to be quantized")
            if phase.teacher is not None and phase.teacher not in names[:i]:
                raise InputError(f"phase {phase.name!r} has teacher {phase.teacher!r}, which is no earlier phase: "
                                 f"choose from {', '.join(names[:i]) or 'none'}")

    def table(self) -> pd.DataFrame:
        """One row per phase."""
        rows = []
        for p in self.phases:
            s = p.scheme
            rows.append({"phase": p.name, "epochs": p.epochs, "lr": p.lr,
                         "weights": "float" if s is None or s.w_bits == 32 else f"{s.weight} {s.w_bits} bits",
                         "activations": "float" if s is None or s.a_bits == 32 else f"{s.activation} {s.a_bits} bits",
                         "quantizer lr": "" if s is None else f"{p.lr * p.quantizer_lr:g}",
                         "negative padding": bool(s and s.negative_padding), "teacher": p.teacher or "none"})
        return pd.DataFrame(rows)

    def to_dict(self) -> dict:
        """Plain dicts, lists, numbers and strings; :meth:`from_dict` is the inverse."""
        return asdict(self)

    def identity(self) -> dict:
        """What a run is known by: :meth:`to_dict` without the fields that do not change the result."""
        return {k: v for k, v in self.to_dict().items() if k not in ("label", "recorded")}

    @classmethod
    def from_dict(cls, d: dict) -> Recipe:
        phases = tuple(Phase(**{**p, "scheme": p["scheme"] and Scheme(**p["scheme"])}) for p in d["phases"])
        return cls(**{**d, "phases": phases})
