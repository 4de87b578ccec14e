"""QIL, first version: intervals of weights and activations trained together with the network."""
from __future__ import annotations

import dataclasses

from .. import profiles
from ..errors import InputError
from ..models import Scheme
from ..training.phases import Phase
from .baselines import float_phase
from .recipe import Recipe

# Jung et al. 2018, section 4.2: epochs of a bit-width, and where the learning rate falls to a tenth
PAPER = {"resnet18": {"epochs": 90, "milestones": (20, 40, 60, 80)},
         "alexnet": {"epochs": 60, "milestones": (5, 20, 30, 40, 50)}}
BATCH = 512
WIDTHS = (5, 4, 3, 2)


def qil(model: str = "resnet18", *, w_bits: int = 4, a_bits: int = 4, distillation: float = 0.0,
        profile: str | profiles.Profile = "imagenet", seed: int = 0) -> Recipe:
    """Jung et al.'s training on photographs (arXiv 1808.05779v1, section 4.2): float, then fewer and fewer bits.

    The first and the last layer stay float, intervals learn at a hundredth of the learning rate, each bit-width starts
    from the next higher one.  The loss is (1 - ``distillation``) times the cross-entropy with the labels plus
    ``distillation`` times the mean squared difference to the float network's logits; 0 for ImageNet in the paper.

    With another profile than imagenet the schedule is shortened to the profile's ``stage_epochs``, with its batch.
    InputError for other networks than the paper's two, and for profiles without photographs: the CIFAR-10 recipe is
    not here yet.
    """
    if model not in PAPER:
        raise InputError(f"QIL's recipe is for {', '.join(PAPER)}, not {model!r}")
    if not 0 <= distillation <= 1:
        raise InputError(f"distillation is a share of the loss, from 0 to 1, got {distillation}")
    scale, paper = profiles.scale(profile), PAPER[model]
    if scale.input_size != 224:
        raise InputError(f"QIL's recipe for {scale.data} is not here yet: choose the profile imagenet or imagenette")
    whole = scale.name == "imagenet"
    if not whole:
        shorter = scale.stage_epochs / paper["epochs"]
        paper = {"epochs": scale.stage_epochs, "milestones": [m * shorter for m in paper["milestones"]]}
    stage = {"lr": 0.01, "weight_decay": 1e-4, "nesterov": False, "warmup_epochs": 0, "quantizer_lr": 0.01,
             "label_weight": 1 - distillation, "teacher_weight": distillation, "teacher_loss": "mse",
             "teacher": "float" if distillation else None, **paper}
    phases, least = [float_phase(scale)], min(w_bits, a_bits)
    for bits in [b for b in WIDTHS if b > least] + [least]:
        scheme = Scheme("qil", "qil", w_bits=max(bits, w_bits), a_bits=max(bits, a_bits), quantize_first=False,
                        quantize_last=False, negative_padding=False)
        phases.append(Phase(f"{scheme.w_bits}-bit weights, {scheme.a_bits}-bit activations", scheme=scheme, **stage))
    recipe = Recipe.of(profile, f"QIL, {w_bits}-bit weights, {a_bits}-bit activations", model, seed, phases)
    return dataclasses.replace(recipe, augmentation="random_crop", batch_size=BATCH if whole else recipe.batch_size)
