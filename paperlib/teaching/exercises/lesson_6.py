"""Lesson 6: rounding without training; scales for channels, equalization, means, rounding up or down, a budget."""
from __future__ import annotations

import itertools

import pandas as pd
import torch
from torch import Tensor

from . import exercise, expect, short


def _tensor(got, shape: tuple[int, ...], what: str) -> Tensor:
    """``got``, detached, if it is a tensor of this shape."""
    assert isinstance(got, Tensor), (f"you return a {type(got).__name__}", f"{what} is a tensor of shape {shape}")
    assert got.shape == shape, (f"you return the shape {tuple(got.shape)}", f"{what} has the shape {shape}")
    return got.detach().float()


def _by_channel(w, bits):
    tops, last = w.abs().flatten(1).amax(1).view(-1, *[1] * (w.dim() - 1)), 2 ** (bits - 1) - 1
    return (w * last / tops).round().clamp(-last, last) * tops / last


@exercise("6.1", "w on a grid for each output channel, from minus to plus the largest |w| in the channel",
          "flatten all axes but the first, take the maximum of each row, view it as (channels, 1, 1, 1), and quantize "
          "with that in place of one range", _by_channel)
def a_range_for_each_channel(by_channel) -> str:
    w = torch.tensor([[[0.1, -0.4], [0.22, 0.3]], [[2.0, 0.7], [-3.0, 0.6]], [[0.0, 0.05], [0.01, -0.02]]])[:, :, None]
    right, tops = _by_channel(w, 3), w.abs().flatten(1).amax(1).view(3, 1, 1, 1)
    got = _tensor(by_channel(w.clone(), 3), tuple(w.shape), "the quantized weight")

    def on(tops: Tensor, last: int = 3) -> Tensor:
        return (w * last / tops).round().clamp(-last, last) * tops / last
    told = f"for the channels {[short(channel) for channel in w]} at 3 bits "
    wrong = next((c for c in range(3) if not torch.allclose(got[c], right[c], rtol=1e-4)), 0)
    told += f"channel {wrong} becomes {short(right[wrong])}, you have {short(got[wrong])}"
    expect(got, right, told, (
        (on(w.abs().max()), "that is one range for the whole weight", "each output channel, axis 0, has its own"),
        (on(w.flatten(1).amax(1).view(3, 1, 1, 1)), "a negative weight may be the largest: take |w| first"),
        (on(w.abs().amax((0, 2, 3), keepdim=True)), "these are ranges along axis 1", "output channels are axis 0"),
        (on(w.abs().amax(3, keepdim=True)), "that is a range for each row of a channel", "take the maximum over "
         "all axes but the first"),
        (on(tops, 7), "that is the grid of 4 bits: at 3 bits the last code is 3"),
        (on(tops, 4), "that is with 4 steps to each side, and 7 levels have 3"),
        (right / tops * 3, "these are the codes: multiply them by the step, the channel's range over 3"),
        (w.where(right == w, right - w), "that is the error: return the quantized weight")),
        "divide each channel by its own step, round, clamp, and multiply by the step")
    flat = torch.tensor([[1.0, -2.1], [0.5, 0.1]])
    line = by_channel(flat.clone(), 4)
    assert isinstance(line, Tensor) and line.shape == flat.shape and torch.allclose(line, _by_channel(flat, 4)), (
        "your weights are right for a convolution at 3 bits, but not at 4 for a fully connected layer, of shape (2, 2)",
        "the number of axes depends on w, w.dim() has it, and the last code depends on bits")
    return "A channel's scale is multiplied in once, after the sum, so a scale for each channel costs little."


def _factors(first, second):
    return (first.abs().flatten(1).amax(1) / second.abs().flatten(1).amax(1)).sqrt()


@exercise("6.2", "the factor s of each channel that makes the ranges of first / s and of second * s equal",
          "with ranges r1 and r2 of a channel, solve r1 / s = r2 * s for s", _factors)
