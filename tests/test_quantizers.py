"""Quantizers: what all methods promise, and each method's formulas written out a second time."""

import contextlib
import copy
import io
import math
from collections import namedtuple

import pytest
import torch
from torch.nn.functional import hardswish, softplus

from paperlib import quantizers
from paperlib.errors import InputError

FORMS = [("weight", True, 0), ("activation", False, 0), ("activation", False, -.375), ("activation", True, 0)]
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def normal(n, seed):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Case(namedtuple("Case", "name role signed floor bits options", defaults=("weight", True, 0, 4, {}))):
    def __str__(self):
        return "-".join(map(str, [*self[:5], *self.options.values()]))

    def build(self, dtype=torch.float64):
        name, role, signed, floor, bits, options = self
        return quantizers.build(name, role=role, bits=bits, signed=signed, floor=floor, **options).to(dtype)

    def data(self, n=400, seed=0):
        x = 2 * normal(n, seed)
        return x if self.signed else hardswish(x) if self.floor else x.relu()

    def calibrated(self, dtype=torch.float64):
        return self.build(dtype).calibrate(self.data().to(dtype))


CASES = [Case("sawb", options={"levels": 15}), Case("sawb", bits=2, options={"levels": 3})]
for form in FORMS:
    for case in (Case(name, *form, bits) for name in quantizers.names(form[0]) for bits in quantizers.BITS):
        with contextlib.suppress(InputError):       # the first test says what must be there
            case.build()
            CASES.append(case)
WIDE = torch.cat([torch.linspace(-15, 15, 300).double(), 2 * normal(300, 1)]).sort().values


def each(*methods):
    return pytest.mark.parametrize("case", [c for c in CASES if c.name in methods], ids=str)


def test_how_many_bit_widths_each_method_has():
    have = [c[:4] for c in CASES if not c.options]
    want = {"duq": [7, 8, 8, 7], "pact": [0, 8, 8, 7], "sawb": [5, 0, 0, 0]}
    assert {name: [have.count((name, *form)) for form in FORMS] for name in want} == want
    assert {c.name for c in CASES} == set(quantizers.names())


# -- what every method promises ------------------------------------------------------------------------------
@each(*quantizers.names())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
def test_grid(case, dtype):
    q, x = case.calibrated(dtype), WIDE.to(dtype)
    y, levels, code = q(x), q.levels(), q.encode(x)
    assert y.dtype == levels.dtype == dtype and levels.dim() == 1 and (levels.diff() > 0).all()
    assert torch.isin(y, levels).all() and (y.diff() >= 0).all()
    assert case.name == "sawb" or torch.equal(y[[0, -1]], levels[[0, -1]])      # SAWB may clip beyond x
    assert not code.dtype.is_floating_point and torch.equal(q.decode(code), y)
    if case.signed:
        assert torch.equal(levels, -levels.flip(0)) and torch.equal(q(-x), -y)
    if torch.equal(*q.scales()):    # then each value goes to the nearest level; levels stay where they are
        off = (x[:, None] - levels).abs().min(1).values
        assert ((y - x).abs() <= off + 30 * torch.finfo(dtype).eps).all()
        assert torch.equal(quantizers.Quantizer.forward(q, y), y)   # SAWB's own forward moves the range


@each(*quantizers.names())
def test_shapes_and_memory_formats(case):
    q, x, results = case.calibrated(), case.data(120).reshape(2, 3, 4, 5), []
    for form in (x, x.to(memory_format=torch.channels_last), x.mT.contiguous().mT):
        v = form.clone().requires_grad_()
        results.append((y := q(v), *torch.autograd.grad(y, v, x + 1)))
    torch.testing.assert_close(results[1:], results[:1] * 2, **EXACT)   # SAWB's mean: another order
    one = torch.tensor(0.3).double()
    assert q(one).shape == q.encode(one).shape == () and q(one) == q(one[None])[0]
    assert case.name == "sawb" or q(x[:0]).shape == q.encode(x[:0]).shape == (0, 3, 4, 5)


@each(*{*quantizers.names()} - {"sawb"})        # whose range follows its input
def test_huge_and_tiny_input(case):
    q, x = case.calibrated(torch.float32), torch.tensor([-1e30, 1e30, -1e-30, 1e-30], requires_grad=True)
    y = q(x)
    y.sum().backward()
    assert torch.equal(y[:2], q.levels()[[0, -1]]) and torch.isin(y, q.levels()).all()
    assert (x.grad[:2] == 0).all() and all(torch.isfinite(p.grad) for p in q.parameters())


