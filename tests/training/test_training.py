"""Phases, the training loop, losses, checkpoints and progress bars, on a network of three layers."""

import copy
import dataclasses
import math
import pickle
import time

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from paperlib import models
from paperlib.data.cifar10_batches import Batches
from paperlib.data.cifar10_images import load_subset
from paperlib.errors import InputError
from paperlib.quantizers import Quantizer
from paperlib.training import checkpoint
from paperlib.training.engine import Trainer, evaluate, parameter_groups
from paperlib.training.losses import distillation
from paperlib.training.phases import Phase
from paperlib.training.progress import Progress, waiting

PHASE = Phase("lesson", 2, lr=0.1, weight_decay=0.01)


@pytest.fixture(scope="module")
def batches():
    """100 training images in two batches, 100 test images in four."""
    threads, (train, test) = torch.get_num_threads(), (images.stratified(100) for images in load_subset())
    torch.set_num_threads(1)
    yield Batches(train, 50, train=True, seed=1), Batches(test, 30, train=False)
    torch.set_num_threads(threads)


def small_net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(),
                         nn.Conv2d(4, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 10))


def frozen(module):
    """A copy of the module's parameters and buffers."""
    return {k: v.clone() for k, v in [*module.named_parameters(), *module.named_buffers()]}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())


@pytest.mark.parametrize("per_epoch", [False, True])
def test_learning_rate_and_averages_in_epochs(per_epoch):
    phase = Phase("x", 18, lr=1.0, per_epoch=per_epoch)
    assert [phase.lr_factor(epoch) for epoch in range(3)] == pytest.approx([0.1, 0.4, 0.7])
    assert phase.lr_factor(3) == 1.0 and phase.lr_factor(18) == pytest.approx(1e-3)
    assert phase.lr_factor(10) == pytest.approx(1e-3 + 0.999 * (1 + math.cos(math.pi * 7 / 15)) / 2)
    times = [k / 10 for k in range(181)]
    factors = [phase.lr_factor(time) for time in times]
    if per_epoch:
        assert all(factor == phase.lr_factor(math.floor(time)) for time, factor in zip(times, factors))
        factors = factors[::10]
    peak = factors.index(1.0)
    rising, falling = factors[:peak + 1], factors[peak:]
    assert rising == sorted(set(rising)) and falling == sorted(set(falling), reverse=True)
    assert Phase("x", 5, lr=1.0, warmup_epochs=0).lr_factor(0) == 1.0
    weights = [phase.averaging_weight(steps) for steps in (5005, 50, 1)]
    assert weights == pytest.approx([3e-4, 0.03, 1.0], rel=0.01)    # two thirds of an epoch, at least a step


@pytest.mark.parametrize("weight, activation, decays", [("duq", "duq", False), ("sawb", "pact", True)])
def test_each_parameter_is_in_one_group(weight, activation, decays):
    net = models.quantize(small_net(), models.Scheme(weight=weight, activation=activation))
    groups = parameter_groups(net, dataclasses.replace(PHASE, quantizer_lr=0.25))
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert len(found) == len(list(net.parameters())) == sum(len(group["params"]) for group in groups)
    for module, name, parameter in [(m, *p) for m in net.modules() for p in m.named_parameters("", False)]:
        weight_matrix = isinstance(module, (nn.Conv2d, nn.Linear)) and name == "weight"
        quantizer = isinstance(module, Quantizer)
        wanted = 0.025 if quantizer else 0.1, 0.01 if weight_matrix or quantizer and decays else 0.0
        assert found[id(parameter)] == pytest.approx(wanted), name
    kinds = {name.split(".")[-1] for name, parameter in net.named_parameters()}
    assert kinds == {"weight", "bias"} | ({"a", "c"} if weight == "duq" else {"alpha"})


def test_distillation_is_the_cross_entropy_of_two_softmaxes():
    torch.manual_seed(0)
    student, teacher = torch.randn(7, 10, requires_grad=True), 3 * torch.randn(7, 10)
    (loss := distillation(student, teacher)).backward()
    torch.testing.assert_close(loss, -(teacher.softmax(1) * student.log_softmax(1)).sum(1).mean())
    torch.testing.assert_close(student.grad, (student.softmax(1) - teacher.softmax(1)).detach() / 7)


def test_distillation_teaches_the_student_only():
    student, teacher = torch.randn(2, 5, 10, requires_grad=True)
    teacher.retain_grad()
    distillation(student, teacher).backward()
    assert teacher.grad is None


