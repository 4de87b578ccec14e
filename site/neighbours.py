"""Quantizers of other libraries beside ours, position by position: ``python site/neighbours.py`` writes neighbours.csv.

Each neighbour gets the same number and the same parameters as ours.  Compared are the quantized number and its
derivatives by the number and by the parameters, at positions 1/16 of a step apart, from a few steps below the grid to a
few above it, none of them a level or half-way between two.  Packages are imported on use.
"""
from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import softplus

from paperlib import quantizers

FILE = Path(__file__).with_name("neighbours.csv")
BEYOND = 3                      # steps on either side of the grid
SAME = 1e-5                     # of a step, or of a derivative; all of it is computed in float32


def _ours(name: str, bits: int = 4, **settings) -> Callable[[], quantizers.Quantizer]:
    def build():
        quantizer = quantizers.build(name, bits=bits, **settings)
        quantizer.calibrate(torch.linspace(0.0 if settings.get("role") == "activation" else -1.0, 1.3, 50)[None])
        with torch.no_grad():
            for parameter in list(quantizer.parameters())[1:]:
                parameter *= 1.3                # DuQ starts with two scales that are equal
        return quantizer

    return build


# -- the neighbours, with low and high for the lowest and the highest code ---------------------------------------------
def _torch_fixed(low: int, high: int, steps: int = 1) -> Callable:
    return lambda x, s: torch.fake_quantize_per_tensor_affine(x, s.detach() / steps,
                                                              torch.zeros((), dtype=torch.int32), low, high)


def _torch_learned(low: int, high: int) -> Callable:
    return lambda x, s: torch._fake_quantize_learnable_per_tensor_affine(
        x, s.reshape(1), torch.zeros(1), low, high, high**-0.5)


def _torch_channels(low: int, high: int) -> Callable:
    return lambda x, s: torch._fake_quantize_learnable_per_channel_affine(
        x, s.flatten(), torch.zeros(1), 0, low, high, high**-0.5)


def _torchao_fixed(x: Tensor, s: Tensor) -> Tensor:
    from torchao.quantization.quant_primitives import _fake_quantize_affine

    zero = torch.zeros(1, dtype=torch.int32)
    return _fake_quantize_affine(x, tuple(x.shape), s.detach().reshape(1), zero, torch.int8, -8, 7)


def _torchao_lsq(x: Tensor, s: Tensor) -> Tensor:
    from torchao.prototype.paretoq.models.utils_quant import LsqBinaryTernaryExtension

    return LsqBinaryTernaryExtension.apply(x, s.reshape(1), 4, True)


def _brevitas(signed: bool) -> Callable:
    def quantize(x, s):
        from brevitas.core.function_wrapper import Identity
        from brevitas.core.quant import IntQuant

        high = 7 if signed else 15
        s = s.detach() + (s - s.detach()) * high**-0.5
        return IntQuant(narrow_range=False, signed=signed, input_view_impl=Identity())(
            s, torch.tensor(0.0), torch.tensor(4.0), x)

    return quantize


def _modelopt(unsigned: bool, narrow: bool = True) -> Callable:
    def quantize(x, pre, post):
        from modelopt.torch.quantization.config import QuantizerAttributeConfig
        from modelopt.torch.quantization.nn.modules.tensor_quantizer import StaticBlockScaleQuantizer, TensorQuantizer

        config = QuantizerAttributeConfig(num_bits=4, unsigned=unsigned, narrow_range=narrow)
        quantizer = TensorQuantizer(config, amax=torch.ones(1))
        quantizer = StaticBlockScaleQuantizer.from_tensor_quantizer(quantizer)
        quantizer.enable_lsq(quantize_scales=False, learnable_amax=[])
        quantizer._amax_pre, quantizer._amax_post = pre.reshape(1), post.reshape(1)
        return quantizer._fake_quantize(x.reshape(1, -1)).reshape(x.shape)

    return quantize


def _modelopt_duq(unsigned: bool) -> Callable:
    return lambda x, a, c: _modelopt(unsigned)(x, softplus(a), softplus(c))


def _modelopt_lsq(x: Tensor, s: Tensor) -> Tensor:
    top = 7 * (s.detach() + (s - s.detach()) * 7**-0.5)
    return _modelopt(unsigned=False, narrow=False)(x, top, top)


