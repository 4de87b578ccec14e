"""The losses of the recipes."""
from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def distillation(student: Tensor, teacher: Tensor, kind: str = "cross_entropy") -> Tensor:
    """Measure how far ``student`` logits (N, C) are from ``teacher`` logits (N, C); only the student has a gradient.

    "cross_entropy": with the teacher's softmax at temperature 1 (PROFIT, with weight 1 beside the labels'
    cross-entropy).  "mse": mean squared difference of the logits (QIL, weight lambda against 1 - lambda).
    """
    if kind == "mse":
        return F.mse_loss(student, teacher.detach())
    return F.cross_entropy(student, teacher.detach().softmax(1))
