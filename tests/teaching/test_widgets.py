"""The seven widgets: their numbers against computations of their own, live and not, and what they refuse."""
import base64
import functools
import html
import io
import itertools
import json
import math
import re

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import torch
from IPython.display import Image
from matplotlib.figure import Figure
from torch import nn
from torch.nn.functional import softplus
from traitlets import TraitError

from paperlib import models, quantizers, recipes, runs
from paperlib.analysis.one_weight import descend
from paperlib.analysis.quantization_error import SAMPLE, sample
from paperlib.errors import InputError
from paperlib.models import cost
from paperlib.teaching import moving, networks, widgets
from paperlib.teaching.widgets import panel
from paperlib.teaching.widgets.cost import by_kind, counted
from paperlib.teaching.widgets.interval import draw as draw_interval
from paperlib.teaching.widgets.interval import shares
from paperlib.teaching.widgets.levels import Fit, places
from paperlib.teaching.widgets.oscillation import in_numbers
from paperlib.teaching.widgets.quantizer import METHODS, Calibrated, real_values

FLOOR = -0.375


@functools.cache
def images():
    return torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@functools.cache
def network():
    """A float network with every kind of layer, not to be changed."""
    torch.manual_seed(0)
    return models.build("mobilenet_v3_small", width=0.25).eval()


@functools.cache
def quantized():
    """The same in 4 bits; DuQ's second scale is not its first."""
    net = models.calibrate(models.quantize(network(), models.Scheme()), images())
    with torch.no_grad():
        for q in (m for m in net.modules() if isinstance(m, quantizers.Quantizer)):
            q.c += 0.3
    return net


def run(aiwq=(1.0, 8.0, 2.0, 0.5, math.nan, 3.0)):
    layers = pd.DataFrame({"layer": list("abcdef"), "kind": ["first", "depthwise", "project", "se", "expand", "linear"],
                           "weight_shape": ["8x3x3x3", "8x1x3x3", "8x8x1x1", "4x8x1x1", "24x8x1x1", "10x24"]})
    table = layers[["layer", "kind"]].assign(phase="sampling", aiwq=aiwq)
    return runs.Run(recipes.profit(profile="smoke", seed=3), pd.DataFrame(), layers, table, key="made up", seconds=0.0,
                    environment={})


recorded = functools.cache(networks.four_bits)


EXPLORERS = {"quantizer": lambda: widgets.quantizer(network(), images()), "threshold": widgets.threshold,
             "histogram": lambda: widgets.histogram(quantized(), images()), "interval": widgets.interval}
MOVING = {"cost": lambda: widgets.cost(network()), "freezing": lambda: widgets.freezing(recorded()),
          "grid": lambda: widgets.grid(network().features[0][0].weight), "oscillation": widgets.oscillation}


def live(monkeypatch, make, pictures=False):
    """({knob's label: knob}, what reads the picture's description, the panel); live pictures only if asked for"""
    displayed = []
    if not pictures:
        monkeypatch.setattr(panel.Figure, "savefig", lambda *args, **options: None)
        monkeypatch.setattr(panel, "show", lambda figure, alt: None)
    monkeypatch.setattr(panel, "display", displayed.append)
    monkeypatch.setenv("JPY_SESSION_NAME", "a.ipynb")
    fixed = make()
    (box,) = displayed
    knobs, _, words = box.children
    return {knob.description: knob for knob in knobs.children}, lambda: html.unescape(words.value), fixed


def numbers(text, before):
    """The number that stands behind these words."""
    return float(re.search(rf"{before} (-?[\d.]+(?:e[-+]\d+)?)", text)[1])


