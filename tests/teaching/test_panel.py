"""Knobs redraw a picture, and where nothing is live a fixed panel says the same."""
import gc
import html
import io
import time
import warnings

import ipywidgets
import matplotlib as mpl
import PIL.Image
import pytest
from IPython.display import Image
from matplotlib.figure import Figure

from paperlib.errors import InputError
from paperlib.teaching.widgets import panel
from paperlib.teaching.widgets.interval import draw as draw_interval

SLIDERS = {"c": (0.1, 0.9, 0.05), "d": (0.1, 0.6, 0.05), "bits": (2, 8, 1)}
STATES = [{"c": 0.5, "d": 0.4, "bits": 3}, {"c": 0.7, "d": 0.1, "bits": 2}]


def made(draw, start, **knobs):
    """The knobs by name, the picture and its words."""
    box, picture, words = panel.controls(draw, start, **knobs).children
    return dict(zip(knobs, box.children)), picture, words


def controls():
    return made(draw_interval, STATES[0], **SLIDERS)


def said(way, times):
    return f"The word {way} written {times} times, which is no picture at all."


def written(figure, way, times):
    figure.text(0.1, 0.5, f"{way} {times}")
    if way == "down" and times > 2:
        raise InputError("down goes <twice> at most: choose up")
    return said(way, times)


def in_words(**state):
    return draw_interval(Figure(), **state)


def test_without_a_front_end_there_is_one_picture_and_no_widget(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    displayed, drawn = [], []
    monkeypatch.setattr(panel, "display", displayed.append)

    def draw(figure, **values):
        drawn.append(values)
        return draw_interval(figure, **values)

    picture = panel.explore(draw, STATES, **SLIDERS)
    assert isinstance(picture, Image) and not displayed and drawn == STATES
    assert picture.alt == " ".join(in_words(**state) for state in STATES)
    width, height = PIL.Image.open(io.BytesIO(picture.data)).size
    assert height == pytest.approx(2 * width * panel.SIZE[1] / panel.SIZE[0], abs=2)


def test_with_a_front_end_knobs_come_on_top_of_the_same_panel(monkeypatch):
    displayed = []
    monkeypatch.setattr(panel, "display", displayed.append)
    still, live = [], []
    for session, panels in ((None, still), ("a.ipynb", live)):
        monkeypatch.setenv("JPY_SESSION_NAME", session) if session else monkeypatch.delenv("JPY_SESSION_NAME", False)
        panels.append(panel.explore(draw_interval, STATES, **SLIDERS))
    assert [type(w) for w in displayed] == [ipywidgets.VBox] and still[0].data == live[0].data


def test_a_slider_redraws_the_picture_and_its_description():
    knobs, picture, words = controls()
    before = bytes(picture.value)
    assert PIL.Image.open(io.BytesIO(before)).size == (832, 312)
    knobs["c"].value = 0.7
    assert bytes(picture.value) != before
    assert html.unescape(words.value) == in_words(c=0.7, d=0.4, bits=3)
    knobs["c"].value = 0.5
    assert bytes(picture.value) == before
    assert isinstance(knobs["bits"], ipywidgets.IntSlider) and isinstance(knobs["d"], ipywidgets.FloatSlider)
    assert (knobs["bits"].min, knobs["bits"].max, knobs["d"].step) == (2, 8, 0.05)


def test_words_are_a_menu_or_a_slider_with_stops():
    knobs, _, words = made(written, {"way": "down", "times": 1}, way=["up", "down"], times=(1, 3, 1))
    assert isinstance(knobs["way"], ipywidgets.Dropdown) and knobs["way"].options == ("up", "down")
    knobs["way"].value = "up"
    assert words.value == said(way="up", times=1)
    ordered, _, words = made(written, {"way": "up", "times": "4"}, way=["up"], times=("2", "4", "8"))
    assert isinstance(ordered["times"], ipywidgets.SelectionSlider)
    ordered["times"].value = "8"
    assert words.value == said(way="up", times="8")


def test_labels_are_words_that_are_not_cut_off_and_knobs_wrap():
    box, _, _ = panel.controls(lambda figure, **values: "nothing", {"range_factor": 0.001, "way": "up"},
                               range_factor=(0.0, 0.01, 0.001), way=["up", "down"]).children
    factor, way = box.children
    assert factor.description == "range factor" and factor.readout_format == ".3f"
    assert box.layout.flex_flow == "row wrap" and factor.layout.max_width == way.layout.max_width == "98%"
    assert {knob.style.description_width for knob in (factor, way)} == {"initial"}


def test_what_cannot_be_drawn_is_said_in_place_of_the_picture():
    knobs, picture, words = made(written, {"way": "down", "times": 1}, way=["up", "down"], times=(1, 3, 1))
    before = words.value
    knobs["times"].value = 3
    assert words.value == '<p role="alert">down goes &lt;twice&gt; at most: choose up</p>'
    assert picture.layout.display == "none"
    knobs["times"].value = 1
    assert words.value == before and picture.layout.display is None


def test_only_input_errors_are_said_so():
    def broken(figure, **values):
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        made(broken, {"way": "up", "times": 1}, way=["up"], times=(1, 3, 1))


def test_a_redraw_is_quick_and_silent():
    knobs, _, _ = controls()
    took = []
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for c in (0.3, 0.6, 0.35, 0.65, 0.4):
            start = time.process_time()     # of this process alone: the machine may be busy
            knobs["c"].value = c
            took.append(time.process_time() - start)
    assert sorted(took)[2] < 0.2
    assert mpl.rcParams["figure.constrained_layout.use"] is False       # nothing of the style leaks out
