"""From fake quantization to real integers."""
import importlib

from .compare import compare, predictions
from .integer_layers import IntegerLayer, integers
from .integer_net import IntegerNet
from .npz_program import export as export_program
from .pack import contents, load, pack

# what needs the package onnx, which is not there wherever one trains: imported when it is asked for
_WITH_ONNX = {"runner": "onnx_export", "to_onnx": "onnx_export", "Form": "side_by_side", "by_fraction": "side_by_side",
              "forms": "side_by_side", "side_by_side": "side_by_side"}

__all__ = ["Form", "IntegerLayer", "IntegerNet", "by_fraction", "compare", "contents", "export_program", "forms",
           "integers", "load", "pack", "predictions", "runner", "side_by_side", "to_onnx"]


def __getattr__(name: str):
    if name not in _WITH_ONNX:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # all at once: a submodule that has been imported would hide the function that bears its name
    for each, home in _WITH_ONNX.items():
        globals()[each] = getattr(importlib.import_module(f"{__name__}.{home}"), each)
    return globals()[name]
