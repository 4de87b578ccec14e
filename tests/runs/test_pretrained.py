"""The float networks in data/pretrained/: what they are worth, what starts from them, and how to do without them."""
import dataclasses
import shutil

import pandas as pd
import pytest
import torch

from paperlib import models
from paperlib.data.cifar10_batches import Batches
from paperlib.data.cifar10_images import load_subset
from paperlib.errors import InputError
from paperlib.models.weights import shipped_files
from paperlib.recipes import Recipe, activations_then_weights, profit, qil
from paperlib.runs import obtain, pretrained
from paperlib.runs.phase_store import StoredPhase
from paperlib.system import paths
from paperlib.training.evaluation import evaluate
from paperlib.training.phases import Phase

TINY = Recipe("float", "vgg7", 0.0625, "subset", 200, 100, 100, 0, 1, (
    Phase("first", 1, 0.05, warmup_epochs=0), Phase("second", 1, 0.01, warmup_epochs=0)))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A shelf of its own, with a copy of one shipped network, and a store of its own."""
    shelf = tmp_path / "pretrained"
    shutil.copytree(paths.pretrained_dir() / "vgg7-0.25-CIFAR10_V1", shelf / "vgg7-0.25-CIFAR10_V1")
    monkeypatch.setattr(paths, "pretrained_dir", lambda: shelf)
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path / "runs"))
    return shelf


@pytest.mark.parametrize("folder", shipped_files())
def test_a_shipped_network_is_worth_what_its_history_says(folder):
    """On 1 000 images, four standard deviations of a share are below five points."""
    row = pretrained.shipped().set_index("folder").loc[folder]
    net = models.build(row.network, width=row.width, weights=row.weights)
    if "PADDED" in row.weights:
        net = models.quantize(net, models.Scheme(w_bits=32, a_bits=32))
    images = load_subset()[1].stratified(1000)
    assert row.accuracy > 85 and row.hours > 0
    assert evaluate(net, Batches(images, 250, train=False))["accuracy"] == pytest.approx(row.accuracy, abs=5)


def test_the_shelf_stays_small_and_holds_a_teacher_better_than_its_pupils():
    table = pretrained.shipped()
    pd.testing.assert_frame_equal(pd.read_csv(paths.pretrained_dir() / "index.csv"), table)
    assert table.megabytes.sum() <= 15
    best = table.loc[table.accuracy.idxmax()]
    assert profit(profile="pretrained").phases[1].teacher == f"pretrained/{best.folder}"


def test_recipes_start_from_the_network_that_padded_as_they_will():
    padded, zeros = profit(profile="pretrained"), activations_then_weights("duq_zeros", profile="pretrained")
    assert padded.weights == "CIFAR10_PADDED_V1" and padded.phases[0].scheme == models.Scheme(w_bits=32, a_bits=32)
    assert zeros.weights == "CIFAR10_V1" and zeros.phases[0].scheme is None
    assert profit("mobilenet_v2", profile="pretrained").weights == "CIFAR10_V1"     # pads with zeros in any case
    assert padded.phases[0].epochs == zeros.phases[0].epochs == 0
    with pytest.raises(InputError, match="teacher 'pretrained/vgg7-9', .* data/pretrained/ has .*vgg7-0.25"):
        dataclasses.replace(zeros, phases=(Phase("float", 1, 0.1, teacher="pretrained/vgg7-9"),))


def test_a_network_from_scratch_is_trained_as_the_shipped_one_was():
    recipe = qil("vgg7", w_bits=2, a_bits=2, profile="pretrained")
    scratch = pretrained.from_scratch(recipe)
    told = pretrained.shipped().set_index("folder").loc["vgg7-0.25-CIFAR10_V1"]
    assert scratch.weights is None and scratch.train_images == 50_000
    assert scratch.phases[0].name == "float" and scratch.phases[0].epochs == told.epochs
    assert scratch.phases[1:] == recipe.phases[1:]
    with pytest.raises(InputError, match="starts with weights=None, which data/pretrained/ does not have"):
        pretrained.from_scratch(scratch)


def test_a_damaged_network_is_refused(elsewhere):
    file = shipped_files()["vgg7-0.25-CIFAR10_V1"]
    content = bytearray(file.read_bytes())
    content[5000] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"is damaged .*: bring it back with `git checkout -- data/pretrained`"):
        models.build("vgg7", width=0.25, weights="CIFAR10_V1")
    with pytest.raises(InputError, match=r"has vgg7-0.25-CIFAR10_V1 for vgg7 \(this one has width 1\)"):
        models.build("vgg7", weights="CIFAR10_V1")


@pytest.mark.slow
def test_a_trained_network_is_shipped_and_started_from(elsewhere, one_thread):
    run = obtain(TINY)
    folder = pretrained.ship(run.key, "TINY_V1")
    assert pretrained.ship(run.key, "TINY_V1") == folder and len(list(folder.glob("*.pt"))) == 1    # in its place
    table = pretrained.shipped().set_index("folder")
    assert table.loc[folder.name, ["epochs", "accuracy"]].tolist() == [2, run.accuracy()]
    net = models.build("vgg7", width=0.0625, weights="TINY_V1")
    for name, value in run.model().state_dict().items():
        expected = value.half().float() if value.is_floating_point() else value
        assert torch.equal(net.state_dict()[name], expected)

    start = dataclasses.replace(TINY, weights="TINY_V1", phases=(Phase("float", 0, 0.1), Phase("on", 0, 0.1)))
    key = StoredPhase.chain(start)[-1].key
    scratch = pretrained.from_scratch(start)
    assert [p.name for p in scratch.phases] == ["float 1", "float", "on"]
    assert scratch.phases[1].epochs == scratch.phases[0].epochs == 1
    file = shipped_files()[folder.name]
    file.rename(file.with_name("float16-00000000.pt"))      # other weights of the same name
    assert StoredPhase.chain(start)[-1].key != key
    with pytest.raises(InputError, match="is no name for weights"):
        pretrained.ship(run.key, "../TINY")
    quantized = obtain(dataclasses.replace(TINY, phases=(Phase("all", 0, 0.1, scheme=models.Scheme()),)))
    with pytest.raises(InputError, match="phase 'all' of .* is quantized: ship a float one"):
        pretrained.ship(quantized.key, "TINY_V2")