WEIGHT, UNSIGNED = _ours("lsq", role="weight"), _ours("lsq", role="activation")
NEIGHBOURS = {
    "LSQ, weights": (WEIGHT, {
        "torch": [("fake_quantize_per_tensor_affine", _torch_fixed(-8, 7), False),
                  ("_fake_quantize_learnable_per_tensor_affine", _torch_learned(-8, 7), True)],
        "torchao": [("_fake_quantize_affine", _torchao_fixed, False),
                    ("LsqBinaryTernaryExtension (ParetoQ)", _torchao_lsq, True)],
        "brevitas": [("IntQuant", _brevitas(signed=True), True)],
        "nvidia-modelopt": [("LSQ", _modelopt_lsq, True)]}),
    "LSQ, weights, a range per channel": (_ours("lsq", role="weight", shape=(1, 1)), {
        "torch": [("_fake_quantize_learnable_per_channel_affine", _torch_channels(-8, 7), True)]}),
    "LSQ, unsigned activations": (UNSIGNED, {
        "torch": [("_fake_quantize_learnable_per_tensor_affine", _torch_learned(0, 15), True)],
        "brevitas": [("IntQuant", _brevitas(signed=False), True)]}),
    "PACT": (_ours("pact", role="activation"), {
        "torch": [("fake_quantize_per_tensor_affine", _torch_fixed(0, 15, 15), False)]}),
    "DuQ, weights": (_ours("duq", role="weight"), {
        "nvidia-modelopt": [("Dual-LSQ", _modelopt_duq(unsigned=False), True)]}),
    "DuQ, unsigned activations": (_ours("duq", role="activation"), {
        "nvidia-modelopt": [("Dual-LSQ", _modelopt_duq(unsigned=True), True)]})}
MODULES = {"nvidia-modelopt": "modelopt.torch.quantization", "brevitas": "brevitas.core.quant"}


def installed(package: str) -> bool:
    """Whether a package imports."""
    try:
        importlib.import_module(MODULES.get(package, package))
    except ImportError:
        return False
    return True


def pairs() -> list[tuple[str, str, str]]:
    """(ours, package, neighbour) of all comparisons."""
    return [(ours, package, name) for ours, (_, packages) in NEIGHBOURS.items() for package, entries in packages.items()
            for name, *_ in entries]


def _derivatives(f: Callable[..., Tensor], x: float, parameters: list[Tensor], shape: tuple[int, ...]) -> list[float]:
    """The value, its derivative by x, and those by the parameters that it depends on."""
    point = torch.full(shape, x).requires_grad_()
    y = f(point, *parameters)
    grads = torch.autograd.grad(y.sum(), [point, *parameters], allow_unused=True)
    return [y.item(), *(0.0 if g is None else g.sum().item() for g in grads)]


def _where(different: Tensor, beyond: Tensor) -> str:
    """Where two derivatives differ, in steps beyond the lowest and the highest level; below 0 is inside the grid."""
    if not different.any():
        return "equal"
    low, high = beyond[different].min().item() - 1 / 32, beyond[different].max().item() + 1 / 32
    return f"differs from {low:g} to {high:g} steps beyond the last level"


def compare(ours: str, package: str, name: str) -> dict[str, str | float]:
    """One row: the largest difference of the values in steps of the input, and where the derivatives differ."""
    build, packages = NEIGHBOURS[ours]
    theirs, learns = next((f, learns) for n, f, learns in packages[package] if n == name)
    quantizer = build()
    parameters, grid = list(quantizer.parameters()), quantizer.grid
    step = quantizer.affine().in_scale.item() / grid.steps
    position = torch.arange(16 * (grid.code_min - BEYOND), 16 * (grid.code_max + BEYOND)) / 16 + 1 / 32
    beyond = torch.maximum(grid.code_min - position, position - grid.code_max)
    shape = (1,) * max(1, len(quantizer.shape))
    rows = [[_derivatives(f, (p * step).item(), parameters, shape)
             for f in (lambda x, *_: quantizer(x), theirs)] for p in position]
    mine, other = torch.tensor(rows).unbind(1)
    differ = (mine - other).abs() > SAME
    return {"ours": ours, "package": package, "neighbour": name,
            "values": round(((mine - other)[:, 0].abs().max() / step).item(), 6),
            "by the number": _where(differ[:, 1], beyond),
            "by the scales": _where(differ[:, 2:].any(1), beyond) if learns else "not learned"}


def table() -> pd.DataFrame:
    """All comparisons whose package is installed, with its version."""
    rows = [compare(*pair) | {"version": importlib.metadata.version(pair[1])} for pair in pairs() if installed(pair[1])]
    return pd.DataFrame(rows)


def markdown() -> str:
    """The table that is on file, for the page of differences."""
    found = pd.read_csv(FILE)
    lines = ["| ours | neighbour | values differ by | derivative by the number | by the scales |",
             "|---|---|---|---|---|"]
    for row in found.itertuples(index=False):
        ours, package, name, values, by_number, by_scales, version = row
        amount = "nothing" if values < 1e-4 else f"{values:g} steps"
        lines.append(f"| {ours} | {package} {version.partition('+')[0]}, `{name}` | {amount} | {by_number} | "
                     f"{by_scales} |")
    return "\n".join(lines)


if __name__ == "__main__":
    table().to_csv(FILE, index=False)
    print(markdown())
