"""Quantizers of other libraries compute what ours do: torch's own always, others where they are installed."""
import sys
import warnings

import pandas as pd
import pytest
import torch
from test_quantizers import normal
from torch.ao.quantization import MinMaxObserver, PerChannelMinMaxObserver

from paperlib import quantizers
from paperlib.system.paths import ROOT

sys.path.insert(0, str(ROOT / "site"))
import neighbours  # noqa: E402

ON_FILE = pd.read_csv(neighbours.FILE).set_index(["ours", "package", "neighbour"])
ALIKE = {("nvidia-modelopt", "LSQ"), ("nvidia-modelopt", "Dual-LSQ"),
         ("torchao", "LsqBinaryTernaryExtension (ParetoQ)")}


@pytest.mark.parametrize("ours, package, name", neighbours.pairs())
def test_neighbours(ours, package, name):
    if not neighbours.installed(package):
        pytest.skip(f"{package} is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")             # of other libraries
        row = neighbours.compare(ours, package, name)
    assert row["values"] < 1e-4
    if (package, name) in ALIKE:
        assert row["by the number"] == row["by the scales"] == "equal"
    on_file = ON_FILE.loc[ours, package, name]
    assert {key: row[key] for key in ("values", "by the number", "by the scales")} == {
        key: on_file[key] for key in ("values", "by the number", "by the scales")}


def test_the_table_on_file_has_every_comparison():
    assert sorted(ON_FILE.index) == sorted(neighbours.pairs()) and ON_FILE.version.notna().all()


def test_a_difference_is_found(monkeypatch):
    def late(x, s):         # a scale that is a tenth of a step off, and its derivative
        return torch._fake_quantize_learnable_per_tensor_affine(x, 1.1 * s.reshape(1), torch.zeros(1), -8, 7, 7**-0.5)

    monkeypatch.setitem(neighbours.NEIGHBOURS, "LSQ, weights", (neighbours.WEIGHT, {"torch": [("late", late, True)]}))
    row = neighbours.compare("LSQ, weights", "torch", "late")
    assert row["values"] > 0.5 and row["by the scales"] != "equal"


@pytest.mark.parametrize("shape", [(), (6, 1, 1, 1)])
def test_lsq_of_a_whole_weight(shape):
    """The factor 1/sqrt(N Qp) and the sum over all weights that share a step."""
    weight = normal(6, 5, 3, 3, seed=30).float()
    q = quantizers.build("lsq", role="weight", bits=3, shape=shape).calibrate(weight)
    position = weight / q.s.detach()
    between = (position > q.grid.code_max) & (position < q.grid.code_max + .5) | (
        position < q.grid.code_min) & (position > q.grid.code_min - .5)
    weight = torch.where(between, torch.zeros(()), weight)        # there torch passes the gradient, see the table
    factor = (q.grid.code_max * weight.numel() / q.s.numel()) ** -0.5
    mine, theirs = weight.clone().requires_grad_(), weight.clone().requires_grad_()
    s = q.s.detach().flatten().reshape(-1).clone().requires_grad_()
    zero, ends = torch.zeros(len(s)), (q.grid.code_min, q.grid.code_max, factor)
    other = (torch._fake_quantize_learnable_per_channel_affine(theirs, s, zero, 0, *ends) if shape else
             torch._fake_quantize_learnable_per_tensor_affine(theirs, s, zero, *ends))
    y, g = q(mine), normal(6, 5, 3, 3, seed=31).float()
    torch.testing.assert_close(y, other)
    grads = [torch.autograd.grad(out, inputs, g) for out, inputs in ((y, [mine, q.s]), (other, [theirs, s]))]
    torch.testing.assert_close(grads[0][0], grads[1][0])
    torch.testing.assert_close(grads[0][1].flatten(), grads[1][1])


def test_ranges_of_observers():
    """``calibrate(x, "max")`` is torch.ao's MinMaxObserver."""
    x = normal(4, 30, seed=32).float()
    for values, settings, options in (
            (x, {"role": "weight"}, {"dtype": torch.qint8, "qscheme": torch.per_tensor_symmetric}),
            (x.relu(), {"role": "activation"}, {"dtype": torch.quint8})):
        q = quantizers.build("lsq", bits=4, **settings).calibrate(values, "max")
        ends = {"quant_min": q.grid.code_min, "quant_max": q.grid.code_max}
        observer = MinMaxObserver(**ends, **options)
        observer(values)
        step = q.s.item() * (q.grid.code_max / 7.5 if q.signed else 1)      # torch.ao's is max|x| / 7.5, not / 7
        assert step == pytest.approx(observer.calculate_qparams()[0].item(), rel=1e-6)
    q = quantizers.build("lsq", role="weight", bits=4, shape=(4, 1)).calibrate(x, "max")
    observer = PerChannelMinMaxObserver(quant_min=-8, quant_max=7, dtype=torch.qint8,
                                        qscheme=torch.per_channel_symmetric)
    observer(x)
    torch.testing.assert_close(q.s.flatten() * 7 / 7.5, observer.calculate_qparams()[0])
