"""Profiles: how large an experiment is.  They set the scale and nothing else."""
from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ..errors import InputError
from ..system import kinds
from ..system.kinds import Amount, Bits, Classes, Count, Data, Epochs, Name, Pixels, Positive, Seeds, Threads, Width


@dataclass(frozen=True)
class Profile:
    """The scale of an experiment.

    ``data``: "subset" (embedded), "cifar10", "imagenette" or "imagenet"; 0 images are all of them.  ``threads``: CPU
    threads per training process (0: all); with a fixed number, results don't depend on how many cores a machine has,
    and the other cores train other runs.  ``weights``: what networks start with (None: random).  ``teacher``: who
    teaches, "float" for the float network that the run begins with.

    Epochs: ``float_epochs`` of the float network, ``stage_epochs`` of a stage in which something is quantized at once,
    ``step_epochs`` of each bit-width on PROFIT's way down, ``round_epochs`` of its rounds of freezing, ``bn_epochs`` of
    stages in which batch norms and quantizers alone train (0: there are none), ``sample_epochs`` of the one that
    measures AIWQ.  ``lr`` is the learning rate of all but the first, which has ``float_lr``, ``quantizer_lr`` the rate
    of quantizers relative to ``lr`` (``norms_quantizer_lr`` in stages of batch norms and quantizers alone, where it is
    another); ``warmup_epochs`` begin each.  ``equal_epochs``: rows of a table that are compared train equally long.
    ``activation_ranges``: how the ranges of activations begin at each bit-width, a method of ``quantizers.calibration``
    (None: as each method's authors do, and as training at the bit-width before left them).

    ``vgg_width``: of VGG-7 in QIL's experiments, whose channels are many. ``seeds``: how many repetitions a figure
    shows; ``accuracy_bits``, ``ablation_bits``: the bit-widths of Table 1 and of Table 3. ``conclusive``: whether
    claims may be judged at this scale. ``paper``: whether recipes train as long, in batches as large and at the rates
    that their own papers say for these data, where they say it. ``reuse_recorded``: whether runs beside those that a
    figure is about are shown from ``data/recorded/``, where they are, instead of trained. ``replays``: the profile
    whose runs are shown, without training, from ``data/recorded/``.
    """

    name: Name
    what: str
    data: Data = "cifar10"
    train_images: Count = 50_000
    test_images: Count = 10_000
    num_classes: Classes = 10
    input_size: Pixels = 32
    weights: Name | None = None
    teacher: Name = "float"
    width: Width = 1.0
    vgg_width: Width = 1.0
    batch_size: Positive = 128
    threads: Threads = 0
    float_epochs: Epochs = 100
    stage_epochs: Epochs = 18
    step_epochs: Epochs = 18
    round_epochs: Epochs = 18
    bn_epochs: Epochs = 5
    sample_epochs: Epochs = 5
    warmup_epochs: Amount = 3
    lr: Amount = 0.04
    float_lr: Amount = 0.4
    quantizer_lr: Amount = 1.0
    norms_quantizer_lr: Amount | None = None
    equal_epochs: bool = False
    activation_ranges: Name | None = None
    seeds: Seeds = 1
    accuracy_bits: tuple[Bits, ...] = (8, 5, 4)
    ablation_bits: tuple[Bits, ...] = (4, 3)
    paper: bool = False
    conclusive: bool = True
    reuse_recorded: bool = False
    replays: Name | None = None

    def __post_init__(self):
        kinds.settle(self)

    @property
    def activation_options(self) -> dict:
        """What quantizers of activations are told."""
        return {"range_method": self.activation_ranges} if self.activation_ranges else {}


_PHOTOGRAPHS = {"num_classes": 1000, "input_size": 224, "weights": "IMAGENET1K_V1", "train_images": 0,
                "test_images": 0, "float_epochs": 0, "conclusive": True}
