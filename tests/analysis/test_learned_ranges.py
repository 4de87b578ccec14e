"""The two pulls on a range by hand, and weights that cross thresholds."""
import pytest
import torch

from paperlib import quantizers
from paperlib.analysis import learned_ranges, quantization_error
from paperlib.errors import InputError
from paperlib.models.layers import QuantConv2d
from paperlib.plots.learned_ranges import typical


def weight(n=4000):
    return torch.randn(n, generator=torch.Generator().manual_seed(2))


def test_the_two_pulls_by_hand():
    x, q = weight(), quantizers.build("lsq", role="weight", bits=3)
    row = learned_ranges.pulls(x, q, [1.5]).iloc[0]
    s = 0.5
    v = x / s
    inside = (v > -4) & (v < 3)
    part = torch.where(inside, 2 * s**2 * (v.round() - v).square(), 2 * s * (s * v.clamp(-4, 3) - x) * v.clamp(-4, 3))
    share = part.double() / x.double().square().sum()
    assert row.inside == pytest.approx(share[inside].sum().item(), rel=1e-4) and row.inside > 0
    assert row.outside == pytest.approx(share[~inside].sum().item(), rel=1e-4) and row.outside < 0
    assert row.total == pytest.approx(row.inside + row.outside)
    near = [quantization_error.scan(x, q, [1.5 * f]).error[0] for f in (1 - 1e-3, 1 + 1e-3)]
    assert row.exact == pytest.approx((near[1] - near[0]) / 2e-3, rel=0.05)      # dE / d ln s


def test_the_pulls_balance_near_the_least_error():
    q = quantizers.build("lsq", role="weight", bits=4)
    table = learned_ranges.pulls(weight(), q, [0.05 * i for i in range(10, 90)])
    rest = learned_ranges.equilibrium_range(table)
    assert rest == pytest.approx(table.range[table.error.idxmin()], rel=0.1)
    with pytest.raises(InputError, match="the pulls do not balance in this scan"):
        learned_ranges.equilibrium_range(table.iloc[:3])


def layer():
    torch.manual_seed(0)
    return QuantConv2d.from_float(torch.nn.Conv2d(16, 8, 1)), torch.randn(40, 16, 3, 3).relu()


def test_weights_move_smoothly_and_their_codes_by_whole_steps():
    conv, x = layer()
    before = conv.weight.detach().clone()
    q = quantizers.build("lsq", role="weight", bits=3).calibrate(conv.weight)
    weights, codes, errors = learned_ranges.follow_weights(conv, x, q, steps=30, move=0.05)
    assert torch.equal(conv.weight, before) and weights.shape == codes.shape == (31, 128) and len(errors) == 31
    assert (weights[1] - weights[0]).abs().max().item() == pytest.approx(0.05, rel=1e-3)
    assert torch.equal(codes.float(), weights.clamp(-4, 3).round()) and (codes[1:] != codes[:-1]).any()
    assert min(errors) < errors[0]


def test_typical_weights():
    codes = torch.tensor([[0, 0, 1, 2], [1, 0, 1, 2], [0, 0, 1, 2], [0, 0, 2, 2], [0, 1, 2, 2]])
    assert typical(codes) == {"changes most often": 0, "changes once": 2, "never changes": 3}
    assert typical(codes[:, :1]) == {"changes most often": 0}
