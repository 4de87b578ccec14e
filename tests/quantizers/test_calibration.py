"""Calibration: each method against a calculation by hand, streams against single batches, and data that mislead."""
import contextlib
import math
import warnings

import pytest
import torch
from test_quantizers import CASES, COEFFICIENTS, FORMS, Case, each, normal
from torch.nn.functional import hardswish

from paperlib import quantizers
from paperlib.errors import InputError
from paperlib.quantizers.calibration import METHODS

RANGED = [Case("duq", *form) for form in FORMS] + [Case("pact", *form) for form in FORMS[1:]] + [
    *(Case(name, *form) for name in ("lsq", "lsq+") for form in FORMS),
    *(Case("qil", *form) for form in FORMS), Case("duq", bits=2), Case("lsq", bits=3),
    Case("pact", *FORMS[1], 8), Case("pact", *FORMS[1], 1)]
ranged = pytest.mark.parametrize("case", RANGED, ids=str)


def samples(case):
    """(ordinary, heavy-tailed, tiny) data."""
    for x in (normal(400, seed=20), normal(801, seed=21) ** 3, normal(5, seed=22)):
        yield x if case.signed else hardswish(2 * x) if case.floor else x.relu() + (x < -1)


def offset(case, x):
    """What spans are measured from: LSQ+'s offset is learned, PACT, LSQ and QIL know of no floor."""
    if case.name == "lsq+" and case.role == "activation":
        return x.min().item() if case.signed else case.floor
    return case.floor if case.name == "duq" else 0


def distances(case, x):
    low = offset(case, x)
    both = case.signed and not (case.name == "lsq+" and case.role == "activation")
    return sorted(abs(v) if both else v - low for v in x.tolist() if both or v >= low)


def reach(q, case, x):
    """The span that a quantizer has got."""
    return (q.c + q.d).item() if case.name == "qil" else q.levels()[-1].item() - offset(case, x)


def codes(case):
    """The highest and the lowest code, counted from the offset."""
    if not case.signed or case.name == "lsq+" and case.role == "activation":
        return 2**case.bits - 1, 0
    top = 2 ** (case.bits - 1) - 1
    return top, -top - (case.name in ("lsq", "lsq+"))


# -- by hand ---------------------------------------------------------------------------------------------------
@ranged
def test_max(case):
    for x in samples(case):
        for options, factor in (({}, 1), ({"fraction": .7}, .7)):
            assert reach(case.build().calibrate(x, "max", **options), case, x) == pytest.approx(
                factor * distances(case, x)[-1], rel=1e-9)


@ranged
def test_percentile_is_the_nearest_rank(case):
    for x, percent in ((x, percent) for x in samples(case) for percent in (99, 95, 50, 100, 5)):
        above = [v for v in distances(case, x) if v > 0]
        want = next(v for rank, v in enumerate(above, 1) if 100 * rank >= percent * len(above))
        assert reach(case.build().calibrate(x, "percentile", percent=percent), case, x) == pytest.approx(want, rel=1e-9)


@ranged
def test_lsq(case):
    for x in samples(case):
        above = distances(case, x)
        want = 2 * sum(above) / len(above) * math.sqrt(codes(case)[0])      # s times the highest code
        assert reach(case.build().calibrate(x, "lsq"), case, x) == pytest.approx(want, rel=1e-9)


@ranged
def test_sawb(case):
    n = codes(case)[0] - codes(case)[1] + 1
    for x in samples(case):
        if n not in COEFFICIENTS:
            with pytest.raises(InputError, match=f"SAWB has no coefficients for {n} levels"):
                case.build().calibrate(x, "sawb")
            continue
        (c1, c2), above = COEFFICIENTS[n], distances(case, x)
        mean, square = sum(above) / len(above), sum(v * v for v in above) / len(above)
        clip = c1 * math.sqrt(square) + c2 * mean
        assert reach(case.build().calibrate(x, "sawb"), case, x) == pytest.approx(
            clip if clip >= mean else above[-1], rel=1e-9)


@ranged
def test_mse_against_brute_force(case):
    top, low = codes(case)
    for x in samples(case):
        v = torch.tensor(distances(case, x), dtype=torch.float64)

        def error(span, v=v):
            step = span.reshape(-1, 1) / top
            return ((v / step).clamp(low, top).round() * step - v).square().mean(1)

        best = error(v.max() * torch.arange(1, 2001).double() / 2000).min()
        span = reach(case.build().calibrate(x, "mse"), case, x)
        assert 0 < span <= v.max() * (1 + 1e-6)
        assert error(torch.tensor(span).double()) <= best * 1.01 + 1e-12


