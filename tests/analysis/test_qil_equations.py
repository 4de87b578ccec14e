"""QIL's equations: against autograd, against the quantizer that trains, and where floor and rounding differ."""
import pytest
import torch

from paperlib import quantizers
from paperlib.analysis import qil_equations
from paperlib.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")
CASES = [("weight", bits) for bits in range(2, 9)] + [("activation", bits) for bits in range(1, 9)]
INTERVALS = [(0.5, 0.4), (0.31, 0.13), (1.7, 1.6), (0.4, 0.4), (0.3, 0.5)]      # the last one reaches beyond 0
each = pytest.mark.parametrize("role, bits", CASES)


def floored_activations(x, c, d, bits):
    """Eq. 4 for activations."""
    q = qil_equations.steps("activation", bits)
    return (qil_equations.mapped_activations(x, c, d, bits) * q).floor() / q


ROUNDED = {"weight": qil_equations.rounded_weights, "activation": qil_equations.rounded_activations}
FLOORED = {"weight": qil_equations.floored_weights, "activation": floored_activations}


def inputs(role, n=1001):
    x = 1.4 * torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return x if role == "weight" else x.abs()


def by_autograd(role, x, c, d, bits):
    """Each input with an interval of its own, so that the derivatives by c and d are those of each input."""
    at = [v.clone().requires_grad_() for v in (x, torch.full_like(x, c), torch.full_like(x, d))]
    y = qil_equations.SURROGATES[role](*at, bits)
    return torch.autograd.grad(y.sum(), at, allow_unused=True)


@pytest.mark.parametrize("c, d", INTERVALS)
@each
def test_two_printed_derivatives_are_wrong_and_no_other(role, bits, c, d):
    x = inputs(role)
    truth = by_autograd(role, x, c, d, bits)
    inside = (x.abs() > c - d) & (x.abs() < c + d)
    for printed in (False, True):
        for (name, found), true in zip(qil_equations.DERIVATIVES[role](x, c, d, bits, printed=printed).items(), truth):
            misprinted = printed and (role, name) in (("weight", "c"), ("activation", "d"))
            off = (found - true).abs()
            if misprinted:
                assert off[inside].mean() > 1e-2 and off[~inside].max() < 1e-10
            else:
                assert off.max() < 1e-10


def test_the_misprint_of_eq_7_cannot_be_seen_at_half_width_one():
    x = inputs("weight")
    right, printed = (qil_equations.weight_derivatives(x, 1.2, 1.0, 3, printed=p)["c"] for p in (False, True))
    assert torch.equal(right, printed)


@each
def test_check_names_the_two_misprints(role, bits):
    check = qil_equations.gradient_check(role, bits=bits)
    assert (check.right - check.numeric).abs().max() < 1e-8
    table = qil_equations.misprints([check])
    wrong = {"weight": "d w-hat / d c", "activation": "d x-hat / d d"}[role]
    assert table[table.wrong].derivative.tolist() == [wrong] and table["right, off by"].max() < 1e-8


@pytest.mark.parametrize("c, d", INTERVALS)
@each
def test_the_quantizer_computes_these_equations(role, bits, c, d):
    x = inputs(role).requires_grad_()
    q = quantizers.build("qil", role=role, bits=bits).double().calibrate(x.detach())
    with torch.no_grad():
        q.c.fill_(c)
        q.d.fill_(d)
    y = q(x)
    torch.testing.assert_close(y, ROUNDED[role](x.detach(), c, d, bits), rtol=0, atol=1e-12)
    if c >= d:      # eq. 2's two ends cross otherwise, and rounding is what is meant
        torch.testing.assert_close(y, FLOORED[role](x.detach(), c, d, bits), rtol=0, atol=1e-12)
    weights = torch.linspace(-1, 2, len(x), dtype=torch.float64)
    own = torch.autograd.grad((y * weights).sum(), (x, q.c, q.d))
    for mine, right in zip(own, qil_equations.DERIVATIVES[role](x.detach(), c, d, bits).values()):
        expected = weights * right
        torch.testing.assert_close(mine, expected if mine.dim() else expected.sum(), rtol=1e-10, atol=1e-10)


@each
def test_constants_are_where_levels_begin(role, bits):
    c, d = 0.5, 0.375       # exact in binary
    find = {"weight": qil_equations.weight_constants, "activation": qil_equations.activation_constants}[role]
    k, top = find(c, d, bits), 1.0
    if role == "weight":
        top = k.M
    near = torch.tensor([k.m - 1e-9, k.m + 1e-9, k.M - 1e-9, k.M + 1e-9], dtype=torch.float64)
    expected = torch.tensor([0, 1, k.q - 1, k.q], dtype=torch.float64) * top / k.q
    for form in (ROUNDED, FLOORED):
        torch.testing.assert_close(form[role](near, c, d, bits), expected)
    assert k.q == (2 ** (bits - 1) - 1 if role == "weight" else 2**bits - 1)
    ends = torch.tensor([c - d, c, c + d], dtype=torch.float64)
    torch.testing.assert_close(qil_equations.SURROGATES[role](ends, c, d, bits),
                               torch.tensor([0, 0.5, 1], dtype=torch.float64) * top)


def test_two_bit_weights_change_at_c_alone():
    w = torch.tensor([-0.7, -0.5, -0.49, 0.0, 0.49, 0.5, 0.7], dtype=torch.float64)
    for d in (0.1, 0.25, 0.5):
        for form in (qil_equations.rounded_weights, qil_equations.floored_weights):
            assert form(w, 0.5, d, 2).tolist() == [-0.5, -0.5, 0, 0, 0, 0.5, 0.5]       # eq. 8


def test_float32_loses_levels_at_thresholds_and_not_elsewhere():
    table = qil_equations.floor_against_round(n=2000).set_index(["weights", "bits"])
    assert table.loc["at random", ["floor_wrong", "round_wrong", "differ"]].max().max() < 1e-3
    assert table.loc["at M"].floor_wrong.between(0.15, 0.4).all()        # about a fifth from 3 bits on
    assert (table.loc["at M"].round_wrong > 0.1).all()                   # rounding is no safer there
    wrong = table.floor_wrong + table.round_wrong
    assert (table.differ <= wrong + 1e-9).all() and (table.n == 2000).all()


@pytest.mark.parametrize("role, bits, cause", [
    ("weight", 1, "weights of 2 to 8 bits, got 1"), ("activation", 9, "activations of 1 to 8 bits, got 9"),
    ("weight", 3.0, "got 3.0"), ("bias", 3, "role must be 'weight' or 'activation'")])
def test_what_qil_does_not_have_is_refused(role, bits, cause):
    with pytest.raises(InputError, match=cause):
        qil_equations.gradient_check(role, bits=bits)
