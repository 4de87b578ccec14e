"""Ranges for a whole network, from what it will see."""
from __future__ import annotations

import contextlib
import copy
import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import InputError, brief
from ..quantizers import Quantizer, calibration
from .calibration_inputs import Inputs
from .fused_conv import FusedConv2d
from .graph import unwrapped
from .quantize import quantized_layers
from .residual import quantized_blocks

Visit = Callable[[Quantizer, Tensor], None]


class Statistics:
    """What a batch norm sees while ranges are set: it normalizes each batch by itself, as in training, and ends with
    mean and variance of all that came.

    The norm stays in evaluation mode, so that nothing else about it changes and several processes with the same images
    agree.  One value per channel has no variance: it is normalized as before.
    """

    def __init__(self, norm: _BatchNorm):
        self.norm, self.n, self.mean, self.squares = norm, 0, 0.0, 0.0

    def see(self, norm: _BatchNorm, args: tuple[Tensor]) -> None:
        """Before each call."""
        x = args[0] if args[0].dtype.itemsize >= 4 else args[0].float()
        n = x.numel() // x.shape[1]
        if not n:
            return
        variance, mean = torch.var_mean(x, [i for i in range(x.dim()) if i != 1], correction=0)
        if n > 1:
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
        step, whole = mean.double() - self.mean, self.n + n
        self.squares = self.squares + n * variance.double() + step.square() * (self.n * n / whole)
        self.mean, self.n = self.mean + step * (n / whole), whole

    def keep(self) -> None:
        """At the end."""
        if self.n > 1:
            self.norm.running_mean.copy_(self.mean)
            self.norm.running_var.copy_(self.squares / (self.n - 1))


class Calibration:
    """The passes through a network that set its ranges."""

    def __init__(self, net: nn.Module, only_new: bool, method: str | None, options: dict):
        self.net, self.method, self.options, self.heads = net, method, options, False
        self.layers, self.blocks = quantized_layers(net), list(quantized_blocks(net))
        self.names = {m: name for name, m in net.named_modules() if isinstance(m, Quantizer)}
        self.floors = {layer.input_quantizer: layer.input_floor for _, layer in self.layers}
        self.open = {q for q in self.names if not (only_new and q.calibrated)}
        self.norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
        if not any(q.disturbs_norms for q in self.names):
            self.norms = []

    def set(self, quantizer: Quantizer, data: Tensor | calibration.Counts) -> None:
        """Give a quantizer its range."""
        ours = quantizer.range_from is not None and self.method is not None and not (
            quantizer.role == "weight" and self.method == "percentile")
        layer, _, part = self.names[quantizer].rpartition(".")
        self.check(quantizer, data, layer)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                quantizer.calibrate(data, *([self.method] if ours else []), **(self.options if ours else {}))
            except InputError as error:
                raise InputError(f"{layer}, {part.replace('_quantizer', '')}: {error}") from None
        for warning in said:
            warnings.warn(f"{layer}: {warning.message}", warning.category, stacklevel=2)

    def check(self, quantizer: Quantizer, data: Tensor | calibration.Counts, layer: str) -> None:
        """InputError for values far below what the graph says (value_bounds.py), which does not see everything."""
        floor = self.floors.get(quantizer, -math.inf)
        if floor == -math.inf or self.heads or isinstance(data, Tensor) and not data.numel():
            return
        low, high = data.aminmax() if isinstance(data, Tensor) else data.ends
        if floor - low > 1e-6 + 1e-3 * max(-low, high):
            raise InputError(f"{layer} gets values down to {low:.3g}, where forward has none below "
                             f"{floor:g}: a hook, dropout that is always active, or a module of one's own "
                             "that changes its input in place makes them; write such a change into forward, with "
                             "torch's functions")

    def set_open(self, quantizer: Quantizer, tensor: Tensor) -> None:
        if quantizer in self.open:
            self.set(quantizer, tensor)
            self.open.remove(quantizer)

    def run(self, batches: Iterable[tuple[Tensor, ...]], visit: Visit,
            norms: Iterable[_BatchNorm] = ()) -> list[_BatchNorm]:
        """Show batches to the network: ``visit(quantizer, tensor)`` before each use, new statistics for ``norms``;
        returns those norms that were not called."""
        def layer_called(layer, args, kwargs):
            x = args[0] if args else kwargs["input"]
            for quantizer, tensor in ((layer.input_quantizer, x), (layer.weight_quantizer, layer.weight)):
                if quantizer is not None:
                    visit(quantizer, tensor)

        statistics = [Statistics(norm) for norm in norms]
        hooks = [layer.register_forward_pre_hook(layer_called, with_kwargs=True) for _, layer in self.layers]
        hooks += [block.identity_quantizer.register_forward_pre_hook(lambda q, args: visit(q, args[0]))
                  for _, block in self.blocks]
        hooks += [s.norm.register_forward_pre_hook(s.see) for s in statistics]
        for module in self.net.modules():      # heads of training stand in an ``if self.training`` of their parent
            module.training = self.heads and next(module.children(), None) is not None
        try:
            for args in batches:
                self.show(args)
        finally:
            for hook in hooks:
                hook.remove()
        for s in statistics:
            s.keep()
        return [s.norm for s in statistics if not s.n]

    def show(self, args: tuple[Tensor, ...]) -> None:
        try:
            self.net(*args)
        except InputError:
            raise
        except Exception as error:
            shapes = " and ".join(str(tuple(x.shape)) for x in args)
            raise InputError(f"{type(self.net).__name__} cannot take images of shape {shapes} ({args[0].dtype}; "
                             f"{brief(error)}): give it the size, channels and dtype it is "
                             "made for") from error

    def set_all(self, batches: Iterator[tuple[Tensor, ...]], again: Inputs) -> None:
        """Ranges from the first batch; if there are more, counts of all of them, and then ranges from those."""
        first, second = next(batches, None), next(batches, None)
        if first is None:
            raise InputError("there is no batch to calibrate with: pass at least one")
        if second is not None and self.norms and again.once:
            raise InputError("ranges are set first, statistics of batch norms then, and an iterator can be read only "
                             "once: pass a list of batches or a DataLoader")
        wanted = set(self.open)
        with warnings.catch_warnings():
            if second is not None:
                warnings.simplefilter("ignore", RuntimeWarning)     # ranges are provisional
            missed, before = self.run([first], self.set_open, self.norms), set(self.open)
            if any(q.range_from for q in self.open):
                self.heads = True
                with contextlib.suppress(InputError):       # some networks want targets then
                    self.run([first], self.set_open, missed)
                self.heads = self.open != before
        if second is None:
            return
        seen = {q: calibration.Counts() for q in wanted - self.open if q.role == "activation" and q.range_from}

        def count(quantizer, tensor):
            if quantizer in seen:
                seen[quantizer].add(tensor)

        self.run(itertools.chain([first, second], batches), count, self.norms)
        for quantizer, counts in seen.items():
            self.set(quantizer, counts)
        if self.norms:
            self.run(again, lambda quantizer, tensor: None, self.norms)

    def padded(self) -> bool:
        """Say whether a border is not the one that the float network knows."""
        return any(getattr(layer, "pad_value", 0) and any(layer.padding) for _, layer in self.layers)

    @contextlib.contextmanager
    def undone_on_error(self) -> Iterator[None]:
        """Modes are restored in the end, ranges and statistics after an error."""
        modes = {module: module.training for module in self.net.modules()}
        states = {module: copy.deepcopy(module.state_dict()) for module in (*self.names, *self.norms)}
        try:
            yield
        except BaseException:
            for module, state in states.items():
                module.load_state_dict(state)
            raise
        finally:
            for module, training in modes.items():
                module.training = training


