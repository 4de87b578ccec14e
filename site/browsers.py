"""Where Chromium is on this machine."""
from __future__ import annotations

import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
MISSING = "no Chromium or Chrome on this machine: install it (Debian: apt install chromium)"


def chromium() -> str | None:
    """Return the path of Chromium, or of a browser that is one, None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)
