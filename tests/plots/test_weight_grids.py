"""The pictures of lesson 7: levels among weights, and errors over bits."""
import itertools

import pandas as pd
import torch
from matplotlib import pyplot as plt

from paperlib import plots


def test_names_of_points_at_the_same_bits_do_not_overlap():
    rows = [("even", "row", 4.03, 0.0126), ("even", "32", 4.5, 0.0082), ("even", "NV", 4.5, 0.0068),
            ("E2M1", "row", 4.03, 0.0123), ("E2M1", "32", 4.5, 0.0104), ("E2M1", "tensor", 4.0, 0.0246)]
    table = pd.DataFrame(rows, columns=["family", "name", "bits", "error"])
    figure = plots.weight_grids.draw_rates(table, "a title")
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    plt.close(figure)
    assert len(boxes) == len(rows) and not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert "row 0.0123 at 4.03" in figure.alt


def test_each_codebook_has_a_panel_with_a_line_for_each_level():
    x, books = torch.linspace(-1, 1, 50), {"even": torch.tensor([-1.0, 0, 1]), "other": torch.tensor([-0.5, 0.5])}
    figure = plots.weight_grids.draw_codebooks(x, books, "a title")
    lines = [len(ax.collections[0].get_segments()) for ax in figure.axes]
    plt.close(figure)
    assert lines == [3, 2] and "other from -0.50 to 0.50" in figure.alt
