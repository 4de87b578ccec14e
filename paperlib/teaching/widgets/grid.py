"""Values on an even grid: its levels over the histogram, and what rounding and clipping lose."""
from __future__ import annotations

import base64

import numpy as np
from IPython.display import Image
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from torch import Tensor

from ... import quantizers
from ...analysis import quantization_error
from ...plots.style import BLUE, ORANGE
from .panel import DECIMALS, HISTOGRAM, move

SHARES = np.linspace(0.02, 1, 99)       # of the largest magnitude


def grid(x: Tensor, bits: int = 3) -> Image:
    """Show ``x`` (any shape) on a symmetric grid; a page lets one choose the bits and the last level.

    Left the histogram with the levels.  Right, over the last level, the squared error as a share of the squared values,
    and its parts from rounding and from clipping (:func:`paperlib.analysis.quantization_error.error_parts`).  The fixed
    panel has ``bits``, first up to the largest magnitude, then with the smallest error.
    """
    x = x.detach().flatten().float().cpu()
    q = quantizers.build("duq", role="weight", bits=bits)
    scan = quantization_error.scan(x, q, x.abs().max().item() * SHARES)
    best = scan.range[scan.error.idxmin()]

    def draw(figure: Figure, last_level: float) -> str:
        now = scan.loc[(scan.range - last_level).abs().idxmin()]
        levels = quantization_error.set_max_level(q, last_level).levels()
        left, right = figure.add_axes((0.075, 0.17, 0.40, 0.70)), figure.add_axes((0.575, 0.17, 0.40, 0.70))
        left.hist(x.numpy(), 90, color=HISTOGRAM)
        left.vlines(levels, 0, 1, color=ORANGE, linewidth=1.4, transform=left.get_xaxis_transform())
        left.set(title=f"{bits} bits, last level {last_level:.3f}", xlabel="value", ylabel="how many")
        for column, style, color in (("error", "-", "black"), ("rounding", "--", BLUE), ("clipping", ":", ORANGE)):
            right.plot(scan.range, scan[column].clip(1e-9), style, color=color, label=column)
        right.plot([last_level], [now.error], "o", color="black", markersize=9, clip_on=False)
        right.set(title=f"error {now.error:.4f}", xlabel="last level", ylabel="squared error (rel.)", yscale="log",
                  ylim=(1e-5, 1.2), xlim=(0, scan.range.max()))
        right.yaxis.set(minor_locator=NullLocator(), major_formatter=DECIMALS)
        right.legend(loc="lower center")
        return (f"A histogram of {len(x)} values with {len(levels)} levels up to {last_level:.3f}, and lines of the "
                f"error over the last level: {now.error:.4f} here, {now.rounding:.4f} by rounding and "
                f"{now.clipping:.4f} by clipping.")

    states = [{"last_level": scan.range.iloc[-1]}, {"last_level": best}]
    numbers = base64.b64encode(x.numpy().astype("<f4").tobytes()).decode()
    return move(draw, states, (10.4, 3.4), "grid", {"float32": numbers, "bits": bits})
