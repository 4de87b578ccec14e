"""The runs of each figure and table of the papers: a name for each line or cell, and a recipe for each seed."""
from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Hashable, Iterable, Mapping

from .. import runs
from ..analysis.qil_tables import DISTILLATION, TABLE1_BITS
from ..models import Scheme
from ..models.scheme import FLOAT
from ..recipes import Recipe, activations_then_weights, profiles, profit, qil, vgg7, weights_alone
from ..recipes.qil import OTHERS
from ..system import kinds
from ..training.phases import Oscillations, Phase

Wanted = dict[Hashable, list[Recipe]]      # or names of such
BITS = (32, 8, 5, 4, 3, 2)
MODELS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large")
ORDERS = ("aiwq", "none", "reverse", "random")
# rows of PROFIT's Table 3, by method and by what is left out of PROFIT
AT_ONCE = {"PACT": "pact", "QIL": "qil", "LSQ": "lsq", "DuQ": "duq_zeros", "+ negative padding": "duq"}
STEP_BY_STEP = {"+ progressive": {"order": "none", "teacher": False}, "+ teacher": {"order": "none"}, "+ PROFIT": {}}
FLOAT_ROW = "float"                                 # trained as long as they
MAIN_ROWS = ("PACT", "+ teacher", "+ PROFIT")       # which a profile with ``reuse_recorded`` trains


def _for_each_seed(make: Callable[..., Recipe], *what, profile: str, seeds: int, beside: bool = False,
                   **settings) -> list[Recipe]:
    """Make a recipe for each seed (0 seeds: as many as belong to the profile, and further ones that are recorded).
    ``beside``: an item shows them beside the runs that it is about, so that a profile with ``reuse_recorded`` takes the
    recorded ones where there are any."""
    if profiles.get(profile).replays and not seeds:
        return _recorded(make, *what, profile=profile, seeds=profiles.get(profile).seeds, **settings)
    count = kinds.read("seeds", seeds or profiles.get(profile).seeds, kinds.Seeds)
    first = make(*what, profile=profile, seed=0, **settings)
    recipes = [dataclasses.replace(first, seed=seed) for seed in range(count)]
    if not (beside and profiles.get(profile).reuse_recorded):
        return recipes
    return [dataclasses.replace(r, recorded=runs.is_recorded(r)) for r in recipes]


def _replaying(profile: str, other: str) -> str | profiles.Profile:
    """The profile, but ``recorded`` with the runs of another profile than usual."""
    return dataclasses.replace(profiles.get(profile), replays=other) if profile == "recorded" else profile


def _recorded(make: Callable[..., Recipe], *what, seeds: int = 1, **settings) -> list[Recipe]:
    """Make a recipe for each seed, and for further ones that are recorded, found in data/recorded/ whatever the profile
    is."""
    first = dataclasses.replace(make(*what, seed=0, **settings), recorded=True)
    each = (dataclasses.replace(first, seed=seed) for seed in itertools.count())
    return [*itertools.islice(each, seeds), *itertools.takewhile(runs.is_recorded, each)]


def flat(found: Mapping) -> list:
    """List all recipes, or runs, of {name: recipes}, where each name may have names of its own."""
    return [one for group in found.values() for one in (flat(group) if isinstance(group, Mapping) else group)]


def float_network(profile: str = "recorded", model: str = "mobilenet_v3_large") -> Recipe:
    """What the lessons start from: the float network that all runs of this profile begin with."""
    recipe = weights_alone(32, model=model, profile=profile)
    return dataclasses.replace(recipe, label="float", phases=recipe.phases[:1])


def aiwq(profile: str, seeds: int = 0, model: str = "mobilenet_v3_large", bits: Iterable[int] = BITS) -> Wanted:
    """PROFIT, Fig. 2 to 4: weights of fewer and fewer bits, float activations.  {bits: runs}"""
    return {b: _for_each_seed(weights_alone, b, profile=profile, seeds=seeds, model=model, measure=True) for b in bits}


def aiwq_photographs() -> Wanted:
    """The same for the ImageNet-trained MobileNet-v2 on 1 280 photographs of Imagenette, recorded.  {bits: runs}"""
    return {b: _recorded(weights_alone, b, seeds=3, model="mobilenet_v2", profile=PHOTOGRAPHS, measure=True)
            for b in BITS}


