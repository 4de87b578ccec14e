"""Ctrl-C and SIGTERM as a request to stop between two steps, when everything can be saved."""
from __future__ import annotations

import signal
import threading
import time


class Stopped(KeyboardInterrupt):
    """The request was heeded, between two steps."""


class Stop:
    """Within the block, the first signal only sets ``requested``; Ctrl-C again, a second later, interrupts at once.

    Outside the main thread, where Python delivers no signals, it changes nothing.  :meth:`heed` raises Stopped if one
    came.
    """

    def __init__(self):
        self.requested, self._since, self._before = False, 0.0, {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def heed(self) -> None:
        if self.requested:
            raise Stopped

    def _handle(self, number, frame) -> None:
        # torchrun passes on the signal that the terminal has already sent: that is no second wish
        if self.requested and number == signal.SIGINT and time.monotonic() - self._since > 1:
            raise KeyboardInterrupt
        if not self.requested:
            self.requested, self._since = True, time.monotonic()
