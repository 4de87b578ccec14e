"""Quantizers: what all methods promise, and each method's formulas written out a second time."""

import copy
import io
import math
from dataclasses import dataclass, field

import pytest
import torch
from torch.nn.functional import hardswish, softplus

from paperlib import quantizers
from paperlib.errors import InputError

FORMS = [("weight", True, 0.0), ("activation", False, 0.0), ("activation", False, -0.375), ("activation", True, 0.0)]
F64 = {"rtol": 1e-12, "atol": 1e-12}


@dataclass(frozen=True)
class Case:
    name: str
    role: str
    bits: int
    signed: bool
    floor: float = 0.0
    options: dict = field(default_factory=dict)

    def __str__(self):
        kind = "signed" if self.signed else f"from{self.floor:g}"
        return "-".join([self.name, self.role, str(self.bits), kind, *(f"{k}{v}" for k, v in self.options.items())])

    def build(self, dtype=torch.float64):
        return quantizers.build(self.name, role=self.role, bits=self.bits, signed=self.signed, floor=self.floor,
                                **self.options).to(dtype)

    def data(self, n=400, seed=0, dtype=torch.float64):
        x = 2 * torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return (x if self.signed else hardswish(x) if self.floor else x.relu()).to(dtype)

    def calibrated(self, dtype=torch.float64):
        return self.build(dtype).calibrate(self.data(dtype=dtype))


def buildable(forms):
    """All that can be built; test_which_bits_each_method_has says what must be."""
    for form in forms:
        try:
            form.build()
        except InputError:
            continue
        yield form


CASES = [*buildable(Case(name, role, bits, signed, floor) for role, signed, floor in FORMS
                    for name in quantizers.names(role) for bits in quantizers.BITS),
         *(Case("sawb", "weight", bits, True, options={"levels": n}) for bits, n in ((4, 15), (2, 3)))]
WIDE = torch.cat([torch.linspace(-15, 15, 300).double(), Case("", "", 0, True).data(seed=1)]).sort().values


def each(*methods):
    return pytest.mark.parametrize("case", [c for c in CASES if not methods or c.name in methods], ids=str)


def test_which_bits_each_method_has():
    have = {(c.name, *form): [o.bits for o in CASES if (o.name, o.role, o.signed, o.floor) == (c.name, *form)
                              and not o.options] for c in CASES for form in FORMS}
    for name in ("duq", "pact"):
        assert have[name, *FORMS[1]] == have[name, *FORMS[2]] == [*range(1, 9)] and have[name, *FORMS[3]] == [*range(2, 9)]
    assert have["duq", *FORMS[0]] == [*range(2, 9)] and have["sawb", *FORMS[0]] == [2, 3, 4, 5, 8]
    assert "sawb" not in quantizers.names("activation") and "pact" not in quantizers.names("weight")
    assert {c.name for c in CASES} == set(quantizers.names())


# -- what every method promises -------------------------------------------------------------------------------------
@each()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
def test_grid(case, dtype):
    q, x = case.calibrated(dtype), WIDE.to(dtype)
    y, levels = q(x), q.levels()
    assert y.dtype == levels.dtype == dtype and levels.dim() == 1 and (levels.diff() > 0).all()
    assert torch.isin(y, levels).all() and (y.diff() >= 0).all()
    assert case.name == "sawb" or (y[0] == levels[0] and y[-1] == levels[-1])   # SAWB's clip may lie beyond the data
    code = q.encode(x)
    assert not code.dtype.is_floating_point and torch.equal(q.decode(code), y)
    if case.signed:
        assert torch.equal(levels, -levels.flip(0)) and torch.equal(q(-x), -y)
    if torch.equal(*q.scales()):        # then each value goes to its nearest level, and levels stay where they are
        off = (x.double()[:, None] - levels.double()).abs().min(1).values
        assert ((y.double() - x.double()).abs() <= off + 30 * torch.finfo(dtype).eps).all()
        assert torch.equal(quantizers.Quantizer.forward(q, y), y)       # SAWB's own forward would move the range


