"""The pictures of a sum of products, and of how many bits sums take."""
import pandas as pd
import torch
from matplotlib import pyplot as plt

from paperlib import plots
from paperlib.plots.integer_sums import bits

TABLE = pd.DataFrame({"layer": ["a", "b", "c"], "kind": ["se", "project", "se"], "shape": [2**15, 945, 2**16],
                      "weights": [2**15 - 1, 435, 2**15], "images": [1000, 0, 1]})


def test_bits_hold_a_magnitude_with_either_sign():
    assert bits(TABLE["shape"]).tolist() == [17, 11, 18] and bits(TABLE["weights"]).tolist() == [16, 10, 17]
    assert bits(TABLE["images"]).tolist() == [11, 1, 2]


def test_layers_of_a_kind_stand_side_by_side_and_the_words_count_them():
    figure = plots.integer_sums.draw_bits(TABLE)
    drawn = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines[:3]}
    plt.close(figure)
    assert list(drawn.values()) == [[17, 18, 11], [16, 17, 10], [11, 2, 1]]
    assert "any weights of this shape: 11 to 18 bits, above 16 in 2 se layers" in figure.alt
    assert "these images: 1 to 11 bits, above 16 in no layers" in figure.alt


def test_a_pixel_shows_its_numbers_and_their_sum():
    figure = plots.integer_sums.draw_pixel(torch.tensor([[0, 7], [15, 1]]), torch.tensor([[3, -2], [1, 4]]), "a title")
    shown = [[text.get_text() for text in ax.texts[:4]] for ax in figure.axes]
    plt.close(figure)
    assert shown == [["0", "7", "15", "1"], ["3", "-2", "1", "4"], ["0", "-14", "15", "4"]]
    assert figure.axes[2].get_xlabel() == "sum: 5" and "add up to 5" in figure.alt
