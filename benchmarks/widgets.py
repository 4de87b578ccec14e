"""How long each widget that asks Python takes to answer a move of a knob: median and worst over a walk through all.

The walk visits every stop of every knob (up to ``--stops`` of a slider's), others at their start; the first visit to a
layer or a bit-width, which computes, counts as well.  Networks and images are those of the lessons, from
data/recorded/.  ``python benchmarks/widgets.py --help`` lists the options.
"""
from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import ipywidgets
import numpy as np
import pandas as pd
import torch

from paperlib import runs
from paperlib.analysis import layer_inputs
from paperlib.claims import experiments
from paperlib.teaching import widgets
from paperlib.teaching.widgets import panel


def makers() -> dict[str, Callable]:
    """{widget: what makes it}, on the recorded networks."""
    float_run, profit = (runs.obtain(recipe) for recipe in (
        experiments.float_network(), experiments.integers("recorded")["mobilenet_v3_large"][0]))
    images, _ = next(iter(layer_inputs.test_batches(float_run).epoch()))
    return {"quantizer": lambda: widgets.quantizer(float_run.model(), images), "threshold": widgets.threshold,
            "histogram": lambda: widgets.histogram(profit.model(), images), "interval": widgets.interval}


def stops(knob: ipywidgets.Widget, most: int) -> list:
    """Values of the knob, evenly spread over it."""
    if hasattr(knob, "options"):
        return list(knob.options)
    places = np.linspace(0, round((knob.max - knob.min) / knob.step), most).round()
    return [type(knob.value)(knob.min + knob.step * place) for place in dict.fromkeys(places)]


def measure(make: Callable, most: int) -> dict:
    """Milliseconds until the widget is there, and of a move (median, its processor time, worst); kilobytes of the
    fixed panel."""
    displayed: list[ipywidgets.VBox] = []
    panel.display = displayed.append
    start = time.perf_counter()
    fixed = make()
    ready = time.perf_counter() - start
    knobs, picture, words = displayed[0].children
    times, processor = [], []
    for knob in knobs.children:
        first = knob.value
        for value in [*stops(knob, most), first]:
            if value != knob.value:
                before, start, at_work = words.value, time.perf_counter(), time.process_time()
                knob.value = value
                times.append(time.perf_counter() - start)
                processor.append(time.process_time() - at_work)
                if words.value == before or picture.layout.display == "none":
                    raise SystemExit(f"{knob.description} = {value} draws nothing new")
    return {"ready": 1000 * ready, "moves": len(times), "median": 1000 * statistics.median(times),
            "processor": 1000 * statistics.median(processor), "worst": 1000 * max(times),
            "panel kB": len(fixed.data) / 1000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widget", nargs="+", help="default: all")
    parser.add_argument("--stops", type=int, default=12, help="of each slider (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    os.environ["JPY_SESSION_NAME"] = "benchmark"        # as if somebody were there
    made = makers()
    table = pd.DataFrame({name: measure(made[name], args.stops) for name in args.widget or made}).T
    print(f"milliseconds, {args.threads} threads, torch {torch.__version__}")
    print(table.round(1).astype({"moves": int}).to_string())


if __name__ == "__main__":
    main()
