"""What a GPU does otherwise, as far as it can be tried on a CPU."""
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from paperlib import models
from paperlib.training import aiwq


def trained_within(qnet: nn.Module, *, steps: int, history: bool) -> aiwq.Aiwq:
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(qnet.parameters(), 0.05)
    with aiwq.Aiwq(qnet, history=history) as measured:
        for _ in range(steps):
            loss = F.cross_entropy(qnet(torch.randn(8, 3, 16, 16)), torch.randint(0, 10, (8,)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return measured


class Small(nn.Module):
    """A convolution, a grouped one, a depthwise one with a bias behind h-swish, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Hardswish(),
                                  nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU(),
                                  nn.Conv2d(8, 12, 3, groups=2), nn.BatchNorm2d(12), nn.ReLU())
        self.head = nn.Linear(12, 10)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


@pytest.mark.parametrize("weight, activation", [("duq", "duq"), ("lsq", "lsq"), ("bwn", "lsq")])
def test_aiwq_by_a_second_convolution_read_later_is_the_same(monkeypatch, weight, activation):
    torch.manual_seed(0)
    qnet = models.quantize(Small(), models.Scheme(weight, activation, w_bits=1 if weight == "bwn" else 3, a_bits=3))
    qnet = models.calibrate(qnet, torch.randn(8, 3, 16, 16)).train()
    here = trained_within(models.unfuse(qnet), steps=5, history=True)
    monkeypatch.setattr(aiwq, "waits", lambda x: True)
    monkeypatch.setattr(aiwq, "LATER", 3)        # so that some are read on the way and some at the end
    there = trained_within(models.unfuse(qnet), steps=5, history=True)
    pd.testing.assert_frame_equal(there.table(), here.table(), rtol=2e-3, atol=1e-7)
    pd.testing.assert_frame_equal(there.history(), here.history(), rtol=2e-3, atol=1e-7)
    assert here.table().aiwq.max() > 0