@each(*quantizers.names())
def test_double_backward_is_refused(case):
    x = case.data().requires_grad_()
    (grad,) = torch.autograd.grad(case.calibrated()(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@each(*quantizers.names())
def test_state_dict_and_deepcopy(case):
    q, file = case.calibrated(), io.BytesIO()
    torch.save(q.state_dict(), file)
    file.seek(0)
    fresh, twin, before = case.build(), copy.deepcopy(q), q.levels()
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert fresh.calibrated and torch.equal(fresh.levels(), before) and torch.equal(twin.levels(), before)
    assert torch.equal(fresh(WIDE), twin(WIDE))
    twin.calibrate(3 * case.data())
    assert torch.equal(q.levels(), before) and not torch.equal(twin.levels(), before)
    q.load_state_dict(case.build().state_dict())
    assert not q.calibrated


@each(*quantizers.names())
def test_needs_finite_data_and_a_range(case):
    q = case.build()
    for bad, why in (([], "an empty"), ([1, math.nan], "NaN or inf"), ([-math.inf, 1], "NaN or inf")):
        with pytest.raises(InputError, match=f"cannot calibrate on {why}"):
            q.calibrate(torch.tensor(bad).double())
    uses = [q.levels, lambda: q.decode(torch.zeros(1)), lambda: q(WIDE), lambda: q.encode(WIDE)]
    for use in uses[:2] if case.name == "sawb" else uses:       # SAWB finds its range on the way
        with pytest.raises(InputError, match=r"has no range yet: call calibrate\(x\)"):
            use()


# -- rounding, edges and gradients, each formula written out here --------------------------------------------
@each("duq", "pact", "sawb")
def test_ties_and_edges_on_exact_numbers(case):
    q = case.build()
    n = q.grid.n_levels
    step = 2.0 ** math.ceil(math.log2(64 / n))
    span = step * (n - 1) / (2 if case.signed else 1)       # above 20, where softplus(a) is a
    low = -span if case.signed else case.floor * (case.name == "duq")
    first = -(n // 2) * (case.signed and n % 2)             # codes of an odd signed grid have 0 in the middle
    with torch.no_grad():
        for tensor in (*q.parameters(), *q.buffers()):
            tensor.fill_(span)
    q.calibrated = True
    ties = [k + 0.5 for k in range(first, first + n - 1)]   # Python's own round() is half to even, too
    x, want = (low + (torch.tensor(t).double() - first) * step for t in (ties, [round(tie) for tie in ties]))
    assert torch.equal(quantizers.Quantizer.forward(q, x), want)
    high, bit = low + (n - 1) * step, step / 1024
    x = torch.tensor([low, high, low + bit, high - bit, low - bit, high + bit]).double().requires_grad_()
    quantizers.Quantizer.forward(q, x).sum().backward()
    assert x.grad.tolist() == [0, 0, 1, 1, 0, 0]


@each("duq", "pact", "sawb")
def test_values_and_gradients_against_the_papers(case):
    x, g, sides, duq = case.data(seed=5), normal(400, 7), [], case.name == "duq"
    x[:3] = torch.tensor([12, 1, -1 if case.signed else 0])     # beyond every clip, and on PACT's edges
    q = case.build().calibrate(x)
    values = {"duq": [1.1, 0.6], "pact": [1.0], "sawb": []}[case.name]
    with torch.no_grad():
        for parameter, value in zip(q.parameters(), values, strict=True):
            parameter.fill_(value)
    n = case.options.get("levels", 2**case.bits - (case.signed and case.name != "sawb"))
    lo, b = -1 if case.signed else 0, -case.floor if duq else 0
    s_in, s_out = [math.log1p(math.exp(v)) for v in values] if duq else [*values, *q.buffers()] * 2
    u = (x + b) / s_in
    r = ((u.clamp(lo, 1) - lo) / (1 - lo) * (n - 1)).round() / (n - 1) * (1 - lo) + lo
    inside, above, below, smooth = (u > lo) & (u < 1), u >= 1, (u <= lo) & case.signed, x == x
    want = [s_out * r - b, g * inside * s_out / s_in]
    assert above[0] and inside.any()
    if duq:
        want.append((g * inside * -u * s_out / s_in / (1 + math.exp(-1.1))).sum())
        want.append((g * r / (1 + math.exp(-0.6))).sum())
    elif case.name == "pact":
        want, smooth = [*want, g[above].sum() - g[below].sum()], above | below
    y = q(x.requires_grad_())
    y.backward(g)
    torch.testing.assert_close([y.detach(), x.grad, *(p.grad for p in q.parameters())], want, **EXACT)
    torch.testing.assert_close(q.levels(), torch.linspace(lo, 1, n, dtype=x.dtype) * s_out - b, **EXACT)
    if values:      # DuQ's c and PACT's alpha; DuQ's a moves a staircase, so its derivative is a surrogate
        with torch.no_grad():
            for h in (1e-5, -2e-5):
                parameter += h
                sides.append((g * q(x))[smooth].sum())
        torch.testing.assert_close((sides[0] - sides[1]) / 2e-5, want[-1], rtol=1e-8, atol=1e-8)


# -- calibration and bad input -------------------------------------------------------------------------------
@pytest.mark.parametrize("case", [c for c in CASES if c.name in ("duq", "pact") and c.bits == 4], ids=str)
@pytest.mark.filterwarnings("error")
def test_range_from_data(case):
    def ranges(x):
        q = case.build().calibrate(x)
        return [softplus(q.a).item(), softplus(q.c).item()] if case.name == "duq" else [q.alpha.item()] * 2

    origin, percent = (case.floor, 95) if case.name == "duq" else (0, 99)
    factor, percent = (0.9, 100) if case.role == "weight" else (1, percent)
    for x in (*(case.data(n, seed=n) + 1e-3 for n in (1, 7, 400, 2001)), torch.full((9,), 2.5).double()):
        above = sorted(abs(v) if case.signed else v - origin for v in x.tolist() if case.signed or v > origin)
        want = factor * next(v for rank, v in enumerate(above, 1) if 100 * rank >= percent * len(above))
        assert ranges(x) == pytest.approx([want, want], rel=1e-12)
    warns = pytest.warns(RuntimeWarning, match="is set to 1")
    with contextlib.nullcontext() if case.role == "weight" else warns:
        assert ranges(0 * x if case.signed else origin - x) == pytest.approx([1, 1])


@pytest.mark.parametrize("bits, levels, clip", [
    (2, 4, 7.344), (2, 3, 6.16), (3, 8, 9.977), (4, 16, 12.2), (4, 15, 12.055), (5, 32, 14.14),
    (8, 256, 18.64)])
def test_sawb_clip_by_hand(bits, levels, clip):
    q = Case("sawb", bits=bits, options={"levels": levels}).build()
    w = torch.tensor([1.0, -7.0, 7.0, -1.0]).double()       # E|w| = 4, sqrt(E[w^2]) = 5
    assert q.calibrate(w).clip.item() == pytest.approx(clip) and q.levels()[-1].item() == pytest.approx(clip)
    # one magnitude: (c1 + c2)|w| is above E|w| for 4 levels only, and negative from 16 on
    assert q.calibrate(w.sign() / 2).clip.item() == pytest.approx(0.528 if levels == 4 else 0.5)
    assert q.calibrate(0 * w).clip == 1


def test_sawb_forward_twice_before_backward():
    q, w = Case("sawb", options={"levels": 15}).build(), WIDE.clone().requires_grad_()
    (q(w).sum() + q(w).sum()).backward()
    assert w.grad.max() == 2


@pytest.mark.parametrize("case, x", [(Case("duq"), [3e38]), (Case("sawb"), [1e30]), (Case("sawb"), [])])
def test_extreme_input(case, x):
    q = case.calibrated(torch.float32)
    y = q(torch.tensor(x, requires_grad=True))
    y.sum().backward()
    assert torch.isfinite(y).all() and all(torch.isfinite(p.grad) for p in q.parameters())


@pytest.mark.parametrize("name, wrong, message", [
    *(("duq", {"bits": b}, "bits must be a whole number from 1 to 8") for b in (0, 9, 2.5, True, "4", None)),
    ("nope", {}, "unknown quantizer 'nope': choose from .*duq"), ("duq", {"role": "bias"}, "not 'bias'"),
    ("pact", {"role": "weight"}, "choose another method"), ("sawb", {}, "weights, not 'activation'"),
    ("duq", {"signed": True, "floor": -0.375}, "leave out floor=-0.375 or signed=True"),
    ("duq", {"role": "weight", "signed": False}, "leave out signed=False"), ("duq", {"levels": 15}, "levels"),
    ("duq", {"role": "weight", "bits": 1}, "a binary method"), ("pact", {"signed": True, "bits": 1}, "least"),
    ("sawb", {"role": "weight", "bits": 6}, "no coefficients for 64 levels in 6 bits; .*bits 2, 3, 4, 5, 8"),
    ("sawb", {"role": "weight", "levels": 16, "bits": 3}, "no coefficients for 16 levels in 3 bits")])
def test_bad_input(name, wrong, message):
    with pytest.raises(InputError, match=message) as caught:
        quantizers.build(name, **{"role": "activation", "bits": 4, **wrong})
    assert "\n" not in str(caught.value)


def test_pact_comes_back_from_an_alpha_below_zero():
    q = quantizers.build("pact", role="activation", bits=4).calibrate(torch.linspace(0, 1, 9))
    with torch.no_grad():
        q.alpha.fill_(-0.3)
    y = q(torch.linspace(-1, 1, 9))
    y.sum().backward()
    assert y.isfinite().all() and y.min() == 0 and q.alpha.grad == 4     # the inputs above the clip