# -- all of them ----------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("name", EXPLORERS)
def test_the_panel_is_the_same_with_and_without_a_front_end(name, monkeypatch):
    knobs, said, with_knobs = live(monkeypatch, EXPLORERS[name], pictures=True)
    monkeypatch.delenv("JPY_SESSION_NAME")
    monkeypatch.setattr(panel, "display", lambda widget: pytest.fail("nothing is live"))
    fixed = EXPLORERS[name]()
    assert isinstance(fixed, Image) and fixed.data == with_knobs.data and fixed.alt == with_knobs.alt
    assert fixed.alt.startswith(said()) and len(fixed.alt) > len(said())     # the knobs start at the first state
    assert len(fixed.data) < 60_000
    width, height = PIL.Image.open(io.BytesIO(fixed.data)).size
    assert width == 832 and 2 * 240 < height < 4 * 300


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPLORERS)
def test_every_place_of_every_knob_has_a_picture_of_its_own(name, monkeypatch):
    knobs, said, _ = live(monkeypatch, EXPLORERS[name], pictures=True)
    for label, knob in knobs.items():
        start, seen = knob.value, []
        places = knob.options if hasattr(knob, "options") else (knob.min, knob.max)
        for value in {places[0], places[1], places[-1]}:
            knob.value = value
            seen.append(said())
        knob.value = start
        assert len(set(seen)) == len(seen), label


# -- quantizer ------------------------------------------------------------------------------------------------------
def test_values_are_those_of_the_network():
    values = real_values(network(), images())
    kinds = [words.split()[0] for words in values]
    assert kinds[::2] == kinds[1::2] == ["first", "depthwise", "expand", "project", "se", "linear"]
    name = re.search(r"depthwise input \(([^)]+)\)", " ".join(values))[1]
    role, floor, x = values[f"depthwise input ({name})"]
    assert (role, floor) == ("activation", FLOOR) and x.min() >= FLOOR
    reached = []
    hook = network().get_submodule(name).register_forward_pre_hook(lambda layer, args: reached.append(args[0]))
    network()(images())
    hook.remove()
    assert x.tolist() == sample(reached[0]).tolist() and len(x) == min(SAMPLE, reached[0].numel())
    role, _, w = values[f"depthwise weight ({name})"]
    assert role == "weight" and torch.equal(w, network().get_submodule(name).weight.detach().flatten())
    assert values["first input (features.0.0)"][1] == -math.inf


@pytest.mark.parametrize("m", [1.0, 0.5])
def test_error_of_duq_weights_in_its_two_parts(m, monkeypatch):
    knobs, said, _ = live(monkeypatch, EXPLORERS["quantizer"])
    knobs["range factor"].value = m
    w = real_values(network(), images())[knobs["values of"].value][2].double()
    s = m * 0.9 * w.abs().max()
    square = (s / 7 * torch.round(7 * (w / s).clamp(-1, 1)) - w).square() / w.square().sum()
    assert numbers(said(), "of the squared values|Of the squared values") == pytest.approx(float(square.sum()), rel=.05)
    assert numbers(said(), "are lost,") == pytest.approx(float(square[w.abs() <= s].sum()), rel=.05)
    assert numbers(said(), "by rounding and") == pytest.approx(float(square[w.abs() > s].sum()), rel=.05)
    assert numbers(said(), "by clipping") == pytest.approx(100 * float((w.abs() > s).double().mean()), abs=.06)
    assert "15 levels" in said()


def test_pact_clips_what_h_swish_puts_below_zero():
    x = nn.functional.hardswish(torch.linspace(-4, 3, 2001))
    ready = Calibrated("activation", FLOOR, x, "pact / sawb", 4)
    alpha = x[x > 0].sort().values[math.ceil(0.99 * int((x > 0).sum())) - 1]
    y = torch.round(x.clamp(0, alpha) * 15 / alpha) * alpha / 15
    rounding, clipping, share = ready.error(1.0)
    outside = (x < 0) | (x > alpha)
    square = (y - x).double().square() / x.double().square().sum()
    parts = [float(square[which].sum()) for which in (~outside, outside)]
    assert [rounding, clipping] == pytest.approx(parts, rel=1e-4)
    assert share == pytest.approx(float(outside.double().mean())) and share > 0.4
    assert clipping > Calibrated("activation", FLOOR, x, "duq", 4).error(1.0)[1] * 5


@pytest.mark.parametrize("role, floor", [("weight", -math.inf), ("activation", -math.inf), ("activation", FLOOR),
                                         ("activation", 0.0)])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("m", [0.5, 2.0])
