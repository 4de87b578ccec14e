"""PROFIT: progressive quantization, and progressive freezing of the layers that weight updates disturb most."""
from __future__ import annotations

import dataclasses

from ..errors import InputError
from ..models import Scheme
from ..system.kinds import Amount, BitsOrFloat, Name, Rounds, Seed
from ..training.phases import BN_ONLY, Freeze, Phase
from ..training.phases import ORDERS as FREEZING
from . import profiles
from .baselines import float_phase
from .recipe import Recipe
from .unused_settings import heeding

ORDERS = (*FREEZING, "none")
WIDTHS = (8, 5, 4, 3, 2)        # the paper goes 8, 5, 4
PAPER = {"mobilenet_v2": {"lr": 0.005, "weight_decay": 4e-5}}      # others: the released script's defaults


@heeding
def profit(model: Name = "mobilenet_v3_large", *, w_bits: BitsOrFloat = 4, a_bits: BitsOrFloat = 4,
           profile: str | profiles.Profile = "laptop", seed: Seed = 0, order: Name = "aiwq", rounds: Rounds = 3,
           teacher: bool = True, progressive: bool = True, bn_stages: bool = True, negative_padding: bool = True,
           weight: Name = "duq", activation: Name = "duq", lr: Amount | None = None) -> Recipe:
    """Park & Yoo's whole training (ECCV 2020), each part of which can be left out.

    float network -> the same taught by a float teacher -> activations in 8, 5, ... ``a_bits`` bits -> weights in 8, 5,
    ... ``w_bits`` bits, with a stage of batch norms and quantizers alone before and after each bit-width.  At the last
    one: sampling of AIWQ, then ``rounds`` rounds with a fresh learning-rate schedule each, in which 0, 1/3, 2/3 of the
    layers are frozen, those with the largest AIWQ first; last, all weights are frozen.

    Switches: ``order`` of freezing, "aiwq", "reverse", "random", or "none" for the same phases and learning rates with
    nothing frozen; ``progressive=False`` goes to the last bit-widths at once; ``bn_stages=False`` leaves out the stages
    of batch norms and quantizers alone; ``teacher=False``: labels only; ``negative_padding=False``: border of zeros.
    The averaged weights (EMA) are evaluated at the end of each phase beside the last ones, and kept.

    ``profile`` gives epochs, rates and data.  InputError for what cannot be.
    """
    if order not in ORDERS:
        raise InputError(f"unknown freezing order {order!r}: choose from {', '.join(ORDERS)}")
    if 32 in (w_bits, a_bits):
        raise InputError("PROFIT quantizes weights and activations: choose 1 to 8 bits for both")
    scale = profiles.scale(profile)
    stage = {"lr": scale.lr, "quantizer_lr": scale.quantizer_lr, "warmup_epochs": scale.warmup_epochs,
             "per_epoch": scale.warmup_epochs >= 1, "teacher": scale.teacher if teacher else None}
    if scale.paper and scale.data == "imagenet":
        stage |= PAPER.get(model, {"weight_decay": 2e-5})
    if lr is not None:
        stage["lr"] = lr
    scheme = Scheme(weight=weight, activation=activation, w_bits=32, a_bits=32, negative_padding=negative_padding,
                    activation_options=scale.activation_options)
    phases = [float_phase(scale), Phase("fine-tuning", scale.step_epochs, scheme=scheme, **stage)]

    def train(name: str, **changes) -> None:
        phases.append(Phase(name, **{"epochs": scale.step_epochs, "scheme": scheme, **stage, **changes}))

    def bn_only(name: str) -> None:
        own = {} if scale.norms_quantizer_lr is None else {"quantizer_lr": scale.norms_quantizer_lr}
        if bn_stages and scale.bn_epochs:
            train(name, epochs=scale.bn_epochs, warmup_epochs=0, freeze=BN_ONLY, **own)

    for what, last in (("activations", a_bits), ("weights", w_bits)):
        for bits in [b for b in WIDTHS if b > last and progressive] + [last]:
            scheme = dataclasses.replace(scheme, **{f"{what[0]}_bits": bits})
            bn_only(f"{what} {bits}, norms before")
            if what == "activations" or bits != last:
                train(f"{what} {bits}")
            else:
                train("sampling", epochs=scale.sample_epochs, measure=True)
                for i in range(rounds):
                    frozen = Freeze(i / rounds, order, "sampling") if order != "none" and i else None
                    train(f"round {i + 1}", epochs=scale.round_epochs, freeze=frozen)
            bn_only(f"{what} {bits}, norms after")
    label = "PROFIT" if order == "aiwq" else f"PROFIT, {order} order" if order != "none" else "nothing frozen"
    return Recipe.of(profile, label, model, seed, phases)
