"""What a figure leaves behind."""
import dataclasses
import json

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from paperlib import plots, recipes
from paperlib.analysis.loss_curves import end_values
from paperlib.errors import InputError
from paperlib.plots.style import finish
from paperlib.runs import Run

RUN = Run(recipes.activations_then_weights("duq", profile="smoke"), pd.DataFrame(), pd.DataFrame(), key="k",
          seconds=1.0, environment={})
ALT = "Two falling lines, the lower one orange, both ending near zero after five epochs."


def history():
    rows = [(phase, epoch, split, "loss", 2.0 / (epoch + 1) + 0.1 * (method == "PACT") + 0.01 * seed, method, seed)
            for phase in ("activations", "weights") for epoch in range(4) for split in ("train", "val")
            for method in ("PACT", "DuQ") for seed in (0, 1) if epoch or split == "val"]
    return pd.DataFrame(rows, columns=["phase", "epoch", "split", "metric", "value", "method", "seed"])


@pytest.fixture
def figure():
    yield plots.pact_vs_duq.draw(history(), bits=4, footnote="made up")
    plt.close("all")


def test_lines_are_means_over_seeds(figure):
    drawn = [line for line in figure.axes[0].lines if len(line.get_xdata())]
    assert len(drawn) == 4 and all(list(line.get_xdata()) == [1, 2, 3] for line in drawn)      # not epoch 0
    assert drawn[0].get_ydata() == pytest.approx([1.0 + 0.105, 2 / 3 + 0.105, 0.5 + 0.105])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["PACT", "DuQ", "validation", "training"]
    assert "weights, DuQ: training 0.51, validation 0.51" in figure.alt


def test_end_values_are_those_of_the_last_epoch():
    table = end_values(history()).set_index(["phase", "method"])
    assert table.loc[("weights", "DuQ"), "val loss"] == pytest.approx(0.505)
    assert table.loc[("weights", "DuQ"), "val loss, s.d."] == pytest.approx(0.01 / 2**0.5)


def test_equal_input_gives_equal_bytes(figure, tmp_path, monkeypatch):
    written = []
    for name in ("one", "two"):
        monkeypatch.setenv("PAPERLIB_FIGURES", str(tmp_path / name))
        again = plots.pact_vs_duq.draw(history(), bits=4, footnote="made up")
        plots.save(finish(again, ALT), "item", data=history(), runs=[RUN], profile="smoke", parameters={"bits": 4})
        written.append({p.name: p.read_bytes() for p in (tmp_path / name / "smoke").iterdir()})
    assert sorted(written[0]) == ["item.csv", "item.json", "item.png", "item.svg"]
    assert written[0] == written[1]
    assert ALT.encode() in written[0]["item.svg"]
    facts = json.loads(written[0]["item.json"])
    assert facts["parameters"] == {"bits": 4} and facts["alt"] == ALT and facts["drawn with"]["matplotlib"]


def test_alt_text_is_demanded(figure, tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERLIB_FIGURES", str(tmp_path))
    with pytest.raises(InputError, match="alt must describe"):
        plots.save(finish(figure, "a plot"), "item", data=history(), runs=[RUN], profile="smoke", parameters={})
    assert not list(tmp_path.iterdir())


def test_the_extension_shows_the_validation_loss_of_each_method_and_guessing():
    methods = ["PACT", "DuQ", "LSQ", "QIL"]
    every = pd.concat([history().query("method == 'PACT'").assign(method=m, value=lambda h, k=k: h.value + 0.503 * k)
                       for k, m in enumerate(methods)])
    figure = plots.pact_vs_duq.draw_extension(every, bits=4, classes=10, footnote="made up")
    for ax in figure.axes:
        drawn, guessing = [line for line in ax.lines if len(line.get_xdata()) == 3], ax.lines[-1]
        assert [line.get_ydata()[0] for line in drawn] == pytest.approx([1.105 + 0.503 * k for k in range(4)])
        assert list(guessing.get_ydata()) == pytest.approx([2.302585] * 2)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == methods
    assert "weights, QIL: 2.11, and guessing gives 2.30" in figure.alt
    plt.close("all")


def test_a_picture_says_which_runs_are_recorded():
    shipped = Run(dataclasses.replace(RUN.recipe, recorded=True, label="LSQ"), *[pd.DataFrame()] * 2, key="k",
                  seconds=1.0, environment={})
    first, second = plots.caption([RUN, shipped], "laptop").splitlines()
    assert first == plots.caption([RUN], "laptop") and second == "recorded, not trained here: LSQ"
    assert "\n" not in plots.caption([shipped], "recorded")
    other = Run(dataclasses.replace(shipped.recipe, model="vgg7"), *[pd.DataFrame()] * 2, key="k", seconds=1.0,
                environment={})
    assert plots.caption([RUN, other], "laptop").endswith("recorded, not trained here: LSQ (vgg7)")


def test_orders_of_freezing_are_told_with_their_fluctuation():
    curves = {"nothing frozen": [[2.0, 3.0, 2.0, 2.0]] * 2, "largest first": [[2.0, 1.0, 1.0, 0.5]] * 2}
    figure = plots.loss_curves.draw_orders(curves, every=2, rounds=2)
    assert "over 8 steps in 2 rounds" in figure.alt and "2 seeds" in figure.alt
    assert "nothing frozen: 0.667 nats" in figure.alt and "largest first: 0.000 nats" in figure.alt
    plt.close(figure)
