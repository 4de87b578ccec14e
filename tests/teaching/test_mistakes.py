"""Exercises of the lessons: each likely mistake is named."""
import itertools
import math
import re

import pytest
import torch
from torch import nn

from paperlib import quantizers
from paperlib.teaching import exercises


def rounding(backward, forward=torch.round):
    """The Function with these two."""
    return type("Round", (torch.autograd.Function,), {"forward": staticmethod(lambda ctx, v: forward(v)),
                                                      "backward": staticmethod(backward)})


def inside(v, low, high):
    return (v > low) & (v < high)


def residue(v, low, high):
    """LSQ's dx̂/ds."""
    return torch.where(inside(v, low, high), v.round() - v, v.clamp(low, high))


def in_steps(x, top, bits):
    """x in steps of the grid from -top to top."""
    return x * (2 ** (bits - 1) - 1) / top


def off(x, top, bits):
    """How far the quantized x is from x."""
    last = 2 ** (bits - 1) - 1
    return in_steps(x, top, bits).round().clamp(-last, last) * top / last - x


def beside(norm, layer):
    """A step of the layer's grid as a share of ``norm``."""
    return layer.weight_quantizer.levels().diff()[0] / norm


def seen(net, batches):
    """The network after it has seen the images."""
    with torch.no_grad():
        for x in batches:
            net(x)
    return net


def with_noise(net):
    """The network with other weights."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.01)
    return net


def sums_of(codes, weight):
    """The sums of products of a depthwise 3x3 convolution, in integers."""
    windows = codes.unfold(2, 3, 1).unfold(3, 3, 1)
    return (windows * weight[:, None, None]).sum((-2, -1), dtype=torch.int32)


def in_norm(norm, eps=None):
    """(gamma / sigma, sigma) of a batch norm."""
    sigma = (norm.running_var + (norm.eps if eps is None else eps)).sqrt()
    return norm.weight / sigma, sigma


def beyond_net_change(losses):
    """A curve's total variation minus its net change."""
    return sum(abs(b - a) for a, b in zip(losses, losses[1:])) - abs(losses[-1] - losses[0])


def by_aiwq(table):
    """AIWQ, largest first."""
    return table.aiwq.sort_values(ascending=False)


def least_squares(x, bits):
    """The greatest level of the grid with the least squared error."""
    return quantizers.build("duq", role="weight", bits=bits).calibrate(x, "mse").levels()[-1]


def by_adam(s, error, lr=0.03, rounds=30, clear=True):
    """s after so many rounds; ``clear``: gradients are cleared before each, never, or "late", before the step."""
    optimizer = torch.optim.Adam([s], lr=lr * s.item())
    for _ in range(rounds):
        if clear is True:
            optimizer.zero_grad()
        error().backward()
        if clear == "late":
            optimizer.zero_grad()
        optimizer.step()
    return s


