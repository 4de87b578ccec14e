"""Sliders and menus over a picture, and a fixed panel of pictures that says the same where nothing is live."""
from __future__ import annotations

import gc
import html
import io
import os
from collections.abc import Callable, Mapping, Sequence

import ipywidgets
import matplotlib as mpl
from IPython.display import HTML, Image, display
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from ...errors import InputError
from ...plots.aiwq import KINDS
from ...plots.style import STYLE, YELLOW, show
from .. import moving

PLAIN = {**STYLE, "figure.constrained_layout.use": False, "axes.titley": 1.0}       # nothing looks for its place
SIZE = (10.4, 3.9)      # inches, of a live picture and of each picture in the panel
KIND_COLORS = {**{kind: color for kind, (color, _) in KINDS.items()}, "conv": YELLOW}       # bars have no markers
ON_PAGES = {kind: "currentColor" if color == "black" else color for kind, color in KIND_COLORS.items()}
HISTOGRAM = "#C9C9C9"
DECIMALS = StrMethodFormatter("{x:g}")      # mathematical text, the default of log axes, takes long to set


def live() -> bool:
    """Tell whether a Jupyter server has started this kernel, so that somebody may be there to move a slider.

    Not so where a notebook is run as a program (papermill, nbval, nbconvert) or by another editor.
    """
    return "JPY_SESSION_NAME" in os.environ


def explore(draw: Callable[..., str], states: Sequence[Mapping], size: tuple[float, float] = SIZE, **knobs) -> Image:
    """Show a picture for each of the well-chosen ``states``, below each other; with a live front end, knobs above them.

    ``draw(figure, **values)``, with one value for each knob, draws into an empty figure or subfigure, by ``add_axes``
    (looking for places, as layout engines do, takes longer than drawing), and returns what one sees there in words.
    Returns the panel as :func:`paperlib.plots.show` does, with the words for all states.

    ``knobs``: name=(low, high, step) is a slider, of whole numbers or of floats; name=a tuple of words a slider with
    a stop for each, for words that have an order; name=a list of words a menu.  They start at the first state.  An
    underscore in a name is shown as a blank.  Where ``draw`` raises InputError, its message takes the place of the live
    picture.

    What a reader must see belongs in ``states``: a committed or printed notebook holds the panel alone, and so no
    widget of a kernel that is gone.
    """
    if live():
        display(controls(draw, states[0], size, **knobs))
    return _fixed(draw, states, size)


def move(draw: Callable[..., str], states: Sequence[Mapping], size: tuple[float, float], module: str, data: dict
         ) -> Image:
    """Show a picture for each of the ``states`` as :func:`explore` does, with an ES module in place of knobs that ask
    Python: :mod:`paperlib.teaching.moving` has ``module``, which moves the picture by its ``data`` alone.  The page of
    the site shows it as well, from what the picture's metadata say."""
    if live():
        display(HTML(moving.html(module, data)))
    return moving.note(_fixed(draw, states, size), module, data)


def _fixed(draw: Callable[..., str], states: Sequence[Mapping], size: tuple[float, float]) -> Image:
    with mpl.rc_context(PLAIN):
        figure = Figure(figsize=(size[0], size[1] * len(states)))
        places = figure.subfigures(len(states), 1, squeeze=False).flat
        words = [draw(place, **state) for place, state in zip(places, states)]
    return show(figure, alt=" ".join(words))


def controls(draw: Callable[..., str], start: Mapping, size: tuple[float, float] = SIZE, **knobs) -> ipywidgets.VBox:
    """Return the knobs, which wrap where the page is narrow, the picture that they redraw and, for those who cannot see
    it, its words: ipywidgets' Image has no alternative text, and HTML in its place would flicker."""
    picture = ipywidgets.Image(format="png", layout={"align_self": "flex-start"})       # not stretched
    words = ipywidgets.HTML()
    made = {name: _knob(name.replace("_", " "), knobs[name], start[name]) for name in knobs}

    def redraw(change=None):
        figure, png = Figure(figsize=size), io.BytesIO()    # to clear the last one would take longer
        collects = gc.isenabled()
        gc.disable()        # looking through all of torch for garbage takes longer than a picture: afterwards
        try:
            with mpl.rc_context(PLAIN):
                words.value = html.escape(draw(figure, **{name: knob.value for name, knob in made.items()}))
                figure.savefig(png, format="png", dpi=STYLE["figure.dpi"])
            picture.value, picture.layout.display = png.getvalue(), None
        except InputError as error:
            picture.layout.display, words.value = "none", f'<p role="alert">{html.escape(str(error))}</p>'
        finally:
            if collects:
                gc.enable()

    for knob in made.values():
        knob.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([ipywidgets.Box(list(made.values()), layout={"flex_flow": "row wrap"}), picture, words])


def _knob(label: str, knob: Sequence, start) -> ipywidgets.Widget:
    read = max(map(len, knob)) if _words(knob) else 6       # letters behind a slider, as those of the label before it
    width = "auto" if isinstance(knob, list) else f"{180 + 8 * (len(label) + read)}px"
    shown = {"description": label, "value": start, "style": {"description_width": "initial"},
             "layout": {"width": width, "max_width": "98%", "margin": "2px 24px 2px 2px"}}
    if _words(knob):
        return (ipywidgets.Dropdown if isinstance(knob, list) else ipywidgets.SelectionSlider)(options=knob, **shown)
    low, high, step = knob
    if all(isinstance(v, int) for v in knob):
        return ipywidgets.IntSlider(min=low, max=high, step=step, **shown)
    decimals = max(2, len(f"{step:f}".rstrip("0").partition(".")[2]))
    return ipywidgets.FloatSlider(min=low, max=high, step=step, readout_format=f".{decimals}f", **shown)


def _words(knob: Sequence) -> bool:
    return all(isinstance(word, str) for word in knob)
