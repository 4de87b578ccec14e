"""The runs behind each figure and table of the papers: a name for each line or cell, and a recipe for each seed."""
from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable, Mapping

from .. import runs
from ..recipes import Recipe, activations_then_weights, profiles, profit, qil, vgg7, weights_alone
from ..recipes.qil import OTHERS
from ..system import kinds

Wanted = dict[Hashable, list[Recipe]]      # or names of such
BITS = (32, 8, 5, 4, 3, 2)
MODELS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large")
ORDERS = ("aiwq", "none", "reverse", "random")
# the paper's rows: the first five quantize at once, the others go down step by step
ABLATION = {"PACT": "pact", "QIL": "qil", "LSQ": "lsq", "DuQ": "duq_zeros", "+ negative padding": "duq",
            "+ progressive": {"order": "none", "teacher": False}, "+ teacher": {"order": "none"}, "+ PROFIT": {}}


def _seeds(profile: str, seeds: int) -> range:
    return range(kinds.read("seeds", seeds or profiles.get(profile).seeds, kinds.Seeds))


def _shipped(recipe: Recipe) -> Recipe:
    """The same, found in data/recorded/ whatever the profile is."""
    return dataclasses.replace(recipe, recorded=True)


def _prefer_recorded(profile: str, recipes: list[Recipe]) -> list[Recipe]:
    """Runs beside those that an item is about: of a profile with ``reuse_recorded`` the recorded ones there are."""
    if not profiles.get(profile).reuse_recorded:
        return recipes
    return [_shipped(r) if runs.is_recorded(r) else r for r in recipes]


def flat(found: Mapping) -> list:
    """List all recipes, or runs, of {name: recipes}, where each name may have names of its own."""
    return [one for group in found.values() for one in (flat(group) if isinstance(group, Mapping) else group)]


def float_network(profile: str = "recorded", model: str = "mobilenet_v3_large") -> Recipe:
    """What the lessons start from: the float network that all runs of this profile begin with."""
    recipe = weights_alone(32, model=model, profile=profile)
    return dataclasses.replace(recipe, label="float", phases=recipe.phases[:1])


def aiwq(profile: str, seeds: int = 0, model: str = "mobilenet_v3_large", bits: Iterable[int] = BITS) -> Wanted:
    """PROFIT, Fig. 2 to 4: weights of fewer and fewer bits, float activations.  {bits: runs}"""
    return {b: [weights_alone(b, model=model, profile=profile, seed=seed, measure=True)
                for seed in _seeds(profile, seeds)] for b in bits}


def aiwq_photographs() -> Wanted:
    """The same for the ImageNet-trained MobileNet-v2 on 1 280 photographs of Imagenette, recorded.  {bits: [run]}"""
    return {b: [_shipped(weights_alone(b, model="mobilenet_v2", profile=PHOTOGRAPHS, measure=True))] for b in BITS}


# forty steps: what two CPU cores manage in a minute or two
PHOTOGRAPHS = profiles.changed("imagenette", train_images=1280, test_images=500, batch_size=32)


def loss_curves(profile: str, seeds: int = 0, w_bits: int = 4, a_bits: int = 4) -> Wanted:
    """PROFIT, supplement Fig. 1: the same training with layers frozen in different orders.  {order: runs}"""
    wanted = {order: [profit(w_bits=w_bits, a_bits=a_bits, profile=profile, seed=seed, order=order)
                      for seed in _seeds(profile, seeds)] for order in ORDERS}
    return wanted | {order: _prefer_recorded(profile, wanted[order]) for order in ("reverse", "random")}


def loss_curves_two_bits() -> Wanted:
    """The same with 2-bit weights, a longer schedule and a higher learning rate, recorded.  {order: runs}"""
    longer = profiles.changed("laptop", step_epochs=2, round_epochs=3, bn_epochs=1)
    return {order: [_shipped(profit(w_bits=2, a_bits=4, profile=longer, seed=seed, order=order, lr=0.05))
                    for seed in range(3)] for order in ORDERS}


def pact_vs_duq(profile: str, seeds: int = 0, bits: int = 4, quantizer_lr: float | None = None,
                methods: Iterable[str] = ("pact", "duq")) -> Wanted:
    """PROFIT, supplement Fig. 2: activations, then weights.  {method: runs}"""
    wanted = {method: [activations_then_weights(method, bits=bits, profile=profile, seed=seed,
                                                quantizer_lr=quantizer_lr) for seed in _seeds(profile, seeds)]
              for method in methods}
    return {method: recipes if method in ("pact", "duq", "duq_zeros") else _prefer_recorded(profile, recipes)
            for method, recipes in wanted.items()}


