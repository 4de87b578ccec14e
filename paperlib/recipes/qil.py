"""QIL, first version: intervals of weights and activations trained together with the network; and what the paper
compares it with on CIFAR-10."""
from __future__ import annotations

import dataclasses

from ..errors import InputError
from ..models import Scheme
from ..system.kinds import BitsOrFloat, Name, Seed, Share
from ..training.phases import Phase
from . import profiles
from .baselines import QIL_LR, float_phase
from .recipe import Recipe
from .unused_settings import heeding

# Jung et al. 2018, section 4: epochs of a bit-width, where the learning rate falls to a tenth, and so on
PAPER = {"vgg7": {"epochs": 200, "milestones": (60, 120, 180), "lr": 0.1, "weight_decay": 2e-4, "linear_lr": 0.01},
         "resnet18": {"epochs": 90, "milestones": (20, 40, 60, 80), "lr": 0.01, "weight_decay": 1e-4},
         "alexnet": {"epochs": 60, "milestones": (5, 20, 30, 40, 50), "lr": 0.01, "weight_decay": 1e-4}}
BATCH = 512         # for ImageNet
TWICE = 2           # as long as the profile says: the float network is the teacher, and should have learned its fill
WIDTHS = (8, 5, 4, 3, 2)

# Table 2: {method: (bits of weights, of activations, scheme)}
OTHERS = {"TTQ": Scheme("ttq", w_bits=2, a_bits=32), "TWN": Scheme("twn", w_bits=2, a_bits=32),
          "BC": Scheme("bc", w_bits=1, a_bits=32), "BWN": Scheme("bwn", w_bits=1, a_bits=32),
          "DoReFa": Scheme("dorefa", w_bits=1, a_bits=32), "XNOR": Scheme("xnor", "xnor", w_bits=1, a_bits=1)}


@heeding
def qil(model: Name = "resnet18", *, w_bits: BitsOrFloat = 4, a_bits: BitsOrFloat = 4, distillation: Share = 0.0,
        progressive: bool | None = None, profile: str | profiles.Profile = "imagenet", seed: Seed = 0) -> Recipe:
    """Jung et al.'s training (arXiv 1808.05779v1, section 4): a float network, then quantized weights and activations.

    The first and the last layer stay float, intervals learn at a hundredth of the learning rate; on CIFAR-10 (vgg7)
    fully connected layers do as well, and weights are normalized. The loss is (1 - ``distillation``) times the
    cross-entropy with the labels plus ``distillation`` times the mean squared difference to the float network's logits.
    ``progressive``: each bit-width starts from the next higher one, not from the float network; None does as the paper
    does, which says so for ImageNet alone. 32 bits are float.

    With profiles that are not the ``paper``'s the schedule is shortened to the profile's ``stage_epochs`` (for the
    float vgg7 twice its ``float_epochs``), with its batch, and vgg7 has the profile's ``vgg_width``.  From trained
    weights a short schedule has the profile's learning rate, since a few epochs don't bring back what the paper's
    destroys; intervals keep the paper's.  InputError for networks that are not the paper's, and for profiles whose
    images are not that network's.
    """
    stage = {**_stage(model, profile), "track": True, "label_weight": 1 - distillation,
             "teacher_weight": distillation, "teacher_loss": "mse", "teacher": "float" if distillation else None}
    if progressive is None:
        progressive = model != "vgg7"
    least = min(w_bits, a_bits)
    options = {"normalized": True} if model == "vgg7" else {}
    phases = []
    for bits in [b for b in WIDTHS if b > least and progressive and (b < 8 or model == "vgg7")] + [least]:
        scheme = _scheme(Scheme("qil", "qil", max(bits, w_bits), max(bits, a_bits), weight_options=options))
        phases.append(Phase(_name(scheme), scheme=scheme, **stage))
    share = f", distillation {distillation:g}" if distillation else ""
    return _recipe(model, profile, f"QIL, {phases[-1].name}{share}", seed, phases)


