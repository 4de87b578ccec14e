"""Settings take effect or are refused, and what they may be is checked where they enter."""
import dataclasses
import hashlib
import json
import math

import pytest

from paperlib import models, quantizers, recipes
from paperlib.errors import InputError
from paperlib.models import Scheme
from paperlib.recipes import Recipe, profiles
from paperlib.recipes.profiles import Profile
from paperlib.system import kinds
from paperlib.training.phases import Freeze, Phase

RECIPES = {"profit": lambda p: recipes.profit(profile=p),
           "profit, nothing else": lambda p: recipes.profit("mobilenet_v2", teacher=False, bn_stages=False, profile=p),
           "profit, its own rate": lambda p: recipes.profit(lr=0.5, profile=p),
           "activations_then_weights": lambda p: recipes.activations_then_weights("duq", profile=p),
           "activations_then_weights qil": lambda p: recipes.activations_then_weights("qil", profile=p),
           "weights_alone": lambda p: recipes.weights_alone(4, profile=p),
           "weights_alone measure": lambda p: recipes.weights_alone(4, measure=True, profile=p),
           "qil vgg7": lambda p: recipes.qil("vgg7", profile=p),
           "qil": lambda p: recipes.qil("resnet18", profile=p), "vgg7": lambda p: recipes.vgg7("TTQ", profile=p)}
OTHER = {"name": "mine", "what": "mine", "data": "cifar10", "weights": "some.pt", "teacher": "torchvision/resnet18",
         "accuracy_bits": (7,), "ablation_bits": (7,), "replays": "smoke", "num_classes": 1000, "input_size": 128,
         "norms_quantizer_lr": 0.25, "activation_ranges": "max"}


def another(profile, name):
    """The profile with another value of a setting."""
    value = getattr(profile, name)
    new = OTHER[name] if name in OTHER else not value if isinstance(value, bool) else value + 1
    if new == value:
        new = {"cifar10": "subset", 1000: 999}.get(new, 64)
    return dataclasses.replace(profile, **{name: new})


def fits(profile, recipe):
    photographs = profiles.scale(profile).data.startswith("imagenet")
    return photographs if recipe == "qil" else not photographs or "vgg7" not in recipe


@pytest.mark.parametrize("profile, recipe", [
    (profile, recipe) for profile in ("laptop", "cifar10", "imagenette", "imagenet") for recipe in RECIPES
    if fits(profile, recipe)])
def test_every_setting_takes_effect_or_is_refused_by_name(profile, recipe):
    """The name of the profile decides nothing."""
    make, scale = RECIPES[recipe], profiles.get(profile)
    before = make(scale)
    assert make(profile) == before
    for name in {field.name for field in dataclasses.fields(Profile)} - {"name", "what"}:
        try:
            assert make(another(scale, name)).identity() != before.identity(), name
        except InputError as refused:
            assert name in str(refused) or name == "replays" and "data" in str(refused), refused


def test_what_is_known_to_be_ignored():
    for make, name, value in [("vgg7", "width", 0.5), ("vgg7", "lr", 0.5), ("qil vgg7", "float_lr", 0.5),
                              ("profit", "vgg_width", 0.5), ("profit", "seeds", 7), ("profit", "accuracy_bits", "3 2"),
                              ("weights_alone", "teacher", "none"), ("weights_alone measure", "round_epochs", 7),
                              ("activations_then_weights", "bn_epochs", 3), ("profit, its own rate", "lr", 0.7),
                              ("qil vgg7", "reuse_recorded", "false"), ("profit, nothing else", "bn_epochs", 2)]:
        with pytest.raises(InputError, match=rf"the recipe {make.split()[0].strip(',')} .* has no use for {name}="):
            RECIPES[make](profiles.changed("laptop", **{name: value}))
    with pytest.raises(InputError, match="has no use for batch_size=64: leave batch_size out, or add paper=False"):
        RECIPES["qil"](profiles.changed("imagenet", batch_size=64))
    assert RECIPES["qil"](profiles.changed("imagenet", batch_size=64, paper=False)).batch_size == 64
    with pytest.raises(InputError, match="has no use for lr=9.0"):
        RECIPES["profit"](dataclasses.replace(profiles.get("recorded"), lr=9))
    with pytest.raises(InputError, match="has no use for vgg_width=0.5"):
        RECIPES["profit"](Profile("mine", "a scale of my own", vgg_width=0.5))