def test_a_wider_range_is_that_of_wider_values(role, floor, method, m):
    x = 2 * torch.randn(3000, generator=torch.Generator().manual_seed(1))
    x = x if floor == -math.inf else nn.functional.hardswish(x) if floor else x.relu()
    ready = Calibrated(role, floor, x, method, 4)
    low = ready.q.floor
    other = quantizers.build(METHODS[method][role != "weight"], role=role, bits=4, signed=floor == -math.inf,
                             floor=0.0 if floor == -math.inf else floor)
    other.calibrate(low + m * (x - low)).follows = False
    wide = places(other, other(x)).detach()
    off = (ready.quantize(x, m) - wide).abs() > 0.02 * (wide.max() - wide.min())
    assert off.double().mean() < 0.04       # values at a threshold, when the range found is not the same to the bit
    curve = ready.curve(m)
    assert len(curve["levels"]) == other.grid.n_levels and torch.isfinite(curve["slope"]).all()
    step = float(curve["levels"].diff().min())
    inside = (x > curve["levels"][0]) & (x < curve["levels"][-1])
    assert (ready.quantize(x, m) - x)[inside].abs().max() < (0.51 if method != "qil" else 1.01) * step


def test_slope_is_that_of_training():
    x = torch.linspace(-1, 1, 1001)
    curve = Calibrated("weight", -math.inf, x, "duq", 3).curve(0.5)
    inside = curve["x"].abs() < 0.45
    assert set(curve["slope"][inside].tolist()) == {1.0} and set(curve["slope"][~inside].tolist()) == {0.0}
    slopes = Calibrated("activation", 0.0, x.relu(), "qil", 3).curve(1.0)["slope"].unique()
    assert slopes.tolist() == pytest.approx([0.0, 1.0])         # in the input's units


def test_no_bit_width_that_a_method_lacks_can_be_chosen(monkeypatch):
    knobs, said, _ = live(monkeypatch, EXPLORERS["quantizer"])
    assert knobs["bits"].options == ("2", "3", "4", "5", "8")
    with pytest.raises(TraitError):
        knobs["bits"].value = "6"
    for method in ("sawb", "pact"):
        role = "weight" if method == "sawb" else "activation"
        assert {2, 3, 4, 5, 8} <= set(quantizers.find(method, role).bit_widths)


def test_networks_and_images_that_do_not_fit():
    with pytest.raises(InputError, match="no Conv2d or Linear"):
        widgets.quantizer(nn.ReLU(), images())
    with pytest.raises(InputError, match="cannot take images of shape"):
        widgets.quantizer(network(), images()[:, :1])
    with pytest.raises(InputError, match="cannot take images of shape"):
        widgets.histogram(quantized(), images()[:, :1])


# -- threshold ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("bits, update", [(2, 0.005), (4, 0.005), (4, 0.01), (8, 0.002)])
def test_crossings_in_closed_form(bits, update, monkeypatch):
    knobs, said, _ = live(monkeypatch, widgets.threshold)
    knobs["bits"].value, knobs["update"].value = bits, update
    k = 2 ** (bits - 1) - 1
    before, after = ((k - 1) / 2 / k, (k + 1) / 2 / k)
    text = said()
    assert f"from {before:.3f} to {after:.3f}, {1 / k / update:.3g} updates far" in text
    assert numbers(text, f"at {bits} bits") == pytest.approx(100 * k * update, abs=0.06)
    assert numbers(text, "a jump is") == pytest.approx(1 / k / update, rel=5e-3)
    assert numbers(text, "all moves") == pytest.approx(math.sqrt(update / k) / update, rel=6e-3)
    assert numbers(text, "their mean") == pytest.approx(1.0, rel=5e-3)


def test_a_weight_that_is_too_far_from_the_threshold_stays(monkeypatch):
    knobs, said, _ = live(monkeypatch, widgets.threshold)
    for bits in range(2, 9):
        knobs["bits"].value = bits
        for updates, moves in ((-0.1, False), (0.1, True), (0.9, True), (1.1, False)):
            knobs["updates to threshold"].value = updates
            assert ("updates far" in said()) == moves and ("leaves the quantized weight" in said()) != moves