def equalizing_factors(factors) -> str:
    first, second = (torch.tensor(values)[:, None, None] for values in (
        [[8.0, -2.0], [0.5, 0.1], [1.0, -1.0]], [[0.5, -0.1], [-2.0, 1.0], [1.0, 0.2]]))
    r1, r2 = (w.abs().flatten(1).amax(1) for w in (first, second))
    right = _factors(first, second)
    got = _tensor(factors(first.clone(), second.clone()), (3,), "a factor for each channel")
    told = f"for the ranges {short(r1)} and {short(r2)} the factors are {short(right)}, you have {short(got)}"
    expect(got, right, told, (
        (r1 / r2, "then first has the range of second and the other way round", "both are to have the same: a root "
         "is missing"),
        (r2 / r1, "that is the other way round, and a root is missing"),
        ((r2 / r1).sqrt(), "that is the other way round: a channel with a wide range in first is divided by more "
         "than 1"),
        ((r1 * r2).sqrt(), "that is the range that both have afterwards", "s turns r1 into it: r1 / s"),
        (r1, "then first has the range 1 everywhere, and second has r1 * r2"),
        (r1 / r1.max(), "then the channels of first are equal, and second pays for it"),
        ((first.flatten(1).amax(1) / second.flatten(1).amax(1)).sqrt(), "a negative weight may be the largest")),
        "the two ranges have to be equal afterwards, r1 / s and r2 * s")
    return "ReLU(s x) = s ReLU(x) for s > 0: the network computes the same, with weights that are easier to round."


def _missing(wanted, got):
    return (wanted - got).transpose(0, 1).flatten(1).mean(1)


@exercise("6.3", "the mean of each channel of wanted - got",
          "channels are the second axis: take the mean over all other axes", _missing)
def missing_means(missing) -> str:
    wanted = torch.arange(24.0).view(2, 3, 2, 2).square() / 100
    got = wanted - torch.tensor([0.5, -1.0, 0.25]).view(3, 1, 1) + torch.tensor([0.2, -0.2]).view(2, 1, 1, 1)
    right = _missing(wanted, got)
    answer = missing(wanted.clone(), got.clone())
    told = f"for outputs of shape (2, 3, 2, 2) whose channels differ by {short(right)} on average you have "
    assert isinstance(answer, Tensor), (f"{told}{answer}", "return a tensor, a number for each channel")
    shown = answer.shape == (3,) or answer.numel() == 1
    told += f"{short(answer) if shown else f'the shape {tuple(answer.shape)}'}"
    assert answer.numel() > 1, (told, "that is one number for all channels", "each channel has a bias of its own")
    assert answer.shape != (2,) and answer.shape[:1] != (2,), (
        told, "the first axis is the image, the second the channel", "take the mean over the images, too")
    assert answer.shape == (3,), (told, "three channels: the shape is (3,)")
    expect(answer, right, told, (
        (-right, "the sign is the wrong way round", "the bias has to add what is missing"),
        (right.abs(), "that is without its sign: positive and negative shifts both occur"),
        (8 * right, "that is the sum: take the mean")),
        "take the difference, then its mean over images, rows and columns")
    try:
        line = missing(torch.ones(4, 3), torch.zeros(4, 3))
    except IndexError:      # the axes of an image
        line = None
    assert isinstance(line, Tensor) and line.shape == (3,), (
        "your means are right for images, but outputs of fully connected layers have the shape (images, channels)",
        "bring the channels to the front and flatten all else: transpose(0, 1).flatten(1) works for both")
    return "The bias is not quantized here, so what is missing on average can be given back exactly."


def _best(w, step, gram):
    ups = torch.tensor(list(itertools.product((0, 1), repeat=len(w))))
    tried = ((w / step).floor() + ups).clamp(-7, 7) * step          # 4 bits: the largest weight has the last code
    off = tried - w
    return tried[((off @ gram) * off).sum(1).argmin()]


@exercise("6.4", "the weights, each rounded up or down, with the smallest error e @ gram @ e of the output",
          "add each row of itertools.product((0, 1), repeat=len(w)) to (w / step).floor(), multiply by the step, "
          "compute the error of each, and return the one at argmin", _best)