_PROFILES = {profile.name: profile for profile in [
    Profile("smoke", "a minute or two: does everything run? 100 embedded images; shows nothing about the papers",
            data="subset", train_images=100, test_images=100, width=0.1, vgg_width=0.0625, batch_size=50,
            threads=1, float_epochs=1, stage_epochs=1, step_epochs=1, round_epochs=1, bn_epochs=0, sample_epochs=1,
            warmup_epochs=0.5, float_lr=0.1, accuracy_bits=(4,), ablation_bits=(4,), conclusive=False),
    Profile("laptop", "minutes on 2 CPU cores: real CIFAR-10, 10 000 images, a third of the width",
            train_images=10_000, test_images=5_000, width=0.35, vgg_width=0.125, threads=1, float_epochs=12,
            stage_epochs=5, step_epochs=1, round_epochs=2, bn_epochs=0, sample_epochs=1, warmup_epochs=0.5,
            accuracy_bits=(4,), ablation_bits=(4,), reuse_recorded=True),
    Profile("pretrained", "quarters of an hour: PROFIT's ladder, Table 1 and AIWQ on MobileNets of half the width, and "
            "QIL's tables on VGG-7, from the float networks in data/pretrained/, on 10 000 images of CIFAR-10",
            train_images=10_000, test_images=5_000, width=0.5, vgg_width=0.25, threads=1, weights="CIFAR10_V1",
            teacher="pretrained/vgg7-0.25-CIFAR10_V1", float_epochs=0, stage_epochs=5, step_epochs=1, round_epochs=2,
            bn_epochs=1, sample_epochs=1, warmup_epochs=0.5, lr=0.01, norms_quantizer_lr=0.01, equal_epochs=True,
            activation_ranges="mse", ablation_bits=(3,), reuse_recorded=True),
    Profile("photographs", "hours: PROFIT's freezing orders and the folding of batch norms on ImageNet's MobileNet-v2, "
            "on all of Imagenette at 96x96", data="imagenette", batch_size=64, threads=1, stage_epochs=3, step_epochs=1,
            round_epochs=2, bn_epochs=1, sample_epochs=1, warmup_epochs=0.5, lr=0.001, float_lr=0.001,
            norms_quantizer_lr=0.01, activation_ranges="mse", seeds=3,
            **{**_PHOTOGRAPHS, "input_size": 96, "float_epochs": 3}),
    Profile("cifar10", "all of CIFAR-10 at full width: hours on a CPU, meant for one GPU", seeds=3, paper=True),
    Profile("imagenette", "ImageNet-trained networks on 13 000 photographs of ten ImageNet classes, 224x224: hours on "
            "a CPU, meant for one GPU", data="imagenette", batch_size=64, stage_epochs=3, step_epochs=2,
            round_epochs=3, bn_epochs=1, sample_epochs=1, warmup_epochs=0.5, lr=0.00125, **_PHOTOGRAPHS),
    Profile("imagenet", "the papers' own recipes on all of ImageNet: GPUs", data="imagenet", batch_size=256,
            teacher="torchvision/resnet101", quantizer_lr=0.01, paper=True, **_PHOTOGRAPHS),
    Profile("recorded", "no training: the runs in data/recorded/", replays="laptop", seeds=3)]}
IDENTITY = ("name", "what", "replays")        # what is no setting


def names() -> list[str]:
    """The profiles that can be used."""
    return list(_PROFILES)


def get(name: str | Profile) -> Profile:
    """A profile by name, or as it is; InputError if it is unknown."""
    if isinstance(name, Profile):
        return name
    if not isinstance(name, str) or name not in _PROFILES:
        raise InputError(f"unknown profile {name!r}: choose from {', '.join(names())}")
    return _PROFILES[name]


def scale(profile: str | Profile) -> Profile:
    """The profile that says how large: of a profile that only replays, the one whose runs it replays."""
    profile = get(profile)
    return get(profile.replays) if profile.replays else profile


def changed(name: str, /, **settings) -> Profile:
    """A profile with some settings of its own, such as ``train_images=960``; text is read as the setting's kind.

    InputError for unknown settings, for values that are not of their kind, and for profiles that only replay.
    """
    profile, fields = get(name), {k: kind for k, kind in kinds.kinds(Profile).items() if k not in IDENTITY}
    if profile.replays:
        raise InputError(f"the profile {name!r} trains nothing: change {profile.replays!r} instead")
    for key, value in settings.items():
        if key not in fields:
            raise InputError(f"a profile has no setting {key!r}: choose from {', '.join(fields)}")
        settings[key] = kinds.parse(key, value, fields[key])
    return dataclasses.replace(profile, **settings)


def differences(profile: Profile) -> dict:
    """{setting: value} of the profile that it started from, of those that are others now; from a name that no profile
    has, the defaults."""
    start = _PROFILES.get(profile.name) or Profile(profile.name, profile.what)
    return {f.name: getattr(start, f.name) for f in dataclasses.fields(Profile)
            if f.name not in IDENTITY[:2] and getattr(profile, f.name) != getattr(start, f.name)}
