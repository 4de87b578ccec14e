"""PROFIT, supplement section 5: ranges of weights with batch norms kept and folded, and accuracy with both."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from torch import Tensor, nn

from .. import models
from ..models.quantize import kind
from ..models.squeeze_excite import gate_layers
from ..runs import Run

KEPT, FOLDED = "batch norm kept", "folded"


def name_of(cell: tuple[int, bool, bool]) -> str:
    """Write (bits, folded, per channel) in words: "4 bits, folded, per tensor"."""
    bits, folded, per_channel = cell
    name = f"{'float' if bits == 32 else f'{bits} bits'}, {FOLDED if folded else KEPT}"
    return name if bits == 32 else f"{name}, per {'channel' if per_channel else 'tensor'}"


def weight_ranges(run: Run) -> pd.DataFrame:
    """Tabulate :func:`ranges` of the run's float network."""
    return ranges(run.model("float"))


def ranges(net: nn.Module) -> pd.DataFrame:
    """Tabulate the weights of each convolution that ``models.fold`` changes, before and after; two rows a layer.

    Columns: layer; kind; weights ("batch norm kept" or "folded"); range (max|w|); relative (max|w| / median|w|: how
    far a grid for all weights extends beyond the usual one); channels (largest / median of the output channels' own
    max|w|: what a single range costs the usual channel); zeroed (share of output channels whose own max|w| is under
    1/14 of the layer's, half a step of 15 levels over its range: with one range for all, these channels become 0).
    """
    folded, gates, rows = models.fold(net), gate_layers(net), []
    first = next(name for name, m in net.named_modules() if isinstance(m, nn.Conv2d))
    for name, layer in net.named_modules():
        if not isinstance(layer, nn.Conv2d):
            continue
        other = folded.get_submodule(name)
        if other.weight.equal(layer.weight):
            continue
        for weights, weight in ((KEPT, layer.weight), (FOLDED, other.weight)):
            rows.append({"layer": name, "kind": kind(net, name, name == first, gates), "weights": weights,
                         **_range(weight)})
    return pd.DataFrame(rows)


def _range(weight: Tensor) -> dict[str, float]:
    size = weight.detach().abs().flatten(1)
    tops, top = size.amax(1), size.max()
    return {"range": float(top), "relative": float(top / size.median()), "channels": float(top / tops.median()),
            "zeroed": float((tops < top / 14).float().mean())}


def part(kind: str) -> str:
    """Sort a kind of layer into "depthwise", "1x1" or "first"."""
    return kind if kind == "depthwise" else "1x1" if kind in ("expand", "project") else "first"


def summary(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Sum up :func:`ranges` {network: table}, a row per network and :func:`part`: medians over its layers (of
    ``zeroed``: means), batch norm kept and folded."""
    names = {"range": "max|w|", "relative": "max/median", "channels": "channels", "zeroed": "channels rounded to 0"}
    table = pd.concat(tables, names=["network"]).reset_index("network")
    table["network"] = pd.Categorical(table.network, list(tables))
    table["layers"] = pd.Categorical(table.kind.map(part), ["depthwise", "1x1", "first"])
    by_layers = table.groupby(["network", "layers", "weights"], observed=True)
    shown = by_layers.agg({measure: "mean" if measure == "zeroed" else "median" for measure in names}).unstack()
    shown = shown.reindex(columns=[KEPT, FOLDED], level="weights")
    shown.columns = [f"{names[measure]}, {'folded' if weights == FOLDED else 'kept'}" for measure, weights in shown]
    shown.insert(0, "number", by_layers.layer.nunique().xs(KEPT, level="weights"))
    return shown.reset_index()


def accuracies(cells: Mapping[tuple[int, bool, bool], Sequence[Run]]) -> pd.DataFrame:
    """Tabulate validation accuracy (%), a row for each cell and seed: just quantized (before), after training (after),
    and of the float network that the run began with (float); training loss at the end (train_loss)."""
    rows = []
    for (bits, folded, channel), runs in cells.items():
        for run in runs:
            accuracy = run.values("weights", "val", "accuracy")
            rows.append({"cell": name_of((bits, folded, channel)), "bits": bits, "folded": folded,
                         "per_channel": channel, "seed": run.recipe.seed, "float": run.accuracy("float"),
                         "before": accuracy.loc[0], "after": accuracy.iloc[-1],
                         "train_loss": run.values("weights", "train").iloc[-1]})
    return pd.DataFrame(rows)


def in_words(table: pd.DataFrame) -> str:
    """Say in Markdown what folding costs at each bit-width; ``table``: :func:`accuracies`."""
    after = table.groupby(["bits", "per_channel", "folded"]).after.mean().unstack()
    lines = []
    for (bits, channel), row in after.sort_index(ascending=[False, True]).iterrows():
        weights = "Float weights" if bits == 32 else f"{bits} bits per {'channel' if channel else 'tensor'}"
        lines.append(f"* {weights}: {row[False]:.1f} % with batch norms kept, {row[True]:.1f} % folded, a difference "
                     f"of {row[True] - row[False]:+.1f}.")
    return "\n".join(lines)
