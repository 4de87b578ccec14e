"""The functions compiled for browsers are those of today's network.c, and a program is what they can go through.

That they compute the integer network's codes in a browser, tests/test_browser.py shows.
"""
import re
import shutil

import numpy as np
import pytest
from test_c_program import BYTES, floats
from test_integer_net import network
from torch import nn

from paperlib import models
from paperlib.deploy import browser_program
from paperlib.deploy.browser_program import COMPILED, FREE, compile_functions
from paperlib.errors import InputError


def test_the_compiled_functions_are_todays():
    there = {file.name for file in COMPILED.parent.glob("*.wasm")}
    assert COMPILED.name in there, "network.c or the flags have changed: python site/in_the_browser.py, with clang"
    assert there == {COMPILED.name}, f"delete what is of no use: {sorted(there - {COMPILED.name})}"
    assert COMPILED.read_bytes().startswith(b"\0asm\1\0\0\0")


@pytest.mark.skipif(not (shutil.which("clang") and shutil.which("wasm-ld")), reason="clang and wasm-ld are not here")
def test_the_functions_are_compiled_in_place_of_the_former_ones(tmp_path):
    (tmp_path / "network-former.wasm").touch()
    made = compile_functions(tmp_path / "network-made.wasm").read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["network-made.wasm"]
    for name in (b"workspace", b"look_up", b"convolve", b"max_pool"):
        assert name in made and name in COMPILED.read_bytes()


def test_compilers_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="takes clang and wasm-ld"):
        compile_functions(tmp_path / "made.wasm")
    assert not any(tmp_path.iterdir())


def words(program, address, count):
    return np.frombuffer(program.tables, "<i4", count, address - program.start).tolist()


def test_calls_and_structs_lead_to_tables_and_places():
    net = network("v3, DuQ")
    program = browser_program(net, input_size=32)
    end = program.start + len(program.tables)
    assert {call[0] for call in program.calls} - {"see"} <= set(
        re.findall(r"\w+", COMPILED.read_bytes().decode("ascii", "replace")))
    assert [call[1] for call in program.calls if call[0] == "see"] == list(models.plan(net).layer)
    assert program.one == 2**20 and program.classes == 10 and FREE <= program.image < program.logits < program.start
    layers = [call for call in program.calls if call[0].startswith("convolve")]
    for _, layer, stairs, codes, numbers, result in layers:
        height, width, channels, out_height, out_width, out, *rest = words(program, layer, 25)
        pointers = [p for p in rest[14:] if p]          # weights, and multiplier, bias and shift, or reach
        assert program.start <= layer < end and all(program.start <= p < end for p in pointers)
        assert len(pointers) in (2, 4) and 0 < rest[9] <= 8
        assert FREE <= codes < program.start and FREE <= (numbers or result) < program.start
        assert bool(result) == bool(stairs) and 0 < out_height <= height <= 32 and width and channels and out
    assert len(layers) == len(models.plan(net)) and words(program, layers[0][1], 3) == [32, 32, 3]


def test_pools_have_their_sizes_in_memory():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 1),
                        nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = models.calibrate(models.quantize(net, models.Scheme()), floats(BYTES[:1])).eval()
    program = browser_program(net, input_size=32)
    _, size, channels, out, window, stride, padding, *_ = next(c for c in program.calls if c[0] == "max_pool")
    assert channels == 8 and [words(program, address, 2) for address in (size, out, window, stride, padding)] == [
        [32, 32], [16, 16], [3, 3], [2, 2], [1, 1]]
