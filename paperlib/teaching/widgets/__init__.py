"""Sliders over pictures, with a fixed panel that says the same where nothing is live; and six ready-made ones."""
from .cost import cost
from .freezing import freezing
from .histogram import histogram
from .interval import interval
from .panel import explore
from .quantizer import quantizer
from .threshold import threshold

__all__ = ["cost", "explore", "freezing", "histogram", "interval", "quantizer", "threshold"]
