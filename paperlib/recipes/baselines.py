"""Recipes without PROFIT's freezing: what it is compared with, and what single figures need."""
from __future__ import annotations

from ..errors import InputError
from ..models import Scheme
from ..system.kinds import Amount, Bits, BitsOrFloat, Name, Seed
from ..training.phases import Phase
from . import profiles
from .recipe import Recipe
from .unused_settings import heeding

METHODS = {
    "duq": ("DuQ + negative padding", Scheme(weight="duq", activation="duq")),
    "duq_zeros": ("DuQ", Scheme(weight="duq", activation="duq", negative_padding=False)),
    "duq_one_scale": ("DuQ + negative padding, one scale", Scheme(
        weight="duq", activation="duq", weight_options={"one_scale": True}, activation_options={"one_scale": True})),
    "pact": ("PACT + SAWB", Scheme(weight="sawb", activation="pact", negative_padding=False)),
    "lsq": ("LSQ", Scheme(weight="lsq", activation="lsq", negative_padding=False)),
    "qil": ("QIL", Scheme(weight="qil", activation="qil", negative_padding=False)),
}

QIL_LR = 0.01       # of c and d, relative to the weights' (Jung et al., section 4); at 1 training ends up guessing


@heeding
def activations_then_weights(method: Name, *, model: Name = "mobilenet_v3_large", bits: Bits = 4,
                             profile: str | profiles.Profile = "laptop", seed: Seed = 0,
                             quantizer_lr: Amount | None = None) -> Recipe:
    """A float network, then its activations in ``bits`` bits, then its weights too (PROFIT, supplement Fig. 2).

    ``method``: "duq" (DuQ with negative padding), "duq_zeros" (without), "duq_one_scale" (with one scale, before the
    rounding and after it), "pact" (PACT with SAWB weights), "lsq" or "qil", each in PROFIT's precision map.  All start
    from the same float network, with zero padding, and see the same batches.  ``quantizer_lr`` is the learning rate of
    the quantizers' parameters relative to the weights' (None: the profile's; for QIL its own).  PROFIT's code has 0.01,
    over 75 000 steps a stage; in the few hundred steps of a small stage they would hardly move, so small profiles have
    1.
    """
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}: choose from {', '.join(METHODS)}")
    label, scheme = METHODS[method]
    scale = profiles.scale(profile)
    settings = {**scheme.__dict__, "a_bits": bits,
                "activation_options": {**scheme.activation_options, **scale.activation_options}}
    if method == "pact" and bits in (2, 4):     # as many levels as DuQ has, where SAWB has coefficients for that number
        settings["weight_options"] = {"levels": 2**bits - 1}
    if quantizer_lr is None:
        quantizer_lr = QIL_LR if method == "qil" else scale.quantizer_lr
    stage = {"lr": scale.lr, "warmup_epochs": scale.warmup_epochs, "quantizer_lr": quantizer_lr}
    return Recipe.of(profile, label, model, seed, [
        float_phase(scale),
        Phase("activations", scale.stage_epochs, scheme=Scheme(**{**settings, "w_bits": 32}), **stage),
        Phase("weights", scale.stage_epochs, scheme=Scheme(**{**settings, "w_bits": bits}), **stage)])


@heeding
def weights_alone(bits: BitsOrFloat, *, model: Name = "mobilenet_v3_large",
                  profile: str | profiles.Profile = "laptop", seed: Seed = 0, folded: bool = False,
                  per_channel: bool = False, measure: bool = False, lr: Amount | None = None) -> Recipe:
    """A float network, then its weights in ``bits`` bits by DuQ (32: float), with float activations throughout and the
    zero padding that the float network has learned with.

    ``measure``: with AIWQ and batch-norm statistics of every iteration, at a constant learning rate and torch's usual
    batch-norm momentum of 0.1 (PROFIT, Fig. 2 to 4).  ``folded``: batch norms are folded into the weights first
    (supplement, section 5).  ``per_channel``: each output channel has its own range.  ``lr``: None for the profile's.
    """
    scale = profiles.scale(profile)
    scheme = Scheme(w_bits=bits, a_bits=32, negative_padding=False, fold_norms=folded,
                    per_channel=per_channel or None)
    epochs = scale.sample_epochs if measure else scale.round_epochs
    how = {"warmup_epochs": 0, "milestones": (epochs,), "bn_momentum": 0.1, "measure": True, "every_step": True}
    label = f"{bits} bits" if bits < 32 else "float"
    label += ", folded" if folded else ", batch norm kept"
    if bits < 32:
        label += ", per channel" if per_channel else ", per tensor"
    return Recipe.of(profile, label, model, seed, [
        float_phase(scale),
        Phase("weights", epochs, lr=scale.lr if lr is None else lr, quantizer_lr=scale.quantizer_lr, scheme=scheme,
              **(how if measure else {"warmup_epochs": scale.warmup_epochs}))])


def float_phase(scale: profiles.Profile) -> Phase:
    """The beginning that all recipes share: trained from random weights, or pretrained ones as they are."""
    return Phase("float", scale.float_epochs, lr=scale.float_lr, weight_decay=5e-4, warmup_epochs=1, bn_momentum=0.1)
