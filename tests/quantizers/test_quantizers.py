"""Quantizers: what every method promises, and each method's formulas written out a second time, from the papers."""
import contextlib
import copy
import io
import math
from collections import namedtuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import hardswish

from paperlib import quantizers
from paperlib.errors import InputError
from paperlib.models.layers import QuantConv2d, QuantLinear

FORMS = [("weight", True, 0), ("activation", False, 0), ("activation", False, -.375), ("activation", True, 0)]
BIT_WIDTHS = {      # for each of the forms
    "duq": ("2345678", "12345678", "12345678", "2345678"), "pact": ("", "12345678", "12345678", "2345678"),
    "lsq": ("2345678", "12345678", "12345678", "2345678"), "lsq+": ("2345678", "12345678", "12345678", "12345678"),
    "qil": ("2345678", "12345678", "12345678", "2345678"), "dorefa": ("12345678", "12345678", "12345678", "2345678"),
    "sawb": ("23458", "", "", ""), "twn": ("2", "", "", ""), "ttq": ("2", "", "", ""), "bc": ("1", "", "", ""),
    "bwn": ("1", "", "", ""), "xnor": ("1", "", "", "1")}
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def normal(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Case(namedtuple("Case", "name role signed floor bits channels options", defaults=("weight", True, 0, 4, 0, {}))):
    def __str__(self):
        return "-".join(map(str, [*self[:6], *self.options.values()]))

    def build(self, dtype=torch.float64):
        name, role, signed, floor, bits, channels, options = self
        shape = {"shape": (channels, 1, 1, 1)} if channels else {}
        return quantizers.build(name, role=role, bits=bits, signed=signed, floor=floor, **shape, **options).to(dtype)

    def data(self, seed=0):
        """Weights of 4 output channels, or activations of 4 images."""
        x = 2 * normal(4, 11, 3, 3, seed=seed) * torch.tensor([1, .5, 2, .7]).double().reshape(4, 1, 1, 1)
        return x if self.signed else hardswish(x) if self.floor else x.relu()

    def calibrated(self, dtype=torch.float64):
        return self.build(dtype).calibrate(self.data().to(dtype))

    @property
    def method(self):
        """The method whose formulas hold."""
        return "bwn" if self.name == "xnor" and self.role == "weight" else self.name

    @property
    def symmetric(self):
        """Whether the grid has an odd number of levels, with 0 in the middle."""
        return self.signed and (self.method in ("duq", "pact", "qil", "twn") or self.options.get("levels", 2) % 2
                                or self.method == "dorefa" and self.role == "activation")

    @property
    def n(self):
        """The number of levels."""
        return self.options.get("levels", 3 if self.method in ("twn", "ttq") else 2**self.bits - self.symmetric)

    @property
    def follows(self):
        """Whether the range is found in the input itself."""
        return self.method in ("sawb", "twn", "bwn", "ttq") or self.method == "dorefa" and self.role == "weight"

    @property
    def fixed(self):
        """Whether the levels are the same for all data."""
        return self.method in ("bc", "xnor") or self.name == "dorefa" and (self.role == "activation" or self.bits > 1)

    @property
    def same(self):
        """Whether values go to the nearest level, evenly spaced and staying where it is."""
        return self.method in ("duq", "pact", "lsq", "lsq+") or self.method == "dorefa" and self.role == "activation"

    def per_channel(self, f, x):
        return torch.stack([f(row) for row in x]).reshape(4, 1, 1, 1) if self.channels else f(x)


CASES = [*(Case("sawb", bits=bits, channels=ch, options={"levels": n})
           for bits, n in ((4, 15), (2, 3), (8, 15)) for ch in (0, 4)),
         *(Case("qil", bits=bits, channels=ch, options={"version": "cvpr"}) for bits in (2, 3, 8) for ch in (0, 4)),
         Case("qil", "activation", False, bits=3, options={"version": "cvpr"}),
         *(Case("duq", *FORMS[i], bits, options={"learn_offset": True}) for i in (1, 2) for bits in (1, 4, 8)),
         *(Case("duq", *form, 4, options={"one_scale": True}) for form in FORMS[:2])]
for form in FORMS:
    for case in (Case(name, *form, bits, channels) for name in quantizers.names(form[0]) for bits in quantizers.BITS
                 for channels in ((0, 4) if form[0] == "weight" else (0,))):
        with contextlib.suppress(InputError):       # the first test says what must be there
            case.build()
            CASES.append(case)
WIDE = torch.stack([torch.cat([torch.arange(-15, 16).double() * 6.6, 2 * normal(120, seed=i)]).sort().values
                    for i in range(4)])[..., None, None]


def each(*methods, bits="ends", where=lambda case: True):
    """Parametrize over the cases of these methods, or of all; over "all", the "ends" or "one" of their bit-widths."""
    groups, pick = {}, {"all": lambda g: g, "ends": lambda g: g[:1] + g[1:][-1:], "one": lambda g: g[len(g) // 2:][:1]}
    for c in CASES:
        if (not methods or c.name in methods) and where(c):
            groups.setdefault(str(c._replace(bits=0)), []).append(c)
    return pytest.mark.parametrize("case", [c for group in groups.values() for c in pick[bits](group)], ids=str)


def test_which_bit_widths_each_method_has():
    assert set(BIT_WIDTHS) <= set(quantizers.names())
    for name, widths in BIT_WIDTHS.items():
        for form, want in zip(FORMS, widths, strict=True):
            have = [c.bits for c in CASES if c[:4] == (name, *form) and not c.options and not c.channels]
            assert "".join(map(str, have)) == want, (name, form)
    assert {c.name for c in CASES} == set(quantizers.names())


@pytest.mark.parametrize("name, wrong, message", [
    *(("duq", {"bits": b}, "bits must be a whole number from 1 to 8") for b in (0, 9, 2.5, True, "4", None)),
    ("nope", {}, "unknown quantizer 'nope': choose from .*duq"), ("duq", {"role": "bias"}, "not 'bias'"),
    ("pact", {"role": "weight"}, "choose another method"), ("sawb", {}, "weights, not 'activation'"),
    *((name, {}, "weights, not 'activation'") for name in ("twn", "ttq", "bwn", "bc")),
    ("duq", {"signed": True, "floor": -0.375}, "leave out floor=-0.375 or signed=True"),
    ("duq", {"role": "weight", "signed": False}, "leave out signed=False"), ("duq", {"levels": 15}, "levels"),
    *((name, {"floor": math.nan}, "floor must be a finite number") for name in ("duq", "pact", "lsq", "lsq+", "qil")),
    *((name, {"role": "weight", "bits": 1}, "a binary method") for name in ("duq", "lsq", "lsq+", "qil")),
    *((name, {"signed": True, "bits": 1}, "at least 2") for name in ("duq", "pact", "lsq", "qil", "dorefa")),
    *(("sawb", {"role": "weight", "bits": b}, "has 2, 3, 4, 5, 8 bits, not") for b in (1, 6, 7)),
    ("sawb", {"role": "weight", "levels": 16, "bits": 3}, "no coefficients for 16 levels in 3 bits"),
    *((name, {"role": "weight"}, "has (1 bit|2 bits), not 4") for name in ("twn", "ttq", "bwn", "bc", "xnor")),
    ("xnor", {"bits": 1}, "never negative"), ("xnor", {"bits": 1, "floor": -.375}, "never negative"),
    ("qil", {"version": "v2"}, "version must be 'v1' .* or 'cvpr'"), ("pact", {"gamma": 1}, "gamma"),
    ("duq", {"signed": True, "learn_offset": True}, "leave out learn_offset"),
    ("duq", {"shape": (4, 1, 1, 1)}, "leave out shape"), ("duq", {"role": "weight", "shape": (4, 3)}, r"\(4, 3\)")])
def test_bad_input(name, wrong, message):
    with pytest.raises(InputError, match=message) as caught:
        quantizers.build(name, **{"role": "activation", "bits": 4, **wrong})
    assert "\n" not in str(caught.value)


# -- what every method promises ------------------------------------------------------------------------------
@each(bits="all")
def test_grid(case):
    for dtype in (torch.float32, torch.float64):
        q, x = case.calibrated(dtype), WIDE.to(dtype)
        y, code, levels = q(x), q.encode(x), q.levels()
        assert y.dtype == levels.dtype == dtype and y.shape == x.shape and code.dtype == torch.int16
        assert levels.shape == ((case.channels, case.n) if case.channels else (case.n,))
        assert (levels.diff() > 0).all() and (y.diff(dim=1) >= 0).all()
        assert 0 <= code.min() - q.grid.code_min and code.max() - code.min() < case.n == q.grid.n_levels
        assert torch.equal(q.decode(code), y)
        rows = levels.expand(4, -1)
        assert all(torch.isin(row, own).all() for row, own in zip(y, rows, strict=True))
        if case.method != "sawb":       # which may clip beyond x
            assert torch.equal(y[:, [0, -1], 0, 0], rows[:, [0, -1]])
        if case.signed and case.method not in ("lsq", "lsq+", "ttq"):
            assert torch.equal(levels, -levels.flip(-1)) and torch.equal(q(-x)[x != 0], -y[x != 0])
        if case.same or case.method in ("bc", "xnor"):
            assert torch.equal(q(y), y)
        if case.same or case.method == "sawb":      # what lies in the range goes to the nearest level
            eps, levels = torch.finfo(dtype).eps * 60, rows[..., None, None]
            inside = (x >= levels[:, :1]) & (x <= levels[:, -1:])
            step = (levels[:, -1:] - levels[:, :1]) / (case.n - 1)
            assert ((y - x).abs() <= step / 2 + eps)[inside].all() and inside.any()
        half = x.bfloat16()
        assert q(half).dtype == torch.bfloat16
        assert torch.equal(q(half), q.decode(q.encode(half)).bfloat16())


@each(bits="one")
def test_quantize_with_offset(case):
    q, x = case.calibrated(), case.data(1)
    y, shift = q.quantize_with_offset(x)
    torch.testing.assert_close(y + shift, q(x), **EXACT)
    offset = case.floor if case.name in ("duq", "lsq+") else 0
    if not (case.name == "lsq+" and case.signed):
        assert torch.as_tensor(shift).item() == offset
    x.requires_grad_()
    sums = [sum(torch.as_tensor(part, dtype=x.dtype).square().sum() for part in parts)
            for parts in (q.quantize_with_offset(x)[:1], [q(x) - shift])]
    wanted = [x, *(p for name, p in q.named_parameters() if name not in ("d", "beta"))]     # those move the shift
    torch.testing.assert_close(*(torch.autograd.grad(total, wanted) for total in sums), rtol=1e-10, atol=1e-10)


@each()
def test_shapes_and_memory_formats(case):
    q, x, g, results = case.calibrated(), case.data(2), normal(4, 11, 3, 3, seed=3), []
    for form in (x, x.to(memory_format=torch.channels_last), x.mT.contiguous().mT, torch.stack([x, x], -1)[..., 0]):
        v, before = form.clone().requires_grad_(), form.clone()
        y = q(v)
        assert torch.equal(v, before)       # nothing happens in place
        assert torch.equal(q.decode(q.encode(form)), y)
        results.append((y, *torch.autograd.grad(y, [v, *q.parameters()], g)))
    torch.testing.assert_close(results[1:], results[:1] * 3, **EXACT)
    empty = x[:, :0] if case.channels else x[:0]
    v = empty.clone().requires_grad_()
    y = q(v)
    y.sum().backward()
    assert y.shape == q.encode(empty).shape == v.grad.shape == empty.shape and q.levels().isfinite().all()
    if not case.channels:
        one = torch.tensor(.3).double().requires_grad_()
        assert q(one).shape == q.encode(one).shape == () and q(one) == q(one[None])[0]
        q(one).backward()
        assert one.grad.isfinite()


@each()
@pytest.mark.parametrize("sizes", [[3e38], [1e30, 1e-30, 0.0]], ids=["3e38", "others"])
def test_huge_and_tiny_input(case, sizes):
    q = case.calibrated(torch.float32)
    sizes = [min(size, 1e37) for size in sizes] if q.follows else sizes     # levels must be finite numbers, too
    with torch.no_grad():       # small ranges, as those of trained weights
        for name, parameter in q.named_parameters():
            parameter.fill_({"a": -2, "c": -2}.get(name, .05) if case.name == "duq" else .05)
    for size, x in ((size, x) for size in sizes for x in (
            torch.tensor([-size, size, size, -size] * 9).expand(4, 36), torch.tensor([-1, 0, size, -.3, 1e-30] * 2))):
        v = x.expand(4, -1)[..., None, None].clone().requires_grad_()
        q.zero_grad()
        y = q(v)
        y.mean().backward()
        assert y.isfinite().all() and v.grad.isfinite().all() and all(p.grad.isfinite().all() for p in q.parameters())
        assert (q.levels().diff() > 0).all() or not (size and x.dim() == 2)
        assert torch.equal(y, q.decode(q.encode(v)))


@each()
def test_two_uses_before_backward(case):
    q, g = case.calibrated(), normal(4, 11, 3, 3, seed=4)
    x, other = case.data(5).requires_grad_(), case.data(6)
    wanted = [x, *q.parameters()]
    once = torch.autograd.grad(q(x), wanted, g)
    y = q(x)
    with torch.no_grad():
        q(other)        # the gradient belongs to the forward pass that it is asked of
    torch.testing.assert_close(torch.autograd.grad(y, wanted, g), once, **EXACT)
    torch.testing.assert_close(torch.autograd.grad(q(x) + q(x), wanted, g), tuple(2 * o for o in once), **EXACT)


@each(bits="one")
def test_double_backward_is_refused_or_right(case):
    q, g, h = case.calibrated(), normal(4, 11, 3, 3, seed=7), 1e-6
    x, v = case.data(8).requires_grad_(), normal(4, 11, 3, 3, seed=9)
    (grad,) = torch.autograd.grad(q(x), x, g, create_graph=True)
    try:
        (second,) = torch.autograd.grad((grad * v).sum(), x)
    except RuntimeError as error:
        assert any(word in str(error) for word in ("once_differentiable", "does not require grad"))
        return
    w, sides = normal(4, 11, 3, 3, seed=10), []
    for sign in (h, -h):
        moved = (x.detach() + sign * w).requires_grad_()
        sides.append((torch.autograd.grad(q(moved), moved, g)[0] * v).sum())
    torch.testing.assert_close((second * w).sum(), (sides[0] - sides[1]) / (2 * h), rtol=1e-5, atol=1e-5)


@each()
def test_state_dict_and_deepcopy(case):
    q, file = case.calibrated(), io.BytesIO()
    torch.save(q.state_dict(), file)
    file.seek(0)
    fresh, twin, before = case.build(), copy.deepcopy(q), q.levels()
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert fresh.calibrated and torch.equal(fresh.levels(), before) and torch.equal(twin.levels(), before)
    assert torch.equal(fresh(WIDE), twin(WIDE)) and torch.equal(fresh.encode(WIDE), twin.encode(WIDE))
    ours, theirs = (one.state_dict(keep_vars=True).values() for one in (q, twin))      # alive together: ids are reused
    assert {id(t) for t in ours}.isdisjoint(id(t) for t in theirs)
    before = q.levels()
    twin.calibrate(3 * case.data() + 1)
    assert torch.equal(q.levels(), before)
    unit = case.name == "qil" and (case.role == "activation" or "version" in case.options)      # levels in [-1, 1]
    assert case.fixed or unit or not torch.equal(twin.levels(), before)
    q.load_state_dict(case.build().state_dict())
    assert q.calibrated == case.fixed


@each(bits="one")
def test_needs_a_range(case):
    def uses():
        q, x = case.build(), case.data()
        return q.calibrated, [q.levels, lambda: q.decode(torch.zeros(4, 1, 1, 1)), lambda: q(x), lambda: q.encode(x)]

    ready, all_uses = uses()
    finds = case.method in ("sawb", "twn", "bwn") or case.name == "dorefa" and case.role == "weight"
    assert ready == case.fixed
    for use in [] if ready else all_uses[:2] if finds else all_uses:      # the others find the range on the way
        with pytest.raises(InputError, match=r"has no range yet: call calibrate\(x\)"):
            use()
    for i in (2, 3) if ready or finds else ():
        uses()[1][i]()


# -- each method's formulas, written out here -----------------------------------------------------------------
# forward(case, x, p, soft) is (y, lowest level, highest level); ``soft`` leaves out the rounding.  gradients(case, x,
# g, p) is that of x and, for each parameter, (derivative for each x, where the staircase itself has this derivative or
# None if the soft function has it, factor).
def steps(t, soft):
    return t if soft else t.round()


def s(a):
    return a.exp().log1p()


def top_code(case):
    return 2**case.bits / 2 - 1 if case.signed else 2**case.bits - 1


def duq(case, x, p, soft=False):
    lo, k, b, d = -1 if case.signed else 0, top_code(case), p.get("b", -case.floor), p.get("d", case.floor)
    v, scale = ((x + b) / s(p["a"])).clamp(lo, 1), s(p.get("c", p["a"]))
    return scale * steps(k * v, soft) / k + d, scale * lo + d, scale + d


def duq_gradients(case, x, g, p):
    lo, k, b = -1 if case.signed else 0, top_code(case), p.get("b", -case.floor)
    u, everywhere = (x + b) / s(p["a"]), x == x
    a, c = p["a"], p.get("c", p["a"])
    inside, ratio = (lo < u) & (u < 1), s(c) / s(a)
    sigmoid_a, sigmoid_c = (1 / (1 + (-i).exp()) for i in (a, c))
    by_a, by_c = -sigmoid_a * s(c) * (x + b) / s(a)**2 * inside, sigmoid_c * (k * u.clamp(lo, 1)).round() / k
    by = {"a": (by_a, None, 1), "c": (by_c, everywhere, 1)} if "c" in p else {"a": (by_a + by_c, everywhere, 1)}
    return g * inside * ratio, by | {"b": (ratio * inside, None, 1), "d": (1 + 0 * x, everywhere, 1)}


def pact(case, x, p, soft=False):
    a, k = p["alpha"], top_code(case)
    low = -a if case.signed else 0 * a
    return steps(x.clamp(low, a) * k / a, soft) * a / k, low, a


def pact_gradients(case, x, g, p):
    a, below = p["alpha"], x <= -p["alpha"] if case.signed else x != x
    return g * ((x < a) & (x > (-a if case.signed else 0))), {
        "alpha": (1.0 * (x >= a) - 1.0 * below, (x >= a) | below, 1)}


def lsq_ends(case):
    return (2**case.bits // 2, 2**case.bits // 2 - 1) if case.signed else (0, 2**case.bits - 1)


def lsq_factor(case, x, qp):
    return 1 / math.sqrt((x[0].numel() if case.channels or case.role == "activation" else x.numel()) * qp)


def lsq(case, x, p, soft=False):
    (qn, qp), st = lsq_ends(case), p["s"]
    return st * steps((x / st).clamp(-qn, qp), soft), -qn * st, qp * st


def lsq_gradients(case, x, g, p):
    (qn, qp), v = lsq_ends(case), x / p["s"]
    below, above = v <= -qn, v >= qp
    ds = torch.where(below, -qn, torch.where(above, qp, v.round() - v))
    return g * ~(below | above), {"s": (ds, below | above, lsq_factor(case, x, qp))}


def lsq_plus(case, x, p, soft=False):
    if case.role == "weight":
        return lsq(case, x, p, soft)
    st, qp, beta = p["s"], 2**case.bits - 1, p["beta"]
    return st * steps(((x - beta) / st).clamp(0, qp), soft) + beta, beta, beta + qp * st


def lsq_plus_gradients(case, x, g, p):
    if case.role == "weight":
        return lsq_gradients(case, x, g, p)
    qp, v = 2**case.bits - 1, (x - p["beta"]) / p["s"]
    outside, factor = (v <= 0) | (v >= qp), lsq_factor(case, x, qp)
    ds = torch.where(v <= 0, 0, torch.where(v >= qp, qp, v.round() - v))
    return g * ~outside, {"s": (ds, outside, factor), "beta": (1.0 * outside, outside, factor)}


def qil(case, x, p, soft=False):
    """Version 1 as printed: equations 3, 4 and 8 for weights; those of the activations, on |x| if signed."""
    c, d, sgn, w, q = p["c"], p["d"], x.sign(), x.abs(), top_code(case)
    if "gamma" in p:
        u = ((w - c + d) / (2 * d)).clamp(0, 1)**p["gamma"]
        return sgn * steps(q * u, soft) / q, -1 + 0 * c, 1 + 0 * c
    m, top = c - d + d / q, c + d - d / q
    if case.role == "weight":
        alpha = .5 * top / d
        if soft:
            inner, below, above = alpha * w + .5 * top * (1 - c / d), c - d, c + d
        else:
            inner, below, above = ((alpha * w + top - .5 * top**2 / d) / top * q).floor() / q * top, m, top
    else:
        top, sgn = 1 + 0 * c, sgn if case.signed else 1
        w = w if case.signed else x
        inner, below, above = .5 / d * w - .5 * c / d + .5, c - d, c + d
        inner = inner if soft else (q * inner + .5).floor() / q
    y = torch.where(w < below, 0, torch.where(w > above, top, inner)) * sgn
    return y, -top if case.signed else 0 * top, top


def qil_gradients(case, x, g, p):
    c, d, q = p["c"], p["d"], top_code(case)
    sgn, w = (x.sign(), x.abs()) if case.signed else (1, x)
    inside, above = (w > c - d) & (w < c + d), w >= c + d
    if "gamma" in p or case.role == "activation":
        gamma = p.get("gamma", torch.tensor(1.0).double())
        u = torch.where(inside, (w - c + d) / (2 * d), .5)
        slope = gamma * u**(gamma - 1) * inside * sgn
        return g * slope * sgn * .5 / d, {"c": (slope * -.5 / d, None, 1), "d": (slope * .5 * (c - w) / d**2, None, 1),
                                         "gamma": (u**gamma * u.log() * sgn * inside, None, 1)}
    dc = torch.where(inside, .5 / d * x + (-c / d + .5 / q) * sgn, above * sgn)
    dd = torch.where(inside, -.5 * c / d**2 * x + (.5 * c**2 / d**2 - .5 / q + .5) * sgn, above * sgn * (1 - 1 / q))
    return g * inside * .5 * (c + d - d / q) / d, {"c": (dc, None, 1), "d": (dd, None, 1)}


def dorefa(case, x, p, soft=False):
    one = torch.ones_like(case.per_channel(torch.max, x))
    if case.role == "activation":
        lo, k = -1 if case.signed else 0, top_code(case)
        return steps(k * x.clamp(lo, 1), soft) / k, lo * one, one
    if case.bits == 1:
        mean = case.per_channel(lambda w: w.abs().mean(), x)
        return mean * x.sign(), -mean, mean
    k = 2**case.bits - 1
    v = x.tanh() / (2 * case.per_channel(lambda w: w.tanh().abs().max(), x)) + .5
    return 2 * steps(k * v, soft) / k - 1, -one, one


def dorefa_gradients(case, x, g, p):
    if case.role == "activation":
        return g * ((x < 1) & (x > (-1 if case.signed else 0))), {}
    if case.bits == 1:
        return g, {}
    v = x.tanh()
    top = case.per_channel(lambda w: w.abs().max(), v)
    share = case.per_channel(torch.sum, g * v)      # of the maximum, in all of its channel
    return (1 - v**2) * (g / top - (v.abs() == top) * v.sign() * share / top**2), {}


COEFFICIENTS = {4: (3.12, -2.064), 3: (2.6, -1.71), 8: (7.509, -6.892), 16: (12.68, -12.80), 15: (12.035, -12.03),
                32: (17.74, -18.64), 256: (31.76, -35.04)}


def sawb_clip(case, w):
    c1, c2 = COEFFICIENTS[case.n]
    clip = c1 * w.square().mean().sqrt() + c2 * w.abs().mean()
    return clip if clip >= w.abs().mean() else w.abs().max()


def sawb(case, x, p, soft=False):
    clip = case.per_channel(lambda w: sawb_clip(case, w), x)
    step = 2 * clip / (case.n - 1)
    return (((x.clamp(-clip, clip) + clip) / step).round()) * step - clip, -clip, clip


def sawb_gradients(case, x, g, p):
    return g * (x.abs() < case.per_channel(lambda w: sawb_clip(case, w), x)), {}


def twn(case, x, p, soft=False):
    delta = .7 * case.per_channel(lambda w: w.abs().mean(), x)
    scale = case.per_channel(lambda w: w.abs()[w.abs() > .7 * w.abs().mean()].mean(), x)
    return scale * x.sign() * (x.abs() > delta), -scale, scale


def ttq(case, x, p, soft=False):
    delta = .05 * case.per_channel(lambda w: w.abs().max(), x)
    return torch.where(x > delta, p["Wp"], torch.where(x < -delta, -p["Wn"], 0)), -p["Wn"], p["Wp"]


def ttq_gradients(case, x, g, p):
    delta = .05 * case.per_channel(lambda w: w.abs().max(), x)
    up, down = x > delta, x < -delta
    return g * torch.where(up, p["Wp"], torch.where(down, p["Wn"], 1)), {"Wp": (1.0 * up, up, 1),
                                                                         "Wn": (-1.0 * down, down, 1)}


def binary(case, x, p, soft=False):
    one = torch.ones_like(case.per_channel(torch.max, x))
    scale = case.per_channel(lambda w: w.abs().mean(), x) if case.method == "bwn" else one
    return scale * torch.where(x >= 0, 1.0, -1.0).double(), -scale, scale


def bwn_gradients(case, x, g, p):
    through_mean = case.per_channel(lambda v: v.mean(), g * x.sign()) * x.sign()
    return through_mean + g * case.per_channel(lambda w: w.abs().mean(), x) * (x.abs() < 1), {}


def straight(case, x, g, p):
    return g, {}


PAPERS = {"duq": (duq, duq_gradients), "pact": (pact, pact_gradients), "lsq": (lsq, lsq_gradients),
          "lsq+": (lsq_plus, lsq_plus_gradients), "qil": (qil, qil_gradients), "dorefa": (dorefa, dorefa_gradients),
          "sawb": (sawb, sawb_gradients), "twn": (twn, straight), "ttq": (ttq, ttq_gradients), "bc": (binary, straight),
          "bwn": (binary, bwn_gradients), "xnor": (binary, lambda case, x, g, p: (g * (x.abs() < 1), {}))}
VALUES = {"duq": {"a": 1.1, "c": .6, "b": .3, "d": -.2}, "pact": {"alpha": 1}, "lsq": {"s": .9},
          "ttq": {"Wp": .8, "Wn": 1.3}, "lsq+": {"s": .9, "beta": -.3}, "qil": {"c": .91, "d": .7, "gamma": 1.3}}


def prepared(case):
    """(quantizer with parameters at given values, these values by name, x with values beyond every clip)."""
    q, p, x = case.calibrated(), {}, case.data(seed=5)
    if case.name == "dorefa" and case.role == "weight":
        x /= 8      # where tanh is not flat, so that the derivative of its maximum counts
    else:
        x[:, 0, 0] = torch.tensor([40, 1, -1 if case.signed else 0]).double()     # on PACT's and others' edges, too
    with torch.no_grad():
        for name, parameter in q.named_parameters():
            value = VALUES[case.name][name] * (1.7 / 2**case.bits if name == "s" else 1)
            parameter.copy_(value * (1 + .1 * torch.arange(max(1, case.channels)).double()).reshape(parameter.shape))
            p[name] = parameter.detach().clone()
    return q, p, x


@each(*PAPERS, bits="all")
def test_values_and_gradients_against_the_papers(case):
    (q, p, x), (forward, gradients), g = prepared(case), PAPERS[case.method], normal(4, 11, 3, 3, seed=7)
    assert set(p) == set(dict(q.named_parameters()))
    y, low, high = forward(case, x, p)
    grad_x, by = gradients(case, x, g, p)
    v = x.clone().requires_grad_()
    have = q(v)
    have.backward(g)
    torch.testing.assert_close([have.detach(), v.grad], [y, grad_x], **EXACT)
    levels = low.reshape(-1, 1) + (high - low).reshape(-1, 1) * torch.linspace(0, 1, case.n, dtype=x.dtype)
    if case.name == "ttq":
        levels[:, 1] = 0
    torch.testing.assert_close(q.levels(), levels if case.channels else levels[0], **EXACT)
    for name, parameter in q.named_parameters():
        each_x, _, factor = by[name]
        want = factor * (g * each_x).sum_to_size(parameter.shape)
        torch.testing.assert_close(parameter.grad, want, **EXACT, msg=lambda m, name=name: f"{name}: {m}")


# the others' gradients are rules, not derivatives; with one scale they are a sum of both
@each(*PAPERS, where=lambda c: c.method not in ("sawb", "twn", "bc") and "one_scale" not in c.options)
def test_gradients_against_finite_differences(case):
    (q, p, x), (forward, gradients), g, h = prepared(case), PAPERS[case.method], normal(4, 11, 3, 3, seed=8), 1e-6
    near = {"rtol": 1e-6, "atol": 1e-6}
    x = x + 1e-3 * normal(4, 11, 3, 3, seed=9) * (x != 0)       # off the edges
    v = x.clone().requires_grad_()
    q(v).backward(g)
    if case.method == "bwn":        # for |w| > 1 nothing but the mean moves
        direction, f = (x.abs() > 1) * normal(4, 11, 3, 3, seed=10), q
    elif case.name == "ttq" or case.name == "dorefa" and case.role == "weight" and case.bits == 1:
        direction, f = 0 * x, q
    elif case.name == "xnor":
        direction, f = normal(4, 11, 3, 3, seed=10), nn.functional.hardtanh
    else:
        direction, f = normal(4, 11, 3, 3, seed=10) * (x != 0), lambda x: forward(case, x, p, soft=True)[0]
    with torch.no_grad():
        difference = (g * (f(x + h * direction) - f(x - h * direction))).sum() / (2 * h)
    torch.testing.assert_close((v.grad * direction).sum(), difference, **near)
    by = gradients(case, x, g, p)[1]
    for name, parameter in q.named_parameters():
        each_x, where, factor = by[name]
        direction, sides = normal(*parameter.shape, seed=11), []
        with torch.no_grad():
            for move in (h, -h):
                moved = {**p, name: p[name] + move * direction}
                parameter.copy_(moved[name])
                sides.append((g * q(x))[where].sum() if where is not None
                             else (g * forward(case, x, moved, soft=True)[0]).sum())
            parameter.copy_(p[name])
        all_of_it = where is None or where.all()
        mine = parameter.grad if all_of_it else factor * (g * each_x * where).sum_to_size(p[name].shape)
        torch.testing.assert_close((mine * direction).sum() / factor, (sides[0] - sides[1]) / (2 * h), **near)


# -- thresholds and clip edges, on numbers without rounding errors --------------------------------------------
@each("duq", "pact", "sawb", "lsq", "lsq+", bits="all",
      where=lambda c: not c.channels and "learn_offset" not in c.options)
def test_ties_and_edges_on_exact_numbers(case):
    q, n = case.build(), case.n
    step = 2.0 ** math.ceil(math.log2(64 / n))
    span = step * (n - 1) / (1 + case.signed)       # above 20, where softplus(a) is a
    beta = case.floor if case.name in ("duq", "lsq+") else 0
    first = -(n // 2) if case.symmetric or case.name.startswith("lsq") and case.signed and not hasattr(q, "beta") else 0
    low = -span if case.name == "sawb" else beta + first * step
    with torch.no_grad():
        for name, tensor in (*q.named_parameters(), *q.named_buffers()):
            tensor.fill_({"s": step, "beta": beta}.get(name, span))
    q.calibrated, q.update_range_from_weight = True, lambda x: None
    ties = [i + .5 for i in range(first, first + n - 1)]    # Python's own round() is half to even, too
    x, want = (low + (torch.tensor(t).double() - first) * step for t in (ties, [round(tie) for tie in ties]))
    assert torch.equal(q(x), want)
    high, bit = low + (n - 1) * step, step / 1024
    x = torch.tensor([low, high, low + bit, high - bit, low - bit, high + bit]).double().requires_grad_()
    q(x).sum().backward()
    assert x.grad.tolist() == [0, 0, 1, 1, 0, 0]


@each("qil", bits="all")
def test_qil_goes_up_at_every_threshold(case):
    q, dtype, k = case.build(), torch.float64, int(top_code(case))
    with torch.no_grad():
        q.d.fill_(k / 8)        # levels of the input are 1/4 apart, from 3/4 on
        q.c.fill_(k / 8 + .75)
    q.calibrated, code = True, torch.arange(1, k + 1).expand(max(1, case.channels), -1)[..., None, None].to(dtype)
    x = .75 + (code - .5) / 4       # the first is m = c - d + d/q
    top = .75 + k / 4 - 1 / 8 if case.role == "weight" and not case.options else 1
    for sign in (1, -1) if case.signed else (1,):
        assert torch.equal(q.encode(sign * x), (sign * code).short())
        assert torch.equal(q.encode(sign * (x - 2**-20)), (sign * (code - 1)).short())
        torch.testing.assert_close(q(sign * x), sign * code * top / k, **EXACT)
    x = torch.tensor([.75, .75 + k / 4, .75 + 2**-20, .75 + k / 4 - 2**-20, 0, 99.0], dtype=dtype)
    x = x.expand(max(1, case.channels), -1)[..., None, None].clone().requires_grad_()
    q(x).sum().backward()
    assert (x.grad[:, :, 0, 0] / (top * 4 / k)).tolist() == [pytest.approx([0, 0, 1, 1, 0, 0], rel=1e-12)] * len(x)


@pytest.mark.parametrize("signed", [False, True])
def test_dorefa_edges(signed):
    q, x = Case("dorefa", "activation", signed, bits=2).build(), torch.tensor([-1, 0, 1, -2, .5, 2]).double()
    q(x.requires_grad_()).sum().backward()
    assert x.grad.tolist() == [0, signed, 0, 0, 1, 0]
    assert Case("dorefa", "activation", False, bits=1).build()(torch.tensor([.5, .5001, .4999])).tolist() == [0, 1, 0]


@pytest.mark.parametrize("version", ["v1", "cvpr"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_qil_of_two_bits_prunes_below_c(version, dtype):
    q = Case("qil", bits=2, options={"version": version}).build(dtype)
    for c, d in ((.3, .1), (.7, .3), (1.1, 1.7), (.123, .045)):
        with torch.no_grad():
            q.c.fill_(c), q.d.fill_(d)
        q.calibrated, top = True, q.c.item() if version == "v1" else 1      # d acts only backward
        at = q.c.detach()
        x = torch.stack([at, -at, torch.nextafter(at, at * 0) * (1 - 1e-5), at * 0, at * 9])
        assert q(x).tolist() == pytest.approx([top, -top, 0, 0, top], rel=1e-6, abs=0)


@each("bc", "bwn", "xnor", "dorefa", where=lambda c: c.bits == 1 and c.signed)
def test_sign_of_zero_is_positive(case):
    x = torch.tensor([0.0, -0.0, 1, -1, -1e-30, 1e-30, 0.0, 0.0] * 4).reshape(4, 8, 1, 1).double()
    assert torch.equal(case.calibrated()(x).sign(), torch.where(x < 0, -1.0, 1.0).double())


# -- what is special about one method --------------------------------------------------------------------------
@pytest.mark.parametrize("name, p", [
    ("pact", {"alpha": -.3}), ("lsq", {"s": -.3}), ("lsq+", {"s": -.3}), ("qil", {"d": -.3}), ("qil", {"c": -3.0}),
    ("ttq", {"Wp": -.3}), ("duq", {"a": -200.0}), ("duq", {"a": -200.0, "c": -200.0}), ("duq", {"a": 60.0, "c": 60.0})])
@pytest.mark.parametrize("channels", [0, 4])
def test_comes_back_from_a_range_that_training_has_ruined(name, p, channels):
    role = "weight" if channels or name == "ttq" else "activation"
    if channels and name == "pact":
        return
    case = Case(name, role, role == "weight", bits=2, channels=channels)
    q, x = case.calibrated(torch.float32), torch.linspace(-1, 1, 9).expand(4, 9)[..., None, None].clone()
    x.requires_grad_()
    with torch.no_grad():
        for key, value in p.items():
            getattr(q, key).fill_(value)
    y = q(x)
    y.sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all() and (y.diff(dim=1) >= 0).all()
    assert all(parameter.grad.isfinite().all() for parameter in q.parameters())
    assert torch.equal(q.decode(q.encode(x)), y)
    if name == "pact":
        assert y.min() == 0 and q.alpha.grad == 16     # the inputs above the clip


@pytest.mark.parametrize("bits, levels, clip", [
    (2, 4, 7.344), (2, 3, 6.16), (3, 8, 9.977), (4, 16, 12.2), (4, 15, 12.055), (5, 32, 14.14), (8, 256, 18.64)])
def test_sawb_clip_by_hand(bits, levels, clip):
    q = Case("sawb", bits=bits, options={"levels": levels}).build()
    w = torch.tensor([1.0, -7.0, 7.0, -1.0]).double()       # E|w| = 4, sqrt(E[w^2]) = 5
    assert q.calibrate(w).clip.item() == pytest.approx(clip) and q.levels()[-1].item() == pytest.approx(clip)
    # one magnitude: (c1 + c2)|w| is above E|w| for 4 levels only, and negative from 16 on
    assert q.calibrate(w.sign() / 2).clip.item() == pytest.approx(0.528 if levels == 4 else 0.5)
    assert q.calibrate(0 * w).clip == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bc_clips_the_latent_weight_in_training_alone(dtype):
    q, w = quantizers.build("bc", role="weight", bits=1), nn.Parameter(torch.tensor([-3.0, .5, 2.0], dtype=dtype))
    q.eval()(w), q.train()(w.detach().clone())
    assert w.tolist() == [-3, .5, 2]
    y = q(w)
    y.sum().backward()
    assert w.tolist() == [-1, .5, 1] and y.tolist() == [-1, 1, 1] and w.grad.tolist() == [1, 1, 1]


@pytest.mark.parametrize("groups, stride, padding", [(1, 1, 0), (1, 2, 1), (4, 1, 1), (4, 2, 0), (2, 1, (1, 0))])
def test_xnor_convolution_against_loops(groups, stride, padding):
    conv = nn.Conv2d(4, 8, 3, stride=stride, padding=padding, groups=groups, bias=False).double()
    layer, x = QuantConv2d.from_float(conv), normal(2, 4, 6, 5, seed=12)
    layer.input_quantizer = quantizers.build("xnor", role="activation", bits=1, signed=True).double()
    layer.weight_quantizer = quantizers.build("xnor", role="weight", bits=1, shape=(8, 1, 1, 1)).double()
    (ph, pw), w = conv.padding, conv.weight.detach()
    padded, sign = (nn.functional.pad(t, (pw, pw, ph, ph)) for t in (x, torch.where(x >= 0, 1.0, -1.0).double()))
    y = layer(x)
    for n in range(len(y)):
        for o in range(8):
            mine = slice(o // (8 // groups) * (4 // groups), (o // (8 // groups) + 1) * (4 // groups))
            filters = torch.where(w[o] >= 0, 1, -1) * w[o].abs().mean()
            for i in range(y.shape[2]):
                for j in range(y.shape[3]):
                    window = (n, mine, slice(i * stride, i * stride + 3), slice(j * stride, j * stride + 3))
                    want = (sign[window] * filters).sum() * padded[window].abs().mean(0).sum() / 9
                    assert y[n, o, i, j].item() == pytest.approx(want.item(), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("shape", [(5, 4), (2, 5, 4), (4,), (0, 4), (2, 4, 5, 5), (0, 4, 5, 5)], ids=str)
@pytest.mark.parametrize("bias", [False, True])
def test_xnor_in_layers_of_every_shape(shape, bias):
    plain = nn.Conv2d(4, 3, 3, bias=bias) if len(shape) == 4 else nn.Linear(4, 3, bias=bias)
    layer = (QuantConv2d if len(shape) == 4 else QuantLinear).from_float(plain)
    layer.input_quantizer = quantizers.build("xnor", role="activation", bits=1, signed=True)
    x = normal(*shape, seed=13).float()
    y, zero = layer(x), layer(0 * x)
    assert y.shape == plain(x).shape
    if len(shape) < 4:
        product = torch.where(x >= 0, 1.0, -1.0) @ plain.weight.T * x.abs().mean(-1, keepdim=True)
        torch.testing.assert_close(y, product + plain.bias if bias else product)    # K scales the product, not the bias
    elif bias:
        torch.testing.assert_close(zero, plain.bias.reshape(-1, 1, 1).expand_as(zero))


@pytest.mark.parametrize("name", ["duq", "pact", "lsq", "qil"])
def test_compiles_without_graph_breaks(name):
    torch._dynamo.reset()
    q, (x, g) = Case(name, "activation", False).calibrated(), normal(2, 4, 11, 3, 3, seed=14)
    x.requires_grad_()
    wanted = [x, *q.parameters()]
    have, want = ((y := f(x), *torch.autograd.grad(y, wanted, g))
                  for f in (torch.compile(q, backend="aot_eager", fullgraph=True), q))
    torch.testing.assert_close(have, want, **EXACT)


# -- any input -------------------------------------------------------------------------------------------------
FLOATS = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=12)


@each(bits="one", where=lambda c: not c.channels)
@settings(derandomize=True, max_examples=6, deadline=None, database=None)
@given(values=FLOATS, scale=st.floats(2**-6, 2**6, width=32))
def test_any_input(case, values, scale):
    q = case.build(torch.float32)
    x = torch.tensor(sorted(values))
    q.calibrate(scale * case.data().float())
    y, levels = q(x), q.levels()        # those of a method that follows its input may coincide
    assert torch.equal(q.decode(q.encode(x)), y) and (y.diff() >= 0).all() and torch.isin(y, levels).all()
    if case.same:
        inside = (x >= levels[0]) & (x <= levels[-1])
        assert ((y - x).abs() <= levels.diff().max() / 2 + 1e-6 * levels.abs().max())[inside].all()