# -- those that a module moves ---------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("name", MOVING)
def test_a_module_moves_the_picture_and_the_fixed_panel_stays(name, monkeypatch):
    displayed = []
    monkeypatch.setattr(panel, "display", displayed.append)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    fixed = MOVING[name]()
    assert not displayed and isinstance(fixed, Image) and len(fixed.data) < 60_000
    metadata = {"image/png": fixed._repr_png_()[1]}
    assert metadata["image/png"]["alt"] == fixed.alt and metadata["image/png"]["live"]["module"] == name
    monkeypatch.setenv("JPY_SESSION_NAME", "a.ipynb")
    assert MOVING[name]().data == fixed.data
    (shown,) = displayed
    assert shown.data == moving.noted(json.loads(json.dumps(metadata, allow_nan=False)))
    assert shown.data.count("<div") == shown.data.count("</div>") and shown.data.count("</script>") == 1


def test_a_picture_without_a_module_has_no_html():
    assert moving.noted({}) is None and moving.noted({"image/png": {"alt": "words"}}) is None


def test_the_end_of_a_script_in_data_does_not_end_the_script():
    assert moving.html("grid", {"text": "</script>"}).count("</script>") == 1


# -- grid -----------------------------------------------------------------------------------------------------------
def test_errors_of_a_grid_by_hand():
    x = torch.randn(500, generator=torch.Generator().manual_seed(0))
    picture = widgets.grid(x, bits=4)
    data = picture.metadata["live"]["data"]
    assert data["bits"] == 4 and np.array_equal(np.frombuffer(base64.b64decode(data["float32"]), "<f4"), x.numpy())
    top = x.abs().max()
    lost = (((x / top * 7).round() * top / 7 - x).square().mean() / x.square().mean()).item()
    first = re.search(r"15 levels up to (\S+), .*?: (\S+) here, (\S+) by rounding and (\S+) by", picture.alt)
    assert [float(value) for value in first.groups()] == pytest.approx([top.item(), lost, lost, 0], abs=6e-4)
    here = [float(error) for error in re.findall(r"([\d.]+) here", picture.alt)]
    assert len(here) == 2 and here[1] < here[0], "the second picture has the smallest error"


# -- freezing -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("order, first", [("aiwq", "bfca"), ("reverse", "edac"), ("random", None)])
def test_frozen_layers_by_hand(order, first):
    made = run()
    data = widgets.freezing(made).metadata["live"]["data"]
    if first is None:
        shuffled = torch.randperm(6, generator=torch.Generator().manual_seed(3)).tolist()
        first = "".join("abcdef"[i] for i in shuffled[:4])
    ranks = dict(zip("abcdef", data["orders"][order]))
    assert sorted(ranks.values()) == [1, 2, 3, 4, 5, 6] and [ranks[name] for name in first] == [1, 2, 3, 4]
    assert [layer["weights"] for layer in data["layers"]] == [216, 72, 64, 32, 192, 240]
    assert [layer["aiwq"] for layer in data["layers"]] == [1, 8, 2, 0.5, None, 3]


def test_the_words_say_what_still_trains():
    text = widgets.freezing(run()).alt
    assert "in the order aiwq 2 layers are frozen (1 depthwise, 1 linear)" in text
    assert f"{3.5 / 14.5:.1%} of the sum of AIWQ and {504 / 816:.1%} of the weights" in text


def test_the_panel_shows_the_rounds_of_profit():
    text = widgets.freezing(recorded()).alt
    assert re.findall(r"order (\w+) (\d+) layers", text) == [("aiwq", "21"), ("aiwq", "43"), ("reverse", "21")]
    found, history = recorded(), recorded().recipe.phases
    shares = [p.freeze.share for p in history if p.name in ("round 2", "round 3")]
    assert [round(share * len(found.instability)) for share in shares] == [21, 43]