@heeding
def vgg7(method: Name, *, profile: str | profiles.Profile = "laptop", seed: Seed = 0) -> Recipe:
    """Another method on QIL's network and data, with its schedule (Jung et al., Table 2): "TTQ", "TWN", "BC", "BWN",
    "DoReFa" (1-bit weights), "XNOR" (1-bit weights and activations), or "float", as long as the others once more.

    XNOR takes signs, so its network has Hardtanh where VGG-7 has ReLU.  Where the others start from trained weights and
    train no float network, it starts from the same and trains float for a stage first, to get used to Hardtanh.
    InputError for unknown methods.
    """
    if method not in OTHERS and method != "float":
        raise InputError(f"unknown method {method!r}: choose from float, {', '.join(OTHERS)}")
    model = "vgg7_hardtanh" if method == "XNOR" else "vgg7"
    scheme = Scheme(w_bits=32, a_bits=32) if method == "float" else OTHERS[method]
    stage = _stage("vgg7", profile)
    if method == "TTQ":     # its scales' gradients are sums over all weights: at the intervals' rate they run away
        stage["quantizer_lr"] = QIL_LR
    phase = Phase(_name(scheme), scheme=_scheme(scheme), **stage)
    return _recipe(model, profile, method, seed, [phase])


def _name(scheme: Scheme) -> str:
    weights, activations = ("float" if bits == 32 else f"{bits}-bit" for bits in (scheme.w_bits, scheme.a_bits))
    return f"{weights} weights, {activations} activations"


def _scheme(scheme: Scheme) -> Scheme:
    return dataclasses.replace(scheme, quantize_first=False, quantize_last=False, negative_padding=False)


def _stage(model: str, profile: str | profiles.Profile) -> dict:
    """The paper's schedule for a network, or as much of it as the profile has."""
    if model not in PAPER:
        raise InputError(f"QIL's recipe is for {', '.join(PAPER)}, not {model!r}")
    scale = profiles.scale(profile)
    paper = {**PAPER[model], "quantizer_lr": QIL_LR, "nesterov": False, "warmup_epochs": 0, "bn_momentum": 0.1}
    if (scale.data in ("imagenette", "imagenet")) == (model == "vgg7"):
        images = ("CIFAR-10: choose the profile cifar10 or laptop" if model == "vgg7" else
                  "photographs: choose the profile imagenet or imagenette")
        raise InputError(f"QIL trains {model} on {images}, where data is not {scale.data!r}")
    if scale.paper:
        return paper
    shorter = _shortened(paper, scale.stage_epochs)
    if scale.weights:
        shorter["lr"] = scale.lr
        if scale.lr:
            shorter["quantizer_lr"] = QIL_LR * paper["lr"] / scale.lr
    return shorter


def _shortened(schedule: dict, epochs: int) -> dict:
    shorter = epochs / schedule["epochs"]
    return {**schedule, "epochs": epochs, "milestones": tuple(m * shorter for m in schedule["milestones"])}


def _recipe(model: str, profile: str | profiles.Profile, label: str, seed: int, phases: list[Phase]) -> Recipe:
    scale = profiles.scale(profile)
    if model not in ("vgg7", "vgg7_hardtanh"):
        recipe = Recipe.of(profile, label, model, seed, [float_phase(scale), *phases])
        return dataclasses.replace(recipe, augmentation="random_crop",
                                   batch_size=BATCH if scale.paper else recipe.batch_size)
    schedule = _stage("vgg7", profile)
    if not scale.paper and (scale.float_epochs or model == "vgg7"):      # else Hardtanh's network has one stage
        schedule = _shortened(schedule, TWICE * scale.float_epochs)
    beginning = Phase("float", **schedule)
    return dataclasses.replace(Recipe.of(profile, label, model, seed, [beginning, *phases]), width=scale.vgg_width)
