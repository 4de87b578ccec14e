"""PROFIT, Fig. 2 to 4: the weight at a threshold in closed form, claims and pictures on made-up runs."""
import math

import numpy as np
import pandas as pd
import pytest
from conftest import agree, leans, made_up
from matplotlib import pyplot as plt
from torch import nn

from paperlib import analysis, models, plots, recipes
from paperlib.analysis import one_weight
from paperlib.analysis.aiwq import DRIFTS, by_bits, in_words
from paperlib.claims import CONTRADICTED, SUPPORTED
from paperlib.claims.aiwq import aiwq_grows, aiwq_is_uneven, norms_jump
from paperlib.errors import InputError
from paperlib.runs import Run
from paperlib.training import aiwq, freezing

LAYERS = [("features.0.0", "first"), ("features.1.conv.0.0", "depthwise"), ("features.1.conv.1", "project"),
          ("features.2.fc1", "se"), ("features.2.0", "expand"), ("classifier", "linear")]
NORMS = ["features.0.1", "features.1.conv.0.1", "features.1.conv.2", "features.2.1"]


def run(bits, aiwq=(1.0, 2.0, 3.0), drift=0.1, seed=0, dead=2, **changes):
    """A run with the AIWQ of each layer, and eight iterations in which every norm moves by ``drift`` in the second
    half and does the opposite, a lot or nothing, in the first.  ``changes``: another drift of one metric."""
    table = pd.DataFrame([(*layer, value) for layer, value in zip(LAYERS, aiwq)], columns=["layer", "kind", "aiwq"])
    table["dead"], table["trimmed"] = dead, table.aiwq
    rows = [(i, layer, "aiwq", value * i) for i in range(2, 9) for (layer, _), value in zip(LAYERS, aiwq)]
    for i in range(1, 9):
        for k, norm in enumerate(NORMS):
            rows += [(i, norm, "running_mean", 10 * k + i), (i, norm, "running_var", 20 * k + i)]
            for metric in DRIFTS:
                late = changes.get(metric, drift)
                rows.append((i, norm, metric, late * (1 + 0.5 * (-1) ** i) if i > 4 else 9.0 * (late < 0.2)))
    steps = pd.DataFrame(rows, columns=["iteration", "layer", "metric", "value"]).assign(phase="weights")
    history = [("weights", epoch, "val", "accuracy", 50.0 + 10 * epoch) for epoch in (0, 1)]
    return made_up(recipes.weights_alone(bits, profile="smoke", measure=True, seed=seed), history, table, steps)


# -- the toy ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("update", [0.001, 0.005])
def test_one_weight_in_closed_form(update):
    table = one_weight.one_weight((8, 5, 4, 3, 2), update)
    for row in table.itertuples():
        k = 2 ** (row.bits - 1) - 1
        assert row.levels == 2 * k + 1 and row.step == pytest.approx(1 / k)
        assert (row.before, row.after) == pytest.approx(((k - 1) / 2 / k, (k + 1) / 2 / k))
        assert row.jump == pytest.approx(1 / k / update)
        assert (row.crossing, row.mean_move, row.rms_move) == pytest.approx(
            (k * update, update, math.sqrt(update / k)), rel=2e-3)


def test_an_update_that_is_larger_than_the_range_is_refused():
    for update in (0.0, 1.0, -0.1):
        with pytest.raises(InputError, match="update"):
            one_weight.one_weight([4], update)


def test_staircase_has_the_quantizers_levels():
    stairs = one_weight.staircases([3, 2], -1, 1)
    for bits, stair in stairs.groupby("bits"):
        assert stair.quantized.drop_duplicates().tolist() == pytest.approx(np.linspace(-1, 1, 2**bits - 1))
        assert (stair.quantized - stair.weight).abs().max() <= 0.5 / (2 ** (bits - 1) - 1) + 1e-6


# -- the claims ---------------------------------------------------------------------------------------------------

