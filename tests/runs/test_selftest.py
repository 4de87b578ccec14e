"""The self-test of ways to compute a step, on a CPU."""
import pytest

from paperlib.runs import selftest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forked")]
SMALL = {"width": 0.25, "batch": 16, "images": 64}


def test_ways_that_fail_end_nothing():
    ways = {"float32": {}, "unknown": {"compiled": "no such mode"}, "misspelt": {"precison": "bfloat16"}}
    table, choice = selftest.run(device="cpu", seconds=240, period=0.5, size=SMALL, most=1, ways=ways)
    table = table.set_index("way")
    assert choice.changes == {} and choice.workers == 1 and choice.images_per_s > 0
    assert table.agrees["float32"] and not table.agrees["unknown"] and not table.agrees["misspelt"]
    assert "no such mode" in table.fault["unknown"] and "precison" in table.fault["misspelt"]
    assert table.difference["float32"] == 0     # it is the reference, here
    assert table.loss["float32"] < table.loss["float network, float32"] + 1


def test_a_device_that_is_not_there_leaves_plain_float32():
    device = "meta"         # holds no numbers
    table, choice = selftest.run(device=device, seconds=60, period=0.5, size=SMALL, most=1,
                                  ways={"float32": {}})
    assert choice == selftest.Choice({}, 1, 0.0)
    assert table.set_index("way").fault["float32"]
