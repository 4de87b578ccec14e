"""Progress bars: one line per run that trains, in a terminal as in a notebook."""
from __future__ import annotations

import sys

from tqdm import tqdm


class Progress:
    """A bar per run (``key`` tells runs apart, ``run`` is the title), fed by calls with what ``Trainer.run`` reports
    and where in the run its phase stands.

    Shows the phase and epoch, running loss and accuracy, images per second, elapsed and remaining time.  ``total``:
    of how many epochs in all a first bar tells the share done; the bars of finished runs then give way to others.
    """

    def __init__(self, total: int = 0):
        self.bars: dict[str, tqdm] = {}
        self._all = tqdm(total=total, desc="all epochs", file=sys.stderr, position=0, dynamic_ncols=True,
                         bar_format="{desc} {percentage:3.0f}%|{bar:12}| {n:.0f} of {total:.0f}, {elapsed}"
                         ) if total else None

    def __call__(self, *, key, run, phase, epochs_before, epochs, epoch, batch, batches, loss, accuracy, images_per_s):
        done = (epochs_before + epoch - 1) * batches + batch
        if key not in self.bars:
            taken = {-bar.pos for bar in self.bars.values()} | ({0} if self._all else set())
            self.bars[key] = tqdm(total=epochs * batches, initial=done - 1, desc=run, file=sys.stderr,
                                  position=next(i for i in range(len(taken) + 1) if i not in taken),
                                  leave=not self._all, mininterval=0.5, dynamic_ncols=True,
                                  bar_format="{desc} {percentage:3.0f}%|{bar:12}| {elapsed}<{remaining}{postfix}")
        bar = self.bars[key]
        bar.set_postfix_str(f"{phase} epoch {epoch}: loss {loss:.3f}, accuracy {accuracy:.1f} %, "
                            f"{images_per_s:.0f} images/s", refresh=False)
        bar.update(done - bar.n)

    def finish(self, key: str, epochs: int) -> None:
        """A run of so many epochs is done."""
        if key in self.bars:
            self.bars.pop(key).close()
        if self._all:
            self._all.update(epochs)

    def tell(self, text: str) -> None:
        """A line above the bars."""
        tqdm.write(text, file=sys.stderr)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception) -> None:
        for bar in [*self.bars.values(), *filter(None, [self._all])]:
            bar.close()