# forty steps: what two CPU cores manage in a minute or two
PHOTOGRAPHS = profiles.changed("imagenette", train_images=1280, test_images=500, batch_size=32)


def loss_curves(profile: str, seeds: int = 0, w_bits: int = 4, a_bits: int = 4) -> Wanted:
    """PROFIT, supplement Fig. 1: the same training with layers frozen in different orders.  {order: runs}"""
    return {order: _for_each_seed(profit, profile=profile, seeds=seeds, beside=order in ("reverse", "random"),
                                  w_bits=w_bits, a_bits=a_bits, order=order) for order in ORDERS}


def loss_curves_two_bits() -> Wanted:
    """The same with 2-bit weights, a longer schedule and a higher learning rate, recorded.  {order: runs}"""
    longer = profiles.changed("laptop", step_epochs=2, round_epochs=3, bn_epochs=1)
    return {order: _recorded(profit, seeds=3, w_bits=2, a_bits=4, profile=longer, order=order, lr=0.05)
            for order in ORDERS}


def loss_curves_pretrained(bits: int = 3) -> Wanted:
    """The same from the float network that comes with the repository, step by step to few bits, recorded.  {order:
    runs}; of these, two are rows of Table 3."""
    return {order: _recorded(profit, seeds=3, w_bits=bits, a_bits=bits, profile="pretrained", order=order)
            for order in ORDERS}


def loss_curves_photographs(bits: int = 4) -> Wanted:
    """The same for the paper's own situation: the ImageNet-trained MobileNet-v2 on photographs, at once to few bits;
    recorded.  {order: runs}"""
    return {order: _recorded(profit, "mobilenet_v2", seeds=3, w_bits=bits, a_bits=bits, profile="photographs",
                             order=order, progressive=False) for order in ORDERS}


def oscillations(profile: str, seeds: int = 0, bits: int = 0) -> Wanted:
    """Beyond the papers: layers frozen as PROFIT does, or single weights that oscillate kept from it (Nagel et al.
    2022), with equal phases and rates; recorded from the float network that comes with the repository.  {method: runs}

    AIWQ and oscillations are measured from the first round on.  ``bits``: 0 for the fewest of the profile's Table 3."""
    def counted(*what, stopped: Oscillations, label: str | None, **settings) -> Recipe:
        recipe = profit(*what, **settings)
        first = [phase.name for phase in recipe.phases].index("round 1")
        return dataclasses.replace(recipe, label=label or recipe.label, phases=(*recipe.phases[:first], *(
            dataclasses.replace(phase, oscillations=stopped, measure=phase.name.startswith("round "))
            for phase in recipe.phases[first:])))

    profile = _replaying(profile, "pretrained")
    bits = bits or min(profiles.scale(profile).ablation_bits)
    return {name: _for_each_seed(counted, profile=profile, seeds=seeds, w_bits=bits, a_bits=bits, order=order,
                                 stopped=stopped, label=None if stopped == Oscillations() else name)
            for name, (order, stopped) in AGAINST_OSCILLATIONS.items()}


def obstacle() -> Wanted:
    """PROFIT, abstract: networks of 3 bits in whose training nothing was frozen, and the float network trained as long;
    recorded.  {what: runs}"""
    return {"nothing frozen": oscillations("recorded")["nothing frozen"],
            FLOAT_ROW: ablation("recorded", bits=3)[FLOAT_ROW]}


# by PROFIT's order of freezing; thresholds and strength are those of the authors' released code at 3 bits
AGAINST_OSCILLATIONS = {
    "nothing frozen": ("none", Oscillations()), "PROFIT": ("aiwq", Oscillations()),
    "PROFIT, random order": ("random", Oscillations()),
    "oscillating weights frozen": ("none", Oscillations(freeze_above=(0.1, 0.011))),
    "oscillations dampened": ("none", Oscillations(dampening=0.1))}


def pact_vs_duq(profile: str, seeds: int = 0, bits: int = 4, quantizer_lr: float | None = None,
                methods: Iterable[str] = ("pact", "duq")) -> Wanted:
    """PROFIT, supplement Fig. 2: activations, then weights.  {method: runs}"""
    return {method: _for_each_seed(activations_then_weights, method, profile=profile, seeds=seeds,
                                   beside=method in ("lsq", "qil"), bits=bits, quantizer_lr=quantizer_lr)
            for method in methods}


