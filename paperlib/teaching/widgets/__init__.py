"""Sliders over pictures, with a fixed panel that says the same where nothing is live; and five ready-made ones."""
from .cost import cost
from .freezing import freezing
from .histogram import histogram
from .panel import SIZE, controls, explore, live
from .quantizer import quantizer
from .threshold import threshold

__all__ = ["SIZE", "controls", "cost", "explore", "freezing", "histogram", "live", "quantizer", "threshold"]
