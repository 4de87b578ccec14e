"""Progress bars: one line per run that trains, in a terminal as in a notebook."""
from __future__ import annotations

import sys

from tqdm import tqdm


class Progress:
    """A bar per run (``key`` tells runs apart, ``run`` is the title), fed by calls with what ``Trainer.run`` reports
    and where in the run its phase stands.

    Shows the phase and epoch, running loss and accuracy, images per second, elapsed and remaining time.
    """

    def __init__(self):
        self.bars: dict[str, tqdm] = {}

    def __call__(self, *, key, run, phase, epochs_before, epochs, epoch, batch, batches, loss, accuracy, images_per_s):
        done = (epochs_before + epoch - 1) * batches + batch
        if key not in self.bars:
            self.bars[key] = tqdm(total=epochs * batches, initial=done - 1, desc=run, file=sys.stderr,
                                  position=len(self.bars), mininterval=0.5, dynamic_ncols=True,
                                  bar_format="{desc} {percentage:3.0f}%|{bar:12}| {elapsed}<{remaining}{postfix}")
        bar = self.bars[key]
        bar.set_postfix_str(f"{phase} epoch {epoch}: loss {loss:.3f}, accuracy {accuracy:.1f} %, "
                            f"{images_per_s:.0f} images/s", refresh=False)
        bar.update(done - bar.n)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception) -> None:
        for bar in self.bars.values():
            bar.close()
