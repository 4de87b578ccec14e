"""The picture of how many bits sums take."""
import pandas as pd
from matplotlib import pyplot as plt

from paperlib import plots
from paperlib.plots.accumulator_bits import bits

TABLE = pd.DataFrame({"layer": ["a", "b", "c"], "kind": ["se", "project", "se"], "shape": [2**15, 945, 2**16],
                      "weights": [2**15 - 1, 435, 2**15], "images": [1000, 0, 1]})


def test_bits_hold_a_magnitude_with_either_sign():
    assert bits(TABLE["shape"]).tolist() == [17, 11, 18] and bits(TABLE["weights"]).tolist() == [16, 10, 17]
    assert bits(TABLE["images"]).tolist() == [11, 1, 2]


def test_layers_of_a_kind_stand_side_by_side_and_the_words_count_them():
    figure = plots.accumulator_bits.draw(TABLE)
    drawn = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines[:3]}
    plt.close(figure)
    assert list(drawn.values()) == [[17, 18, 11], [16, 17, 10], [11, 2, 1]]
    assert "any weights of this shape: 11 to 18 bits, above 16 in 2 se layers" in figure.alt
    assert "these images: 1 to 11 bits, above 16 in no layers" in figure.alt