def test_aiwq_grows_at_every_step_or_not():
    rising = {32: [run(32, (1, 1, 1))], 2: [run(2, (1, 100, 1000))], 4: [run(4, (0, 10, 10))]}
    verdict = aiwq_grows(rising)
    assert leans(verdict) == SUPPORTED
    assert verdict.differences.comparison.tolist() == ["float to 4 bits", "4 bits to 2 bits"]   # whatever their order
    assert verdict.differences.difference.tolist() == pytest.approx([1.0, 1.0])
    for dip in (10.0, 9.0):
        verdict = aiwq_grows({**rising, 2: [run(2, (1, dip, 1e6))]})        # one wild layer is not the median
        assert leans(verdict) == CONTRADICTED and agree(verdict) == [1, 0]


def test_aiwq_that_grows_for_one_seed_only():
    runs = {32: [run(32), run(32, seed=1)], 2: [run(2, (9, 9, 9)), run(2, (1, 1, 1), seed=1)]}
    verdict = aiwq_grows(runs)
    assert leans(verdict) == CONTRADICTED and agree(verdict) == [1]
    with pytest.raises(InputError, match="same seeds"):
        aiwq_grows({32: [run(32)], 2: [run(2, seed=1)]})


def test_layers_that_never_moved():
    still, moved = {32: [run(32, (0, 0, 0))]}, [run(2, (0, 1e-9, 1))]
    assert leans(aiwq_grows({**still, 2: [run(2, (0, 0, 5))]})) == CONTRADICTED
    assert leans(aiwq_grows({**still, 2: moved})) == SUPPORTED
    assert leans(aiwq_grows({32: [run(32)], 2: [run(2, (math.nan, 4, math.nan))]})) == SUPPORTED


def test_norms_jump_more_only_if_both_statistics_do_at_each_low_bit_width():
    runs = {32: [run(32)], 8: [run(8, drift=0.01)], 4: [run(4, drift=0.3)], 2: [run(2, drift=1.0)]}
    verdict = norms_jump(runs)
    assert leans(verdict) == SUPPORTED and len(verdict.differences) == 4      # 8 bits are not few
    assert verdict.differences.difference.tolist() == pytest.approx([math.log10(3), 1.0] * 2)
    for bits in (4, 2):
        for metric in DRIFTS:
            other = {**runs, bits: [run(bits, drift=1.0, **{metric: 0.1})]}     # as in float
            assert leans(norms_jump(other)) == CONTRADICTED, (bits, metric)
            assert sum(agree(norms_jump(other))) == 3


def test_norms_need_something_to_be_compared_with():
    for bits in ((4, 2), (32, 8), ()):
        with pytest.raises(InputError, match="float weights"):
            norms_jump({b: [run(b)] for b in bits})
    silent = run(4)
    silent.steps = silent.steps[silent.steps.metric == "aiwq"]
    with pytest.raises(InputError, match="measure=True"):
        norms_jump({32: [run(32)], 4: [silent]})


@pytest.mark.parametrize("largest, verdict", [(10.0, SUPPORTED), (9.99, CONTRADICTED), (500.0, SUPPORTED)])
def test_uneven_is_ten_times_the_median(largest, verdict):
    found = aiwq_is_uneven([run(4, (0.1, 1.0, largest), dead=0), run(4, (0.1, 1.0, 99.0), seed=1, dead=0)])
    assert leans(found) == verdict and found.differences.seed.tolist() == [0, 1]
    assert found.differences.difference[0] == pytest.approx(math.log10(largest))


def test_a_channel_that_is_nearly_dead_decides_nothing():
    one = run(4, (5.0, 1.0, 1e6), dead=[0, 0, 0])
    one.instability["trimmed"] = [5.0, 1.0, 0.1]
    assert aiwq_is_uneven([one]).differences.difference.tolist() == pytest.approx([math.log10(5.0)])