def test_a_run_without_aiwq_is_refused():
    bare = run()
    bare.instability = pd.DataFrame()
    with pytest.raises(InputError, match="has measured no AIWQ"):
        widgets.freezing(bare)


# -- oscillation ----------------------------------------------------------------------------------------------------
def test_a_weight_jumps_as_often_at_any_rate_and_is_right_in_the_mean():
    source = (moving.FOLDER / "oscillation.js").read_text(encoding="utf-8")
    rates = json.loads(re.search(r"RATES = (\[.+?\])", source)[1])
    low, high, step = (float(re.search(rf'{name}="(.+?)"', source)[1]) for name in ("min", "max", "step"))
    optima = np.linspace(low, high, round((high - low) / step) + 1).round(2)
    assert len(rates) == 6 and len(optima) == 19
    for optimum, rate in itertools.product(optima, rates):
        told = in_numbers(descend(optimum, rate))
        share = min(optimum, 1 - optimum)       # of the time on the rarer level, an update each time
        assert told["jumps"] == round(2 * share * 60) - 1, (optimum, rate)
        assert told["mean"] == pytest.approx(optimum, abs=0.02), (optimum, rate)
        assert told["swing"] == pytest.approx(in_numbers(descend(optimum, 0.1))["swing"] * rate / 0.1), (optimum, rate)


def test_an_optimum_on_a_level_is_refused():
    with pytest.raises(InputError, match="between 0 and 1, got 1 and 0.1"):
        descend(1, 0.1)


# -- histogram ------------------------------------------------------------------------------------------------------
def test_fit_of_a_layer_by_hand(monkeypatch):
    name = next(n for n, m in quantized().named_modules() if getattr(m, "kind", "") == "expand")
    layer = quantized().get_submodule(name)
    q, w = layer.weight_quantizer, layer.weight.detach().double()
    a, c = softplus(q.a).item(), softplus(q.c).item()
    y = c / 7 * torch.round(7 * (w / a).clamp(-1, 1))
    fit = Fit.of(q, layer.weight.detach())
    assert fit.levels == 15 and fit.used == len(torch.round(7 * (w / a).clamp(-1, 1)).unique())
    assert fit.clipped == pytest.approx((w.abs() > a).double().mean().item())
    assert fit.error == pytest.approx(((y - w).square().sum() / w.square().sum()).item(), rel=1e-4)
    factor = (w * y).sum() / y.square().sum()
    assert fit.rescaled == pytest.approx(((factor * y - w).square().sum() / w.square().sum()).item(), rel=1e-4)
    assert fit.rescaled < fit.error / 2         # the second scale is far from the first here
    knobs, said, _ = live(monkeypatch, EXPLORERS["histogram"])
    knobs["layer"].value = f"{name} (expand)"
    assert f"weights, 4 bits: {fit.used} of 15 levels used, {fit.clipped:.1%} clipped" in said()
    assert f"relative squared error {fit.error:.2g}, rescaled {fit.rescaled:.2g}" in said()
    assert f"levels from {-c:.3g} to {c:.3g}" in said()


def test_places_are_those_before_the_second_scale():
    q = quantizers.build("duq", role="activation", bits=2, floor=FLOOR).calibrate(torch.linspace(FLOOR, 3, 100))
    with torch.no_grad():
        q.c += 1
    a = softplus(q.a).item()
    assert places(q, q.levels()).tolist() == pytest.approx([FLOOR + a * i / 3 for i in range(4)])
    q = quantizers.build("qil", role="activation", bits=2).calibrate(torch.linspace(0, 3, 100))
    with torch.no_grad():
        q.c += 0.2
    low, high = q.c.item() - q.d.item(), q.c.item() + q.d.item()
    assert places(q, q.levels()).tolist() == pytest.approx(np.linspace(low, high, 4).tolist())
    q = quantizers.build("qil", role="activation", bits=3, signed=True).calibrate(torch.linspace(-3, 3, 100))
    with torch.no_grad():
        q.c += 0.2
    low, high = q.c.item() - q.d.item(), q.c.item() + q.d.item()
    upper = np.linspace(low, high, 4)[1:]
    assert places(q, q.levels()).tolist() == pytest.approx([*-upper[::-1], 0, *upper])


