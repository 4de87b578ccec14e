"""A process that trains one recipe: the recipe comes in as a line of JSON, progress goes out as lines of JSON.

Started by ``runs.obtain_all``.  When the process that started it goes away, however it goes, standard input ends and
the worker stops; what it had saved stays.
"""
from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time

from . import runs
from .errors import InputError
from .recipes import Recipe


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)        # Ctrl-C reaches the starter, which then ends us
    recipe = Recipe.from_dict(json.loads(sys.stdin.readline()))
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
    said = 0.0

    def progress(**event):
        nonlocal said
        if time.monotonic() - said > 0.5 or event["batch"] == event["batches"]:
            said = time.monotonic()
            print(json.dumps(event), flush=True)

    try:
        runs.obtain(recipe, progress=progress)
    except InputError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)      # the thread that waits on standard input would hold up an ordinary exit
