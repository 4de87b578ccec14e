"""Sliders over a plot function, and a fixed panel of pictures that says the same where nothing is live."""
from __future__ import annotations

import html
import io
import os
from collections.abc import Callable, Mapping, Sequence

import ipywidgets
import matplotlib as mpl
from IPython.display import Image, display
from matplotlib.figure import Figure

from ..errors import InputError
from ..plots.style import STYLE, show

PLAIN = {**STYLE, "figure.constrained_layout.use": False}
SIZE = (10.4, 3.9)      # inches, of a live picture and of each picture in the panel


def live() -> bool:
    """Whether a Jupyter server has started this kernel, so that somebody may be there to move a slider.

    Not so where a notebook is run as a program (papermill, nbval, nbconvert) or by another editor.
    """
    return "JPY_SESSION_NAME" in os.environ


def explore(draw: Callable, describe: Callable[..., str], states: Sequence[Mapping], size: tuple[float, float] = SIZE,
            **sliders) -> Image:
    """A picture for each of the well-chosen ``states``, below each other; with a live front end, sliders under them.

    ``draw(figure, **values)`` draws into an empty figure or subfigure, by ``add_axes``: looking for places, as layout
    engines do, takes longer than drawing.  ``describe(**values)`` says what one sees there.  Both take one value for
    each slider.  ``sliders``: name=(low, high, step), of whole numbers or of floats; they start
    at the first state.  Returns the panel as :func:`paperlib.plots.show` does, with the descriptions of all states.

    What a reader must see belongs into ``states``: a committed or printed notebook holds the panel alone, and so no
    widget of a kernel that is gone.  InputError if a state doesn't fit the sliders.
    """
    _check(states, sliders)
    if live():
        display(controls(draw, describe, states[0], size, **sliders))
    with mpl.rc_context(PLAIN):
        figure = Figure(figsize=(size[0], size[1] * len(states)))
        for place, state in zip(figure.subfigures(len(states), 1, squeeze=False).flat, states):
            draw(place, **state)
    return show(figure, alt=" ".join(describe(**state) for state in states))


def controls(draw: Callable, describe: Callable[..., str], start: Mapping, size: tuple[float, float] = SIZE,
             **sliders) -> ipywidgets.VBox:
    """The sliders, the picture that they redraw and, for those who cannot see it, its description."""
    figure, knobs = Figure(figsize=size), [_slider(name, *sliders[name], start[name]) for name in sliders]
    picture, words = ipywidgets.Image(format="png"), ipywidgets.HTML()

    def redraw(change=None):
        values = {knob.description: knob.value for knob in knobs}
        picture.value = _redrawn(figure, draw, values)
        words.value = html.escape(describe(**values))

    for knob in knobs:
        knob.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([ipywidgets.HBox(knobs), picture, words])


def _slider(name: str, low: float, high: float, step: float, start: float) -> ipywidgets.Widget:
    whole = all(isinstance(v, int) for v in (low, high, step))
    kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    return kind(value=start, min=low, max=high, step=step, description=name)


def _redrawn(figure: Figure, draw: Callable, values: Mapping) -> bytes:
    """The same figure with other values, as PNG."""
    png = io.BytesIO()
    with mpl.rc_context(PLAIN):
        figure.clear()
        draw(figure, **values)
        figure.savefig(png, format="png", dpi=STYLE["figure.dpi"])
    return png.getvalue()


def _check(states: Sequence[Mapping], sliders: Mapping) -> None:
    if not states:
        raise InputError("states is empty: name at least one state for the fixed panel")
    for state in states:
        if set(state) != set(sliders):
            raise InputError(f"a state needs one value for each of {', '.join(sliders)}, got {', '.join(state)}")
        for name, (low, high, _) in sliders.items():
            if not low <= state[name] <= high:
                raise InputError(f"{name}={state[name]} lies beyond its slider, {low} to {high}: widen the slider")