def hswish(profile: str, seeds: int = 0, bits: int = 4) -> Wanted:
    """PROFIT, supplement Fig. 3: networks whose h-swish outputs are looked at; one seed unless told.  {method: runs}"""
    return pact_vs_duq(profile, seeds or 1, bits, methods=("duq", "pact", "lsq", "duq_zeros"))


def accuracy(profile: str, seeds: int = 0, bits: Iterable[int] = (), models: Iterable[str] = MODELS) -> Wanted:
    """PROFIT, Table 1.  {(model, bits of weights and activations): runs}; their first two phases are the float rows.

    ``bits``: none for those that belong to the profile."""
    bits = tuple(bits) or profiles.get(profile).accuracy_bits
    wanted = {(model, b): [profit(model, w_bits=b, a_bits=b, profile=profile, seed=seed)
                           for seed in _seeds(profile, seeds)] for model in models for b in bits}
    return {cell: recipes if cell[0] == MODELS[-1] else _prefer_recorded(profile, recipes)
            for cell, recipes in wanted.items()}


def integers(profile: str, bits: int = 4) -> Wanted:
    """Networks of Table 1 that are deployed, one seed of each.  {network: [run]}"""
    return {model: accuracy(profile, 1, (bits,), (model,))[model, bits] for model in MODELS[1:]}


def ablation(profile: str, seeds: int = 0, bits: int = 4) -> Wanted:
    """PROFIT, Table 3: one thing after another is added, on MobileNet-v3.  {row: runs}"""
    wanted = {row: [activations_then_weights(how, bits=bits, profile=profile, seed=seed) if isinstance(how, str)
                    else profit(w_bits=bits, a_bits=bits, profile=profile, seed=seed, **how)
                    for seed in _seeds(profile, seeds)] for row, how in ABLATION.items()}
    return wanted | {row: _prefer_recorded(profile, wanted[row]) for row in ("QIL", "LSQ", "+ progressive")}


def ablations(profile: str, seeds: int = 0, bits: Iterable[int] = ()) -> dict[int, Wanted]:
    """PROFIT, Table 3 at several bit-widths, none for those that belong to the profile.  {bits: {row: runs}}"""
    return {b: ablation(profile, seeds, b) for b in tuple(bits) or profiles.get(profile).ablation_bits}


def ablation_photographs() -> dict[int, Wanted]:
    """PROFIT alone in the paper's own situation, as far as two CPU cores reach: the ImageNet-trained MobileNet-v2, on
    photographs at half the size, at once to few bits, with a teacher; recorded.  {bits: {row: [run]}}"""
    return {bits: {row: [_shipped(profit("mobilenet_v2", w_bits=bits, a_bits=bits, profile=SMALL_PHOTOGRAPHS,
                                         order=order, progressive=False))]
                   for row, order in (("nothing frozen", "none"), ("+ PROFIT", "aiwq"))} for bits in (4, 3)}


SMALL_PHOTOGRAPHS = profiles.changed("imagenette", input_size=128, train_images=1920, test_images=500, batch_size=32,
                                     step_epochs=1, round_epochs=1, threads=1, lr=0.0003)


def folding(profile: str, seeds: int = 0, model: str = "mobilenet_v3_large") -> Wanted:
    """PROFIT, supplement section 5.  {(bits, folded, per channel): runs}, float activations."""
    cells = [(b, folded, channel) for b in (32, 8, 4) for folded in (False, True)
             for channel in ((False,) if b == 32 else (False, True))]
    wanted = {cell: [weights_alone(cell[0], folded=cell[1], per_channel=cell[2], model=model, profile=profile,
                                   seed=seed, lr=FOLDING_LR) for seed in _seeds(profile, seeds)] for cell in cells}
    return {cell: _prefer_recorded(profile, recipes) if cell[0] == 8 else recipes for cell, recipes in wanted.items()}


FOLDING_LR = 0.004      # a network without batch norm does not bear the profile's own


def folding_photographs() -> Wanted:
    """The same for the ImageNet-trained MobileNet-v2, forty steps on photographs, recorded; without the 8-bit cells."""
    cells = [(32, True, False), (4, False, False), (4, True, False), (4, True, True)]
    scale = dataclasses.replace(PHOTOGRAPHS, round_epochs=1)
    return {(b, folded, channel): [_shipped(weights_alone(b, folded=folded, per_channel=channel, model="mobilenet_v2",
                                                          profile=scale, lr=1e-4))]
            for b, folded, channel in cells}


def folding_float(profile: str, seeds: int = 0) -> Wanted:
    """The float networks whose weights are looked at, folded and not.  {(32, False, False): runs}"""
    cell = (32, False, False)
    return {cell: folding(profile, seeds)[cell]}