def up_or_down(best) -> str:
    w, step = torch.tensor([0.34, -0.27, 0.66]), 0.2
    x = torch.tensor([[1.0, 0.9, 0.2], [2.0, 2.2, 0.1], [0.5, 0.4, 1.0]])
    gram, right = x.T @ x / 3, _best(w, step, x.T @ x / 3)
    got = _tensor(best(w.clone(), step, gram.clone()), (3,), "the answer for three weights")

    def error(values: Tensor) -> float:
        return ((values - w) @ gram @ (values - w)).item()
    nearest = (w / step).round() * step
    told = (f"for w = {short(w)} and a step of 0.2 the best is {short(right)}, with an error of {error(right):.4f}; "
            f"you have {short(got)}, with {error(got):.4f}")
    if not torch.allclose(got / step, (got / step).round(), atol=1e-4):
        hint = "each value must be a multiple of 0.2"
    elif ((got - w).abs() > step + 1e-6).any():
        hint = "only the two neighbouring levels are allowed"
    else:
        hint = "gram has to be between the two errors: e @ gram @ e"
    expect(got, right, told, (
        (right / step, "these are the codes: multiply them by the step"),
        (right - w, "that is what is added to the weights: return the rounded weights"),
        (nearest, "each weight is at its nearest level", "errors of weights that see similar inputs can cancel: try "
         "all combinations, and let the products of two errors count, too"),
        (_best(w, step, -gram), "that is the worst of them: take argmin")), hint)
    return "The nearest levels have the smallest error of the weights, which is not what the next layer sees."


def _spend(table, budget):
    table = table.assign(gain=table.sensitivity / (table.fine - table.coarse))
    left, chosen = budget - table.coarse.sum(), []
    for name, row in table.sort_values("gain", ascending=False).iterrows():
        if row.fine - row.coarse <= left:
            chosen.append(name)
            left -= row.fine - row.coarse
    return chosen


@exercise("6.5", "the names of the layers that get more bits, the most sensitivity per extra cost first, within budget",
          "sort by sensitivity / (fine - coarse), go down the list, and take each layer that still fits", _spend)
def spend_a_budget(spend) -> str:
    table = pd.DataFrame({"sensitivity": [4.0, 6.0, 3.0, 0.1], "coarse": [10.0, 60.0, 60.0, 20.0],
                          "fine": [20.0, 120.0, 70.0, 40.0]}, index=["a", "b", "c", "d"])
    cases = ((150, []), (160, ["a"]), (185, ["a", "c"]), (215, ["a", "c", "d"]), (225, ["a", "c", "d"]),
             (235, ["a", "c", "b"]))
    told = "for sensitivities 4, 6, 3, 0.1 of a, b, c, d and extra costs of 10, 60, 10, 20 over 150 in all, "
    for budget, right in cases:
        got = spend(table.copy(), budget)
        assert isinstance(got, (list, tuple, pd.Index)), (f"you return a {type(got).__name__}",
                                                         "a list of the layers' names is asked for")
        got = list(got)
        assert set(got) <= set("abcd"), (f"you return {got}", "a list of the layers' names is asked for, table.index")
        cost = table.coarse.sum() + (table.fine - table.coarse)[got].sum()
        here = f"{told}a budget of {budget} buys {right}, you have {got}, which cost {cost:.0f}"
        assert cost <= budget, (here, "that is more than there is", "layers that stay coarse cost something, too")
        assert budget != 215 or set(got) != {"b"}, (
            here, "you went by sensitivity alone", "a layer that costs much has to bring much: divide")
        assert budget != 215 or set(got) != {"a", "c"}, (here, "b does not fit, but d, after it, does")
        assert got or not right, (here, "something is left: compare the extra cost, fine - coarse, with what is left")
        assert set(got) == set(right), (here, "the most sensitivity for each extra bit operation comes first, and a "
                                        "layer that does not fit is passed over")
    return "A layer with few multiply-accumulates, such as a depthwise one, gets more bits at hardly any cost."
