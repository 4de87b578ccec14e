"""Lesson 7: beyond one uniform grid; codebooks, entropy, scales for groups, 4-bit floats, two scales."""
from __future__ import annotations

import torch
from torch import Tensor

from . import exercise, expect, short


def _lloyd(x, levels):
    nearest = (x.flatten()[:, None] - levels).abs().argmin(1)
    return torch.stack([x.flatten()[nearest == i].mean() for i in range(len(levels))])


@exercise("7.1", "the mean of the values that are nearest to each level",
          "find the number of the nearest level of each value, then take the mean of the values with number 0, 1, ...",
          _lloyd)
def moved_levels(lloyd) -> str:
    x = torch.tensor([[-1.0, -0.8, -0.1, 0.0], [0.2, 0.3, 0.9, 1.5]])
    levels = torch.tensor([-1.2, 0.2, 1.0])
    got, right = lloyd(x.clone(), levels.clone()), _lloyd(x, levels)
    told = f"for the values {short(x.flatten())} the levels {short(levels)} move to {short(right)}, you have "
    assert isinstance(got, Tensor), (f"{told}{got}", "return a tensor: torch.stack makes one of a list of means")
    got = got.detach()
    told += f"{short(got)}"
    assert got.numel() == 3, (told, "there are as many levels afterwards as before")
    expect(got, right, told, (
        (levels, "the levels have not moved"),
        (torch.tensor([-0.9, 0.1, 1.2]).flip(0), "these are right, in another order"),
        (torch.tensor([-0.9, 0.1, 1.2]) * torch.tensor([2, 4, 2]), "these are sums: take the means"),
        (torch.tensor([-0.9, 0.1, 1.2]).median().expand(3), "all values went to one level"),
        (torch.tensor([-1.0, 0.0, 0.9]), "that is a median: the mean has the smallest squared error"),
        ((torch.tensor([-0.9, 0.1, 1.2]) + levels) / 2, "that is half of the way")),
        "a value belongs to the level with the smallest |x - level|")
    return "Each round makes the squared error smaller, or leaves it: k-means on one axis, also called Lloyd-Max."


def _entropy(codes):
    p = codes.flatten().unique(return_counts=True)[1] / codes.numel()
    return -(p * p.log2()).sum().item()


@exercise("7.2", "the entropy of the codes in bits, the sum of -p * log2(p) over the shares p of the codes that occur",
          "unique(return_counts=True) counts each code; divide the counts by their sum", _entropy)
def bits_of_a_code(entropy) -> str:
    codes = torch.tensor([[0, 0, 0, 0], [1, 1, -3, 5]])
    p = torch.tensor([0.5, 0.25, 0.125, 0.125])
    got = float(entropy(codes.clone()))
    expect(got, 1.75, f"for the codes {codes.flatten().tolist()} it is 1.75 bits, you have {got:.4g}", (
        (-1.75, "the sign is missing: log2 of a share is negative"),
        (-(p * p.log()).sum().item(), "that is in nats: take log2"),
        (2.0, "that is what four equally likely codes need"),
        (14.0, "that is for all eight codes together: counts have to become shares"),
        (-p.log2().sum().item(), "each logarithm counts as often as its code occurs: multiply it by p"),
        (-(p * p.log10()).sum().item(), "that is with log10: take log2")),
        "the shares are 1/2, 1/4, 1/8 and 1/8", within=1e-5)
    assert abs(float(entropy(torch.zeros(5, dtype=torch.long)))) < 1e-6, (
        "where all codes are the same, the entropy is 0", "codes that do not occur have no part in the sum")
    return "A file that stores frequent codes in fewer bits (Huffman's, an arithmetic coder's) comes close to that."


def _by_group(w, size, bits):
    last = 2 ** (bits - 1) - 1
    groups = w.reshape(-1, size)
    tops = groups.abs().amax(1, keepdim=True).clamp_min(1e-12)
    return ((groups * last / tops).round() * tops / last).view_as(w)


@exercise("7.3", "w on a grid for each group of neighbours in a row, which ends at the group's largest |w|",
          "w.reshape(-1, size) has a group in each row: quantize as with a range for each channel, and view_as(w)",
          _by_group)