@ranged
def test_default_is_what_the_docstrings_say(case):
    known = {"duq": {"weight": ("max", {"fraction": .9}), "activation": ("percentile", {"percent": 95})},
             "lsq": {"weight": ("lsq", {}), "activation": ("lsq", {})},
             **{name: {"weight": ("mse", {}), "activation": ("mse", {})} for name in ("lsq+", "qil")}}
    usual = {"weight": ("max", {}), "activation": ("percentile", {"percent": 99})}
    method, options = known.get(case.name, usual)[case.role]
    for x in samples(case):
        assert torch.equal(case.build().calibrate(x).levels(), case.build().calibrate(x, method, **options).levels())
        told = case._replace(options={**case.options, "range_method": "mse"}).build().calibrate(x)
        assert torch.equal(told.levels(), case.build().calibrate(x, "mse").levels())
    if case.name == "qil":      # c = d = half of the range
        q = case.build().calibrate(x)
        assert q.c.item() == q.d.item()


@each(bits="one", where=lambda c: c.channels)
def test_channels_are_calibrated_apart(case):
    x = case.data(23)
    alone = quantizers.build(case.name, role=case.role, bits=case.bits, **case.options).double()
    for method in [None, *METHODS] if alone.range_from else [None]:
        if method == "sawb" and case.n not in COEFFICIENTS:
            continue
        levels = case.build().calibrate(x, method).levels()
        flat = method == "mse" or case.name in ("lsq+", "qil") and method is None   # a minimum that is not sharp
        for row, have in zip(x, levels, strict=True):
            torch.testing.assert_close(have, alone.calibrate(row, method).levels(), atol=0, rtol=.05 if flat else 1e-9)
    with pytest.raises(InputError, match="has 4 channels, the tensor has shape"):
        case.build().calibrate(x[:3])


def test_ttq_starts_from_the_means_on_either_side():
    q = quantizers.build("ttq", role="weight", bits=2).calibrate(torch.tensor([-2, -.6, .05, -.1, .1, .2, 1, 0]))
    assert q.levels().tolist() == pytest.approx([-1.3, 0, .6])      # .1 and -.1 are not beyond 0.05 max|w|
    assert q(torch.tensor([.05, 1.0, -.051])).tolist() == pytest.approx([0, .6, -1.3])
    assert quantizers.build("ttq", role="weight", bits=2).calibrate(torch.ones(3)).levels().tolist() == [-1, 0, 1]


# -- streams ---------------------------------------------------------------------------------------------------
@ranged
@pytest.mark.parametrize("method", METHODS)
def test_stream_agrees_with_one_batch(case, method):
    if method == "sawb" and codes(case)[0] - codes(case)[1] + 1 not in COEFFICIENTS:
        return
    x = next(samples(case)).float()
    one, stream = (reach(case.build().calibrate(data, method), case, x) for data in (x, (b for b in x.split(300))))
    assert stream == pytest.approx(one, rel=1e-9 if method == "max" else 1 / 4096)


