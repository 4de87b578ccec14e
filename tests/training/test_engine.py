"""The training loop where something comes between: signals, full disks, divergence, odd phases, other precisions."""
import copy
import dataclasses
import math
import os
import signal
import threading

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from paperlib import models
from paperlib.data.cifar10_batches import Batches
from paperlib.data.cifar10_images import load_subset
from paperlib.errors import InputError
from paperlib.models import Scheme, fused_conv
from paperlib.training import checkpoint
from paperlib.training.engine import Trainer, evaluate
from paperlib.training.interrupt import Stop, Stopped
from paperlib.training.losses import distillation
from paperlib.training.phases import BN_ONLY, Freeze, Oscillations, Phase

PHASE = Phase("lesson", 2, lr=0.05, scheme=Scheme(), weight_decay=0.01, quantizer_lr=1.0, warmup_epochs=0.5)
BATCHES = 3


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def batches():
    train, test = (images.stratified(60) for images in load_subset())
    return Batches(train, 20, train=True, seed=1), Batches(test, 30, train=False)


def small_net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8, padding=1),
                         nn.BatchNorm2d(8), nn.Hardswish(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3),
                         nn.Linear(32, 10)).to(memory_format=torch.channels_last)


def quantized(fuse=False, scheme=Scheme()):
    net = models.calibrate(models.quantize(small_net(), scheme), next(load_images(20)))
    return models.fuse(net) if fuse else net


def load_images(n):
    yield from (x for x, _ in Batches(load_subset()[0].stratified(n), n, train=False).epoch())


def plain(thing):
    """Tensors as bytes, so that nested states can be compared."""
    if torch.is_tensor(thing):
        return str(thing.dtype), tuple(thing.shape), thing.contiguous().numpy().tobytes()
    if isinstance(thing, dict):
        return {k: plain(v) for k, v in thing.items() if k != "seconds"}
    return [plain(v) for v in thing] if isinstance(thing, (list, tuple)) else thing


def trainer(batches, phase=PHASE, fuse=False, **options):
    return Trainer(quantized(fuse), phase, *batches, seed=5, teacher=small_net(3), **options)


MEASURED = dataclasses.replace(PHASE, measure=True, every_step=True,
                               oscillations=Oscillations(dampening=0.1, freeze_above=(0.1, 0.01)))