def test_first_step_with_a_teacher_by_hand(batches):
    train, net, teacher = Batches(batches[0].images, 100, train=True), small_net(), small_net(seed=5).train()
    student, before, phase = copy.deepcopy(net), frozen(teacher), dataclasses.replace(PHASE, epochs=1)
    trainer = Trainer(net, phase, train, batches[1], seed=0, first_epoch=4, teacher=teacher)
    trainer.run()
    assert not teacher.training and same(frozen(teacher), before)
    x, y = next(iter(train.epoch(4)))
    logits, target = student(x), teacher(x)
    label_loss = F.cross_entropy(logits, y)
    (label_loss - (target.softmax(1) * logits.log_softmax(1)).sum(1).mean()).backward()
    for (name, parameter), trained in zip(student.named_parameters(), net.parameters(), strict=True):
        slope = parameter.grad + (0.01 * parameter if parameter.ndim > 1 else 0)
        step = 0.1 * 0.1 * (1 + 0.9) * slope        # warm-up's first learning rate; Nesterov's first step
        torch.testing.assert_close(trained, (parameter - step).detach(), msg=name)
    shown = [row[4] for row in trainer.history if row[2:4] == ["train", "loss"]]
    assert shown == pytest.approx([label_loss.item()])      # the labels' part alone


def test_moving_average_by_hand(batches):
    net, seen = models.quantize(small_net(), models.Scheme()), []
    models.calibrate(net, next(iter(batches[0].epoch()))[0])
    trainer = Trainer(net, dataclasses.replace(PHASE, averaging_epochs=2), *batches, seed=0)
    trainer.run(report=lambda **event: seen.append(frozen(net)))
    assert len(seen) == 4 and not same(seen[0], seen[1])
    averaged = frozen(trainer.ema.module)
    assert {"0.weight", "1.running_mean", "1.running_var", "3.input_quantizer.a"} <= averaged.keys()
    for name, value in averaged.items():
        if value.is_floating_point():               # a count of batches has no average
            average = seen[0][name].double()
            for state in seen[1:]:
                average = 0.75 * average + 0.25 * state[name]
            torch.testing.assert_close(value.double(), average, rtol=1e-5, atol=1e-6, msg=name)
    assert not torch.allclose(averaged["0.weight"], seen[-1]["0.weight"], rtol=1e-3)
    other = Trainer(small_net(), dataclasses.replace(PHASE, bn_momentum=0.07), *batches, seed=0).net
    assert [n[k].momentum for n in (net, other) for k in (1, 4)] == [0.25, 0.25, 0.07, 0.07]


def test_history_is_one_tidy_table(batches):
    trainer = Trainer(small_net(), PHASE, *batches, seed=0)
    trainer.run()
    table = pd.DataFrame(trainer.history, columns=["epoch", "step", "split", "metric", "value"])
    splits = table.groupby("epoch").split.unique().map(list).to_dict()
    assert splits == {0: ["val"], 1: ["train", "val"], 2: ["train", "val", "val_ema"]}
    assert [list(m) for m in table.groupby(["epoch", "split"]).metric.unique()] == [["loss", "accuracy"]] * 6
    assert (table.step == 2 * table.epoch).all() and not table.duplicated(["epoch", "split", "metric"]).any()
    assert table.value.map(math.isfinite).all()
    last = table[table.epoch == 2].set_index(["split", "metric"]).value
    assert last["val"].to_dict() == evaluate(trainer.net, batches[1])
    assert last["val_ema"].to_dict() == evaluate(trainer.ema, batches[1])


def test_evaluation_is_the_mean_over_all_images(batches):
    net, images = small_net().train(), batches[1].images
    before, found = frozen(net), evaluate(net, batches[1])
    assert net.training and same(before, frozen(net))
    x = torch.cat([x for x, _ in Batches(images, 100, train=False).epoch()])
    with torch.no_grad():
        logits = net.eval()(x).double()
    assert found["loss"] == pytest.approx(F.cross_entropy(logits, images.y).item(), rel=1e-5)
    assert found["accuracy"] == (logits.argmax(1) == images.y).double().mean().item() * 100


def spoil(batches, step, **options):
    """Train, and break the weights after this step of the second epoch."""
    net = small_net()
    Trainer(net, PHASE, *batches, seed=0).run(**options, report=lambda epoch, batch, **numbers: (
        (epoch, batch) == (2, step) and nn.init.constant_(net[0].weight, math.nan)))