def reset(net, momentum=None):
    """The network with batch norms that have seen nothing."""
    for norm in (m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.reset_running_stats()
        norm.momentum = momentum
    return net


def per_row(w, tops, bits):
    """w on a grid that ends at ``tops``, which broadcasts."""
    last = 2 ** (bits - 1) - 1
    return (w * last / tops).round().clamp(-last, last) * tops / last


def sizes(w):
    """The largest |w| of each output channel."""
    return w.abs().flatten(1).amax(1)


def shaped(tops, w):
    """One number per output channel, in a shape that multiplies w."""
    return tops.view(-1, *[1] * (w.dim() - 1))


def tried(w, step):
    """All ways to round each weight up or down, one in a row."""
    return torch.stack([((w / step).floor() + torch.tensor(ups)) * step
                        for ups in itertools.product((0, 1), repeat=len(w))])


def bought(table, budget, by, stop=False, coarse=True):
    """Names of layers that get more bits, largest ``by`` first."""
    left, names = budget - coarse * table.coarse.sum(), []
    for name in by.sort_values(ascending=False).index:
        extra = (table.fine - table.coarse)[name]
        if extra <= left:
            names.append(name)
            left -= extra
        elif stop:
            break
    return names


def shares(codes):
    """How often each code occurs."""
    return codes.unique(return_counts=True)[1] / codes.numel()


def moved(x, levels, by=torch.mean):
    """Levels at the ``by`` of the values nearest to them."""
    x = x.flatten()
    numbers = (x[:, None] - levels).abs().argmin(1)
    return torch.stack([by(x[numbers == i]) for i in range(len(levels))])


# (exercise, a likely mistake, what the message must mention)
MISTAKES = [
    # lesson 1
    ("1.1", lambda top, bits: 2 * top / (2**bits - 1), "between 7 levels there are 6 steps"),
    ("1.1", lambda top, bits: 2 * top / 2**bits, "as if there were 8 levels"),
    ("1.1", lambda top, bits: top / 2 ** (bits - 1), "code -4 is not used"),
    ("1.1", lambda top, bits: top / (2**bits - 1), "share both sides"),
    ("1.1", lambda top, bits: top / 3, "right at 3 bits, but at 2"),
    ("1.1", lambda top, bits: 2 ** (bits - 1) - 1, "how long is one of them"),
    ("1.1", lambda top, bits: 2 * top, "two ends"),
    ("1.2", lambda x, top, bits: (x / top).round().clamp(-bits, bits), "clamp"),
    ("1.2", lambda x, top, bits: in_steps(x, top, bits).round().clamp(-3, 3) * top / 3, "code times the step"),
    ("1.2", lambda x, top, bits: in_steps(x, top, bits).round(), "clamp is missing"),
    ("1.2", lambda x, top, bits: in_steps(x, top, bits).round().clamp(-4, 3), "symmetric grid does not use it"),
    ("1.2", lambda x, top, bits: in_steps(x, top, bits).clamp(-3, 3).trunc(), "every value moves towards 0"),
    ("1.2", lambda x, top, bits: in_steps(x, top, bits).floor().clamp(-3, 3), "floor goes down"),
    ("1.2", lambda x, top, bits: in_steps(x, top, bits).ceil().clamp(-3, 3), "ceil goes up"),
    ("1.2", lambda x, top, bits: in_steps(x, top, bits).round().clamp(-4, 4), "eight codes at most"),
    ("1.2", lambda x, top, bits: in_steps(x, top, bits).round().clamp(-7, 7), "codes of 4 bits"),
    ("1.2", lambda x, top, bits: in_steps(x, top, bits).round().clamp(0, 3), "codes below 0"),
    ("1.2", lambda x, top, bits: in_steps(x, top, bits).round().clamp(-3, 3), "right at 3 bits, but at 4 bits"),
    ("1.2", lambda x, top, bits: in_steps(x, top, bits).clamp(-3, 3), "torch.round is missing"),
    ("1.2", lambda x, top, bits: in_steps(x, top, bits).round().clamp(-top, top), "clamped at top"),
    ("1.2", lambda x, top, bits: in_steps(x, top, bits).round().clamp(-3, 3)[:4], "in the shape of x"),
    ("1.3", lambda x, top, bits: off(x, top, bits).square().mean(), "divide it by the mean square of x"),
    ("1.3", lambda x, top, bits: off(x, top, bits).square().sum() / x.square().mean(), "one of the two is a sum"),
    ("1.3", lambda x, top, bits: off(x, top, bits).abs().mean() / x.abs().mean(), "squares are asked for"),
    ("1.3", lambda x, top, bits: off(x, top, bits).mean(), "cancel here"),
    ("1.3", lambda x, top, bits: off(x, top, bits).square(), "one number for the whole tensor"),
    ("1.3", lambda x, top, bits: off(x, top, bits).square().mean() / x.var(), "divided by the variance"),
    ("1.3", lambda x, top, bits: (off(x, top, bits).square().mean() / x.square().mean()).sqrt(), "leave out the root"),
    ("1.3", lambda x, top, bits: off(x, top, bits).square().mean() / x.mean() ** 2, "you squared the mean of x"),
    ("1.3", lambda x, top, bits: (off(x, top, bits) / x).square().mean(), "divided before you took the mean"),
    ("1.4", lambda x, bits: x.abs().max(), "all others pay for it"),
    ("1.4", lambda x, bits: 3 * x.std(), "rule of thumb"),
    ("1.4", lambda x, bits: quantizers.build("duq", role="weight", bits=2).calibrate(x, "mse").levels()[-1],
     "same as at 2 bits"),
    ("1.4", lambda x, bits: x.abs().max() / 50, "too narrow"),
    ("1.4", lambda x, bits: 0.97 * x.abs().max(), "too wide"),
    ("1.4", lambda x, bits: least_squares(x, bits) / (2 ** (bits - 1) - 1), "that is the step"),
    ("1.4", lambda x, bits: 2 * least_squares(x, bits), "two ends"),
    ("1.4", lambda x, bits: {2: 0.1912, 4: 0.0133}[bits], "smallest error itself"),     # of a coarse scan
    ("1.4", lambda x, bits: least_squares(x, bits) / x.abs().max(), "share of the largest weight"),
    ("1.4", lambda x, bits: x.abs().max() / 100, "get the last code"),
    # lesson 2
    ("2.1", rounding(lambda ctx, grad: 0 * grad), "gradient of the staircase itself"),
    ("2.1", rounding(lambda ctx, grad: torch.ones_like(grad)), "multiplies it by the incoming gradient"),
    ("2.1", rounding(lambda ctx, grad: None), "gradient of the staircase itself"),
    ("2.1", rounding(lambda ctx, grad: grad.round()), "leave it as it is"),
    ("2.1", rounding(lambda ctx, grad: 2 * grad), "leaves the incoming gradient as it is"),
    ("2.1", rounding(lambda ctx, grad: grad, torch.floor), "let forward return x.round"),
    ("2.1", rounding(lambda ctx, grad: grad).apply, "name the class itself"),
    ("2.2", lambda v, low, high: v.round() - v, "with a comma between them"),
    ("2.2", lambda v, low, high: (inside(v, low, high), (v.round() - v).sum()), "nothing is summed"),
    ("2.2", lambda v, low, high: (0 * v, v.round() - v), "straight-through puts 1 in its place"),
    ("2.2", lambda v, low, high: (torch.ones_like(v), v.round() - v), "whatever x does"),
    ("2.2", lambda v, low, high: (inside(v, low, high), v.clamp(low, high).round()), "x / s changes with s as well"),
    ("2.2", lambda v, low, high: (inside(v, low, high), v.round() - v), "that is still the residue"),
    ("2.2", lambda v, low, high: (inside(v, low, high), inside(v, low, high) * (v.round() - v)), "it is not 0"),
    ("2.2", lambda v, low, high: (inside(v, low, high), torch.where(inside(v, low, high), -v, v.clamp(low, high))),
     "the code is missing"),
    ("2.2", lambda v, low, high: (inside(v, low, high), v.clamp(low, high).round() - v), "x has no part"),
    ("2.2", lambda v, low, high: (inside(v, low, high), ~inside(v, low, high) * v.clamp(low, high)), "PACT's rule"),
    ("2.2", lambda v, low, high: (inside(v, low, high), residue(v, low, high).neg()), "wrong way round everywhere"),
    ("2.2", lambda v, low, high: (residue(v, low, high), inside(v, low, high)), "return dx̂/dx first"),
    ("2.2", lambda v, low, high: (inside(v, -4, 3), residue(v, -4, 3)), "use low and high, not the numbers"),
    ("2.3", lambda s, error: s, "has not moved"),
    ("2.3", lambda s, error: by_adam(s, error, lr=6.0), "it has grown"),
    ("2.3", lambda s, error: by_adam(s, error, lr=1e-3), "not there"),
    ("2.3", lambda s, error: s.clone(), "return the s that was passed"),
    # lesson 3
    ("3.1", lambda layer: beside(layer.weight.norm(), layer), "one number for each of the"),
    ("3.1", lambda layer: beside(layer.weight.norm().expand(len(layer.weight)), layer), "norm of the whole tensor"),
    ("3.1", lambda layer: 1 / beside(layer.weight.flatten(1).norm(dim=1), layer), "divide the other way round"),
    ("3.1", lambda layer: 14 / 15 * beside(layer.weight.flatten(1).norm(dim=1), layer), "15 levels have 14 steps"),
    ("3.1", lambda layer: beside(layer.weight.flatten(1).abs().amax(1), layer), "norm of each row"),
    ("3.2", lambda kl: math.sqrt(kl), "a factor of 2 is missing"),
    ("3.2", lambda kl: kl**2 / 2, "the other way round"),
    ("3.2", lambda kl: 2 * kl, "standard deviations apart"),
    ("3.3", lambda momentum, share: share / momentum, "a share of what is left"),
    ("3.3", lambda momentum, share: math.ceil(math.log(1 - share) / math.log(momentum)), "share of the new batch"),
    ("3.3", lambda momentum, share: int(math.log(1 - share) / math.log(1 - momentum)), "not there yet"),
    ("3.3", lambda momentum, share: math.log(1 - share) / math.log(1 - momentum), "a whole number is asked for"),
    ("3.4", lambda qnet, batches: [m.running_mean for m in qnet.modules() if hasattr(m, "running_mean")],
     "the network itself"),
    ("3.4", lambda qnet, batches: seen(qnet.eval(), batches), "only in training mode"),
    ("3.4", lambda qnet, batches: seen(qnet.train(), batches), "a batch replaces little"),
    ("3.4", lambda qnet, batches: seen(with_noise(qnet.train()), batches), "leave out any optimizer"),
    # lesson 4
    ("4.1", lambda losses: sum(abs(b - a) for a, b in zip(losses, losses[1:])) / (len(losses) - 1), "net change"),
    ("4.1", lambda losses: torch.tensor(losses).std(), "total variation and net change are equal"),
    ("4.1", lambda losses: beyond_net_change(losses), "sum over all steps"),
    ("4.1", lambda losses: beyond_net_change(losses) / len(losses), "4 steps between them"),
    ("4.1", lambda losses: beyond_net_change(losses) / 2, "three parts"),
    ("4.2", lambda table, share: by_aiwq(table)[:round(share * len(table))].sum() / table.aiwq.sum(), "still train"),
    ("4.2", lambda table, share: by_aiwq(table)[::-1][round(share * len(table)):].sum() / table.aiwq.sum(), "smallest"),
    ("4.2", lambda table, share: by_aiwq(table)[round(share * len(table)):].sum(), "in nats"),
    ("4.2", lambda table, share: 1 - share, "of the sum is left"),
    ("4.3", 1 / 3, "layers differ in size"),
    ("4.3", 21 / 64, "layers differ in size"),
    ("4.3", 0.5, "of largest AIWQ"),
    # lesson 5
    ("5.1", lambda k, j, s, z, unit: s * unit * (k * j).sum(), "offset is missing"),
    ("5.1", lambda k, j, s, z, unit: s * unit * (k * j).sum() + z, "part of each input"),
    ("5.1", lambda k, j, s, z, unit: s * unit * (k * j).sum() + z * j.sum(), "multiply it by weight_step"),
    ("5.1", lambda k, j, s, z, unit: s * unit * (k * j).sum() + z * unit * len(j), "sum of their codes"),
    ("5.1", lambda k, j, s, z, unit: (s * k + z) * unit * j, "take the sum"),
    ("3.3", lambda m, s: math.floor(math.log(1 - s) / math.log(1 - m)) + 1, "exactly is enough"),
    ("3.4", lambda net, batches: None, "returns nothing"),
    ("4.3", lambda: 0.3, "not a function"),
    ("5.3", lambda weight, top: 15 * max((weight.clamp(min=0)).flatten(1).sum(1).max(),
                                         -(weight.clamp(max=0)).flatten(1).sum(1).min()), "input codes up to 255"),
    ("5.5", lambda sums, m, r: (sums.double() * m.double() / 2.0**r).round().long(), "stay in int64"),
    ("5.3", 1050, "asks for a function, and this is the int 1050"),
    ("5.3", lambda weight, top: 7 * top * weight[0].numel(), "shape alone"),
    ("5.3", lambda weight, top: top * weight.abs().flatten(1).sum(1).max(), "never negative"),
    ("5.3", lambda weight, top: top * -weight.clamp(max=0).sum(), "whole layer"),
    ("5.3", lambda weight, top: top * weight.clamp(min=0).flatten(1).sum(1).max(), "below zero"),
    ("5.5", lambda sums, m, r: (sums * (m / 2.0**r)).round(), "a float came out"),
    ("5.5", lambda sums, m, r: (sums * m + (1 << r - 1)) >> r, "overflowed int32"),
    ("5.5", lambda sums, m, r: sums.long() * m >> r, "rounds down"),
    ("5.5", lambda sums, m, r: (sums.long() * m).div(1 << r, rounding_mode="trunc"), "towards 0"),
    ("5.2", lambda k, w: (k[:, :, 1:-1, 1:-1] * w[:, 1, 1].view(-1, 1, 1)), "the middle product alone"),
    ("5.2", lambda k, w: sums_of(nn.functional.pad(k, (1, 1, 1, 1)), w), "padded already"),
    ("5.2", lambda k, w: nn.functional.conv2d(k.double(), w[:, None].double(), groups=3).int(), "own convolution"),
    ("5.2", lambda k, w: sums_of(k, w).sum(1, keepdim=True), "do not add channels up"),
    ("5.2", lambda k, w: sums_of(k, w).sum(1), "do not add channels up"),
    ("5.2", lambda k, w: sums_of(k, w).float(), "floats came out"),
    ("5.2", lambda k, w: sums_of(k, w.flip(1, 2)), "turned round"),
    ("5.2", lambda k, w: sums_of(k, w.mT), "swapped"),
    ("5.2", lambda k, w: sums_of(k, w[:1]), "first channel's weight"),
    ("5.2", lambda k, w: sums_of(k, w)[:, :, :-1], "fits H - 2 times"),
    ("5.2", lambda k, w: sums_of(k, w) + 1, "shifted view"),
    ("5.4", lambda n, s, z, u, total: (s * u * in_norm(n)[0], n.bias - in_norm(n)[0] * n.running_mean),
     "second term of 5.1 goes through it"),
    ("5.4", lambda n, s, z, u, total: (s * u * in_norm(n, 0)[0], n.bias), "eps is missing"),
    ("5.4", lambda n, s, z, u, total: (in_norm(n)[0], n.bias), "units of step"),
    ("5.4", lambda n, s, z, u, total: (s * in_norm(n)[0], n.bias), "weight_step \\* j"),
    ("5.4", lambda n, s, z, u, total: (s * u / in_norm(n)[1], n.bias), "gamma = norm.weight"),
    ("5.4", lambda n, s, z, u, total: (s * u * n.weight / in_norm(n)[1]**2, n.bias), "take the root"),
    ("5.4", lambda n, s, z, u, total: (s * u, n.bias), "one of its own"),
    ("5.4", lambda n, s, z, u, total: s * u * in_norm(n)[0], "return two tensors"),
    ("5.4", lambda n, s, z, u, total: (s * u * in_norm(n)[0],
                                       in_norm(n)[0] * (z * u * total + n.running_mean) + n.bias), "look at its sign"),
    ("5.4", lambda n, s, z, u, total: (s * u * in_norm(n)[0], z * u * total + n.bias - in_norm(n)[0] * n.running_mean),
     "multiplies the second term"),
    ("5.6", lambda codes, lowest: codes[1::2] - lowest | codes[0::2] - lowest << 4, "swapped"),
    ("5.6", lambda codes, lowest: codes[0::2] | codes[1::2] << 4, "nothing is negative"),
    ("5.6", lambda codes, lowest: codes[0::2] & 15 | (codes[1::2] & 15) << 4, "two's complement"),
    ("5.6", lambda codes, lowest: codes - lowest, "room for two codes"),
    ("5.6", lambda codes, lowest: codes[0::2] - lowest + codes[1::2] - lowest, "shift the second"),
    ("5.6", lambda codes, lowest: (codes[0::2] - lowest) + 16.0 * (codes[1::2] - lowest), "floats came out"),
    ("5.6", lambda codes, lowest: bytes(a - lowest | b - lowest << 4 for a, b in zip(*codes.reshape(2, -1))),
     "neighbours"),
    # lesson 6
    ("6.1", lambda w, bits: per_row(w, w.abs().max(), bits), "one range for the whole weight"),
    ("6.1", lambda w, bits: per_row(w, shaped(w.flatten(1).amax(1), w), bits), "take \\|w\\| first"),
    ("6.1", lambda w, bits: per_row(w, w.abs().amax(3, keepdim=True), bits), "each row of a channel"),
    ("6.1", lambda w, bits: per_row(w, shaped(sizes(w), w), bits + 1), "the grid of 4 bits"),
    ("6.1", lambda w, bits: per_row(w, shaped(sizes(w), w), 3), "of shape \\(2, 2\\)"),
    ("6.1", lambda w, bits: per_row(w, sizes(w).view(-1, 1, 1, 1), bits), "of shape \\(2, 2\\)"),
    ("6.1", lambda w, bits: per_row(w, shaped(sizes(w), w), bits) / shaped(sizes(w), w) * 3, "these are the codes"),
    ("6.1", lambda w, bits: shaped(sizes(w), w), "has the shape"),
    ("6.2", lambda a, b: sizes(a) / sizes(b), "a root is missing"),
    ("6.2", lambda a, b: (sizes(b) / sizes(a)).sqrt(), "the other way round"),
    ("6.2", lambda a, b: (sizes(a) * sizes(b)).sqrt(), "the range that both have afterwards"),
    ("6.2", lambda a, b: sizes(a) / sizes(a).max(), "second pays for it"),
    ("6.2", lambda a, b: (a.abs().max() / b.abs().max()).sqrt(), "a factor for each channel"),
    ("6.3", lambda wanted, got: (got - wanted).mean((0, 2, 3)), "the bias has to add what is missing"),
    ("6.3", lambda wanted, got: (wanted - got).mean(), "has a bias of its own"),
    ("6.3", lambda wanted, got: (wanted - got).mean(0), "three channels"),
    ("6.3", lambda wanted, got: (wanted - got).flatten(1).mean(1), "the second the channel"),
    ("6.3", lambda wanted, got: (wanted - got).mean((2, 3)), "mean over the images"),
    ("6.3", lambda wanted, got: (wanted - got).sum((0, 2, 3)), "take the mean"),
    ("6.3", lambda wanted, got: (wanted - got).mean((0, 2, 3)), "fully connected"),
    ("6.4", lambda w, step, gram: (w / step).round() * step, "can cancel"),
    ("6.4", lambda w, step, gram: min(tried(w, step), key=lambda v: (v - w) @ gram @ (v - w)) / step, "are the codes"),
    ("6.4", lambda w, step, gram: (w / step).ceil() * step, "gram has to be between"),
    ("6.4", lambda w, step, gram: max(tried(w, step), key=lambda v: (v - w) @ gram @ (v - w)), "the worst of them"),
    ("6.4", lambda w, step, gram: min(tried(w, step), key=lambda v: (v - w) @ gram @ (v - w)) - w, "is added to"),
    ("6.4", lambda w, step, gram: w, "multiple of 0.2"),
    ("6.5", lambda table, budget: bought(table, budget, table.sensitivity), "by sensitivity alone"),
    ("6.5", lambda table, budget: bought(table, budget, table.sensitivity / table.fine, coarse=False),
     "stay coarse cost something"),
    ("6.5", lambda table, budget: bought(table, budget, table.sensitivity / (table.fine - table.coarse), stop=True),
     "b does not fit, but d"),
    ("6.5", lambda table, budget: bought(table, budget, table.sensitivity / table.fine), "each extra bit operation"),
    ("6.5", lambda table, budget: bought(table, budget, table.sensitivity / table.coarse), "each extra bit operation"),
    ("6.5", lambda table, budget: len(table), "a list of the layers' names"),
    ("6.5", lambda table, budget: [], "something is left"),
    # lesson 7
    ("7.1", lambda x, levels: levels, "have not moved"),
    ("7.1", lambda x, levels: moved(x, levels, torch.sum), "these are sums"),
    ("7.1", lambda x, levels: moved(x, levels, torch.median), "that is a median"),
    ("7.1", lambda x, levels: moved(x, levels).flip(0), "in another order"),
    ("7.1", lambda x, levels: (moved(x, levels) + levels) / 2, "half of the way"),
    ("7.1", lambda x, levels: moved(x, levels).tolist(), "torch.stack"),
    ("7.2", lambda codes: (shares(codes) * shares(codes).log2()).sum(), "the sign is missing"),
    ("7.2", lambda codes: -(shares(codes) * shares(codes).log()).sum(), "in nats"),
    ("7.2", lambda codes: math.log2(len(codes.unique())), "four equally likely"),
    ("7.2", lambda codes: -(8 * shares(codes) * shares(codes).log2()).sum(), "counts have to become shares"),
    ("7.2", lambda codes: -shares(codes).log2().sum(), "multiply it by p"),
    ("7.3", lambda w, size, bits: per_row(w, w.abs().max(), bits), "one grid for the whole weight"),
    ("7.3", lambda w, size, bits: per_row(w, w.abs().amax(1, keepdim=True), bits), "a grid for each row"),
    ("7.3", lambda w, size, bits: per_row(w.reshape(-1, size), w.reshape(-1, size).abs().amax(1, keepdim=True), bits),
     "look for 0 / 0"),
    ("7.3", lambda w, size, bits: per_row(w.reshape(-1, 2), w.reshape(-1, 2).abs().amax(1, keepdim=True) + 1e-9, bits),
     "back into the shape"),
    ("7.3", lambda w, size, bits: per_row(w.reshape(-1, 2), w.reshape(-1, 2).abs().amax(1, keepdim=True) + 1e-9,
                                          bits + 1).view_as(w), "7 steps to each side"),
    ("7.3", lambda w, size, bits: per_row(w.reshape(-1, 2), w.reshape(-1, 2).abs().amax(1, keepdim=True) + 1e-9,
                                          bits).view_as(w), "use size, not the number"),
    ("7.4", lambda s, e, m: (-1) ** s * 2 ** e * (1 + m / 2), "bias is missing"),
    ("7.4", lambda s, e, m: (-1) ** s * 2 ** (e - 1) * (1 + m / 2), "exponent 0 is special"),
    ("7.4", lambda s, e, m: (-1) ** s * (2 ** (e - 1) * (1 + m) if e else m / 2), "worth a half"),
    ("7.4", lambda s, e, m: 2 ** (e - 1) * (1 + m / 2) if e else m / 2, "sign bit makes no difference"),
    ("7.4", lambda s, e, m: (-1) ** s * 2 ** (e - 1) * m / 2, "leading 1"),
    ("7.5", lambda x, codes: codes.square().sum() / (x * codes).sum(), "the other way round"),
    ("7.5", lambda x, codes: (x * codes).sum(), "divide by the sum of the squared codes"),
    ("7.5", lambda x, codes: (x * codes).sum() / x.square().sum(), "the codes are scaled"),
    ("7.5", lambda x, codes: (x * codes).sum() / codes.sum(), "have to be squared"),
    ("7.5", lambda x, codes: x.norm() / codes.norm(), "makes the norms equal"),
    # each of these was, or would be, taken for another mistake
    ("2.3", lambda s, error: by_adam(s, error, clear=False), "zero_grad\\(\\) is missing"),
    ("2.3", lambda s, error: by_adam(s, error, clear="late"), "not in between"),
    ("2.3", lambda s, error: by_adam(s, error, rounds=5), "take more steps"),
    ("2.3", lambda s, error: by_adam(s, error, lr=0.5), "shorter steps"),
    ("3.1", lambda layer: beside(layer.weight.flatten(1).square().sum(1), layer), "sum of the squares"),
    ("3.2", lambda kl: math.sqrt(kl / 2), "on the wrong side"),
    ("3.3", lambda momentum, share: math.ceil(math.log(share) / math.log(1 - momentum)), "the share is left"),
    ("3.4", lambda qnet, batches: seen(reset(qnet).eval(), batches), "eval\\(\\) comes after the images"),
    ("3.4", lambda qnet, batches: seen(reset(qnet).train(), batches), "still in training mode"),
    ("3.4", lambda qnet, batches: seen(reset(qnet, 0.01).train(), batches).eval(), "all batches count alike"),
    ("4.1", lambda losses: beyond_net_change(losses) / (len(losses) - 1) + max(0, losses[-1] - losses[0]) * 2
     / (len(losses) - 1), "for a curve that rises"),
    ("4.2", lambda table, share: table.aiwq[round(share * len(table)):].sum() / table.aiwq.sum(), "not sorted"),
    ("4.3", 37.2, "of largest AIWQ"),
    ("5.1", lambda k, j, s, z, unit: ((s * k + z) * j).sum(), "stands for weight_step"),
    ("5.3", lambda weight, top: top * weight.flatten(1).sum(1).abs().max(), "every input at its largest"),
]


@pytest.mark.parametrize("name, answer, cue", MISTAKES)
def test_a_mistake_is_explained(name, answer, cue, monkeypatch):
    monkeypatch.setitem(exercises._WRONG_TRIES, name, 9)        # so that all hints are given
    with pytest.raises(exercises.Wrong) as info:
        exercises.check(name, answer)
    told = str(info.value)
    assert re.search(cue, told), told
    assert told.startswith(f"{name} asks for ") and "\n" not in told
    assert told.count(" Hint: ") >= 2, "a hint, then a stronger one"


def test_every_exercise_has_a_mistake():
    assert {name for name, *_ in MISTAKES} == set(exercises.names())