@pytest.fixture(scope="module")
def whole(batches):
    """What training without interruption ends in: plain, fused."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused_conv, "WORTH", 0)
        for fuse in (False, True):
            one = trainer(batches, MEASURED, fuse)
            one.run()
            found.append(plain(one.state()))
    return found


def test_a_layer_that_is_used_later_trains_from_then_on(batches):
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.late, self.head = nn.Conv2d(3, 4, 3, 4), nn.Conv2d(4, 4, 1), nn.Linear(4, 10)
            self.calls = 0

        def forward(self, x):
            self.calls += self.training
            x = self.first(x)
            return self.head((self.late(x) if self.calls > 2 else x).mean((2, 3)))

    net = Late()
    before = net.late.weight.detach().clone()
    Trainer(net, Phase("float", 2, lr=0.1), *batches, seed=0).run()
    assert not net.late.weight.equal(before)


def test_counting_oscillations_changes_nothing(batches):
    alone, counted = (trainer(batches, dataclasses.replace(PHASE, oscillations=o)) for o in (None, Oscillations()))
    for one in (alone, counted):
        one.run()
    assert plain(counted.state()["net"]) == plain(alone.state()["net"]) and counted.history == alone.history
    assert (counted.oscillations.table().changed > 0).any()


@pytest.mark.slow
@pytest.mark.parametrize("fuse", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize("epoch, batch", [(1, 1), (1, 2), (1, 3), (2, 1), (2, 3)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_after_any_step_it_goes_on_as_if_nothing_had_happened(number, epoch, batch, fuse, batches, whole,
                                                                      tmp_path, monkeypatch):
    monkeypatch.setattr(fused_conv, "WORTH", 0)
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    events = []

    def report(**event):
        events.append((event["epoch"], event["batch"]))
        if events[-1] == (epoch, batch):
            os.kill(os.getpid(), number)
    first = trainer(batches, MEASURED, fuse)
    with pytest.raises(KeyboardInterrupt):
        first.run(report=report, save=lambda state: checkpoint.save(state, tmp_path / "last.pt"))
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    state = checkpoint.load(tmp_path / "last.pt")
    done = BATCHES * state["epoch"] + state["step"] - (BATCHES * (epoch - 1) + batch)
    assert done in (0, 1)                       # the signal comes after a step; the next one may be the last
    assert events[-1] == (state["epoch"] + (state["step"] > 0), state["step"] or BATCHES)
    second = trainer(batches, MEASURED, fuse)
    second.load(state)
    later = []
    second.run(report=lambda **event: later.append((event["epoch"], event["batch"])))
    assert events + later == [(e, b) for e in (1, 2) for b in (1, 2, 3)]
    assert plain(second.state()) == whole[fuse]


class Signals:
    """Test batches that send a signal when they are asked for the n-th time."""

    def __init__(self, batches, n):
        self.batches, self.left = batches, n

    def __getattr__(self, name):
        return getattr(self.batches, name)

    def __len__(self):
        return len(self.batches)

    def epoch(self, *numbers):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return self.batches.epoch(*numbers)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_stopped_while_it_evaluates(n, batches, whole, tmp_path):
    """Before the first step, after the first epoch, after the last, and the averaged network."""
    first = trainer((batches[0], Signals(batches[1], n)), MEASURED)
    with pytest.raises(Stopped):
        first.run(save=lambda state: checkpoint.save(state, tmp_path / "last.pt"))
    second = trainer(batches, MEASURED)
    second.load(checkpoint.load(tmp_path / "last.pt"))
    assert (second.epoch, second.step) == [(0, 0), (0, 3), (1, 3), (1, 3)][n - 1]
    second.run()
    assert plain(second.state()) == whole[False]


def test_signal_while_the_last_epoch_is_saved_is_not_lost(batches, whole, tmp_path):
    def save(state):
        checkpoint.save(state, tmp_path / "last.pt")
        if state["epoch"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Stopped):
        trainer(batches, MEASURED).run(save=save)
    second = trainer(batches, MEASURED)
    second.load(checkpoint.load(tmp_path / "last.pt"))
    second.run(report=lambda **event: pytest.fail("nothing is left to train"))
    assert plain(second.state()) == whole[False]


def test_second_ctrl_c_interrupts_at_once():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Stop() as stop:
        stop.heed()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)      # passed on by who started us: no second wish
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped):
            stop.heed()
        stop._since -= 2
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt) as info:
            signal.raise_signal(signal.SIGINT)
        assert info.type is KeyboardInterrupt
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stop() as stop:
            signal.raise_signal(signal.SIGINT)
            assert not stop.requested
            signal.raise_signal(signal.SIGTERM)
            assert stop.requested
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_training_outside_the_main_thread(batches, whole):
    one, before = trainer(batches, MEASURED), signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=one.run)
    thread.start(), thread.join()
    assert plain(one.state()) == whole[False] and signal.getsignal(signal.SIGTERM) is before


def test_long_epochs_are_saved_within(batches, whole, monkeypatch, tmp_path):
    monkeypatch.setattr("paperlib.training.engine.SAVE_EVERY", 0.0)
    places = []

    def save(state):
        places.append((state["epoch"], state["step"]))
        checkpoint.save(state, tmp_path / f"{len(places)}.pt")
    trainer(batches, MEASURED).run(save=save)
    assert places == [(0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3), (2, 0)]
    second = trainer(batches, MEASURED)
    second.load(checkpoint.load(tmp_path / "6.pt"))     # what a kill -9 would leave
    second.run()
    assert plain(second.state()) == whole[False]


def test_full_disk_leaves_the_last_good_state(batches, whole, tmp_path):
    resource = pytest.importorskip("resource")
    last, (soft, hard) = tmp_path / "last.pt", resource.getrlimit(resource.RLIMIT_FSIZE)

    def save(state):
        if state["epoch"] == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (last.stat().st_size // 2, hard))
        checkpoint.save(state, last)
    try:
        with pytest.raises(InputError, match="cannot write in"):
            trainer(batches, MEASURED).run(save=save)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == [last] and checkpoint.load(last)["epoch"] == 1
    second = trainer(batches, MEASURED)
    second.load(checkpoint.load(last))
    second.run()
    assert plain(second.state()) == whole[False]


@pytest.mark.parametrize("size, stops", [(1.0, False), (200.0, True)])
def test_absurd_loss_counts_as_divergence(size, stops, batches):
    """More than three times the loss of guessing in the mean over an epoch."""
    net = small_net()
    net[9].weight.data.mul_(size)
    one = Trainer(net, dataclasses.replace(PHASE, scheme=None, epochs=1, lr=1e-9), *batches, seed=0)
    if stops:
        with pytest.raises(InputError, match=r"in the mean over epoch 1 .*lower the learning rate .*nothing .*kept"):
            one.run()
    else:
        one.run()
    loss = one.sums[0].item() / 60 if stops else one.history[2][4]
    assert stops == (loss > 3 * math.log(10))


def test_high_loss_of_a_teacher_is_no_divergence(batches):
    """What counts is the loss of the labels."""
    one = Trainer(small_net(), dataclasses.replace(PHASE, scheme=None, epochs=1, lr=1e-9, teacher_weight=1e4), *batches,
                  seed=0, teacher=small_net(3))
    one.run()
    assert one.epoch == 1


def test_everything_frozen(batches):
    nothing_left = dataclasses.replace(PHASE, freeze=Freeze(layers=("0", "3", "9"), norms=False, quantizers=False))
    with pytest.raises(InputError, match="'lesson' everything is frozen: leave something to train, or give"):
        Trainer(quantized(), nothing_left, *batches, seed=0, frozen=["0", "3", "9"])
    net = quantized()
    before, saved = plain(net.state_dict()), []
    one = Trainer(net, dataclasses.replace(nothing_left, epochs=0), *batches, seed=0, frozen=["0", "3", "9"])
    one.run(save=saved.append)
    assert len(saved) == 1 and plain(net.state_dict()) == before
    trained = Trainer(quantized(), dataclasses.replace(PHASE, freeze=BN_ONLY), *batches, seed=0, frozen=["0", "3", "9"])
    trained.run()
    assert trained.epoch == 2


def test_phase_without_epochs_evaluates_and_saves_once(batches):
    saved, one = [], trainer(batches, dataclasses.replace(PHASE, epochs=0))
    before = plain(one.net.state_dict())
    one.run(save=saved.append, report=lambda **event: pytest.fail("nothing is to be trained"))
    assert one.history == [[0, 0, "val", k, v] for k, v in evaluate(one.net, batches[1]).items()]
    assert len(saved) == 1 and plain(one.net.state_dict()) == before == plain(dict(one.ema.module.state_dict()))


@pytest.mark.parametrize("per_epoch", [False, True])
def test_milestones(per_epoch, batches):
    phase = dataclasses.replace(PHASE, epochs=4, lr=0.2, milestones=(1.5, 3), warmup_epochs=0, per_epoch=per_epoch)
    one, rates = Trainer(quantized(), phase, *batches, seed=0), []
    one.optimizer.register_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    one.run()
    first = 6 if per_epoch else 5           # three steps an epoch: the first from which on 1.5 epochs are over
    assert rates == pytest.approx([0.2] * first + [0.02] * (9 - first) + [0.002] * 3)


def test_first_step_with_the_mean_squared_error_of_logits(batches):
    train = Batches(batches[0].images, 60, train=True)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    teacher, student = copy.deepcopy(net), copy.deepcopy(net)
    teacher[1].weight.data.neg_()
    phase = Phase("lesson", 1, lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0, warmup_epochs=0,
                  label_weight=0.25, teacher_weight=0.75, teacher_loss="mse")
    Trainer(net, phase, train, batches[1], seed=0, teacher=teacher).run()
    x, y = next(iter(train.epoch(0)))
    logits = student(x)
    (0.25 * F.cross_entropy(logits, y) + 0.75 * (logits - teacher(x).detach()).square().mean()).backward()
    for trained, parameter in zip(net.parameters(), student.parameters()):
        torch.testing.assert_close(trained.detach(), (parameter - 0.1 * parameter.grad).detach())


def test_mean_squared_error_and_its_slope():
    student, teacher = torch.tensor([[[1.0, 2.0], [0.0, 4.0]], [[0.0, 2.0], [3.0, 4.0]]]).unbind()
    student.requires_grad_()
    (loss := distillation(student, teacher, "mse")).backward()
    assert loss.item() == 2.5 and student.grad.tolist() == [[0.5, 0.0], [-1.5, 0.0]]
    with pytest.raises(InputError, match="teacher_loss must be one of cross_entropy, mse, got 'magic'"):
        dataclasses.replace(PHASE, teacher_loss="magic")


def losses(one):
    table = pd.DataFrame(one.history, columns=["epoch", "step", "split", "metric", "value"])
    return table[(table.metric == "loss") & (table.split == "train")].value.tolist()


def test_bfloat16(batches):
    found = []
    for precision in ("float32", "bfloat16"):
        one = trainer(batches, MEASURED, precision=precision)
        one.run()
        assert all(math.isfinite(row[4]) for row in one.history)
        assert all(p.dtype == torch.float32 and p.isfinite().all() for p in one.net.parameters())
        assert (one.aiwq.table().iterations == 5).all() and one.aiwq.table().aiwq.between(0, 10).all()
        found.append(losses(one))
    assert found[0] != found[1] and found[1] == pytest.approx(found[0], rel=0.1)


def test_compiled(batches, monkeypatch):
    """With everything that torch.compile does except machine code, for which it needs a compiler."""
    calls = []
    monkeypatch.setattr(torch, "compile", lambda net, mode, compile=torch.compile: calls.append(net) or compile(
        net, backend="aot_eager"))
    found, scheme = [], Scheme(quantize_last=False)
    for compiled in (False, True):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3, 4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))
        net = models.calibrate(models.quantize(net, scheme), next(load_images(20)))
        one = Trainer(net, dataclasses.replace(PHASE, epochs=1, scheme=scheme), *batches, seed=0, compiled=compiled)
        one.run()
        found.append((losses(one), list(one.net.state_dict())))
    assert found[1][0] == pytest.approx(found[0][0], rel=2e-3) and found[1][1] == found[0][1] and len(calls) == 1


class Source:
    """Six images of 1 x 1 pixels in batches of four; a network of identity takes them for logits."""

    batch_size, n_images, device = 4, 6, torch.device("cpu")
    logits = torch.tensor([[9.0, 0, 0, 0], [0, 1, 2, 0], [5, 0, 4, 0], [0, 0, 0, 3], [7, 0, 0, 6], [0, 8, 0, 0]])
    labels = torch.tensor([0, 2, 2, 3, 3, 0])

    def __init__(self, unseen, class_subset):
        self.unseen, self.class_subset = unseen, class_subset

    def __len__(self):
        return 2

    def epoch(self, i=0, start=0):
        yield from list(zip(self.logits.split(4), self.labels.split(4)))[start:]


@pytest.mark.parametrize("class_subset", [None, [2, 3]])
@pytest.mark.parametrize("unseen", [0, 3, 5, 6])
def test_evaluation_of_unseen_images_and_among_some_classes(unseen, class_subset):
    source = Source(unseen, class_subset)
    found = evaluate(nn.Identity(), source)
    loss = F.cross_entropy(source.logits.double(), source.labels, reduction="none")
    right = torch.tensor([1, 1, 0, 1, 0, 0]).double()
    right_among = torch.tensor([0, 1, 1, 1, 1, 0]).double()     # of classes 2 and 3; an image of another is wrong
    wanted = {}
    for n, suffix in ((6, ""), (unseen, "_unseen")):
        if suffix and unseen in (0, 6):
            continue
        wanted |= {"loss" + suffix: loss[:n].mean().item(), "accuracy" + suffix: 100 * right[:n].mean().item()}
        if class_subset:
            wanted["accuracy_among" + suffix] = 100 * right_among[:n].mean().item()
    assert found == pytest.approx(wanted, rel=1e-6) and list(found) == list(wanted)
