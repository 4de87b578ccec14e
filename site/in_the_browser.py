"""The page whose networks answer in the browser: what it shows, and a file for each network, loaded when it is chosen.

``python site/in_the_browser.py`` compiles network.c's functions for it, with clang and wasm-ld.
"""
from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

from torch import nn

from paperlib import models
from paperlib.analysis import post_training
from paperlib.data import cifar10_images
from paperlib.deploy.browser_program import COMPILED, browser_program, compile_functions
from paperlib.models import cost
from paperlib.teaching import moving, networks

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
INPUTS, CALIBRATION = 8, 32         # bits of activations in rounded networks, and the images that set their ranges


def rounded(bits: int) -> nn.Module:
    """The shipped float network with weights of ``bits`` bits, each channel with a range of its own, and activations of
    ``INPUTS`` bits; its batch norms are measured anew, and nothing is trained."""
    net, _, _, sample = networks.shipped()
    scheme = models.Scheme(w_bits=bits, a_bits=INPUTS, per_channel=True, negative_padding=False)
    return models.calibrate(models.quantize(net, scheme).train(), sample[:CALIBRATION], "max").eval()


def trained() -> nn.Module:
    """The recorded network of 4 bits."""
    return networks.four_bits().model().eval()


NETWORKS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    **{f"rounded-{bits}": (f"{bits} bits, rounded", lambda bits=bits: rounded(bits)) for bits in (8, 4, 3, 2)},
    "trained-4": ("4 bits, trained", trained)}


def pictures() -> list[tuple[str, bytes]]:
    """(class, 32 x 32 pixels of 3 bytes) of the first test image of each class."""
    test = cifar10_images.cifar10("subset")[1]
    first = [(test.y == label).nonzero()[0].item() for label in range(len(CLASSES))]
    return [(name, test.x[i].permute(1, 2, 0).numpy().tobytes()) for name, i in zip(CLASSES, first)]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def widget() -> str:
    """What the page works with, as HTML in Markdown."""
    data = {"classes": CLASSES, "wasm": _base64(COMPILED.read_bytes()),
            "pictures": [{"name": name, "bytes": _base64(pixels)} for name, pixels in pictures()],
            "networks": [{"name": name, "text": text} for name, (text, _) in NETWORKS.items()]}
    style = (moving.FOLDER / "moving.css").read_text(encoding="utf-8").strip()
    return "\n".join([
        "````{raw} html", f"<style>\n{style}\n</style>", '<link rel="stylesheet" href="_static/in_the_browser.css">',
        '<div class="live in-the-browser"><noscript>Without JavaScript no network answers here.</noscript></div>',
        '<script src="_static/in_the_browser.js"></script>', "<script>",
        f'inTheBrowser.show(document.querySelector(".in-the-browser"), {json.dumps(data)});', "</script>", "````"])


def write(folder: Path) -> str:
    """Write the networks into ``folder``, and return a table of them in Markdown."""
    folder.mkdir(parents=True)
    _, images, labels, _ = networks.shipped()
    lines = ["| network | parameters | kB | right, % |", "|---|---:|---:|---:|"]
    for name, (text, build) in NETWORKS.items():
        net = build()
        program = browser_program(net, input_size=images.shape[-1])
        data = {**program._asdict(), "tables": _base64(program.tables)}
        (folder / f"{name}.js").write_text(f'inTheBrowser.programs["{name}"] = {json.dumps(data)};\n', encoding="utf-8")
        parameters = cost.table(net, images.shape[-1]).params.sum()
        lines.append(f"| {text} | {parameters:,} | {len(program.tables) / 1000:.0f} | "
                     f"{post_training.accuracy(net, images, labels):.1f} |")
    return "\n".join(lines)


def inserted(folder: Path) -> dict[str, Callable[[], str]]:
    """Return {comment in the page: what takes its place}; networks are written into ``folder``."""
    return {"in the browser: widget": widget, "in the browser: networks": lambda: write(folder),
            "in the browser: float": lambda: f"{post_training.accuracy(*networks.shipped()[:3]):.1f}"}


if __name__ == "__main__":
    print(compile_functions())