def test_a_range_for_each_channel():
    net = models.quantize(network(), models.Scheme(per_channel=True))
    text = widgets.histogram(models.calibrate(net, images()), images()).alt
    assert re.search(r"weights, 4 bits: \d+ of 15 levels used, [\d.]+% clipped", text)


def test_a_layer_left_in_float_is_said_to_be():
    net = models.quantize(network(), models.Scheme(a_bits=32))
    assert "inputs: float, values from" in widgets.histogram(models.calibrate(net, images()), images()).alt
    with pytest.raises(InputError, match="is not quantized: call models.quantize"):
        widgets.histogram(network(), images())
    with pytest.raises(InputError, match="has no quantizers: call models.quantize"):
        widgets.histogram(models.quantize(network(), models.Scheme(w_bits=32, a_bits=32, first_input_bits=32,
                                                                   se_bits=32)), images())
    with pytest.raises(InputError, match="has no range yet"):
        widgets.histogram(models.quantize(network(), models.Scheme()), images())


def test_the_network_stays_as_it_is():
    net = models.fuse(quantized()).train()
    before = {name: value.clone() for name, value in net.state_dict().items() if isinstance(value, torch.Tensor)}
    assert widgets.histogram(net, images()).alt == EXPLORERS["histogram"]().alt
    widgets.quantizer(net, images())
    assert net.training and all(torch.equal(value, before[name]) for name, value in net.state_dict().items()
                                if name in before)


# -- cost -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("w, a, first, se", [(4, 4, 8, 8), (8, 8, 8, 8), (2, 4, 8, 8), (3, 3, 8, 8)])
def test_cost_is_that_of_the_quantized_network(w, a, first, se):
    net = models.quantize(network(), models.Scheme(w_bits=w, a_bits=a, first_input_bits=first, se_bits=se))
    wanted = cost.table(net, 32)
    wanted = wanted[wanted.macs > 0].groupby("kind")[["bops", "weight_bytes"]].sum()
    kinds = {"first": (w, first), "se": (w, se), **{k: (w, a) for k in ("depthwise", "expand", "project", "linear")}}
    for start in (network(), quantized()):          # its own bits don't matter
        found = by_kind(counted(start, 32), kinds)
        assert found.bops.to_dict() == pytest.approx(wanted.bops.to_dict())
        assert found.bytes.to_dict() == pytest.approx(wanted.weight_bytes.to_dict())


def test_the_panel_starts_with_profits_precision_map():
    picture = widgets.cost(network())
    table, data = cost.table(models.quantize(network(), models.Scheme()), 32), picture.metadata["live"]["data"]
    assert numbers(picture.alt, "chosen") == pytest.approx(table.bops.sum() / 1e6, rel=1e-3)
    assert numbers(picture.alt, "float") == pytest.approx(cost.table(network(), 32).bops.sum() / 1e6, rel=1e-3)
    assert {row["kind"]: row["start"] for row in data["kinds"]} == {
        "first": "4 / 8", "depthwise": "4 / 4", "expand": "4 / 4", "project": "4 / 4", "se": "4 / 8", "linear": "4 / 4"}
    assert dict(data["bits"])["4 / 8"] == (4, 8)


def test_an_image_that_the_network_cannot_take():
    with pytest.raises(InputError, match="cannot send an image"):
        widgets.cost(network(), (1, 32, 32))


# -- interval -------------------------------------------------------------------------------------------------------
def test_shares_are_those_of_normal_weights():
    expected = math.erf(1 / math.sqrt(2)), math.erfc(1 / math.sqrt(2))
    assert shares(0.35, 0.35, 2) == pytest.approx(expected)        # m = M = one s.d.
    assert shares(0.1, 0.5, 8)[0] == 0         # m below 0: nothing is pruned
    text = draw_interval(Figure(), c=0.5, d=0.4, bits=3)
    assert "the interval from 0.10 to 0.90 shaded. Weights: 0 below 0.23, then 3 levels up to 0.77" in text
