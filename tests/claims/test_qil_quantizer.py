"""QIL, Fig. 1 to 3: pictures show the curves they are given, and say so in words."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from paperlib.analysis import qil_equations
from paperlib.plots import qil_layer
from paperlib.plots import qil_quantizer as plots


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_every_box_of_the_layer_is_connected_and_apart_from_the_others():
    figure = qil_layer.draw()
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert len(figure.axes[0].patches) >= len(qil_layer.BOXES) and "convolution" in texts
    assert {box for arrow in qil_layer.ARROWS for box in arrow} == set(qil_layer.BOXES)
    flow = qil_layer.flow()
    assert len(flow) == len(qil_layer.ARROWS) and flow.iloc[-1].tolist() == ["convolution", "loss L"]
    edges = [(x - w / 2, x + w / 2, y - h / 2, y + h / 2) for x, y, w, h, *_ in qil_layer.BOXES.values()]
    for i, (l0, r0, b0, t0) in enumerate(edges):
        assert all(r0 < l1 or r1 < l0 or t0 < b1 or t1 < b0 for l1, r1, b1, t1 in edges[i + 1:])


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_weights_draw_staircase_mapping_and_surrogate(bits):
    curves = qil_equations.curves(0.5, 0.4, bits, 2)
    figure = plots.draw_weights(curves, c=0.5, d=0.4, bits=bits)
    a, b, c = figure.axes
    rows = curves[(curves.role == "weight") & (curves.bits == bits)]
    for line, column in ((a.lines[0], "staircase"), (a.lines[1], "mapping"), (b.lines[1], "surrogate")):
        assert np.array_equal(line.get_ydata(), rows[column])
    levels = 2 * qil_equations.steps("weight", bits) + 1
    assert len(np.unique(np.round(rows.staircase, 9))) == levels
    assert len(np.unique(np.round(c.lines[0].get_ydata(), 9))) == 3
    marks = dict(zip((t.get_text() for t in a.get_xticklabels()), a.get_xticks()))
    k = qil_equations.weight_constants(0.5, 0.4, bits)
    expected = {"$c-d$": 0.1, "$c$": 0.5, "$c+d$": 0.9} | ({"$m$": k.m, "$M$": k.M} if bits == 3 else {})
    assert marks == pytest.approx(expected)
    assert f"a staircase of {levels} levels at {bits} bits" in figure.alt and f"level at M = {k.M:.3f}" in figure.alt


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_activations_draw_staircase_and_surrogate(bits):
    curves = qil_equations.curves(0.5, 0.4, 3, bits)
    figure = plots.draw_activations(curves, c=0.5, d=0.4, bits=bits)
    a, b = figure.axes
    assert len(np.unique(np.round(a.lines[0].get_ydata(), 9))) == 2**bits
    assert set(np.unique(b.lines[0].get_ydata())) == {0, 1} and b.get_title(loc="left") == "(b) 1 bit"
    jump = b.lines[0].get_xdata()[np.argmax(b.lines[0].get_ydata() > 0)]
    assert jump == pytest.approx(0.5, abs=0.01)
    assert f"from 0 to 1 of {2**bits} levels" in figure.alt


@pytest.mark.parametrize("w_bits, a_bits", [(2, 1), (3, 2), (4, 3)])
def test_marks_do_not_overlap(w_bits, a_bits):
    at = {"c": 0.5, "d": 0.4}
    curves = qil_equations.curves(w_bits=w_bits, a_bits=a_bits, **at)
    for figure in (plots.draw_weights(curves, bits=w_bits, **at), plots.draw_activations(curves, bits=a_bits, **at)):
        figure.canvas.draw()
        for ax in figure.axes:
            for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
                boxes = [label.get_window_extent() for label in labels if label.get_text()]
                assert not any(p.overlaps(q) for i, p in enumerate(boxes) for q in boxes[i + 1:])


def test_gradients_show_what_is_misprinted():
    weights, activations = qil_equations.gradient_check("weight"), qil_equations.gradient_check("activation")
    figure = plots.draw_gradients(weights, activations)
    for ax, (table, name) in zip(figure.axes, ((weights, "c"), (activations, "d"))):
        rows = table[table.derivative == name]
        assert [np.array_equal(line.get_ydata(), rows[column]) for line, column in zip(
            (ax.lines[0], ax.lines[2]), ("right", "printed"))] == [True, True]
    off = (activations.printed - activations.numeric)[activations.derivative == "d"].abs().max()
    mended = [(table.right - table.numeric)[table.derivative == name].abs().max()
              for table, name in ((weights, "c"), (activations, "d"))]
    assert max(mended) < 1e-8 and f"at most {mended[0]:.0e} and {mended[1]:.0e} off the solid" in figure.alt
    assert f"and {off:.2f} off the dashed" in figure.alt