def identities(profile):
    """How the hash over what a profile's recipes are known by begins; vgg7's quantizers may learn at another rate."""
    found = []
    for recipe, make in RECIPES.items():
        found.append(make(profile).identity() if fits(profiles.scale(profile).name, recipe) else None)
        for phase in found[-1]["phases"] if "vgg7" in recipe and found[-1] else ():
            del phase["quantizer_lr"]
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:8]


def test_recipes_of_the_named_profiles_stay_what_they_are():
    assert {name: identities(name) for name in profiles.names()} == IDENTITIES


IDENTITIES = {"smoke": "921403b9", "laptop": "dd94f494", "recorded": "dd94f494", "cifar10": "610e07a3",
              "imagenette": "90612f61", "imagenet": "cb8b3e28", "pretrained": "39610e45", "photographs": "abbc9c29"}
TEXTS = ("", "x" * 3, "a\0b", "a\nb", None, 5, [], b"x")
WHOLE = (-1, 1.5, True, "3", math.nan, math.inf, None, [], 10**30)
REAL = (-1, True, "0.1", math.nan, math.inf, -math.inf, None, [], 10**400)
NOT = {"name": TEXTS[2:], "epochs": WHOLE, "lr": REAL, "warmup_epochs": REAL, "weight_decay": REAL,
       "momentum": (*REAL, 1, 1.5), "averaging_epochs": (*REAL, 0), "quantizer_lr": REAL, "linear_lr": REAL,
       "label_weight": REAL, "bn_momentum": (-1, 2, math.nan, "x", True), "teacher_loss": ("magic", None, 3, []),
       "milestones": ((-1,), ("a",), (math.nan,), 3, "12", None), "nesterov": ("yes", 1, None),
       "scheme": ({}, 4, "duq"), "freeze": (0.5, {}), "measure": (1, "no")}


@pytest.mark.parametrize("name", NOT)
def test_phases_of_what_cannot_be(name):
    for value in NOT[name]:
        with pytest.raises(InputError, match=name):
            Phase(**{"name": "p", "epochs": 1, "lr": 0.1, name: value})


@pytest.mark.parametrize("cls, field, values", [
    (Freeze, "share", REAL), (Freeze, "order", ("up", None, [])), (Freeze, "layers", ("abc", 3, (1,))),
    (Freeze, "norms", (0, None)),
    (Scheme, "w_bits", (*WHOLE, 0, 9, 31)), (Scheme, "se_bits", (True, 0)), (Scheme, "weight", (None, [], "magic")),
    (Scheme, "per_channel", (1, "yes")), (Scheme, "quantize_first", (1, None)),
    (Scheme, "weight_options", ({"levels": 9}, {"bits": 3}, {"role": "weight"}, {3: 4}, {"x": [math.nan]}, [], None)),
    (Scheme, "activation_options", ({"learn_offset": {1, 2}}, {"signed": True}, {"floor": 0.0}, {"foo": 1}))])
def test_records_of_what_cannot_be(cls, field, values):
    for value in values:
        with pytest.raises(InputError, match=field):
            cls(**{field: value})


@pytest.mark.parametrize("field, values", [
    ("width", (*REAL, 0, 1e9)), ("threads", (*WHOLE, 100_000)), ("batch_size", (*WHOLE, 0)), ("seeds", (*WHOLE, 0)),
    ("lr", REAL), ("float_epochs", WHOLE), ("warmup_epochs", REAL), ("data", ("mnist", 3, None)),
    ("accuracy_bits", ((0,), (9,), "4", 4, (True,))), ("conclusive", ("maybe", 1)), ("weights", ("", "a\0b", 3)),
    ("input_size", (*WHOLE, 100_000, 8)), ("num_classes", (*WHOLE, 0)), ("train_images", WHOLE)])
def test_profiles_and_recipes_of_what_cannot_be(field, values):
    recipe = recipes.profit(profile="smoke")
    for value in values:
        with pytest.raises(InputError, match=field):
            dataclasses.replace(profiles.get("smoke"), **{field: value})
        if hasattr(recipe, field):
            with pytest.raises(InputError, match=field):
                dataclasses.replace(recipe, **{field: value})


@pytest.mark.parametrize("change", [
    {"seed": 2**31}, {"seed": -1}, {"model": "lenet"}, {"num_classes": 5}, {"input_size": 64}, {"phases": ()},
    {"augmentation": "random_crop"}, {"precision": "float16"}, {"label": "a\nb"}])
def test_recipes_of_what_cannot_be(change):
    with pytest.raises(InputError):
        dataclasses.replace(recipes.profit(profile="smoke"), **change)