def test_table_by_bits_is_the_mean_over_seeds():
    table = by_bits({32: [run(32)], 2: [run(2, (1, 2, 6), 0.3), run(2, (1, 4, 7), 0.5, seed=1)]})
    assert table.bits.tolist() == [32, 2]
    row = table.iloc[1]
    assert row.tolist() == pytest.approx([2, 3.0, 3.5, 6.5, 0.4, 0.4, 60.0, 100.0])


# -- the pictures -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("model", ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large"])
def test_norm_behind_a_layer_as_the_network_has_it(model):
    net = models.quantize(models.build(model, num_classes=10, width=0.25, input_size=32), models.Scheme())
    behind, names = freezing.norms_behind(net), freezing.layers(net)
    steps = pd.DataFrame([(1, norm, "running_mean", 0.0) for norm in behind.values()],
                         columns=["iteration", "layer", "metric", "value"])
    for layer in names:
        table = pd.DataFrame({"layer": names, "aiwq": [2.0 if n == layer else float(n == names[0]) for n in names]})
        found = analysis.aiwq.norm_behind(Run(None, None, None, table, steps, key="", seconds=0, environment={}))
        assert found == behind.get(layer, behind[names[0]])     # without a norm: the next one counts


def test_norm_behind_needs_the_history():
    bare = run(4)
    bare.steps = bare.steps[bare.steps.metric == "aiwq"]
    with pytest.raises(InputError, match="measure=True"):
        analysis.aiwq.norm_behind(bare)


def test_steps_are_aggregated_for_each_iteration():
    steps = analysis.aiwq.steps({32: run(32, (1, 2, 9)), 2: run(2, (1, 5, 9))}, NORMS[1])
    assert len(steps) == 2 * (7 + 8 + 8)
    series = steps[steps.bits == 2].set_index(["quantity", "iteration"]).value
    weights = 0.999 ** np.arange(7)[::-1]           # the value of iteration i is 5 i; with 0.999, nearly a plain mean
    assert series[analysis.aiwq.AIWQ].iloc[-1] == pytest.approx(weights @ (5.0 * np.arange(2, 9)) / weights.sum())
    assert series[analysis.aiwq.AIWQ].iloc[0] == 10.0
    assert series["running_mean"].tolist() == [10 + i for i in range(1, 9)]
    assert series["running_var"].tolist() == [20 + i for i in range(1, 9)]


def test_the_line_ends_where_the_table_stands():
    """The moving average over iterations is the one that Aiwq computes, also where an iteration has no value."""
    watched = [aiwq._Watched(nn.Linear(1, 1)) for _ in range(3)]
    rows = [(i, f"{k}", "aiwq", value) for i in range(2, 30) for k, w in enumerate(watched)
            if (value := w.add(np.array([math.nan if (i + k) % 3 == 0 else float(i * (k + 1))]), 0.999)) is not None]
    table = pd.DataFrame({"layer": list("012"), "aiwq": [w.average / (1 - 0.999**w.iterations) for w in watched]})
    steps = pd.DataFrame(rows, columns=["iteration", "layer", "metric", "value"])
    drawn = analysis.aiwq.steps({4: Run(None, None, None, table, steps, key="", seconds=0, environment={})}, "none")
    assert drawn.value.iloc[-1] == pytest.approx(table.aiwq.median())


def layers():
    return analysis.aiwq.by_layer([run(4, (1, 8, 2, 0.5, 4, 3)), run(4, (1, 8, 4, 0.5, 4, 3), seed=1)])


def test_layers_freeze_by_rank_of_the_mean_over_seeds():
    table = layers()
    assert table.layer.tolist() == [name for name, _ in LAYERS]
    assert table.aiwq.tolist() == [1, 8, 3, 0.5, 4, 3]
    assert table.frozen.tolist() == [4, 2, 3, 4, 2, 3]
    found = analysis.aiwq.limits(table)
    assert found == pytest.approx({2: math.sqrt(4 * 3), 3: math.sqrt(3 * 1)})
    table.loc[3, "kind"] = "project"
    kinds = analysis.aiwq.by_kind(table)
    assert kinds.kind.tolist()[:2] == ["depthwise", "expand"] and kinds.kind.tolist()[-1] == "first"
    assert kinds.set_index("kind").loc["project"].tolist() == [2, 1.75, 3.0, 0]


