"""The quantizer sheet: its curves are the quantizers' own, and a new method gets there by itself."""
import pytest
import torch
from torch.nn.functional import softplus

from paperlib import quantizers
from paperlib.analysis import quantizer_curves
from paperlib.errors import InputError
from paperlib.plots import quantizer_sheet
from paperlib.quantizers import registry
from paperlib.quantizers.functional import Affine, Grid

PAIRS = [(name, role) for role in ("weight", "activation") for name in quantizers.names(role)]


@pytest.fixture
def newcomer():
    @quantizers.register("halves")
    class Halves(quantizers.Quantizer):
        """Rounds to halves.

        *Reference*: nobody,
        nowhere.

        *Differences*: none.
        """

        roles, bit_widths, range_from, grid = ("activation",), (2, 8), None, Grid(2, 0, 3)

        def affine(self):
            return Affine(torch.ones(()).double(), torch.ones(()).double())

    yield Halves
    del registry._METHODS["halves"]


@pytest.mark.parametrize("name, role", PAIRS)
def test_curves_are_those_of_the_quantizer(name, role):
    table = quantizer_curves.curves(name, role, n=60)
    q = quantizer_curves.build(name, role)
    q.calibrate(quantizer_curves.sample(role, signed=q.signed))
    levels = torch.tensor(table.attrs["levels"], dtype=torch.float64)
    assert torch.equal(levels, q.levels())              # of the sample, not of the 60 inputs
    y = torch.tensor(table.y, dtype=torch.float64)
    assert torch.isin(y, levels).all() and len(y) == 60 and q.bits == quantizer_curves.nearest(name, role)
    assert (table.error == table.y - table.x).all() and table.x.is_monotonic_increasing
    q.follows = False
    x = torch.tensor(table.x, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(q, x)
    assert table.gradient.tolist() == pytest.approx(jacobian.diagonal().tolist())
    learned = dict(q.named_parameters())
    assert [c for c in table if c.startswith("dy/d")] == [f"dy/d{p}" for p in learned]
    if learned:     # the sum over all inputs is what training gets
        sums = torch.autograd.grad(q(x).sum(), list(learned.values()))
        assert table[[f"dy/d{p}" for p in learned]].sum().tolist() == pytest.approx([s.item() for s in sums])


def test_gradients_of_duq_after_h_swish_by_hand():
    table = quantizer_curves.curves("duq", "activation", floor=-0.375)
    q = quantizer_curves.build("duq", "activation", floor=-0.375)
    q.calibrate(quantizer_curves.sample("activation", floor=-0.375))
    top, inside = softplus(q.a).item() - 0.375, table.gradient != 0
    assert inside.tolist() == [-0.375 < x < top for x in table.x] and set(table.gradient[inside]) == {1.0}
    assert table.y.min() == -0.375 and table.y.max() == pytest.approx(top)
    slope = -torch.sigmoid(q.a).item() * (table.x + 0.375) / softplus(q.a).item() * inside
    assert table["dy/da"].tolist() == pytest.approx(slope.tolist())


def test_ranges_that_follow_the_weight_stay_those_of_the_sample():
    w = quantizer_curves.sample("weight")
    assert quantizer_curves.curves("bwn", "weight", n=9).attrs["levels"][1] == pytest.approx(w.abs().mean().item())
    ttq = quantizer_curves.curves("ttq", "weight", n=801)
    assert ttq.x[ttq.y > 0].min() == pytest.approx(0.05 * w.abs().max().item(), abs=0.01)


def test_the_sheet_has_every_method_and_h_swish_where_it_matters():
    assert [table.attrs["name"] for table in quantizer_curves.sheet("weight", n=9)] == quantizers.names("weight")
    drawn = [table.attrs["title"].split(" · ")[:2] for table in quantizer_curves.sheet("activation", n=9)]
    assert {label.lower() for label, form in drawn} == set(quantizers.names("activation"))
    assert ["DuQ", "activations after h-swish"] in drawn and ["LSQ+", "activations after h-swish"] in drawn
    assert ["PACT", "activations after h-swish"] not in drawn and ["XNOR", "signed activations"] in drawn


def test_a_new_method_shows_up_by_itself(newcomer):
    (table,) = [table for table in quantizer_curves.sheet("activation", n=9) if table.attrs["name"] == "halves"]
    assert table.attrs["title"] == "Halves · activations after ReLU · 2 bits"       # 2 is nearer to 3 than 8
    assert table.attrs["levels"] == [0, 0.5, 1, 1.5] and quantizer_curves.widths("halves", "activation") == [2, 8]
    assert quantizer_curves.about("halves", "activation") == "Rounds to halves."
    assert quantizer_curves.about("halves", "activation", "Reference") == "nobody, nowhere."
    assert quantizer_curves.about("halves", "activation", "Initialisation") == ""
    assert len(quantizer_sheet.draw(table).axes) == 3


def test_what_a_method_has_not_is_refused():
    with pytest.raises(InputError, match="XNOR takes the sign"):
        quantizer_curves.curves("xnor", "activation", signed=False)
    with pytest.raises(InputError, match="XNOR takes the sign"):
        quantizer_curves.curves("xnor", "activation", floor=-0.375)
    with pytest.raises(InputError, match="BWN has 1 bit, not 3"):
        quantizer_curves.curves("bwn", "weight", bits=3)


@pytest.mark.parametrize("name, panels", [("duq", 4), ("sawb", 3)])
def test_picture(name, panels):
    table = quantizer_curves.curves(name, "weight", n=60)
    figure = quantizer_sheet.draw(table)
    assert figure.get_suptitle() == table.attrs["title"] and len(figure.axes) == panels
    assert all(ax.get_xlabel() and ax.get_ylabel() for ax in figure.axes)
    blue = [ax.lines[-2].get_ydata() for ax in figure.axes[1:3]]        # below the zero line
    assert [list(y) for y in blue] == [table.gradient.tolist(), table.error.tolist()]
    if panels == 4:
        assert [t.get_text() for t in figure.axes[3].get_legend().get_texts()] == ["a", "c"]
    png, facts = figure._repr_png_()
    assert png == quantizer_sheet.draw(table)._repr_png_()[0] and png[:4] == b"\x89PNG" and len(png) < 12_000
    assert f"{len(table.attrs['levels'])} levels" in facts["alt"]


def test_nothing_written_lies_on_anything_else_written():
    figure = quantizer_sheet.draw(quantizer_curves.curves("pact", "activation"))       # the longest name of a parameter
    figure._repr_png_()
    words = [figure._suptitle, *figure.axes[-1].get_legend().get_texts()]
    words += [label for ax in figure.axes for label in (ax.xaxis.label, ax.yaxis.label)]
    words += [tick for ax in figure.axes for axis, low, high in ((ax.xaxis, *ax.get_xlim()), (ax.yaxis, *ax.get_ylim()))
              for tick, place in zip(axis.get_ticklabels(), axis.get_ticklocs()) if low <= place <= high]
    boxes = [word.get_window_extent() for word in words]
    assert all(figure.bbox.x0 <= b.x0 and b.x1 <= figure.bbox.x1 and figure.bbox.y0 <= b.y0 for b in boxes)
    assert not [(words[i], words[k]) for i in range(len(boxes)) for k in range(i) if boxes[i].overlaps(boxes[k])]
