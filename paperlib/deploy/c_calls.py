"""The steps of an integer network as calls of the functions in network.c, with their tables and places in memory.

Between a layer and the next layer's codes, a chain of clips and h-swish disappears into the table of where codes begin.
"""
from __future__ import annotations

import math
from collections import Counter

import numpy as np
from torch import Tensor

from ..errors import InputError
from .c_tables import LANES, PIXELS, Jumps, Table, factor, jumps, packed, reaches
from .npz_program import Steps
from .programs import LIMIT

PLACES, STEPS = 16, 32        # from how many places and up to how many jumps a table per channel is worth its size
CLIPPING = ("clip", "hardsigmoid", "hardswish")      # one number in, one out


class Writer:
    """Goes through the steps; results are known by their names, and have a shape and a place in memory.

    ``shape``: (height, width, channels), vectors as a map of one place.  ``place``: where the result begins in
    ``codes`` or ``numbers``.  ``pixels``: as :func:`paperlib.deploy.to_c` takes them.

    ``tables`` and ``calls`` are the result; a call is (function, argument, ...).  An argument is a number, a pair of
    them, or a name: of a table, with & where it is a struct, NULL, image, or "codes + 7", a place in memory.  Calls of
    "see" have a layer's name before the codes.
    """

    def __init__(self, steps: Steps, pixels: Tensor):
        self.source, self.one = steps, 1 << steps.program.fraction
        self.steps = {step["name"]: step for step in steps.steps}
        self.tables: list[Table] = []
        self.calls: list[tuple[str, ...]] = []
        self.kernel = self.patches = 0
        self.size = {"codes": 0, "numbers": 0}
        self.shape = {"codes": (*steps.size[1:], steps.size[0])}
        self.place: dict[str, int] = {}
        self.busy: dict[str, dict[str, tuple[int, int]]] = {"codes": {}, "numbers": {}}
        first = steps.coded["codes"][1].encode(pixels.double()).numpy()
        self.uses = Counter(x for step in steps.steps for x in step["inputs"])
        self.absorbed, self.chains, self.fused = set(), {}, {}
        for step in steps.steps:
            if step["op"] == "codes":
                self.absorb(step)
        self.table("int16_t", "pixel_codes", first.ravel())

    # -- which steps become one ------------------------------------------------------------------------------------
    def absorb(self, codes: dict) -> None:
        """Find the number from which codes follow at once, and the chain of operations between."""
        x, chain = codes["inputs"][0], [codes]
        while self.uses[x] == 1 and self.steps[x]["op"] in CLIPPING and chain[0]["op"] != "hardswish":
            self.absorbed.add(x)
            chain.insert(0, self.steps[x])
            x = chain[0]["inputs"][0]
        self.chains[codes["name"]] = x, chain
        if self.uses[x] == 1 and self.steps[x]["op"] in ("convolve", "product"):
            self.fused[x] = codes["name"]

    def value(self, step: dict, x: np.ndarray) -> np.ndarray:
        """What an operation with one input gives for numbers or codes x, int64."""
        one, own = self.one, self.arrays(step)
        if step["op"] == "clip":
            return np.clip(x, step["low"], step["high"]) if (step["low"], step["high"]) != (None, None) else x
        if step["op"] == "hardsigmoid":
            return (np.clip(x + 3 * one, 0, 6 * one) + 3) // 6
        if step["op"] == "hardswish":
            return (np.clip(x + 3 * one, 0, 6 * one) * x + 3 * one) // (6 * one)
        if step["op"] == "codes":
            return step["code_min"] + np.searchsorted(own["thresholds"], x, "right")
        return ((x * own["multiplier"] + (1 << (own["shift"] - 1))) >> own["shift"]) + own["bias"]

    def arrays(self, step: dict) -> dict[str, np.ndarray]:
        return {key.removeprefix(f"{step['name']}."): array.astype(np.int64)
                for key, array in self.source.arrays.items() if key.startswith(f"{step['name']}.")}

    # -- tables and places -----------------------------------------------------------------------------------------
    def table(self, kind: str, name: str, values: np.ndarray | list) -> str:
        array = isinstance(values, np.ndarray)
        self.tables.append(Table(kind, name, values.astype(kind.removesuffix("_t")) if array else values))
        return name

    def at(self, name: str) -> str:
        kind = "codes" if name in self.chains or name == "codes" else "numbers"
        return f"{kind} + {self.place[name]}"

    def hold(self, kind: str, name: str, shape: tuple[int, ...], instead: str | None = None) -> str:
        """Give a result its place in memory, the first that is free, or another one's; the expression for it."""
        busy, size, start = self.busy[kind], math.prod(shape), 0
        if instead is None:
            for begin, end in sorted(busy.values()):
                if begin - start >= size:
                    break
                start = max(start, end)
        else:
            start = busy.pop(instead)[0]
        busy[name] = start, start + size
        self.shape[name], self.place[name] = shape, start
        self.size[kind] = max(self.size[kind], start + size)
        return self.at(name)

    def write(self) -> None:
        """Note tables and calls of all steps."""
        shape = self.shape["codes"]
        self.call("look_up", math.prod(shape), shape[2], "pixel_codes", "image", self.hold("codes", "codes", shape))
        self.seen("codes")
        self.left = self.uses.copy()
        last = self.source.steps[-1]["name"]
        self.left[last] += 1
        for step in self.source.steps:
            name = step["name"]
            if name in self.absorbed or name in self.fused.values():
                continue
            inputs = [self.chains[name][0]] if name in self.chains else step["inputs"]
            getattr(self, step["op"])(step, *inputs)
            for x in inputs:
                self.release(x)
        if self.shape[last][:2] != (1, 1):
            raise InputError("the network gives a map, and a C program a vector of logits: pool or flatten at the end")
        self.result = last

    def release(self, name: str) -> None:
        """Free the place of a result after its last use."""
        self.left[name] -= 1
        if not self.left[name]:
            for busy in self.busy.values():
                busy.pop(name, None)

    def dying(self, *names: str) -> str | None:
        """One of these numbers whose place may be taken while it is read for the last time."""
        return next((x for x in names if self.left[x] == 1 and x in self.busy["numbers"]), None)

    def seen(self, name: str) -> None:
        self.call("see", self.source.coded[name][0], self.at(name), *self.shape[name])

    def call(self, function: str, *arguments: int | tuple[int, int] | str) -> None:
        self.calls.append((function, *arguments))

    # -- a method for each op of the steps -------------------------------------------------------------------------
    def convolve(self, step: dict, x: str) -> None:
        own, (height, width, channels) = self.arrays(step), self.shape[x]
        weight, groups = own["weight"], step.get("groups", 1)
        weight = weight.reshape(*weight.shape, *[1] * (4 - weight.ndim)).transpose(0, 2, 3, 1)
        out, (kernel, depth) = len(weight), (weight.shape[1:3], math.prod(weight.shape[1:]))
        if weight.shape[3] * groups != channels or step["op"] == "product" and (height, width) != (1, 1):
            raise InputError(f"{step['name']}: a fully connected layer takes a vector in C: flatten before")
        stride, padding, dilation = (step.get(key, default) for key, default in (
            ("stride", (1, 1)), ("padding", (0, 0)), ("dilation", (1, 1))))
        places = [(size + 2 * p - d * (k - 1) - 1) // s + 1 for size, p, d, k, s in zip(
            (height, width), padding, dilation, kernel, stride)]
        name, number, result = step["name"], step["name"].rpartition("_")[2], self.fused.get(step["name"])
        depthwise = groups == channels == out
        together, rows = out if depthwise else out // groups, weight.reshape(out, -1)
        bits, times, lowest, words = packed(rows, together)
        grid = self.source.coded[x][1].grid
        most = max(abs(grid.code_min), abs(grid.code_max))
        small = int(np.abs(rows).sum(1).max()) * most < 2**15 - 1
        safe = depth if small else (2**15 - 1) // (most * int(np.abs(rows).max()))
        if not safe:
            raise InputError(f"{name}: the product of a weight's and an activation's code could need more than 16 "
                             "bits: use fewer bits for one of them")
        multiplier, shift, bias = factor(**{key: own[key].reshape(len(own[key]), -1) for key in (
            "multiplier", "shift", "bias")})
        stairs = self.jumps(result) if result else None
        tables = [self.table("uint16_t", f"weight_{number}", words)]
        quick = result and small and bias.shape[1] == 1 and math.prod(places) >= PLACES and stairs.at.size < STEPS
        if quick:
            table = reaches(*stairs, multiplier[:, 0], shift[:, 0], bias[:, 0], together)
            tables += ["NULL", "NULL", "NULL", self.table("int16_t", f"reach_{number}", table)]
        else:
            tables += [self.table(kind, f"{key}_{number}", np.pad(values.T.ravel(), (0, -together % LANES),
                                  constant_values=1)) for kind, key, values in (
                ("int32_t", "multiplier", multiplier), ("int32_t", "bias", bias), ("uint8_t", "shift", shift))]
            tables.append("NULL")
        self.table("Layer", f"layer_{number}", [
            height, width, channels, *places, out, groups, *kernel, stride, padding, dilation, bits, times, lowest,
            safe, int(bias.shape[1] > 1), *tables])
        self.kernel, self.patches = max(self.kernel, LANES * depth), max(self.patches, PIXELS * depth)
        ends = ["NULL", self.at(x), "NULL", "NULL"]
        if result:
            ends[0], ends[3] = self.stairs(stairs, number, bare=quick), self.hold("codes", result, (*places, out))
        else:
            ends[2] = self.hold("numbers", name, (*places, out))
        self.call("convolve_depthwise" if depthwise else "convolve", f"&layer_{number}", *ends)
        if result:
            self.seen(result)

    product = convolve

    def jumps(self, name: str) -> Jumps:
        """Where numbers get another code."""
        chain = self.chains[name][1]

        def code(x: np.ndarray) -> np.ndarray:
            for step in chain:
                x = self.value(step, x)
            return x

        valley = -3 * self.one // 2         # of h-swish: codes fall until there, then rise
        parts = [jumps(code, *ends) for ends in ((-LIMIT, valley), (valley, LIMIT - 1))]
        falls = len(parts[0]) if chain[0]["op"] == "hardswish" else 0
        return Jumps(np.concatenate(parts), int(code(np.array([-LIMIT]))[0]), falls)

    def stairs(self, found: Jumps, number: str, bare: bool = False) -> str:
        at = "NULL" if bare or not found.at.size else self.table("int32_t", f"at_{number}", found.at)
        fields = [found.start, found.falls, found.at.size - found.falls, at]
        return "&" + self.table("Stairs", f"stairs_{number}", fields)

    def codes(self, step: dict, x: str) -> None:
        name, shape, source = step["name"], self.shape[x], self.at(x)
        self.call("encode", self.stairs(self.jumps(name), name.rpartition("_")[2]), math.prod(shape), source,
                  self.hold("codes", name, shape))
        self.seen(name)

    def each(self, step: dict, x: str, *settings, function: str | None = None) -> None:
        """A call for each number by itself."""
        name, shape, source = step["name"], self.shape[x], self.at(x)
        self.call(function or step["op"], math.prod(shape), source, *settings,
                  self.hold("numbers", name, shape, self.dying(x)))

    hardswish = hardsigmoid = each

    def clip(self, step: dict, x: str) -> None:
        ends = ((step["low"], -LIMIT), (step["high"], LIMIT - 1))
        self.each(step, x, *(default if end is None else end for end, default in ends))

    def numbers(self, step: dict, x: str) -> None:
        multiplier, shift, bias = (int(array[0]) for array in factor(**self.arrays(step)))
        self.each(step, x, multiplier, shift, bias,
                  function="rescale_codes" if self.at(x).startswith("codes") else "rescale")

    def add(self, step: dict, x: str, y: str) -> None:
        shapes = [self.shape[name] for name in (x, y)]
        if shapes[0] != shapes[1]:
            raise InputError(f"{step['name']}: maps of different shapes are added: make them equal")
        sources = self.at(x), self.at(y)
        self.call("add", math.prod(shapes[0]), *sources, self.hold("numbers", step["name"], shapes[0],
                                                                   self.dying(x, y)))

    def multiply(self, step: dict, x: str, y: str) -> None:
        x, y = sorted((x, y), key=lambda name: -math.prod(self.shape[name]))
        shape, other = (self.shape[name] for name in (x, y))
        if other not in (shape, (1, 1, shape[2])):
            raise InputError(f"{step['name']}: a map is multiplied by what is neither a map nor a number per channel")
        n = math.prod(shape) // math.prod(other)
        sources = self.at(x), self.at(y)
        self.call("multiply", n, math.prod(other), *sources, self.hold("numbers", step["name"], shape, self.dying(x)))

    def average(self, step: dict, x: str) -> None:
        shape = self.shape[x]
        self.call("average", *shape, *step["size"], self.at(x),
                  self.hold("numbers", step["name"], (*step["size"], shape[2])))

    def max(self, step: dict, x: str) -> None:
        height, width, channels = self.shape[x]
        window, stride, padding = (step[key] for key in ("kernel", "stride", "padding"))
        out = [(size + 2 * p - k) // s + 1 for size, p, k, s in zip((height, width), padding, window, stride)]
        self.call("max_pool", (height, width), channels, *map(tuple, (out, window, stride, padding)), self.at(x),
                  self.hold("numbers", step["name"], (*out, channels)))

    def flatten(self, step: dict, x: str) -> None:
        height, width, channels = self.shape[x]
        name, places = step["name"], height * width
        self.call("flatten", places, channels, self.at(x), self.hold("numbers", name, (1, 1, places * channels)))