def test_pictures_show_what_the_tables_say():
    runs, table = {32: run(32), 2: run(2, (1, 5, 9))}, layers()
    steps = analysis.aiwq.steps(runs, NORMS[0])
    lines = plots.aiwq.draw_steps(steps, NORMS[0], footnote="made up")
    assert [len(ax.lines) for ax in lines.axes] == [2, 2, 2] and lines.axes[0].get_yscale() == "log"
    assert lines.axes[1].lines[1].get_ydata().tolist() == list(range(1, 9))
    assert [t.get_text() for t in lines.legends[0].get_texts()] == ["float", "2 bits"]
    dots = plots.aiwq.draw_layers({"ours": table, "theirs": table}, footnote="made up")
    drawn = {line.get_label(): line for line in dots.axes[1].lines}
    assert drawn["depthwise"].get_xdata().tolist() == [1] and drawn["depthwise"].get_ydata().tolist() == [8.0]
    looks = {(line.get_color(), line.get_marker()) for kind, line in drawn.items() if kind in plots.aiwq.KINDS}
    assert len(looks) == table.kind.nunique() == 6
    one = plots.aiwq.draw_one_weight(one_weight.staircases((4, 2)), one_weight.one_weight((4, 2)))
    assert [t.get_text() for ax in one.axes for t in ax.texts if t.get_text()] == ["+0.14", "+1"]
    plt.close("all")


def test_alternative_texts_name_the_values():
    steps = analysis.aiwq.steps({32: run(32), 2: run(2, (1, 5, 9))}, NORMS[0])
    text = plots.aiwq.draw_steps(steps, NORMS[0], footnote="made up").alt
    assert "AIWQ ends at float 10, 2 bits 25;" in text and f"the running variance of {NORMS[0]}" in text
    text = plots.aiwq.draw_layers({"ours": layers()}, footnote="made up").alt
    assert ("ours: the largest is features.1.conv.0.0 (depthwise) with 8, or 8 without extreme channels, the median 3, "
            "and round 2 would freeze 1 depthwise, 1 expand") in text
    text = plots.aiwq.draw_one_weight(one_weight.staircases((4, 2)), one_weight.one_weight((8, 4, 2))).alt
    plt.close("all")
    assert "4 bits, 15 levels: from 0.429 to 0.571; 2 bits, 3 levels: from 0 to 1." in text and "8 bits" not in text


def test_words_say_what_the_tables_say():
    found = {2: [run(2, (1, 5, 60))], 4: [run(4, (1, 3, 21))], 32: [run(32, (1, 4, 100))]}
    text = in_words(found, 4)
    assert "largest AIWQ is that of `features.1.conv.1`, 7 times the median" in text
    assert "are project, depthwise, first." in text
    assert "grows at 1 of 2 steps" in text and "at 2 bits that mean is 4.4 times the median; 6 channels" in text
    assert "100 % of the layers that PROFIT freezes in its second round are the same" in text
    for group in found.values():
        group[0].instability["trimmed"] = [21.0, 3.0, 1.0]
    assert " 0 % of the layers that PROFIT freezes in its second round are the same" in in_words(found, 4)
    assert by_bits(found)["same third without extreme channels (%)"].tolist() == [0.0] * 3
    seeds = [run(4, (1, 3, third), seed=i) for i, third in enumerate((2, 2, 20))]
    order = ", ".join(analysis.aiwq.by_kind(analysis.aiwq.by_layer(seeds)).kind)
    assert order.startswith(LAYERS[2][1])
    assert f"are {order}." in in_words({4: seeds, 32: seeds}, 4)
