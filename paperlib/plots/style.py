"""What all pictures share: colours and style, what they say of themselves, and ``save``."""
from __future__ import annotations

import dataclasses
import io
import json
import platform
import subprocess
import textwrap
from collections.abc import Sequence
from importlib.metadata import version

import matplotlib as mpl
import pandas as pd
import PIL.Image
import PIL.PngImagePlugin
from IPython.display import Image
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..analysis.summaries import IMAGES
from ..claims import parameters as notebook
from ..errors import InputError
from ..recipes import profiles
from ..runs import Run, outcomes
from ..runs.loading import PHOTOGRAPHS
from ..runs.outcomes import FAILED, NOT_RECORDED
from ..system.paths import ROOT, atomic, plain_name

# Okabe and Ito's colours, told apart by colour-blind readers
BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
GREY = "#666666"
LETTERS = 9.5   # of a takeaway, in an inch
MOST = 3        # runs that a caption names, of those that are missing or failed
SPLITS = {"val": "validation", "train": "training"}
STYLE = {
    "figure.dpi": 80, "savefig.dpi": 160, "savefig.bbox": None, "font.family": "DejaVu Sans", "font.size": 12,
    "axes.titlesize": 13, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.labelsize": 12,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#E5E5E5",
    "axes.axisbelow": True, "lines.linewidth": 2.2, "legend.frameon": False, "svg.hashsalt": "paperlib",
    "figure.constrained_layout.use": True,
}


def caption(runs: Sequence[Run], profile: str) -> str:
    """Say what a picture must always say of itself: profile, data, networks and number of seeds; what is not trained
    here, what is not recorded yet, and what failed."""
    if not runs:
        return f"profile {profile}: nothing is trained"
    every, runs = runs, [run for run in runs if not run.absent]
    lines = [_scales_of(runs, profile)] if runs else [f"profile {profile}"]
    missing = list(dict.fromkeys(run.recipe.label for run in every if run.absent))
    failed = [f"{r.recipe.label}, {r.recipe.model}, seed {r.recipe.seed}: {r.failures[0]}" for r in runs if r.failures]
    for word, names in ((NOT_RECORDED, missing), (FAILED, failed)):
        if names:
            more = f"; and {len(names) - MOST} more" if len(names) > MOST else ""
            lines += textwrap.wrap(f"{word}: {'; '.join(names[:MOST])}{more}", 110)
    if constant := list(dict.fromkeys(name for run in runs for name in outcomes.constant(run))):
        lines += textwrap.wrap(f"quantizers that give a single value: {', '.join(constant)}", 110)
    return "\n".join(lines)


def _scales_of(runs: Sequence[Run], profile: str) -> str:
    scales: dict[tuple, list[Run]] = {}
    for run in runs:
        r = run.recipe
        scales.setdefault((r.data, r.input_size, r.width, r.train_images, r.test_images), []).append(run)
    told = f"profile {profile}: " + "; ".join(map(_scale, scales.values()))
    recorded = [run.recipe for run in runs if run.recipe.recorded]
    if not recorded or len(recorded) == len(runs):
        return told
    several = len({run.recipe.model for run in runs}) > 1
    names = dict.fromkeys(f"{r.label} ({r.model})" if several else r.label for r in recorded)
    return "\n".join([told, *textwrap.wrap(f"recorded, not trained here: {'; '.join(names)}", 110)])


def _scale(runs: Sequence[Run]) -> str:
    """Name networks, data and seeds of runs on the same images."""
    recipe, seeds = runs[0].recipe, {}
    for r in runs:
        seeds.setdefault(repr(dataclasses.replace(r.recipe, seed=0)), set()).add(r.recipe.seed)
    least, most = (pick(map(len, seeds.values())) for pick in (min, max))
    networks = ", ".join(sorted({r.recipe.model for r in runs}))
    pixels = f" at {recipe.input_size} x {recipe.input_size} pixels" if recipe.data in PHOTOGRAPHS else ""
    return (f"{networks} x {recipe.width:g}, {recipe.train_images or 'all'} training and "
            f"{recipe.test_images or 'all'} test images of {IMAGES[recipe.data]}{pixels}, "
            f"{least if least == most else f'{least} to {most}'} seed{'s' if most > 1 else ''}")


