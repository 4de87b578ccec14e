"""What needs no training: claims, judged on made-up runs; what recipes are known by; recorded runs."""

import dataclasses

import pytest
from conftest import agree, ends_at, leans, made_up

from paperlib import models, recipes, runs
from paperlib.claims import CONTRADICTED, NOT_TESTABLE, SUPPORTED, experiments
from paperlib.claims.pact_vs_duq import (
    beside_guessing,
    duq_ends_lower,
    duq_starts_higher,
    verdicts_on_others,
    verdicts_on_scales,
)
from paperlib.claims.verdict import at_scale
from paperlib.data import cifar10_images
from paperlib.errors import InputError
from paperlib.runs import loading
from paperlib.runs.phase_store import StoredPhase
from paperlib.training import checkpoint
from paperlib.training.engine import Trainer
from paperlib.training.phases import Freeze, Oscillations, Phase

STAGES = [(phase, split) for phase in ("activations", "weights") for split in ("train", "val")]


def run(method, seed, **curves):
    """A run with these losses, such as weights_val=[at epoch 0, at epoch 1, ...]; training starts at epoch 1.

    Accuracies, another phase and another split stand beside them: none of these may be looked at.
    """
    rows = []
    for phase, split in STAGES:
        start = 0 if split == "val" else 1
        losses = curves.pop(f"{phase}_{split}", [2.0, 1.5, 1.0][start:])
        for epoch, loss in enumerate(losses, start):
            rows += [(phase, epoch, split, "loss", loss), (phase, epoch, split, "accuracy", 99 - loss)]
        rows.append((phase, len(losses) + start - 1, "val_ema", "loss", 50.0 * (method == "duq")))
    rows.append(("float", 1, "val", "loss", 50.0 * (method == "duq")))
    assert not curves
    return made_up(recipes.activations_then_weights(method, profile="smoke", seed=seed), rows)


def ends(method, *values, seed=0):
    """A run whose curves end at these four losses, in the order of STAGES."""
    return run(method, seed, **{f"{phase}_{split}": ([9.0] if split == "val" else []) + [3.0, value]
                                for (phase, split), value in zip(STAGES, values, strict=True)})


def test_lower_at_the_end_for_every_seed():
    verdict = duq_ends_lower([ends("duq", 1, 2, 3, 4), ends("duq", 5, 6, 7, 8, seed=1)],
                             [ends("pact", 2, 3, 4, 5), ends("pact", 8, 9, 10, 11, seed=1)])
    table = verdict.table()
    assert leans(verdict) == SUPPORTED
    assert list(table.comparison) == [f"{split} loss, {phase}" for phase, split in STAGES]
    assert table["mean"].tolist() == [-2.0] * 4                             # of -1 and -3
    assert table.sd.tolist() == pytest.approx([2**0.5] * 4)                 # n - 1 in the denominator
    assert table.n.tolist() == agree(verdict) == [2] * 4
    assert verdict.differences.seed.tolist() == [0, 1] * 4


def test_one_seed_that_disagrees_is_enough():
    verdict = duq_ends_lower([ends("duq", 1, 1, 1, 1), ends("duq", 3, 3, 3, 3, seed=1)],
                             [ends("pact", 9, 9, 9, 9), ends("pact", 2, 2, 2, 2, seed=1)])
    table = verdict.table()
    assert leans(verdict) == CONTRADICTED and table["mean"].tolist() == [-3.5] * 4
    assert agree(verdict) == [1] * 4


@pytest.mark.parametrize("stage", range(4))
@pytest.mark.parametrize("loss", [2.0, 2.001], ids=["a tie", "above"])
def test_one_stage_that_disagrees_is_enough(stage, loss):
    values = [1.0] * 4
    values[stage] = loss
    verdict = duq_ends_lower([ends("duq", *values)], [ends("pact", 2, 2, 2, 2)])
    assert leans(verdict) == CONTRADICTED
    assert agree(verdict) == [int(k != stage) for k in range(4)]


@pytest.mark.parametrize("values, verdict", [((2, 2, 2, 2), SUPPORTED), ((2, 2, 2, 1), CONTRADICTED)])
def test_another_method_in_the_place_of_pact_is_no_claim_of_the_paper(values, verdict):
    [found] = verdicts_on_others([ends("duq", 1, 1, 1, 1)], {"lsq": [ends("lsq", *values)]}, "laptop")
    assert leans(found) == verdict and "than LSQ," in found.claim and "not in the paper" in found.where
    assert found.differences.difference.tolist() == [1 - value for value in values]


