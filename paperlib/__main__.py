"""The command line: ``python -m paperlib COMMAND``; --help lists the commands and explains each.

What a command takes and does is said in the ``commands.py`` of the room whose work it is, which is imported when the
command is asked for: the list of commands and a word that is none of them are answered at once.
"""
from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import os
import signal
import sys
import warnings

from . import __version__
from .errors import InputError

COMMANDS = {
    "figure": ("claims", "run a figure's notebook and print which files it has written"),
    "refresh": ("claims", "run a committed notebook with its defaults and store its outputs"),
    "train": ("runs", "train a recipe; also under torchrun, for several processes or machines"),
    "prepare": ("claims", "train all that the figures need, whatever they share once, on all cores"),
    "record": ("claims", "train what data/recorded/ should hold, and keep it there (for authors)"),
    "confirm": ("claims", "train further seeds of the runs that a claim rests on, and write down what they say"),
    "bundle": ("runs", "pack what a machine without a network needs to train: library, data, weights"),
    "unbundle": ("runs", "put the data of unpacked volumes into their places"),
    "collect": ("runs", "file what `record --deliver` brought back in data/recorded/"),
    "ship": ("runs", "put a trained float network into data/pretrained/, for others to start from (for authors)"),
    "repeat": ("runs", "train a recorded run once more, by its run.json alone, and compare the curves"),
    "runs": ("runs", "list what has been trained, one line per phase"),
    "export": ("runs", "write a trained network as a packed file, as ONNX or as a program of integers"),
    "data": ("runs", "fetch CIFAR-10 and check it"),
    "check-env": ("runs", "OK or FAIL for each requirement, with the cure")}


def parser(asked: str | None = None) -> argparse.ArgumentParser:
    """The parser of the whole line, which knows the options of the command that is ``asked`` for."""
    top = argparse.ArgumentParser(prog="python -m paperlib", description="An executable companion to PROFIT and QIL.")
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for name, (room, text) in COMMANDS.items():
        options = commands.add_parser(name, help=text, description=text)
        if name == asked:
            module = importlib.import_module(f".{room}.commands", __package__)
            options.set_defaults(work=getattr(module, f"{name.replace('-', '_')}_command")(options))
    return top


def main() -> int:
    _open_streams()
    try:
        args = parser(*sys.argv[1:2]).parse_args()
        args.work(args)
        sys.stdout.flush()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; all finished steps are kept, and the same command goes on from there", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        package = (error.name or __package__).split(".")[0]
        if package == __package__:
            raise
        return _tell_missing(package)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC) or error.filename:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if error.errno == errno.EPIPE:      # whoever read the output has read enough
            return 128 + signal.SIGPIPE
        print(f"error: the output cannot be written ({error.strerror}): make room", file=sys.stderr)
        return 2
    return 0


def _tell_missing(package: str) -> int:
    """Say that a package is missing, and with it what else this machine lacks: `check-env` gets no further, either."""
    from .system.requirements import packages

    lacking = [f"  FAIL {found}  ->  {cure}" for holds, found, cure in packages() if not holds]
    print("\n".join([f"error: the package {package} cannot be imported; `pip install -e .` installs all that is needed",
                     *lacking]), file=sys.stderr)
    return 1


def _open_streams() -> None:
    """Let what is written to a closed stream vanish; otherwise the next file opened would be in its place.  Characters
    that an open one does not have are written as escapes."""
    while (place := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(place)
    sys.stdout, sys.stderr = (stream or open(place, "w", closefd=False)
                              for place, stream in ((1, sys.stdout), (2, sys.stderr)))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):       # one that a test has put there
            stream.reconfigure(errors="backslashreplace")


def _stop(number, frame):
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)        # what Ctrl-C does
    warnings.formatwarning = lambda message, *place, **line: f"warning: {message}\n"
    sys.exit(main())
