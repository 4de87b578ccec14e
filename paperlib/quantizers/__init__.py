"""Quantizers by name: ``build("duq", role="weight", bits=4)``, ``names()``.  One file per method."""
import importlib
import pkgutil

from .base import BITS, Quantizer
from .registry import build, find, names, register

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["BITS", "Quantizer", "build", "find", "names", "register"]