@pytest.mark.parametrize("end, verdict", [(1.5, SUPPORTED), (1.0, CONTRADICTED)])
def test_a_scale_of_its_own(end, verdict):
    ends = {"duq": 1.0, "duq_one_scale": end}
    judged, = verdicts_on_scales(
        {method: [made_up(r, [("weights", epoch, "val", "loss", 2.0 if epoch < 5 else ends[method])
                              for epoch in range(6)]) for r in recipes]
         for method, recipes in experiments.duq_scales().items()}, "recorded")
    assert leans(judged) == verdict and set(judged.differences.difference) == {1.0 - end}


def test_a_method_beside_guessing():
    """At the end of the weight stage, mean over seeds; ln 10 is 2.303."""
    text = beside_guessing([ends("qil", 9, 9, 9, 1.151), ends("qil", 9, 9, 9, 3.453, seed=1)])
    assert text.startswith("QIL: the validation loss ends at 2.30, 100% of what guessing among 10 classes gives (2.30)")
    assert "ends at 1.15, 50% of" in beside_guessing([ends("lsq", 9, 9, 9, 1.1513)])


def test_only_the_last_epoch_counts_at_the_end():
    low, high = [9.0, 0.1, 0.1, 2.0], [9.0, 5.0, 5.0, 1.0]
    duq, pact = (run(method, 0, activations_val=curve, weights_val=curve, activations_train=curve[1:],
                     weights_train=curve[1:]) for method, curve in (("duq", low), ("pact", high)))
    assert leans(duq_ends_lower([duq], [pact])) == CONTRADICTED
    assert leans(duq_ends_lower([pact], [duq])) == SUPPORTED


@pytest.mark.parametrize("claim", [duq_ends_lower, duq_starts_higher])
@pytest.mark.parametrize("better", ["duq", "pact"])
def test_too_small_a_scale_is_not_judged(claim, better):
    values = (1, 1, 1, 1), (2, 2, 2, 2)
    duq, pact = values if better == "duq" else reversed(values)
    [verdict] = at_scale("smoke", [claim([ends("duq", *duq)], [ends("pact", *pact)])])
    assert leans(verdict) == NOT_TESTABLE and verdict.table()["mean"].notna().all()    # numbers are there


@pytest.mark.parametrize("gap, verdict", [(1.0, SUPPORTED), (0.0, CONTRADICTED), (-1.0, CONTRADICTED)])
@pytest.mark.parametrize("epochs, early", [(1, 1), (5, 1), (19, 1), (20, 2), (39, 3)])
def test_early_is_the_first_tenth_and_at_least_one_epoch(epochs, early, gap, verdict):
    """Epoch 0 and the later epochs say the opposite of the early ones."""
    other, flat = 9.0 if gap < 0 else 0.0, [3.0] * (epochs + 1)
    duq = [other] + [3.0 + gap] * early + [other] * (epochs - early)
    found = duq_starts_higher([run("duq", 0, weights_val=duq)], [run("pact", 0, weights_val=flat)])
    assert leans(found) == verdict and found.differences.difference.tolist() == [gap]


def test_starts_higher_for_every_seed_or_not():
    pact = [run("pact", seed, weights_val=[3.0, 3.0, 3.0]) for seed in (4, 2)]
    duq = [run("duq", seed, weights_val=[0.0, first, 0.0]) for seed, first in ((4, 7.0), (2, 2.0))]
    found = duq_starts_higher(duq, pact)
    assert leans(found) == CONTRADICTED and found.differences.seed.tolist() == [4, 2]
    [row] = found.table().itertuples()
    assert (row.mean, row.n, row.sd) == pytest.approx((1.5, 2, 12.5**0.5)) and agree(found) == [1]


@pytest.mark.parametrize("claim", [duq_ends_lower, duq_starts_higher])
@pytest.mark.parametrize("duq, pact", [([], []), ([0], []), ([], [0]), ([0], [1]), ([0, 1], [1, 0]),
                                       ([0, 1], [0])])
def test_runs_that_cannot_be_compared(claim, duq, pact):
    with pytest.raises(InputError, match="same seeds"):
        claim([run("duq", seed) for seed in duq], [run("pact", seed) for seed in pact])


def smoke(method="duq", phase=0, change={}, profile="smoke", **options):
    """A recipe in which the phase with this index is changed."""
    recipe = recipes.activations_then_weights(method, profile=profile, **options)
    phases = [dataclasses.replace(p, **change) if p is recipe.phases[phase] else p for p in recipe.phases]
    return dataclasses.replace(recipe, phases=tuple(phases))