def duq_scales() -> Wanted:
    """PROFIT, supplement section 2: DuQ as it is, and with one scale for both sides of the rounding; recorded.
    {method: runs}"""
    return pact_vs_duq("recorded", methods=("duq", "duq_one_scale"))


def hswish(profile: str, seeds: int = 0, bits: int = 4) -> Wanted:
    """PROFIT, supplement Fig. 3: networks whose h-swish outputs are looked at, which further seeds of the same runs are
    not.  {method: runs}"""
    return pact_vs_duq(profile, seeds or profiles.get(profile).seeds, bits, methods=("duq", "pact", "lsq", "duq_zeros"))


def accuracy(profile: str, seeds: int = 0, bits: Iterable[int] = (), models: Iterable[str] = MODELS) -> Wanted:
    """PROFIT, Table 1.  {(model, bits of weights and activations): runs}; their first two phases are the float rows.
    With 4 bits among them, 32 are the float network trained as long as 4 bits.

    ``bits``: none for those that belong to the profile."""
    bits = tuple(bits) or profiles.get(profile).accuracy_bits

    def as_long(*what, **settings) -> Recipe:
        return float_as_long(profit(*what, order="none", **settings))

    found: Wanted = {}
    for model in models:
        found |= {(model, b): _for_each_seed(profit, model, profile=profile, seeds=seeds, beside=model != MODELS[-1],
                                             w_bits=b, a_bits=b) for b in bits}
        if 4 in bits:
            found[model, FLOAT] = _for_each_seed(as_long, model, profile=profile, seeds=seeds, beside=True, w_bits=4,
                                                 a_bits=4)
    return found


def integers(profile: str, bits: int = 4) -> Wanted:
    """Networks of Table 1 that are deployed, one seed of each.  {network: [run]}"""
    return {model: accuracy(profile, 1, (bits,), (model,))[model, bits] for model in MODELS[1:]}


def ablation(profile: str, seeds: int = 0, bits: int = 4) -> Wanted:
    """PROFIT, Table 3: one thing after another is added, on MobileNet-v3; recorded from the float network that comes
    with the repository.  {row: runs}"""
    profile = _replaying(profile, "pretrained")
    equal = profiles.scale(profile).equal_epochs
    whole = profit(w_bits=bits, a_bits=bits, profile=profile)
    epochs = sum(phase.epochs for phase in whole.phases[1:]) if equal else None

    def row(name: str) -> list[Recipe]:
        shared = {"profile": profile, "seeds": seeds, "beside": name not in MAIN_ROWS}
        if name in STEP_BY_STEP:
            return _for_each_seed(profit, w_bits=bits, a_bits=bits, **STEP_BY_STEP[name], **shared)
        return _for_each_seed(_at_once, AT_ONCE.get(name, AT_ONCE["DuQ"]), bits=bits, epochs=epochs,
                              floating=name == FLOAT_ROW, **shared)

    return {name: row(name) for name in (*AT_ONCE, *STEP_BY_STEP, *[FLOAT_ROW] * equal)}


