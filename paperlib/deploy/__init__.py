"""From fake quantization to real integers."""
from .compare import compare, predictions
from .fold import IntegerLayer, integers
from .forms import Form, by_fraction, forms, side_by_side
from .integer import IntegerNet
from .onnx import runner, to_onnx
from .pack import contents, load, pack
from .program import export as export_program

__all__ = ["Form", "IntegerLayer", "IntegerNet", "by_fraction", "compare", "contents", "export_program", "forms",
           "integers", "load", "pack", "predictions", "runner", "side_by_side", "to_onnx"]