@each("duq", "pact", "sawb")
def test_level_values(case):
    q, n, low, shift = case.calibrated(), 2**case.bits, 0.0, 0.0
    with torch.no_grad():
        for tensor, value in zip(q.parameters(), (0.3, -0.4)):      # DuQ: a and c; PACT: alpha
            tensor.fill_(value)
    top = {"duq": math.log1p(math.exp(-0.4)), "pact": 0.3}.get(case.name) or q.clip.item()
    if case.signed:
        n, low = n - (case.name != "sawb"), -top
    elif case.name == "duq":
        shift = case.floor
    n = case.options.get("levels", n)
    torch.testing.assert_close(q.levels(), torch.linspace(low, top, n, dtype=torch.float64) + shift, **F64)
    assert (0 in q.levels()) == (n % 2 == 1 if case.signed else not shift)


@each()
def test_shapes_and_memory_formats(case):
    q, x, results = case.calibrated(), case.data(n=120, seed=2).reshape(2, 3, 4, 5), []
    for form in (x, x.to(memory_format=torch.channels_last), x.transpose(1, 3).contiguous().transpose(1, 3)):
        v = form.clone().requires_grad_()
        y = q(v)
        y.backward(x + 1)
        results.append((y, v.grad))
    torch.testing.assert_close(results[1:], results[:1] * 2, **F64)     # SAWB's mean depends on the order of the sum
    one = torch.tensor(0.3, dtype=x.dtype)
    assert q(one).shape == q.encode(one).shape == () and q(one) == q(one[None])[0]
    assert case.name == "sawb" or q(x[:0]).shape == q.encode(x[:0]).shape == (0, 3, 4, 5)


@pytest.mark.parametrize("case", [c for c in CASES if c.name != "sawb"], ids=str)   # its range follows its input
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
def test_huge_and_tiny_input(case, dtype):
    q, x = case.calibrated(dtype), torch.tensor([-1e30, 1e30, -1e-30, 1e-30], dtype=dtype, requires_grad=True)
    y = q(x)
    y.sum().backward()
    assert y[0] == q.levels()[0] and y[1] == q.levels()[-1] and torch.isin(y, q.levels()).all()
    assert (x.grad[:2] == 0).all() and all(torch.isfinite(p.grad) for p in q.parameters())


@pytest.mark.xfail(strict=True, reason="functional.py:99: a position that overflows to inf, times 0, is NaN")
def test_overflow_leaves_gradients_finite():
    q = Case("duq", "activation", 4, False).calibrated(torch.float32)
    q(torch.tensor([3e38, 0.3])).sum().backward()
    assert torch.isfinite(q.a.grad)


