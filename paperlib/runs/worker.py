"""A process that trains one recipe after another: a job, [key of the last phase, recipe], comes in as a line of JSON;
progress goes out as lines of JSON, and at the end of each job that it is done, or an error, which ends the process too.

When the process that started it goes away, however it goes, standard input ends and the worker stops as on SIGTERM:
after the step under way, which is saved.
"""
from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time

from ..errors import InputError
from ..recipes import Recipe
from ..training.engine import Diverged
from . import loading, obtaining
from .phase_store import StoredPhase

PATIENCE = 60       # seconds for the last step, when the starter has gone


def main() -> int:
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    try:
        while True:
            key, recipe = json.loads(jobs.get())
            chain = StoredPhase.chain(Recipe.from_dict(recipe))
            if chain[-1].key != key:        # whoever asks would not find the result
                raise InputError("the library or a file of weights has changed since this training was asked for: "
                                 "restart the kernel, or run the command again")
            loading.splits(chain[0].recipe)     # data that are not there leave nothing behind
            obtaining.train(chain, _Progress())
            print(json.dumps({"done": key}), flush=True)
    except InputError as error:
        print(json.dumps({"error": str(error), "diverged": isinstance(error, Diverged)}), flush=True)
        return 1
    except KeyboardInterrupt:
        return 130


class _Progress:
    """Says what is reported, at most twice a second and at the end of each epoch."""

    said = 0.0

    def __call__(self, **event):
        if time.monotonic() - self.said > 0.5 or event["batch"] == event["batches"]:
            self.said = time.monotonic()
            with contextlib.suppress(BrokenPipeError):      # nobody listens any more; the end of input follows
                print(json.dumps(event), flush=True)


def _listen(jobs: queue.SimpleQueue) -> None:
    for job in iter(sys.stdin.readline, ""):
        jobs.put(job)
    # whoever started us has gone
    signal.raise_signal(signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(1)


if __name__ == "__main__":
    code = main()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    os._exit(code)      # the thread that waits on standard input would hold up an ordinary exit