@pytest.mark.parametrize("method, options", [("percentile", {"percent": 60}), *((name, {}) for name in METHODS)])
@pytest.mark.parametrize("floor", [0, -.375])
def test_stream_of_relu_outputs_is_mostly_zeros(method, options, floor):
    x = (normal(4000, seed=24).float() - 1).relu() + floor
    tops = [Case("duq", "activation", False, floor).build().calibrate(data, method, **options).levels()[-1].item()
            for data in (x, x.split(1000))]
    assert tops[1] - floor == pytest.approx(tops[0] - floor, rel=1 / 4096 if floor == 0 else 1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", METHODS)
def test_half_precision_data(dtype, method):
    x = normal(3000, seed=25).abs().to(dtype)
    for data in (x, x.split(500)):
        same = [t.float() for t in data] if isinstance(data, tuple) else data.float()
        have, want = (Case("pact", "activation", False).build().calibrate(d, method).alpha for d in (data, same))
        torch.testing.assert_close(have, want, rtol=1e-6, atol=0)


@each(bits="one")
def test_half_precision_weights(case):
    x = case.data(26).bfloat16()
    have, want = (case.build(torch.float32).calibrate(d).levels() for d in (x, x.float()))
    torch.testing.assert_close(have, want, rtol=1e-6, atol=0)


@pytest.mark.parametrize("power", [-80, 70])
@pytest.mark.parametrize("method", METHODS)
def test_range_scales_with_the_data(power, method):
    x = normal(3000, seed=27).float().abs()
    for data, scaled in ((x, x * 2.0**power), (x.split(500), [b * 2.0**power for b in x.split(500)])):
        small, large = (Case("pact", "activation", False).build(torch.float32).calibrate(d, method).alpha
                        for d in (data, scaled))
        torch.testing.assert_close(large / 2.0**power, small, rtol=1e-5, atol=0)


@each(bits="one", where=lambda c: not c.channels)
def test_stream_for_every_method(case):
    x, q = case.data(28), case.build()
    if q.follows or case.name == "ttq":     # in these the threshold or the scale follows the weight
        with pytest.raises(InputError, match="follows the weight: pass the weight itself"):
            q.calibrate(iter([x]))
    else:
        torch.testing.assert_close(q.calibrate(iter([x[:2], x[2:]])).levels(), case.build().calibrate(x).levels(),
                                   rtol=.03, atol=5e-3 * x.abs().max().item())
        assert q.calibrated


def test_stream_for_channels_is_refused():
    with pytest.raises(InputError, match="pass the weight itself"):
        Case("duq", channels=4).build().calibrate(iter([normal(4, 3, 1, 1, seed=0)]))


# -- data that mislead -----------------------------------------------------------------------------------------
@each(bits="one", where=lambda c: not c.channels)
def test_bad_data_is_refused_in_one_line(case):
    nan, inf = torch.tensor([1, math.nan]).double(), torch.tensor([-math.inf, 1]).double()
    stream = not (case.follows or case.build().follows)
    for data, message in ((torch.zeros(0), "an empty tensor"), (nan, "NaN or inf"), (inf, "NaN or inf"), *([
            (iter([]), "an empty stream"), (iter([nan]), "NaN or inf"), (iter([nan.nan_to_num(), inf]), "NaN or inf"),
            (iter([torch.zeros(3, 0)]), "an empty tensor")] * stream)):
        with pytest.raises(InputError, match=f"cannot calibrate on {message}") as caught:
            case.build().calibrate(data)
        assert "\n" not in str(caught.value)
    q, x = case.build(), case.data()
    no_choice = q.range_from is None
    for method, options in (("nope", {}), ("max", {"percent": 5}), ("mse", {"fraction": 1}), (None, {"nope": 1})):
        message = "has no range to choose" if no_choice else "unknown calibration 'nope'|does not take [pfn]"
        with pytest.raises(InputError, match=message) as caught:
            q.calibrate(x, method, **options)
        assert "\n" not in str(caught.value)
    if no_choice:
        with pytest.raises(InputError, match="has no range to choose"):
            q.calibrate(x, "max")
    kept = x.clone()
    assert q.calibrate(x) is q and torch.equal(x, kept) and q.calibrated


@pytest.mark.parametrize("method, options", [
    ("percentile", {"percent": 0}), ("percentile", {"percent": 101}), ("percentile", {"percent": math.nan}),
    *(("max", {"fraction": fraction}) for fraction in (0, -1, math.nan, math.inf))])
def test_options_out_of_range(method, options):
    with pytest.raises(InputError, match=f"{next(iter(options))} must"):
        Case("duq").build().calibrate(normal(9, seed=0), method, **options)


@each(bits="one")
def test_data_without_a_range(case):
    """All zeros, all below the floor, one value: a defined grid, and a warning where a layer never fires."""
    dead, floor = case.role == "activation" and case.build().range_from is not None, offset(case, torch.zeros(1))
    ones = torch.ones(4, 3, 1, 1).double()
    for method in [None, *METHODS] if case.build().range_from else [None]:
        if method == "sawb" and case.n not in COEFFICIENTS:
            continue
        for x, warned in ((0 * ones, dead and not floor), (-ones, dead and not case.signed),
                          (2.5 * ones, False), (ones[:, :1], False)):
            never = warned or dead and case.name == "lsq+" and case.signed    # whose grid starts at the least value
            with pytest.warns(RuntimeWarning, match="is set to 1") if never else contextlib.nullcontext():
                with warnings.catch_warnings():
                    if not never:
                        warnings.simplefilter("error")
                    q = case.build().calibrate(x, method)
            levels, y = q.levels(), q(x)
            assert levels.isfinite().all() and y.isfinite().all()
            if x.any() or case.method not in ("bwn", "twn", "dorefa"):      # a weight of zeros has the levels 0 and -0
                assert (levels.diff() > 0).all()
            if method == "max" and case.same and (x > 0).all():
                torch.testing.assert_close(y, x)


@pytest.mark.parametrize("data", [torch.tensor([1e39, 1], dtype=torch.float64), torch.tensor([3e38, 3e38, 3e38])])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stream", [False, True])
def test_data_near_the_end_of_float32(data, method, stream):
    q = Case("pact", "activation", False).build()
    with contextlib.suppress(InputError):
        q.calibrate([data] if stream else data, method)
        assert q.alpha.isfinite() and q.alpha > 0


def test_every_registered_method_is_among_the_cases():
    assert {(c.name, c.role) for c in CASES} == {(name, role) for role in ("weight", "activation")
                                                 for name in quantizers.names(role)}


def test_range_methods_that_cannot_be():
    with pytest.raises(InputError, match="unknown calibration 'least': choose from max"):
        quantizers.build("duq", role="weight", bits=4, range_method="least")
    with pytest.raises(InputError, match="SAWB has no range to choose: leave out range_method"):
        quantizers.build("sawb", role="weight", bits=4, range_method="mse")
