"""A process that trains one recipe, whose last phase has the key on the command line: the recipe comes in as a line of
JSON, progress goes out as lines of JSON.

When the process that started it goes away, however it goes, standard input ends and the worker stops as on SIGTERM:
after the step under way, which is saved.
"""
from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time

from ..errors import InputError
from ..recipes import Recipe
from . import obtaining
from .phase_store import StoredPhase

PATIENCE = 60       # seconds for the last step, when the starter has gone


def main() -> int:
    recipe = Recipe.from_dict(json.loads(sys.stdin.readline()))
    threading.Thread(target=_leave_with_the_starter, daemon=True).start()
    said = 0.0

    def progress(**event):
        nonlocal said
        if time.monotonic() - said > 0.5 or event["batch"] == event["batches"]:
            said = time.monotonic()
            with contextlib.suppress(BrokenPipeError):      # nobody listens any more; the end of input follows
                print(json.dumps(event), flush=True)

    try:
        chain = StoredPhase.chain(recipe)
        if chain[-1].key != sys.argv[1]:        # whoever asks would not find the result
            raise InputError("the library or a file of weights has changed since this training was asked for: restart "
                             "the kernel, or run the command again")
        obtaining.check(chain)
        obtaining.train(chain, progress)
    except InputError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _leave_with_the_starter() -> None:
    sys.stdin.read()
    signal.raise_signal(signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(1)


if __name__ == "__main__":
    code = main()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    os._exit(code)      # the thread that waits on standard input would hold up an ordinary exit
