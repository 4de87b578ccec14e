"""The quantizer sheet: a row of pictures for each registered quantizer."""
from __future__ import annotations

import io

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from .style import BLUE, GREY, ORANGE, STYLE


class Row(Figure):
    """A figure that shows itself in few colours, a fifth of the bytes, so that one notebook can hold all methods."""
    def _repr_png_(self) -> tuple[bytes, dict]:
        full, small, few = io.BytesIO(), io.BytesIO(), Image.new("P", (1, 1))   # 15 shades take 4 bits a pixel
        shades = [("black", k) for k in range(11)] + [(colour, k) for colour in (BLUE, ORANGE) for k in (5, 10)]
        few.putpalette([round(255 - 25.5 * k * (1 - v)) for colour, k in shades for v in mpl.colors.to_rgb(colour)])
        self.savefig(full, dpi=STYLE["figure.dpi"])
        picture = Image.open(full).convert("RGB").quantize(palette=few, dither=Image.Dither.NONE)
        picture.save(small, "PNG", optimize=True)
        return small.getvalue(), {"alt": self.alt}


def draw(curves: pd.DataFrame) -> Row:
    """Draw four panels: the staircase over y = x, its levels on the right; dy/dx; error; parameters' gradients."""
    learned, levels = [c for c in curves if c.startswith("dy/d")], curves.attrs["levels"]
    with mpl.rc_context(STYLE):
        figure = Row(figsize=(11.6, 2.5), layout="none")
        figure.alt = curves.attrs["alt"]
        figure.suptitle(curves.attrs["title"], x=0.008, y=0.99, ha="left", fontsize=13, fontweight="bold")
        axes = [figure.add_axes((0.062 + 0.233 * i, 0.23, 0.158, 0.61)) for i in range(3 + bool(learned))]
        axes[0].plot(curves.x, curves.x, color=GREY, linewidth=0.8)
        axes[0].plot([1.02] * len(levels), levels, "_", color=ORANGE, markersize=8, markeredgewidth=2,
                     transform=axes[0].get_yaxis_transform(), clip_on=False)
        for ax, column in zip(axes, ["y", "gradient", "error"]):
            ax.plot(curves.x, curves[column], color=BLUE, linewidth=1.8)
        axes[1].update_datalim([(0, 1)])        # slope 1 is always in sight
        for column, colour, line in zip(learned, 9 * [BLUE, ORANGE, GREY], 9 * ["-", "--", ":"]):
            axes[3].plot(curves.x, curves[column], line, color=colour, linewidth=1.8, label=column[len("dy/d"):])
            axes[3].legend(loc="upper left", bbox_to_anchor=(1, 1.06), handlelength=1.3, handletextpad=0.5)
        for ax, text in zip(axes, ["quantized y", "gradient dy/dx", "error y − x", "dy/d(parameter)"]):
            ax.axhline(0, color=GREY, linewidth=0.8, zorder=1)
            ax.set(xlabel="input x", ylabel=text)
            ax.locator_params(nbins=5, steps=[1, 2, 5, 10])
    return figure