def test_a_loss_that_is_not_finite_stops_the_phase(batches):
    saved = []
    with pytest.raises(InputError, match=r"nan.*epoch 2, step 2.*the learning rate \(0.1\).* kept") as info:
        spoil(batches, 1, save=lambda state: saved.append(state["epoch"]))
    assert saved == [1] and "'lesson'" in str(info.value)
    with pytest.raises(InputError, match=r"lower the learning rate \(1e\+20\)"):
        Trainer(small_net(), dataclasses.replace(PHASE, epochs=9, lr=1e20), *batches, seed=0).run()


def test_a_phase_that_ends_in_nan_is_not_stored(batches):
    saved = []
    with pytest.raises(InputError, match=r"nan.*'lesson'.*lower the learning rate \(0.1\)"):
        spoil(batches, 2, save=lambda state: saved.append(state["epoch"]))
    assert saved == [1]


STATE = {"net": {"w": torch.arange(4096.0)}, "epoch": 3, "history": [[0, 0, "val", "loss", 1.5]]}


def test_checkpoint_comes_back_and_a_failed_one_leaves_the_old(tmp_path):
    path = tmp_path / "new" / "last.pt"
    checkpoint.save(STATE, path)
    back = checkpoint.load(path)
    assert same(back.pop("net"), STATE["net"]) and back == {k: v for k, v in STATE.items() if k != "net"}
    with pytest.raises((AttributeError, pickle.PicklingError)):     # some of it is written by then
        checkpoint.save({"net": STATE["net"], "epoch": lambda: 4}, path)
    assert same(checkpoint.load(path)["net"], STATE["net"]) and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("how", ["text", "zeros", "pickle", "empty", "cut", "one bit"])
def test_damaged_checkpoint_names_the_folder(how, tmp_path):
    path = tmp_path / "final.pt"
    checkpoint.save(STATE, path)
    whole = path.read_bytes()
    middle = whole.index(STATE["net"]["w"].numpy().tobytes()) + 8000
    path.write_bytes({"text": b"hello\n", "zeros": bytes(len(whole)), "pickle": pickle.dumps(Phase, 2),
                      "empty": b"", "cut": whole[:middle],
                      "one bit": whole[:middle] + bytes([whole[middle] ^ 16]) + whole[middle + 1:]}[how])
    with pytest.raises(InputError, match="is damaged .*delete the folder") as info:
        checkpoint.load(path)
    assert str(tmp_path) in str(info.value) and "\n" not in str(info.value)


def test_full_disk_is_for_the_user_to_put_right(tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        with pytest.raises(InputError, match="PAPERLIB_RUNS"):
            checkpoint.save(STATE, tmp_path / "last.pt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not list(tmp_path.iterdir())


def test_progress_bar_ends_full(capsys):
    numbers = {"epochs": 3, "batches": 2, "loss": 1.25, "accuracy": 50.0, "images_per_s": 9.0}
    events = [("float", 0, 2, 1), ("float", 0, 2, 2), ("weights", 2, 1, 1), ("weights", 2, 1, 2)]
    with Progress() as bar:
        for phase, before, epoch, batch in events:
            bar(key="lesson", run="a lesson", phase=phase, epochs_before=before, epoch=epoch, batch=batch, **numbers)
            assert bar.bars["lesson"].n == 2 * (before + epoch - 1) + batch
        [line] = bar.bars.values()
        assert (line.initial, line.total) == (2, 6)             # a run that goes on starts where it stood
    assert "weights epoch 1: loss 1.250, accuracy 50.0 %" in capsys.readouterr().err


def test_a_bar_shows_the_phase_and_a_clock_that_goes_on_before_anything_is_trained(capsys):
    with Progress(total=8) as bar:
        bar.begin("lesson", "a lesson", "float")
        time.sleep(2.5)
    told = capsys.readouterr().err
    assert "a lesson   0%" in told and "float begins" in told
    assert all(f"00:0{second}" in told for second in (0, 1, 2)) and "0 of 8, 00:02" in told


def test_a_clock_shows_that_something_without_steps_goes_on(capsys):
    with waiting("getting ready"):
        pass
    assert capsys.readouterr().err == ""        # too short to be worth a line
    with pytest.raises(InputError), waiting("getting ready"):
        time.sleep(2)
        raise InputError("no data")
    told = capsys.readouterr().err
    assert "getting ready 00:00" in told and "getting ready 00:01" in told


def test_phases_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="epochs must be a whole number from 0 to 1000000, got -1"):
        dataclasses.replace(PHASE, epochs=-1)