def _at_once(method: str, *, epochs: int | None, floating: bool, **settings) -> Recipe:
    """A row that quantizes at once, or nothing (``floating``); with ``epochs``, its stages last so long together."""
    recipe = activations_then_weights(method, **settings)
    if epochs is not None:
        begun, *stages = recipe.phases
        lengths = [epochs * (i + 1) // len(stages) - epochs * i // len(stages) for i in range(len(stages))]
        recipe = dataclasses.replace(recipe, phases=(begun, *(
            dataclasses.replace(phase, epochs=length) for phase, length in zip(stages, lengths))))
    return float_as_long(recipe) if floating else recipe


def float_as_long(recipe: Recipe) -> Recipe:
    """Train the float network on, for the epochs and at the rates of this recipe's stages, quantizing nothing."""
    floating = Scheme(w_bits=32, a_bits=32, negative_padding=False)
    return _changed(recipe, "float, trained as long", lambda stage: {"scheme": floating})


def _changed(recipe: Recipe, label: str, change: Callable[[Phase], dict]) -> Recipe:
    """Give the stages after the float network the settings that ``change`` makes of each."""
    begun, *stages = recipe.phases
    return dataclasses.replace(recipe, label=label, phases=(begun, *(
        dataclasses.replace(stage, **change(stage)) for stage in stages)))


def ablations(profile: str, seeds: int = 0, bits: Iterable[int] = ()) -> dict[int, Wanted]:
    """PROFIT, Table 3 at several bit-widths, none for those that belong to the profile.  {bits: {row: runs}}"""
    own = profiles.scale(_replaying(profile, "pretrained")).ablation_bits
    return {b: ablation(profile, seeds, b) for b in tuple(bits) or own}


def ablation_photographs() -> dict[int, Wanted]:
    """PROFIT alone in the paper's own situation: two of the orders of :func:`loss_curves_photographs`, and the float
    network trained as long, recorded.  {bits: {row: runs}}"""
    orders = loss_curves_photographs()
    floating = _recorded(lambda **settings: float_as_long(profit("mobilenet_v2", **settings)), seeds=3, w_bits=4,
                         a_bits=4, profile="photographs", order="none", progressive=False)
    return {4: {"nothing frozen": orders["none"], "+ PROFIT": orders["aiwq"], FLOAT_ROW: floating}}


def identity_path() -> Wanted:
    """PROFIT, supplement section 5: Table 3's row DuQ at 3 bits, with the identity path of residual blocks in 3 bits as
    well, and the float network trained as long; recorded.  {path: runs}"""
    rows = ablation("recorded", bits=3)
    quantized = [_changed(recipe, "DuQ, identity path in 3 bits", _scheme(identity_bits=3)) for recipe in rows["DuQ"]]
    return {"high precision": rows["DuQ"], "3 bits": quantized, FLOAT_ROW: rows[FLOAT_ROW]}


def _scheme(**settings) -> Callable[[Phase], dict]:
    """Change these settings of a stage's scheme."""
    return lambda stage: {"scheme": dataclasses.replace(stage.scheme, **settings)}


def folding(profile: str, seeds: int = 0, model: str = "mobilenet_v3_large") -> Wanted:
    """PROFIT, supplement section 5.  {(bits, folded, per channel): runs}, float activations."""
    cells = [(b, folded, channel) for b in (32, 8, 4) for folded in (False, True)
             for channel in ((False,) if b == 32 else (False, True))]
    return {(b, folded, channel): _for_each_seed(weights_alone, b, profile=profile, seeds=seeds, beside=b == 8,
                                                 folded=folded, per_channel=channel, model=model, lr=FOLDING_LR)
            for b, folded, channel in cells}


FOLDING_LR = 0.004      # a network without batch norm does not bear the profile's own


def folding_photographs() -> Wanted:
    """The same for the ImageNet-trained MobileNet-v2, forty steps on photographs, recorded; without the 8-bit cells."""
    cells = [(32, True, False), (4, False, False), (4, True, False), (4, True, True)]
    scale = dataclasses.replace(PHOTOGRAPHS, round_epochs=1)
    return {(b, folded, channel): _recorded(weights_alone, b, seeds=3, folded=folded, per_channel=channel,
                                            model="mobilenet_v2", profile=scale, lr=1e-4)
            for b, folded, channel in cells}


def folding_float(profile: str, seeds: int = 0) -> Wanted:
    """The float networks whose weights are looked at, folded and not.  {"float": runs}"""
    return {"float": folding(profile, seeds)[32, False, False]}


def folding_float_photographs() -> Wanted:
    """The same, ImageNet-trained; its first run, since forty steps hardly move a range.  {"float": [run]}"""
    return {"float": aiwq_photographs()[32][:1]}


def qil_table1(profile: str, seeds: int = 0) -> Wanted:
    """QIL, Table 1: VGG-7 on CIFAR-10; recorded from the float network that comes with the repository.  {(bits of
    weights, of activations, lambda): runs}"""
    profile = _replaying(profile, "pretrained")
    return {(w, a, share): _for_each_seed(qil, "vgg7", profile=profile, seeds=seeds, w_bits=w, a_bits=a,
                                          distillation=share) for share in DISTILLATION for w, a in TABLE1_BITS}


def qil_table2(profile: str, seeds: int = 0) -> Wanted:
    """QIL, Table 2: ternary weights with activations of a few widths, and other methods.  {(method, bits of weights, of
    activations): runs}; ("float", 32, 32) is the float network trained once more as long."""
    profile = _replaying(profile, "pretrained")
    ours = {("QIL", 2, a): _for_each_seed(qil, "vgg7", profile=profile, seeds=seeds, w_bits=2, a_bits=a,
                                          distillation=0.5) for a in (32, 8, 4, 2, 1)}
    others = {"float": (32, 32), **{name: (s.w_bits, s.a_bits) for name, s in OTHERS.items()}}
    return ours | {(name, *bits): _for_each_seed(vgg7, name, profile=profile, seeds=seeds)
                   for name, bits in others.items()}


def qil_tables(profile: str, seeds: int = 0) -> dict[int, Wanted]:
    """QIL, Table 1 and 2.  {number of the table: runs}"""
    return {1: qil_table1(profile, seeds), 2: qil_table2(profile, seeds)}


def qil_reasons() -> dict[str, Wanted]:
    """What may cost QIL accuracy at few bits here and not in the paper, with lambda 0.5, recorded: the laptop's VGG-7
    from random weights, with one thing changed at a time, and at last the network of Table 1.  {what is changed: {(bits
    of weights, of activations): [run]}}; 32 is the float network trained as long.  Going down step by step takes five
    times the epochs (six for A1W2), so it is to be held against as many at once."""
    def tried(scale, as_long=None, make=qil, **how):
        cells = {(w, a): _recorded(make, "vgg7", w_bits=w, a_bits=a, distillation=0.5, profile=scale, **how)[:1]
                 for w, a in ((2, 2), (2, 1))}
        return cells | {(32, 32): _recorded(vgg7, "float", profile=as_long or scale)[:1]}

    def slower(*what, **settings):
        recipe = qil(*what, **settings)
        return _changed(recipe, recipe.label, lambda stage: {"lr": 0.01})

    longer, wider = profiles.changed("laptop", stage_epochs=25), profiles.changed("laptop", vgg_width=0.25)
    return {"nothing changed": tried("laptop"), "a tenth of the rate": tried("laptop", make=slower),
            "5 times the epochs": tried(longer), "5 times, step by step": tried("laptop", longer, progressive=True),
            "twice the width": tried(wider), "twice the width, trained before": tried("pretrained")}


def qil_parts() -> Wanted:
    """QIL, section 4.1: Table 1's A2W2 with lambda 0.5, and with one part of the recipe left out at a time, where the
    intervals of fully connected layers learn faster if these do; recorded.  {part: runs}"""
    def without(*what, change: Callable[[Phase], dict] | None, label: str, **settings) -> Recipe:
        recipe = qil(*what, **settings)
        return recipe if change is None else _changed(recipe, label, change)

    changes = {"as in the table": None, "weights not normalized": _scheme(weight_options={}),
               "fully connected layers at the full rate": lambda stage: {"linear_lr": 1.0},
               "first and last layer quantized": _scheme(quantize_first=True, quantize_last=True),
               "intervals left as they were set": lambda stage: {"quantizer_lr": 0.0}}
    return {part: _recorded(without, "vgg7", seeds=3, w_bits=2, a_bits=2, distillation=0.5, profile="pretrained",
                            change=change, label=f"QIL, {part}") for part, change in changes.items()}


def qil_intervals(profile: str, seeds: int = 0) -> Wanted:
    """QIL, Fig. 4 and 5: runs of Table 1 whose intervals are looked at.  {bits: runs}; the paper does not say which
    lambda, we take 0.5."""
    cells = qil_table1(profile, seeds)
    return {b: cells[b, b, 0.5] for b in (5, 4, 3)}


def qil_photographs() -> dict[str, Wanted]:
    """QIL, Table 3, as far as two CPU cores go: networks from random weights, few and small photographs of ten
    classes, a short schedule; recorded.  {network: {(bits, lambda): runs}}, 5 bits first; each width starts from the
    one above it."""
    scales = {model: dataclasses.replace(FEW_PHOTOGRAPHS, float_lr=lr) for model, lr in FEW_PHOTOGRAPHS_LR.items()}
    return {model: {(b, share): _recorded(qil, model, seeds=3, w_bits=b, a_bits=b, distillation=share, profile=scale)
                    for share in (0.0, 0.5) for b in (5, 4, 3, 2)} for model, scale in scales.items()}


FEW_PHOTOGRAPHS = dataclasses.replace(
    profiles.get("imagenette"), weights=None, input_size=96, train_images=1500, test_images=500, batch_size=50,
    float_epochs=10, stage_epochs=2)
FEW_PHOTOGRAPHS_LR = {"resnet18": 0.1, "alexnet": 0.01}     # of the float network; at 0.1 AlexNet learns nothing
