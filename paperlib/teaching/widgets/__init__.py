"""Pictures that move, with a fixed panel that says the same where nothing is live; and eight ready-made ones."""
from .cost import cost
from .freezing import freezing
from .grid import grid
from .histogram import histogram
from .interval import interval
from .oscillation import oscillation
from .panel import explore
from .quantizer import quantizer
from .threshold import threshold

__all__ = ["cost", "explore", "freezing", "grid", "histogram", "interval", "oscillation", "quantizer", "threshold"]
