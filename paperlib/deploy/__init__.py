"""From fake quantization to real integers: packed files, integer networks, ONNX."""
from .browser_program import BrowserProgram, browser_program
from .c_program import cifar10_pixels, imagenet_pixels, to_c
from .compare import compare, predictions
from .integer_layers import IntegerLayer, integers
from .integer_net import IntegerNet
from .npz_program import export as export_program
from .pack import contents, load, pack
from .side_by_side import Form, by_fraction, forms, side_by_side

__all__ = ["BrowserProgram", "Form", "IntegerLayer", "IntegerNet", "browser_program", "by_fraction", "cifar10_pixels",
           "compare", "contents", "export_program", "forms", "imagenet_pixels", "integers", "load", "pack",
           "predictions", "runner", "side_by_side", "to_c", "to_onnx"]


def __getattr__(name: str):
    if name not in ("runner", "to_onnx"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import onnx_export  # the package onnx is not there wherever one trains: imported when it is asked for
    return getattr(onnx_export, name)
