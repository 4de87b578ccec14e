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
BOLD = "DuQ 4/4, fused"


def markdown(steps: pd.DataFrame) -> str:
    """Write the table: a row for each way to quantize, ours first, then other libraries, the fastest first."""
    columns = [key for key in COLUMNS if (steps[["network", "batch", "size"]] == key).all(axis=1).any()]
    rows = [(variant, name) for variant, name in OURS.items() if variant in set(steps.variant)]
    speed = steps.groupby("variant").time.median().sort_values()
    for variant in speed.index:
        peer = next((peer for peer in PEERS if variant.startswith(f"{peer} ")), None)
        if peer:
            version = "" if peer in ("authors", "torch.ao fused", "torch.ao learnable") else variant[len(peer):]
            rows.append((variant, PEERS[peer] + version))
    lines = ["| | " + " | ".join(COLUMNS[key] for key in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for variant, name in rows:
        cells = [_cell(steps[(steps[["network", "batch", "size"]] == key).all(axis=1) & (steps.variant == variant)],
                       variant == BOLD) for key in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(runs: pd.DataFrame, bold: bool) -> str:
    if runs.empty:
        return ""
    time, memory, mark = runs.time.median(), runs.memory.median(), "**" * bold
    spread = f" ({runs.time.min():.2f}–{runs.time.max():.2f})" if len(runs) > 1 else ""
    return f"{mark}{time:.2f}{mark}{spread} / {memory:.2f}"


if __name__ == "__main__":
    print(markdown(pd.read_csv(sys.argv[1] if len(sys.argv) > 1 else STEPS)))
