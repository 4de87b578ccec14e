"""Lesson 3, why MobileNets break: checked on the trained float network that the lesson starts from."""
from __future__ import annotations

import copy
import functools

import torch
from torch import nn

from .. import crossings, data, items, runs
from ..batches import Batches
from . import exercise

LAYERS = ("features.2.block.1.0", "features.13.block.3.0")      # depthwise; project


@functools.cache
def _rounded(bits: int) -> nn.Module:
    return crossings.rounded(runs.obtain(items.float_network()).model(), bits)


@exercise("3.1")
def step_beside_a_channel(answer):
    answer(crossings.rounded(nn.Sequential(nn.Conv2d(2, 3, 3)), 4)[0])      # an open exercise ends here, at once
    net, medians = _rounded(4), []
    for name in LAYERS:
        layer = net.get_submodule(name)
        weight, levels = layer.weight.detach().flatten(1), layer.weight_quantizer.levels()
        step, norm, got = levels[1] - levels[0], weight.norm(dim=1), answer(layer)
        assert isinstance(got, torch.Tensor) and got.shape == norm.shape, \
            f"one number for each of the {len(norm)} output channels of {name} is asked for, as a tensor of shape " \
            f"({len(norm)},); you have {tuple(got.shape) if isinstance(got, torch.Tensor) else type(got).__name__}"
        ratio = (got.detach() / (step / norm)).median()
        whole = weight.norm()
        assert not torch.allclose(got.detach(), step / whole, rtol=1e-3), \
            "that is the norm of the whole tensor: an output channel is made by its own weights alone, one row of " \
            "layer.weight.flatten(1)"
        assert not torch.allclose(got.detach(), norm / step, rtol=1e-3), \
            "that is the norm in steps; asked for is the step as a share of the norm, so divide the other way round"
        assert not torch.allclose(ratio, torch.tensor(14 / 15), rtol=1e-3), \
            "15 levels have 14 steps between them: take the distance of two neighbouring levels"
        assert torch.allclose(got.detach(), step / norm, rtol=1e-3), \
            "the distance of two neighbouring levels over the norm of each row of layer.weight.flatten(1): in " \
            f"{name} the median is {(step / norm).median():.3f}, yours {got.detach().median():.3f}"
        medians.append((step / norm).median().item())
    return (f"One crossing moves a channel of {LAYERS[0]} (depthwise) by {medians[0]:.0%} of its weights' norm, one of "
            f"{LAYERS[1]} (project) by {medians[1]:.0%}.")


@exercise("3.2")
def shift_behind_a_divergence(answer):
    for kl in (0.5, 0.02):
        got, right = float(answer(kl)), (2 * kl)**0.5
        assert abs(got - kl**0.5) > 1e-6, \
            "almost: KL = shift**2 / 2 when the variance stays, so a factor of 2 is missing under the root"
        assert abs(got - kl**2 / 2) > 1e-6, \
            "that is the formula the other way round: KL = shift**2 / 2 is given, and the shift is asked for"
        assert abs(got - right) < 1e-6, \
            f"with equal variances the formula leaves KL = (difference of the means)**2 / (2 variance): at {kl} nats " \
            f"the means lie {right:.3f} standard deviations apart, you have {got:.3f}"
    return ("AIWQ is quadratic in the move, so a channel whose AIWQ is a hundred times larger moves ten times as far; "
            f"at 1e-4 nats it moves {(2e-4)**0.5:.1%} of a standard deviation in every step.")


@exercise("3.3")
def steps_until_known(answer):
    for momentum, share, right in ((0.1, 0.9, 22), (0.1, 0.5, 7), (0.5, 0.7, 2), (3e-4, 0.9, 7675), (0.5, 0.75, 2)):
        got, asked = answer(momentum, share), f"momentum {momentum:g}, {share:.0%} of the way"
        assert abs(got - share / momentum) > 1e-6, \
            f"{asked}: not {share / momentum:g}, for each step goes a share of what is left, not of the whole way"
        assert right == 2 or got not in (1, 2), \
            f"{asked}: in torch's sense momentum is the share of the new batch, so (1 - momentum)**n of the way is left"
        assert got != right - 1, \
            f"{asked}: after {right - 1} steps it is not there yet; the smallest whole number that is enough is {right}"
        assert got == right, \
            f"{asked}: after n steps (1 - momentum)**n of the way is left, and to reach the share exactly is enough, " \
            f"so n is {right}; you have {got}"
    return ("PROFIT trains MobileNet-v3 with a momentum of 3e-4: it averages over thousands of steps, and is calm, but "
            "when a weight jumps it takes as long to notice.")


@functools.cache
def _images() -> tuple[tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor]:
    """(training images in four batches, test images, labels)"""
    train, test = data.cifar10("subset")
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


@exercise("3.4")
def repair_of_batch_norm(answer):
    answer(nn.Sequential(nn.BatchNorm2d(3)), [torch.zeros(2, 3, 4, 4)])     # an open exercise ends here, at once
    old, test = _rounded(3), _images()[1:]
    right, before = _repaired(copy.deepcopy(old)), crossings.accuracy(old, *test)
    got = answer(copy.deepcopy(old), list(_images()[0]))
    assert isinstance(got, nn.Module), \
        f"the network itself is asked for, with its batch norms put right; you return a {type(got).__name__}"
    assert all(map(torch.equal, old.parameters(), got.parameters())), \
        "parameters have changed: only running_mean and running_var may, so leave out any optimizer"
    moved = [not torch.equal(a.running_mean, b.running_mean) for a, b in zip(_norms(old), _norms(got))]
    assert any(moved), \
        "no running statistics have changed: batch norm updates them only in training mode, so call net.train() " \
        "before the images go through"
    after, best = crossings.accuracy(got, *test), crossings.accuracy(right, *test)
    assert after > (before + best) / 2, \
        f"{before:.0f} % became {after:.0f} %, fresh statistics of these images give {best:.0f} %: with momentum " \
        f"{_norms(old)[0].momentum:g} a batch replaces little of the old ones. Call reset_running_stats() first and " \
        "set momentum = None, which takes the plain mean of all batches"
    return f"No weight has changed, and {before:.0f} % of the test images became {after:.0f} %."
