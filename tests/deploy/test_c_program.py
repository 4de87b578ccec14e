"""The C file computes what the integer network does, code for code, and nothing that C leaves undefined."""
import ctypes
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from test_integer_net import network
from torch import nn

from paperlib import models
from paperlib.data import cifar10_batches, cifar10_images
from paperlib.deploy import IntegerNet, to_c
from paperlib.deploy.c_program import cifar10_pixels
from paperlib.deploy.c_tables import jumps, packed
from paperlib.errors import InputError
from paperlib.models import Scheme

STRICT = ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
SANITIZED = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
SEE = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.POINTER(ctypes.c_int16), *[ctypes.c_int] * 3)
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler cc: install one")
BYTES = torch.randint(0, 256, (100, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SCHEMES = {
    "v1, PACT and SAWB": 2, "v3, DuQ": 100, "v3, each channel its own": 2, "v3, zeros as padding": 2,
    "v2, identity of 8 bits": 2, "vgg7, 1-bit weights": 2}


def floats(images):
    """The images as the network takes them."""
    return torch.stack([cifar10_pixels()[c][images[:, c].long()] for c in range(3)], 1)


def compiled(source, *flags):
    program = source.with_suffix("")
    subprocess.run([*STRICT, *flags, source, "-o", program], check=True, capture_output=True, text=True)
    return program


def interleaved(images):
    return images.permute(0, 2, 3, 1).contiguous().numpy()


@pytest.mark.slow
@needs_cc
@pytest.mark.parametrize("how", SCHEMES)
def test_every_code_and_logit(how, tmp_path):
    net, images = network(how), BYTES[:SCHEMES[how]]
    fixed = IntegerNet(net, "fixed", 18)
    library = ctypes.CDLL(str(compiled(to_c(net, tmp_path / "net.c", input_size=32, fraction=18), "-O1", "-shared",
                                       "-fPIC", "-DNET_LIBRARY")))
    logits, wanted = fixed(floats(images)) * 2**18, fixed.codes(floats(images))
    assert len(wanted) > 6
    for i, image in enumerate(interleaved(images)):
        seen, out = {}, (ctypes.c_int32 * 10)()
        see = SEE(lambda name, codes, *shape: seen.update(
            {name.decode(): np.ctypeslib.as_array(codes, shape).transpose(2, 0, 1).copy()}))
        library.net(image.ctypes.data_as(ctypes.c_void_p), out, see)
        assert list(out) == logits[i].tolist() and seen.keys() == wanted.keys()
        for name, codes in wanted.items():
            assert np.array_equal(seen[name].ravel(), codes[i].numpy().ravel()), name


@needs_cc
@pytest.mark.parametrize("channels, size, conv", [(18, 32, {"kernel_size": 3, "padding": 1, "groups": 9}),
                                                  (8, 3, {"kernel_size": 1, "padding": 1, "stride": 2})])
def test_a_patch_as_large_as_a_pixel_is_still_a_patch(channels, size, conv, tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(),
                        nn.Conv2d(channels, channels, bias=False, **conv), nn.BatchNorm2d(channels), nn.ReLU(),
                        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
    images = BYTES[:4, :, :size, :size]
    net(floats(images))     # batch norms see something
    net = models.calibrate(models.quantize(net, Scheme()), floats(images)).eval()
    library = ctypes.CDLL(str(compiled(to_c(net, tmp_path / "net.c", input_size=size), "-shared", "-fPIC",
                                       "-DNET_LIBRARY")))
    for image, wanted in zip(interleaved(images), IntegerNet(net, "fixed")(floats(images)) * 2**20):
        out = (ctypes.c_int32 * 10)()
        library.net(image.ctypes.data_as(ctypes.c_void_p), out, None)
        assert list(out) == wanted.tolist()


@pytest.mark.slow
@needs_cc
@pytest.mark.parametrize("how", ["v3, zeros as padding", "vgg7, 1-bit weights"])
def test_the_program_is_clean_and_prints_what_it_computes(how, tmp_path):
    (tmp_path / "none.c").write_text("int main(void) { return 0; }\n")
    try:
        compiled(tmp_path / "none.c", *SANITIZED)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"cc has no sanitizers: {error.stderr.strip().splitlines()[-1]}")
    net, images = network(how), BYTES[:2]
    program, given = compiled(to_c(net, tmp_path / "net.c", input_size=32), *SANITIZED), interleaved(images).tobytes()
    logits = (IntegerNet(net, "fixed")(floats(images)) * 2**20).long().tolist()

    def run(*words, given=given):
        done = subprocess.run([program, *words], input=given, capture_output=True)
        return done.returncode, done.stdout.decode().splitlines(), done.stderr.decode()

    assert run() == (0, [" ".join(map(str, row)) for row in logits], "")
    code, lines, errors = run("codes")
    wanted = IntegerNet(net, "fixed").codes(floats(images))
    assert (code, errors, len(lines)) == (0, "", 2 * (len(wanted) + 1))
    first = next(iter(wanted))
    assert lines[0] == " ".join(map(str, [first, 32, 32, 3, *wanted[first][0].permute(1, 2, 0).ravel().tolist()]))
    code, lines, errors = run(given=given[:-1])
    assert code == 1 and len(lines) == 1 and "the last image has only 3071 of 3072 bytes" in errors
    assert run("logits")[0] == 2


def test_bytes_become_what_training_saw():
    images = cifar10_images.cifar10("subset")[1]
    assert torch.equal(floats(images.x[:50]), next(cifar10_batches.Batches(images, 50, train=False).epoch())[0])


@pytest.mark.parametrize("codes", [range(-7, 8), range(-15, 16, 2), range(2), range(-4, 4), range(-128, 128), [3]])
def test_packed_weights_can_be_unpacked(codes):
    weight = np.random.default_rng(0).choice(list(codes), (80, 19))
    bits, times, lowest, words = packed(weight, 40)
    per_word = 16 // bits
    rows = -(-19 // per_word)
    for channel, lanes in ((0, 32), (32, 8), (40, 32), (72, 8)):
        tile = words[rows * channel:][:rows * lanes].reshape(rows, lanes)
        code = (tile[:, None] >> bits * np.arange(per_word)[:, None]) & ((1 << bits) - 1)
        assert (times * code.reshape(-1, lanes)[:19] + lowest == weight[channel:channel + lanes].T).all()
    assert 0 <= words.min() and words.max() < 2**16 and 2**bits >= len(codes) > 2**bits // 2 or len(codes) == 1


def test_jumps_are_where_values_change():
    assert jumps(lambda x: x // 10, 5, 35).tolist() == [10, 20, 30]
    assert jumps(lambda x: -2 * (x > 3), 0, 9).tolist() == [4, 4] and jumps(lambda x: 0 * x, 0, 9).size == 0


def test_what_c_cannot_compute(tmp_path):
    net = models.quantize(nn.Sequential(nn.Conv2d(3, 4, 3)), Scheme())
    with pytest.raises(InputError, match="gives a map, and a C program a vector"):
        to_c(models.calibrate(net, floats(BYTES[:1])), tmp_path / "net.c", input_size=32)
    net = models.quantize(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 1), nn.AdaptiveAvgPool2d(1),
                                        nn.Flatten()), Scheme("dorefa", "duq", 8, 8))
    with pytest.raises(InputError, match="could need more than 16 bits: use fewer"):
        to_c(models.calibrate(net, floats(BYTES[:1])), tmp_path / "net.c", input_size=32)
    assert not any(tmp_path.iterdir())


def test_only_what_is_used_is_written(tmp_path):
    text = to_c(network("v2, LSQ"), tmp_path / "net.c", input_size=32).read_text()
    assert "hardswish" not in text and "max_pool" not in text and max(map(len, text.splitlines())) <= 125
    tables, memory = map(int, re.search(r"Tables take (\d+) bytes, working memory (\d+);", text).groups())
    assert 0 < memory and 0 < tables < len(text)