def folding_float_photographs() -> Wanted:
    """The same, ImageNet-trained.  {(32, False, False): [run]}"""
    return {(32, False, False): aiwq_photographs()[32]}


def qil_table1(profile: str, seeds: int = 0) -> Wanted:
    """QIL, Table 1: VGG-7 on CIFAR-10.  {(bits of weights, of activations, lambda): runs}"""
    return {(w, a, share): [qil("vgg7", w_bits=w, a_bits=a, distillation=share, profile=profile, seed=seed)
                            for seed in _seeds(profile, seeds)] for share in DISTILLATION for w, a in QIL_BITS}


QIL_BITS = ((2, 1), (3, 1), (2, 2), (3, 3), (4, 4), (5, 5), (8, 8))     # of weights and activations
DISTILLATION = (0.0, 0.5, 1.0)


def qil_table2(profile: str, seeds: int = 0) -> Wanted:
    """QIL, Table 2: ternary weights with activations of a few widths, and other methods.  {(method, bits of weights, of
    activations): runs}; ("float", 32, 32) is the float network trained once more as long."""
    ours = {("QIL", 2, a): [qil("vgg7", w_bits=2, a_bits=a, distillation=0.5, profile=profile, seed=seed)
                            for seed in _seeds(profile, seeds)] for a in (32, 8, 4, 2, 1)}
    others = {"float": (32, 32), **{name: (s.w_bits, s.a_bits) for name, s in OTHERS.items()}}
    return ours | {(name, *bits): [vgg7(name, profile=profile, seed=seed) for seed in _seeds(profile, seeds)]
                   for name, bits in others.items()}


def qil_tables(profile: str, seeds: int = 0) -> dict[int, Wanted]:
    """QIL, Table 1 and 2.  {number of the table: runs}"""
    return {1: qil_table1(profile, seeds), 2: qil_table2(profile, seeds)}


def qil_reasons() -> dict[str, Wanted]:
    """What may cost QIL accuracy at few bits here and not in the paper, with lambda 0.5, recorded.  {what is changed:
    {(bits of weights, of activations): [run]}}; 32 is the float network trained as long.  Going down step by step takes
    five times the epochs (six for A1W2), so it is to be held against as many at once."""
    def tried(scale, longer, lr=None, **how):
        cells = {(w, a): qil("vgg7", w_bits=w, a_bits=a, distillation=0.5, profile=scale, **how)
                 for w, a in ((2, 2), (2, 1))}
        if lr:
            cells = {cell: dataclasses.replace(r, phases=(*r.phases[:-1], dataclasses.replace(r.phases[-1], lr=lr)))
                     for cell, r in cells.items()}
        return {cell: [_shipped(r)] for cell, r in (cells | {(32, 32): vgg7("float", profile=longer)}).items()}

    longer, wider = profiles.changed("laptop", stage_epochs=25), profiles.changed("laptop", vgg_width=0.25)
    return {"as in Table 1": tried("laptop", "laptop"), "a tenth of the rate": tried("laptop", "laptop", lr=0.01),
            "5 times the epochs": tried(longer, longer),
            "5 times, step by step": tried("laptop", longer, progressive=True), "twice the width": tried(wider, wider)}


def qil_intervals(profile: str, seeds: int = 0) -> Wanted:
    """QIL, Fig. 4 and 5: runs of Table 1 whose intervals are looked at.  {bits: runs}; the paper does not say which
    lambda, we take 0.5."""
    return {b: qil_table1(profile, seeds)[b, b, 0.5] for b in (5, 4, 3)}


def qil_photographs() -> dict[str, Wanted]:
    """QIL, Table 3, as far as two CPU cores reach: networks from random weights, few and small photographs of ten
    classes, a short schedule; recorded.  {network: {(bits, lambda): [run]}}, 5 bits first; each width starts from the
    one above it."""
    scales = {model: dataclasses.replace(FEW_PHOTOGRAPHS, float_lr=lr) for model, lr in FEW_PHOTOGRAPHS_LR.items()}
    return {model: {(b, share): [_shipped(qil(model, w_bits=b, a_bits=b, distillation=share, profile=scale))]
                    for share in (0.0, 0.5) for b in (5, 4, 3, 2)} for model, scale in scales.items()}


FEW_PHOTOGRAPHS = dataclasses.replace(
    profiles.get("imagenette"), weights=None, input_size=96, train_images=1500, test_images=500, batch_size=50,
    float_epochs=10, stage_epochs=2)
FEW_PHOTOGRAPHS_LR = {"resnet18": 0.1, "alexnet": 0.01}     # of the float network; at 0.1 AlexNet learns nothing