def a_grid_for_each_group(by_group) -> str:
    w = torch.tensor([[0.7, -0.3, 4.0, -3.1], [0.02, 0.05, 0.0, 0.0]])
    got, right = by_group(w.clone(), 2, 3), _by_group(w, 2, 3)
    assert isinstance(got, Tensor), (f"you return a {type(got).__name__}", "the quantized weight is a tensor")
    got = got.detach()

    def on(tops: Tensor) -> Tensor:
        return (w * 3 / tops).round().clamp(-3, 3) * tops / 3
    told = f"for w = {[short(row) for row in w]}, groups of 2 and 3 bits it is {short(right)}, you have {short(got)}"
    assert got.shape == w.shape or got.numel() != 8, (
        f"you return the shape {tuple(got.shape)}", "bring the groups back into the shape of w")
    expect(got, right, told, (
        (on(w.abs().max()), "that is one grid for the whole weight"),
        (on(w.abs().amax(1, keepdim=True)), "that is a grid for each row", "a row of 4 has two groups of 2"),
        (_by_group(w.T.contiguous(), 2, 3).T, "your groups go down the columns", "neighbours in a row are a group"),
        (_by_group(w, 2, 4), "that is with 7 steps to each side: at 3 bits the last code is 3")),
        "each group has its own step: its largest |w| over 3")
    row = w.view(1, 8)
    got, right = by_group(row.clone(), 8, 3), _by_group(row, 8, 3)
    assert isinstance(got, Tensor) and got.shape == row.shape and torch.allclose(got.detach(), right), (
        f"your groups of 2 are right, but with all weights in one row, a group of 8, it is {short(right[0])}",
        "use size, not the number: a whole row may be one group")
    return "With a scale of 16 bits for 16 weights, 4-bit weights take 5 bits each: smaller groups are not for free."


def _e2m1(sign, exponent, mantissa):
    size = mantissa / 2 if exponent == 0 else 2 ** (exponent - 1) * (1 + mantissa / 2)
    return -size if sign else size


@exercise("7.4", "the value of a 4-bit float with a sign bit, two bits of exponent with bias 1, one bit of mantissa",
          "exponent 0: mantissa / 2; else 2 ** (exponent - 1) * (1 + mantissa / 2); negative if the sign bit is 1",
          _e2m1)
def value_of_a_small_float(e2m1) -> str:
    codes = [(s, e, m) for s in (0, 1) for e in range(4) for m in (0, 1)]
    got, right = [float(e2m1(*code)) for code in codes], [_e2m1(*code) for code in codes]
    wrong = next((i for i, (a, b) in enumerate(zip(got, right)) if a != b), 0)
    s, e, m = codes[wrong]
    told = f"sign {s}, exponent {e}, mantissa {m} is {right[wrong]:g}, you have {got[wrong]:g}"
    assert got[8:] != got[:8] or got == right, (told, "the sign bit makes no difference")
    assert got[6] != 2 * right[6], (told, "the bias is missing: 2 ** (exponent - 1)")
    assert got[1] == 0.5 or got[6] != 4, (
        told, "exponent 0 is special: there is no leading 1, and the step is still that of exponent 1")
    assert got[3] != 2 or got[5] == 3, (told, "one bit of mantissa is worth a half: 1 + mantissa / 2")
    assert got == right, (told, "the leading 1 is there unless the exponent is 0")
    return "Eight sizes: 0, 0.5, 1, 1.5, 2, 3, 4, 6. The steps grow with the values."


def _outer(x, codes):
    return (x * codes).sum() / codes.square().sum()


@exercise("7.5", "the scale s for which s * codes has the smallest squared error on x",
          "set the derivative of the sum of (s * codes - x)**2 by s to 0, and solve for s", _outer)
def scale_after_rounding(outer) -> str:
    x, codes = torch.tensor([0.9, -0.4, 0.25, 2.4]), torch.tensor([1.0, 0.0, 0.0, 2.0])
    got, right = float(outer(x.clone(), codes.clone())), _outer(x, codes).item()
    expect(got, right, f"for x = {short(x)} and the codes {short(codes)} it is {right:.4f}, you have {got:.4f}", (
        (1 / right, "that is the other way round"),
        ((x * codes).sum().item(), "that is the numerator: divide by the sum of the squared codes"),
        ((x * codes).mean().item(), "divide by the mean of the squared codes, too"),
        ((x * codes).sum().item() / x.square().sum().item(), "you divided by the squares of x: the codes are scaled"),
        ((x * codes).sum().item() / codes.sum().item(), "the codes in the denominator have to be squared"),
        ((x.abs().sum() / codes.abs().sum()).item(), "that makes the sums equal: the squared error is asked for"),
        ((x[codes != 0] / codes[codes != 0]).mean().item(), "that is the mean of x / code: large codes count more"),
        ((x.norm() / codes.norm()).item(), "that makes the norms equal: the squared error is asked for")),
        "it is a regression line through the origin", within=1e-5)
    return "Scale before rounding: which code a value gets. Scale after it: what the code is worth. DuQ learns both."
