"""The working half of the companion: quantizers, networks, training and runs.  The notebooks tell the story."""
from . import provenance as _provenance     # first of all: it reads the code that is about to be imported

__version__ = "0.1.0"
