"""The README's table of training steps, from the runs of qat_step.py in a CSV file (default: steps.csv beside this).

Each cell: time and memory kept for the backward pass as ratios to PyTorch's float step of the same run, the median over
runs; in brackets, the smallest and the largest time.
"""
from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

STEPS = Path(__file__).with_name("steps.csv")
COLUMNS = {("mobilenet_v2", 64, 32): "v2, 64 images of 32×32", ("mobilenet_v3_large", 64, 32): "v3-Large, 64 of 32×32",
           ("mobilenet_v2", 16, 224): "v2, 16 of 224×224", ("mobilenet_v3_large", 16, 224): "v3-Large, 16 of 224×224"}
OURS = {"float, torch.compile": "PyTorch float, `torch.compile`", "DuQ 4/4, fused": "`models.fuse(qnet)`",
        "DuQ 4/4": "as `models.quantize` gives it", "DuQ 4/4, fused, no compiler": "fused, without a C compiler",
        "DuQ 4/4, no compiler": "as `models.quantize` gives it, without one"}
PEERS = {"torch.ao fused": "torch.ao, fused fake quantization", "torch.ao learnable": "torch.ao, learnable",
         "modelopt": "ModelOpt", "torchao": "TorchAO", "nncf": "NNCF", "brevitas": "Brevitas",
         "authors": "DuQ in the style of its authors' code"}
VERSIONED = ("modelopt", "torchao", "nncf", "brevitas")        # the others are torch's, or this file's neighbour's


def markdown(steps: pd.DataFrame) -> str:
    """Write the table: a row for each way to quantize, ours first, then other libraries, the fastest first."""
    steps = steps.assign(column=[COLUMNS.get(key) for key in zip(steps["network"], steps["batch"], steps["size"])])
    speed = steps.groupby("variant").time.median().sort_values()
    names = {variant: name for variant, name in OURS.items() if variant in speed} | {
        variant: name + (variant[len(peer):] if peer in VERSIONED else "")
        for variant in speed.index for peer, name in PEERS.items() if variant.startswith(f"{peer} ")}
    columns = [column for column in COLUMNS.values() if (steps.column == column).any()]
    rows = [["", *columns]] + [[name] + [_cell(steps[(steps.variant == variant) & (steps.column == column)])
                                         for column in columns] for variant, name in names.items()]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def _cell(runs: pd.DataFrame) -> str:
    if runs.empty:
        return ""
    spread = f" ({runs.time.min():.2f}–{runs.time.max():.2f})" if len(runs) > 1 else ""
    return f"{runs.time.median():.2f}{spread} / {runs.memory.median():.2f}"


if __name__ == "__main__":
    print(markdown(pd.read_csv(sys.argv[1] if len(sys.argv) > 1 else STEPS)))
