"""Lesson 3, why MobileNets break: checked on the trained float network that the lesson starts from."""
from __future__ import annotations

import copy
import functools
import math

import torch
from torch import nn

from ...analysis import post_training
from ...data import cifar10_images
from ...data.cifar10_batches import Batches
from .. import networks
from . import exercise, expect

LAYERS = ("features.2.block.1.0", "features.13.block.3.0")      # depthwise; project


@functools.cache
def _rounded(bits: int) -> nn.Module:
    return post_training.rounded(networks.shipped()[0], bits)


@exercise("3.1", "the step as a share of the norm of each output channel's weights",
          "flatten the weight to one row per output channel, and take the norm of each row")
def step_beside_a_channel(answer):
    net, medians = _rounded(4), []
    for name in LAYERS:
        layer = net.get_submodule(name)
        weight, levels = layer.weight.detach().flatten(1), layer.weight_quantizer.levels()
        step, norm, got = levels[1] - levels[0], weight.norm(dim=1), answer(layer)
        assert isinstance(got, torch.Tensor) and got.shape == norm.shape, (
            f"you have {tuple(got.shape) if isinstance(got, torch.Tensor) else type(got).__name__} for {name}",
            f"one number for each of the {len(norm)} output channels is asked for, as a tensor of shape ({len(norm)},)")
        told = f"in {name} the median is {(step / norm).median():.3f}, yours {got.median():.3f}"
        expect(got, step / norm, told, (
            ((step / weight.norm()).expand_as(norm), "that is the norm of the whole tensor: an output channel is made "
             "by its own weights alone"),
            (norm / step, "that is the norm in steps: divide the other way round"),
            (norm, "that is the norm, which the step is a share of"),
            (step / norm.square(), "you have divided by the sum of the squares, whose root is the norm"),
            (14 / 15 * step / norm, "15 levels have 14 steps between them: take the distance of two neighbouring "
             "levels")),
            "it takes the distance of two neighbouring levels, and the norm of each row of weights", within=1e-3)
        medians.append((step / norm).median().item())
    return (f"One crossing moves a channel of {LAYERS[0]} (depthwise) by {medians[0]:.0%} of its weights' norm, one of "
            f"{LAYERS[1]} (project) by {medians[1]:.0%}.")


@exercise("3.2", "the shift of the mean in standard deviations, from a divergence in nats",
          "put equal variances into the formula of section 2, see what remains, and solve it for the shift")
def shift_behind_a_divergence(answer):
    for kl in (0.5, 0.02):
        got, right = float(answer(kl)), (2 * kl)**0.5
        expect(got, right, f"at {kl} nats the means lie {right:.3f} standard deviations apart, you have {got:.3f}", (
            (kl**0.5, "almost: a factor of 2 is missing under the root"),
            ((kl / 2)**0.5, "almost: the factor of 2 is on the wrong side"),
            (kl**2 / 2, "that is the formula the other way round: the divergence of a given shift"),
            (right**2, "that is the square of the shift")),
            "with equal variances only the difference of the means is left")
    return ("AIWQ is quadratic in the move, so a channel whose AIWQ is a hundred times larger moves ten times as far; "
            f"at 1e-4 nats it moves {(2e-4)**0.5:.1%} of a standard deviation in every step.")


@exercise("3.3", "the smallest whole number of steps that go at least the given share of the way",
          "follow what is left of the way: one factor per step; how often, until no more than 1 - share is left?")
def steps_until_known(answer):
    cases = ((0.2, 0.9, 11), (0.1, 0.9, 22), (0.1, 0.5, 7), (0.5, 0.7, 2), (3e-4, 0.9, 7675), (0.5, 0.75, 2))
    for momentum, share, right in cases:
        got = answer(momentum, share)
        told = f"with momentum {momentum:g}, {share:.0%} of the way takes {right} steps, you have {got:g}"
        assert abs(got - share / momentum) > 1e-6, (told, "each step goes a share of what is left, not of the whole")
        assert got == right or got != math.ceil(math.log(1 - share) / math.log(momentum)), (
            told, "in torch's sense momentum is the share of the new batch, and the rest is kept")
        assert got == right or got != math.ceil(math.log(share) / math.log(1 - momentum)), (
            told, "that is until as much as the share is left: it is to be gone")
        assert got == int(got), (told, "half a step cannot be made: a whole number is asked for")
        assert got != right - 1, (told, f"after {right - 1} steps it is not there yet", "round up")
        assert got != right + 1, (told, f"after {right} steps it is there: to reach the share exactly is enough")
        assert got == right, (told, "what is left shrinks by the same factor in each step")
    return ("PROFIT trains MobileNet-v3 with a momentum of 3e-4: it averages over thousands of steps, and is calm, but "
            "when a weight jumps it takes as long to notice.")


@functools.cache
def _images() -> tuple[tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor]:
    """(training images in four batches, test images, labels)"""
    train, test = cifar10_images.cifar10("subset")
    batches = Batches(train, 128, train=True).epoch()
    x, y = next(Batches(test, 500, train=False).epoch())
    return tuple(next(batches)[0] for _ in range(4)), x, y


@torch.no_grad()
def _repaired(net: nn.Module) -> nn.Module:
    for norm in _norms(net):
        norm.reset_running_stats()
        norm.momentum = None
    net.train()
    for x in _images()[0]:
        net(x)
    return net.eval()


def _norms(net: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]


@exercise("3.4", "the same network, ready for evaluation, with fresh batch norm statistics of the images",
          "reset, set momentum, train(), all batches without an optimizer, eval(): in that order")
def repair_of_batch_norm(answer):
    answer(nn.Sequential(nn.BatchNorm2d(3)), [torch.zeros(2, 3, 4, 4)])     # an open exercise ends here, at once
    old, test = _rounded(3), _images()[1:]
    right, before = _repaired(copy.deepcopy(old)), post_training.accuracy(old, *test)
    got = answer(copy.deepcopy(old), list(_images()[0]))
    assert isinstance(got, nn.Module), (f"you return a {type(got).__name__}",
                                        "the network itself is asked for, with its batch norms put right")
    assert all(map(torch.equal, old.parameters(), got.parameters())), (
        "parameters have changed", "only running_mean and running_var may, so leave out any optimizer")
    norms = _norms(got)
    counted = [int(norm.num_batches_tracked) for norm in norms]
    assert any(counted), ("the statistics are reset, and no image has changed them since",
                          "batch norm updates them only in training mode", "eval() comes after the images")
    assert not all(torch.equal(a.running_mean, b.running_mean) for a, b in zip(_norms(old), norms)), (
        "no running statistics have changed", "batch norm updates them only in training mode",
        "call net.train() before the images go through")
    after, best = post_training.accuracy(copy.deepcopy(got).eval(), *test), post_training.accuracy(right, *test)
    told = f"{before:.0f} % became {after:.0f} %, fresh statistics of these images give {best:.0f} %"
    good = after > (before + best) / 2
    assert good or norms[0].momentum is None, (
        told, f"with momentum {norms[0].momentum:g} a batch replaces little of what was there",
        "with momentum = None all batches count alike")
    assert good or max(counted) <= len(_images()[0]), (
        told, "the old statistics still count as many batches: call reset_running_stats() first")
    assert good, (told, "let all batches pass through the whole network, in training mode")
    assert not any(m.training for m in got.modules()), (
        "the statistics are fresh, and the network is still in training mode",
        "there it goes on using each batch's own statistics, and changes the running ones")
    return f"No weight has changed, and {before:.0f} % of the test images became {after:.0f} %."
