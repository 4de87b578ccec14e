"""The working half of the companion: quantizers, networks, training and runs.  The notebooks tell the story."""
__version__ = "0.1.0"
