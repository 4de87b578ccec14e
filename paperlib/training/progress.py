"""Progress bars: one line per run that trains, in a terminal as in a notebook."""
from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

from tqdm import tqdm


class Progress:
    """A bar per run (``key`` tells runs apart, ``run`` is the title), fed by calls with what ``Trainer.run`` reports
    and where in the run its phase is.

    Shows the phase and epoch, running loss and accuracy, images per second, elapsed and remaining time; the clocks go
    on while there is nothing else to tell.  ``total``: of how many epochs in all a first bar tells the share done; the
    bars of finished runs then give way to others.
    """

    def __init__(self, total: int = 0):
        self.bars: dict[str, tqdm] = {}
        self._lock, self._closed = threading.RLock(), threading.Event()
        self._clock = threading.Thread(target=self._tick, daemon=True)
        self._all = tqdm(total=total, desc="all epochs", file=sys.stderr, position=0, dynamic_ncols=True,
                         bar_format="{desc} {percentage:3.0f}%|{bar:12}| {n:.0f} of {total:.0f}, {elapsed}"
                         ) if total else None

    def begin(self, key: str, run: str, phase: str) -> None:
        """A run is going to train this phase, after a while: data are read, processes start."""
        with self._lock:
            taken = {-bar.pos for bar in self.bars.values()} | ({0} if self._all else set())
            bar = self.bars[key] = tqdm(total=None, desc=run, file=sys.stderr,
                                        position=next(i for i in range(len(taken) + 1) if i not in taken),
                                        leave=not self._all, mininterval=0.5, dynamic_ncols=True,
                                        bar_format="{desc} {percentage:3.0f}%|{bar:12}| {elapsed}<{remaining}{postfix}")
            bar.set_postfix_str(f"{phase} begins")

    def __call__(self, *, key, run, phase, epochs_before, epochs, epoch, batch, batches, loss, accuracy, images_per_s):
        done = (epochs_before + epoch - 1) * batches + batch
        if key not in self.bars:
            self.begin(key, run, phase)
        bar = self.bars[key]
        if bar.total is None:
            bar.total, bar.initial, bar.n, bar.last_print_n = epochs * batches, done - 1, done - 1, done - 1
        bar.set_postfix_str(f"{phase} epoch {epoch}: loss {loss:.3f}, accuracy {accuracy:.1f} %, "
                            f"{images_per_s:.0f} images/s", refresh=False)
        bar.update(done - bar.n)

    def finish(self, key: str, epochs: int) -> None:
        """A run of so many epochs is done."""
        with self._lock:
            if key in self.bars:
                self.bars.pop(key).close()
        if self._all:
            self._all.update(epochs)

    def _tick(self) -> None:
        while not self._closed.wait(1):
            with self._lock:
                for bar in [*self.bars.values(), *filter(None, [self._all])]:
                    bar.refresh()

    def __enter__(self) -> Progress:
        self._clock.start()
        return self

    def __exit__(self, *exception) -> None:
        self._closed.set()
        with self._lock:
            for bar in [*self.bars.values(), *filter(None, [self._all])]:
                bar.close()


@contextlib.contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show for how long something goes on that has no steps to count, from half a second on; nothing stays of it."""
    over = threading.Event()

    def tick() -> None:
        if over.wait(0.5):
            return
        with tqdm(desc=text, bar_format="{desc} {elapsed}", file=sys.stderr, leave=False, dynamic_ncols=True) as clock:
            while not over.wait(1):
                clock.refresh()

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def tell(text: str) -> None:
    """Write a line above the bars, on the standard error."""
    tqdm.write(text, file=sys.stderr)
