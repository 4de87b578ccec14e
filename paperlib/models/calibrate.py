"""Ranges for a whole network, from images."""
from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import InputError
from ..quantizers import Quantizer
from .graph import unwrapped
from .identity import quantized_blocks
from .quantize import quantized_layers


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


@torch.no_grad()
def calibrate(net: nn.Module, x: Tensor, method: str | None = None, *, only_new: bool = False,
              **options) -> nn.Module:
    """Give every quantizer a range from a batch of images ``x`` (N, C, H, W); returns ``net``.

    One forward pass in evaluation mode.  Each layer sees inputs that the layers before it have already quantized.  In
    a network with a method that changes the size of what it quantizes (``Quantizer.disturbs_norms``) batch norms
    normalize the batch by itself, as in training, and keep its statistics: those of the float network hold no more.

    ``method``: one of ``quantizers.calibration.METHODS`` with its ``options``, for all quantizers whose range data can
    choose; by default what each quantizer's authors do.  ``only_new``: ranges that are there already stay.  On an error the network stays as it was.
    """
    layers, blocks = quantized_layers(net), list(quantized_blocks(net))
    if any(getattr(layer, "before", None) for _, layer in layers):
        raise InputError("in a fused network layers don't see their own inputs: calibrate first, then models.fuse")
    known = [m for m in net.modules() if isinstance(m, Quantizer)]
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    statistics = [Statistics(m) for m in norms if any(q.disturbs_norms for q in known)]
    done = {q for q in known if only_new and q.calibrated}

    def set_range(quantizer, tensor):
        if quantizer is not None and quantizer not in done:
            if quantizer.range_from is None:
                quantizer.calibrate(tensor)
            else:
                quantizer.calibrate(tensor, method, **options)
            done.add(quantizer)

    def set_ranges(layer, args, kwargs):
        set_range(layer.input_quantizer, args[0] if args else kwargs["input"])
        set_range(layer.weight_quantizer, layer.weight)

    modes = {module: module.training for module in net.modules()}
    before = {module: copy.deepcopy(module.state_dict()) for module in (*known, *norms)}
    hooks = [layer.register_forward_pre_hook(set_ranges, with_kwargs=True) for _, layer in layers]
    hooks += [block.identity_quantizer.register_forward_pre_hook(lambda q, args: set_range(q, args[0]))
              for _, block in blocks]
    hooks += [s.norm.register_forward_pre_hook(s.see) for s in statistics]
    try:
        unwrapped(net).eval()(x)
    except Exception as error:
        for module, state in before.items():
            module.load_state_dict(state)
        if not isinstance(error, RuntimeError):
            raise
        raise InputError(f"{type(net).__name__} cannot take images of shape {tuple(x.shape)} "
                         f"({' '.join(str(error).split())[:120]}): give it the size, channels and device "
                         "it is made for") from error
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    for s in statistics:
        s.keep()
    return net