@torch.no_grad()
def calibrate(net: nn.Module, data, method: str | None = None, *, only_new: bool = False, **options) -> nn.Module:
    """Set the ranges of all quantizers from ``data``, in place and anew each time; returns ``net``.

    ``data``: a batch of images (N, C, H, W), or an iterable of batches such as a DataLoader, tensors or arrays; of
    batches (x, y) the network gets x, or as many inputs as its forward asks for (:class:`Inputs` has the details).
    ``method``: one of ``quantizers.calibration.METHODS`` with its ``options``, for every quantizer whose range data
    can choose (a percentile for activations alone); by default what the authors of each quantizer do.  For a network
    that is used without training, "mse" or "max" (and ``Scheme(negative_padding=False)``): DuQ's and PACT's own ranges
    clip the largest activations, since training follows.  A warning says so of a network in evaluation mode.
    ``only_new``: ranges that are there stay, as from one phase of a training to the next.

    The network runs in evaluation mode.  Each layer sees inputs that the layers before it have quantized: with several
    batches, by ranges from the first.  Where a method changes the size of what it quantizes
    (``Quantizer.disturbs_norms``) batch norms normalize each batch by itself, as in training, and keep the statistics
    of all: the float network's hold no more.  Layers that are called in training mode alone are seen in a
    second pass; a warning lists those that are not called at all.

    InputError, with the network as it was, for data that don't fit or are not finite.
    """
    if method is not None:
        calibration.known(method, options)
    elif options:
        raise InputError(f"options belong to a method: pass method={'|'.join(calibration.METHODS)} as well")
    if any(isinstance(layer, FusedConv2d) for _, layer in quantized_layers(net)):
        raise InputError("in a fused network layers don't see their own inputs: calibrate first, then models.fuse")
    inner = unwrapped(net)
    inputs, passes = Inputs(inner, data), Calibration(inner, only_new, method, options)
    with passes.undone_on_error():
        passes.set_all(iter(inputs), inputs)
    missed = [passes.names[q].rpartition(".")[0] for q in passes.open if q.range_from]
    if missed:
        warnings.warn(f"forward does not call {', '.join(dict.fromkeys(missed))}: no range is set there; if training "
                      "calls them in another way, call theirs .calibrate(x)", stacklevel=3)
    clipping = {type(q).__name__ for q in passes.names if q.role == "activation" and q.range_from and not q.range_method
                and q.range_from["activation"][0] == "percentile"}
    if clipping and method is None and not only_new and not inner.training:
        warnings.warn(f"the ranges of {' and '.join(sorted(clipping))} clip the largest activations, since training "
                      "follows: for a network that is used as it is, calibrate with method=\"mse\" or \"max\""
                      + (" and quantize with negative_padding=False" if passes.padded() else "")
                      + "; one that will be trained, put into training mode first", stacklevel=3)
    return net
