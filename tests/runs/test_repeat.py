"""The index of recorded runs is true, and a recorded run comes out the same when it is trained again."""
import dataclasses

import pandas as pd
import pytest

from paperlib import runs
from paperlib.errors import InputError
from paperlib.runs import obtaining, recorded
from paperlib.runs.obtaining import ACROSS_MAKES, TOLERANCE
from paperlib.system.paths import recorded_dir
from paperlib.system.provenance import environment

SHORT = "smoke_vgg7"        # a recorded run of ten seconds


def test_the_index_is_that_of_the_folders():
    written = pd.read_csv(recorded_dir() / recorded.INDEX)
    pd.testing.assert_frame_equal(written, recorded.index(), check_dtype=False)
    assert set(written.run) == {file.parent.name for file in recorded_dir().glob("*/run.json")}
    assert written.run.is_unique and written.accuracy.between(0, 100).all() and written.packed.sum() >= 3


def test_the_shelf_stays_small():
    assert sum(file.stat().st_size for file in recorded_dir().rglob("*")) < 40e6


@pytest.mark.slow
def test_a_recorded_run_is_repeated_from_its_own_json(tmp_path, monkeypatch):
    """Other processors round otherwise, and sixty steps carry that on: hence a tolerance, beyond which another seed
    lies.  On another make of processor a single epoch may lie beyond it, the median of all epochs does not."""
    monkeypatch.setenv("PAPERLIB_RUNS", str(tmp_path))
    table = runs.repeat(SHORT)
    assert table.attrs["trained"] == 2 and runs.repeat(SHORT).attrs["trained"] == 0
    losses = table[(table.metric == "loss") & (table.epoch > 0)]
    assert set(losses.phase) == {"float", "4-bit weights, 4-bit activations"} and len(losses) >= 12
    same = table.attrs["recorded_cpu"] == table.attrs["cpu"] == environment()["cpu"]
    assert losses.difference.abs().max() < (TOLERANCE if same else ACROSS_MAKES)
    assert losses.difference.abs().median() < TOLERANCE
    other = runs.obtain(dataclasses.replace(recorded.read(SHORT).recipe, seed=1)).history
    apart = losses.merge(other, on=obtaining.CURVE)
    assert (apart.recorded - apart.value).abs().max() > TOLERANCE


def test_an_unknown_run_is_refused_by_name():
    with pytest.raises(InputError, match="no recorded run 'nothing': data/recorded/index.csv lists them"):
        runs.repeat("nothing")
    with pytest.raises(InputError):
        recorded.read("")
