"""Figures that tests and notebooks under test draw go to a folder of their own."""
import os
import tempfile

os.environ["PAPERLIB_FIGURES"] = tempfile.mkdtemp(prefix="paperlib-figures-")