def finish(figure: Figure, alt: str, footnote: str = "", takeaway: str = "") -> Figure:
    """Write the footnote under a figure and, above it, the one sentence to take along, which must follow from what is
    drawn; keep what it shows in words for :func:`save` and :func:`show`; return it.

    ``alt``: two sentences for those who cannot see it, what is drawn and what it shows, with the numbers that matter.
    """
    if footnote:
        figure.supxlabel(footnote, fontsize=10, color=GREY)
    shown = takeaway
    if len(takeaway) > LETTERS * figure.get_figwidth():     # two lines, about as long as each other
        shown = textwrap.fill(takeaway, len(takeaway) // 2 + 8)
    if takeaway and figure.legends:     # the layout has room for one of them above all panels
        figure.legends[0].set_title(shown, prop={"weight": "bold", "size": 13})
    elif takeaway:
        figure.suptitle(shown, fontsize=13, fontweight="bold")
    figure.alt, figure.takeaway = alt, takeaway
    return figure


def blank(footnote: str) -> Figure:
    """Draw an empty panel that says that its runs are not recorded yet."""
    with mpl.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(11, 3))
        ax.set_axis_off()
        ax.text(0.5, 0.5, NOT_RECORDED, color=GREY, fontsize=16, ha="center", va="center", transform=ax.transAxes)
        return finish(figure, f"An empty panel that says: {NOT_RECORDED}. The picture comes back with its runs.",
                      footnote)


def save(figure: Figure, item: str, *, data: pd.DataFrame, runs: Sequence[Run], profile: str, parameters: dict
         ) -> Image:
    """Write <item>.png, .svg, .csv and, last, .json with where every number came from, into figures/<profile>/.

    What a notebook draws with other parameters than its own goes into a folder in figures/experiments/ that bears them,
    whose path is printed (:func:`paperlib.claims.parameters.folder`).  Returns the picture as :func:`show` does.

    Equal input gives equal bytes in the picture and the table.  Each file is whole or absent.  InputError if the figure
    does not say what it shows (:func:`finish`).
    """
    alt = _alternative(figure)
    plain_name(item, "a picture")
    folder, tried = notebook.folder(profile), notebook.experiment()
    with atomic(folder / f"{item}.png") as temp:
        temp.write_bytes(_png(figure, STYLE["savefig.dpi"], alt))
    with atomic(folder / f"{item}.svg") as temp, mpl.rc_context(STYLE):
        figure.savefig(temp, metadata={"Date": None, "Creator": None, "Description": alt})
    with atomic(folder / f"{item}.csv") as temp:
        data.to_csv(temp, index=False, lineterminator="\n", float_format="%.6g")
    provenance = {
        "item": item, "takeaway": getattr(figure, "takeaway", ""), "alt": alt, "caption": caption(runs, profile),
        "profile": profile, "parameters": tried | parameters,
        # shipped figures lie in the very commit that they were drawn by
        **({} if profiles.get(profile).replays else {"git": _revision()}),
        "drawn with": {"python": platform.python_version(), **{p: version(p) for p in ("matplotlib", "pandas")}},
        "runs": [{"run": r.key, "label": r.recipe.label, "seed": r.recipe.seed, "data": r.recipe.data,
                  "train_images": r.recipe.train_images, "test_images": r.recipe.test_images,
                  "pixels": r.recipe.input_size, "seconds": round(r.seconds), "environment": r.environment}
                 for r in runs if not r.absent]}
    with atomic(folder / f"{item}.json") as temp:
        temp.write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")
    if tried:
        print(f"an experiment, kept apart from the shipped figures: {folder / item}.png")
    return show(figure)


def show(figure: Figure, *, alt: str = "") -> Image:
    """Return the picture for a notebook, which displays it if this is the last line of a cell; the figure is closed.

    ``alt``: what one sees, for those who cannot, unless the figure says so itself (:func:`finish`); InputError if it is
    missing.
    """
    alt = _alternative(figure, alt)
    png = _png(figure, STYLE["figure.dpi"], alt)
    plt.close(figure)
    return Image(png, alt=alt)


def _alternative(figure: Figure, alt: str = "") -> str:
    alt = alt or getattr(figure, "alt", "")
    if len(alt.split()) < 8:
        raise InputError("alt must describe the picture in a sentence of at least eight words")
    return alt


def _png(figure: Figure, dpi: float, alt: str) -> bytes:
    """Draw in 256 colours: a third of the bytes, and no difference that one sees."""
    full, small, text = io.BytesIO(), io.BytesIO(), PIL.PngImagePlugin.PngInfo()
    text.add_itxt("Description", alt)
    with mpl.rc_context(STYLE):
        figure.savefig(full, format="png", dpi=dpi)
    picture = PIL.Image.open(full).convert("RGB").quantize(256, dither=PIL.Image.Dither.NONE)
    picture.save(small, "PNG", optimize=True, pnginfo=text, dpi=(dpi, dpi))
    return small.getvalue()


def _revision() -> str | None:
    """Name the commit of the code that drew, with "+" where the working tree differs; None outside git."""
    words = ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"]
    try:
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