def changes(thing):
    """For each field of a dataclass a small change of it: {name: new value}."""
    words = {"weight": "duq", "activation": "duq", "weight_options": {"levels": 4}, "per_channel": True,
             "activation_options": {"learn_offset": True}, "bn_momentum": 0.5, "milestones": (1.0,),
             "teacher": "float", "teacher_loss": "mse", "freeze": Freeze(1.0), "oscillations": Oscillations(),
             "order": "aiwq", "layers": ("features.0.0",), "measured_in": "activations",
             "weights": "IMAGENET1K_V1", "precision": "bfloat16", "data": "imagenet", "model": "resnet18",
             "augmentation": "random_crop",
             "phases": smoke("pact", 1, {"measure": True}, bits=3).phases[:2]}

    def other(name, value):
        if isinstance(value, bool):
            return not value
        if name.endswith("bits"):
            return 8 if value == 32 else value - 1
        return value / 2 + 1 / 16 if isinstance(value, float) else value + 1 if isinstance(value, int) else (
            words.get(name, f"{value}x"))
    return [{f.name: other(f.name, getattr(thing, f.name)),
             **{"every_step": {"measure": True}, "order": {"measured_in": "activations"},
                "activation_options": {"activation": "duq"}}.get(f.name, {})}
            for f in dataclasses.fields(thing)]


def test_every_setting_but_two_names_another_run():
    recipe = dataclasses.replace(smoke("pact", 1, {"measure": True}, bits=3), data="imagenette")
    keys, phase = [link.key for link in StoredPhase.chain(recipe)], recipe.phases[2]
    schemes = [{"scheme": dataclasses.replace(phase.scheme, **change)} for change in changes(phase.scheme)]
    freezes = [{"freeze": dataclasses.replace(Freeze(0.5, "random"), **change)}
               for change in changes(Freeze(0.5, "random"))]
    phases = [change for change in changes(phase) if "scheme" not in change]
    for change in schemes + freezes + phases:
        other = dataclasses.replace(recipe, phases=(*recipe.phases[:2], dataclasses.replace(phase, **change)))
        found = [link.key for link in StoredPhase.chain(other)]
        assert found[:2] == keys[:2] and found[2] not in keys, change
        keys.append(found[2])
    for change in changes(recipe):
        found = [link.key for link in StoredPhase.chain(dataclasses.replace(recipe, **change))]
        if {"label", "recorded", "phases"} & set(change):
            assert found == keys[:len(found)], change
            continue
        assert not set(found) & set(keys), change
        keys += found
    fields = {cls: len(dataclasses.fields(cls)) for cls in (models.Scheme, Freeze, Phase, recipes.Recipe)}
    assert len(keys) == 3 + fields[models.Scheme] + fields[Freeze] + fields[Phase] - 1 + 3 * (
        fields[recipes.Recipe] - 3)


def recipe_of_width(width):
    return dataclasses.replace(smoke(), width=width)


@pytest.mark.parametrize("make", [lambda one: smoke(quantizer_lr=one), recipe_of_width])
def test_equal_recipes_are_the_same_run(make):
    assert make(1) == make(1.0)
    assert [link.key for link in StoredPhase.chain(make(1))] == [link.key for link in StoredPhase.chain(make(1.0))]


@pytest.mark.parametrize("options", [{"change": {"teacher": "nobody"}, "phase": 2}, {"bits": 1},
                                     {"method": "pact", "bits": 6}, {"method": "magic"}, {"model": "vgg99"}])
def test_impossible_recipe_is_refused_before_anything_is_trained(options, tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path))
    monkeypatch.setattr(Trainer, "run", None)
    with pytest.raises(InputError):
        runs.obtain(smoke(**options))


def test_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "runs"))
    (tmp_path / "runs").write_text("a file where a folder should be")
    with pytest.raises(InputError, match="PAPERLIB_RUNS"):
        runs.obtain(smoke())


def test_foreign_checkpoint_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path))
    for link in StoredPhase.chain(smoke()):
        checkpoint.save({"something": "else"}, link.folder / "final.pt")
    with pytest.raises(InputError, match="delete the folder"):
        runs.obtain(smoke())


def test_without_all_of_cifar10_the_recipe_names_the_subset(monkeypatch):
    wanted = smoke(profile="laptop")
    monkeypatch.setattr(loading, "images", lambda name: (range(50_000), range(10_000)))
    assert loading.resolve(wanted) == wanted
    monkeypatch.setattr(loading, "images", lambda name: cifar10_images.load_subset())
    got = loading.resolve(wanted)
    assert (got.data, got.train_images, got.test_images) == ("subset", 5000, 1000)
    assert StoredPhase(got, 0).key != StoredPhase(wanted, 0).key and loading.resolve(got) == got
    few = loading.resolve(dataclasses.replace(wanted, train_images=100, test_images=50))
    assert (few.train_images, few.test_images) == (100, 50)