@each()
def test_double_backward_is_refused(case):
    x = case.data().requires_grad_()
    (grad,) = torch.autograd.grad(case.calibrated()(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@each()
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


@each()
def test_calibration_needs_finite_data_and_use_needs_calibration(case):
    q = case.build()
    for bad, why in (([], "an empty tensor"), ([1, math.nan], "NaN or infinite"), ([-math.inf, 1], "NaN or infinite")):
        with pytest.raises(InputError, match=f"cannot calibrate on {why}"):
            q.calibrate(torch.tensor(bad, dtype=torch.float64))
    uses = [q.levels, lambda: q.decode(torch.zeros(1, dtype=torch.int16)), lambda: q(WIDE), lambda: q.encode(WIDE)]
    for use in uses[:2] if case.name == "sawb" else uses:       # SAWB finds its range on the way
        with pytest.raises(InputError, match=r"has no range yet: call calibrate\(x\)"):
            use()


# -- rounding, edges and gradients, each formula written out here ----------------------------------------------------
@each("duq", "pact", "sawb")
def test_ties_and_edges_on_exact_numbers(case):
    q = case.build()
    n, odd = q.grid.n_levels, case.signed and q.grid.n_levels % 2
    step = 2.0 ** math.ceil(math.log2(64 / n))
    span = step * (n - 1) / (2 if case.signed else 1)      # above 20, where softplus(a) is a
    low, first = -span if case.signed else case.floor * (case.name == "duq"), -(n // 2) if odd else 0
    with torch.no_grad():
        for tensor in (*q.parameters(), *q.buffers()):
            tensor.fill_(span)
    q.calibrated = True
    ties = [k + 0.5 for k in range(first, first + n - 1)]
    x, want = (torch.tensor([low + (t - first) * step for t in ts], dtype=torch.float64)
               for ts in (ties, map(round, ties)))          # Python's own round is half to even, too
    assert torch.equal(quantizers.Quantizer.forward(q, x), want)
    high, bit = low + (n - 1) * step, step / 1024
    x = torch.tensor([low, high, low + bit, high - bit, low - bit, high + bit], dtype=torch.float64).requires_grad_()
    quantizers.Quantizer.forward(q, x).sum().backward()
    assert x.grad.tolist() == [0, 0, 1, 1, 0, 0]


def written_out(case, x, g):
    """y, its gradient in x, those in the parameters, and where y is truly differentiable in the last parameter."""
    n = 2 ** (case.bits - 1) - 1 if case.signed else 2**case.bits - 1
    if case.name == "duq":
        a, c, b, lo = 1.1, 0.6, -case.floor, -1 if case.signed else 0
        s_a, s_c = math.log1p(math.exp(a)), math.log1p(math.exp(c))
        u = (x + b) / s_a
        r, inside = (n * u.clamp(lo, 1)).round() / n, (u > lo) & (u < 1)
        da = (g * inside * -(x + b) * s_c / s_a**2 / (1 + math.exp(-a))).sum()
        return s_c * r - b, g * inside * s_c / s_a, [da, (g * r / (1 + math.exp(-c))).sum()], x == x, [a, c]
    if case.name == "pact":
        alpha, low = 1.3, -1.3 if case.signed else 0.0
        above, below = x >= alpha, (x <= low) & case.signed
        y = (x.clamp(low, alpha) * n / alpha).round() * alpha / n
        return y, g * ((x > low) & (x < alpha)), [g[above].sum() - g[below].sum()], above | below, [alpha]
    n = case.options.get("levels", 2**case.bits)
    c1, c2 = {2: (3.12, -2.064), 3: (7.509, -6.892), 4: (12.68, -12.8), 5: (17.74, -18.64), 8: (31.76, -35.04)}[case.bits]
    c1, c2 = {3: (2.6, -1.71), 15: (12.035, -12.03)}.get(n, (c1, c2))
    clip = c1 * x.square().mean().sqrt() + c2 * x.abs().mean()
    step = 2 * clip / (n - 1)
    return ((x.clamp(-clip, clip) + clip) / step).round() * step - clip, g * (x.abs() < clip), [], x == x, []


@each("duq", "pact", "sawb")
def test_values_and_gradients_against_the_papers(case):
    x, q = case.data(seed=5).requires_grad_(), case.calibrated()
    g = torch.randn(x.shape, generator=torch.Generator().manual_seed(7), dtype=x.dtype)
    y, dx, dp, smooth, at = written_out(case, x.detach(), g)
    with torch.no_grad():
        for parameter, value in zip(q.parameters(), at, strict=True):
            parameter.fill_(value)
    assert 0 < (dx == 0).sum() < len(x)
    out = q(x)
    out.backward(g)
    torch.testing.assert_close([out.detach(), x.grad, *(p.grad for p in q.parameters())], [y, dx, *dp], **F64)
    if at:      # DuQ's c and PACT's alpha; DuQ's a moves a staircase, so its derivative is a surrogate
        with torch.no_grad():
            up, down = ((g * q(x))[smooth].sum() for p in [parameter] for h in (1e-5, -2e-5) if p.add_(h) is p)
        torch.testing.assert_close((up - down) / 2e-5, dp[-1], rtol=1e-8, atol=1e-8)