def test_teachers_that_cannot_be():
    for scale, teacher in (("laptop", "torchvision/resnet101"), ("imagenette", "torchvision/lenet")):
        with pytest.raises(InputError, match="1000 classes"):
            recipes.profit("mobilenet_v2", profile=profiles.changed(scale, teacher=teacher))
    assert recipes.profit("mobilenet_v2", profile="imagenet").phases[1].teacher == "torchvision/resnet101"


@pytest.mark.parametrize("change", [
    lambda d: d["phases"][0].update(lr=math.nan), lambda d: d["phases"][0].update(epochs=-1),
    lambda d: d["phases"][1]["scheme"].update(w_bits=True), lambda d: d.update(width=math.inf),
    lambda d: d.update(novelty=1), lambda d: d["phases"][0].update(novelty=1), lambda d: d.pop("phases"),
    lambda d: d.update(phases=None), lambda d: d.update(phases=[3]), lambda d: d.pop("seed"),
    lambda d: d["phases"][1].update(scheme=[]), lambda d: d["phases"][-1].update(freeze="all"),
    lambda d: d.update(phases="abc"), lambda d: d.update(seed="0"), lambda d: d.update(phases={"a": 1})])
def test_stored_recipes_are_checked_alike(change):
    d = json.loads(json.dumps(recipes.profit(profile="smoke").to_dict()))
    assert Recipe.from_dict(d) == recipes.profit(profile="smoke")
    change(d)
    with pytest.raises(InputError):
        Recipe.from_dict(json.loads(json.dumps(d)))


def test_numbers_of_numpy_are_numbers_and_stay_plain():
    import numpy as np

    scheme = Scheme(w_bits=np.int64(3), negative_padding=np.bool_(False))
    assert scheme == Scheme(w_bits=3, negative_padding=False) and type(scheme.w_bits) is int
    phase = Phase("p", np.int32(2), np.float32(0.5), milestones=np.array([1, 2]))
    assert phase == Phase("p", 2, 0.5, milestones=(1, 2)) and type(phase.lr) is float
    assert quantizers.build("duq", role="weight", bits=np.int64(4)).bits == 4
    json.dumps([dataclasses.asdict(scheme), dataclasses.asdict(phase)])


@pytest.mark.parametrize("options", [
    {"width": v} for v in (0, -1, math.nan, math.inf, 1e9, "1", True)] + [
    {"num_classes": v} for v in (0, 1.5, "10", True, 10**12)] + [
    {"input_size": v} for v in (31, 32.0, "32", True, 10**9)] + [{"weights": v} for v in ("a\0b", "a" * 5000, 3)])
def test_networks_of_what_cannot_be(options):
    with pytest.raises(InputError):
        models.build("mobilenet_v2", **options)


@pytest.mark.parametrize("options", [
    {"bits": v} for v in (True, 0, 9, 2.0, "4", None)] + [{"floor": v} for v in ("0", None, math.nan, True)] + [
    {"signed": v} for v in ("no", 1)] + [{"shape": v} for v in ("ab", 3, (1.5,), (-1,), (2, 2), None)] + [
    {"role": v} for v in (None, [], "bias")] + [{"name": v} for v in (None, [], "magic")] + [{"foo": 1}])
def test_quantizers_of_what_cannot_be(options):
    for name in ("duq", "qil", "pact", "lsq+", "sawb"):
        with pytest.raises(InputError):
            quantizers.build(**{"name": name, "role": "activation" if name == "pact" else "weight", "bits": 4,
                                **options})


@pytest.mark.parametrize("arguments", [{"w_bits": "4"}, {"seed": 1.5}, {"rounds": "3"}, {"teacher": "no"},
                                       {"lr": math.nan}, {"order": []}, {"model": None}, {"profile": None},
                                       {"profile": []}, {"weight": 3}, {"bn_stages": 0}])
def test_arguments_of_recipes_are_checked(arguments):
    with pytest.raises(InputError):
        recipes.profit(**arguments)


def test_kinds_say_what_they_are():
    assert kinds.words(tuple[kinds.Bits, ...]) == "a list, each of its values a whole number from 1 to 8"
    assert kinds.parse("x", "4, 3", tuple[kinds.Bits, ...]) == (4, 3) and kinds.parse("x", "none", str | None) is None
    with pytest.raises(InputError, match=r"^x must be a number from 0 to 1, got 2.0$"):
        kinds.parse("x", "2", kinds.Share)
