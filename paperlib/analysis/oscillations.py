"""PROFIT's instability beside single weights that oscillate: which of them goes with wrong statistics of batch norms.

The functions of a run make tables of its networks, for ``run.find``; all look at the network after the last round.
"""
from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from ..runs import Run, loading
from ..training.evaluation import evaluate
from ..training.freezing import norms_behind
from ..training.output_moments import Moments, divergence

MEASURES = {"aiwq": "AIWQ", "oscillating": "oscillating weights", "kl": "wrong statistics"}
AS_TRAINED, AGAIN, LAST_STAGE = "as trained", "statistics taken anew", "after a stage of norms alone"


def last_round(run: Run) -> str:
    """Name the last round of freezing."""
    return [phase.name for phase in run.recipe.phases if phase.name.startswith("round ")][-1]


def wrong_statistics(run: Run) -> pd.DataFrame:
    """Tabulate how far the running statistics of each batch norm after a quantized layer are off: columns layer (the
    quantized one), kl (nats).

    KL(taken anew || running) of Gaussians, the mean over channels; taken anew over all training images, with the
    weights as they are.  Channels whose values do not vary are left out.
    """
    net, again = _networks(run)
    norms = {name: (net.get_submodule(norm), again.get_submodule(norm)) for name, norm in norms_behind(net).items()}
    rows = [(name, divergence(*(Moments(norm.running_mean, norm.running_var, 0) for norm in (new, old))).nanmean())
            for name, (old, new) in norms.items()]
    return pd.DataFrame([(name, kl.item()) for name, kl in rows], columns=["layer", "kl"])


def norms_taken_anew(run: Run) -> pd.DataFrame:
    """Evaluate the network with the running statistics of its training, and with such as are taken anew over all
    training images: columns statistics (AS_TRAINED or AGAIN), loss (nats), accuracy (%), of validation."""
    test = loading.batches(run.recipe, torch.device("cpu"), whole=True)[1]
    rows = [(name, evaluate(net, test)) for name, net in zip((AS_TRAINED, AGAIN), _networks(run))]
    return pd.DataFrame([(name, found["loss"], found["accuracy"]) for name, found in rows],
                        columns=["statistics", "loss", "accuracy"])


def _networks(run: Run) -> tuple[nn.Module, nn.Module]:
    """The network after the last round, as it was trained and with statistics taken anew."""
    train = loading.batches(run.recipe, torch.device("cpu"), whole=True)[0]
    net = run.model(last_round(run))
    again = copy.deepcopy(net)
    update_bn(train.epoch(), again)
    return net.eval(), again.eval()


def by_layer(runs: Sequence[Run]) -> pd.DataFrame:
    """Tabulate the last round by seed and layer, in the network's order: seed; layer; kind; aiwq (nats); changed and
    turned, in a step, oscillating and frozen at its end (% of the layer's weights); kl (nats, :func:`wrong_statistics`,
    NaN where no batch norm follows).  Layers whose output is constant have no AIWQ and are left out."""
    columns = ["seed", "layer", "kind", "aiwq", "changed", "turned", "oscillating", "frozen", "kl"]
    tables = []
    for run in runs:
        measured = run.instability[run.instability.phase == last_round(run)].dropna(subset="aiwq")
        tables.append(measured.merge(run.find(wrong_statistics), on="layer", how="left").assign(seed=run.recipe.seed))
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def rank_correlation(layers: pd.DataFrame, one: str, other: str) -> float:
    """Compute Spearman's correlation of two columns of :func:`by_layer` of one seed, over layers that have both."""
    both = layers[[one, other]].dropna()
    return float(both[one].corr(both[other], method="spearman"))


def correlations(layers: pd.DataFrame) -> pd.DataFrame:
    """Tabulate :func:`rank_correlation` of each pair of AIWQ, oscillating weights and wrong statistics, a row for each
    pair and a column for each seed."""
    pairs = [("aiwq", "oscillating"), ("aiwq", "kl"), ("oscillating", "kl")]
    return pd.DataFrame({seed: {" and ".join(map(MEASURES.get, pair)): rank_correlation(rows, *pair) for pair in pairs}
                         for seed, rows in layers.groupby("seed")}).rename_axis(columns="seed")


def turned_share(layers: pd.DataFrame) -> float:
    """Compute which share of all changes of codes are oscillations, all layers counted alike."""
    return layers.turned.sum() / layers.changed.sum()


def ends(found: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Tabulate what the methods {method: runs} end with, a row for each run and way of treating batch norms: method;
    seed; statistics (AS_TRAINED and AGAIN after the last round; LAST_STAGE); accuracy (%, validation); oscillating and
    frozen (% of a layer's weights, mean over layers, at the end of the last round)."""
    rows = []
    for method, runs in found.items():
        for run in (run for run in runs if not run.absent):
            anew = run.find(norms_taken_anew).set_index("statistics").accuracy
            layers = run.instability[run.instability.phase == last_round(run)]
            rows += [(method, run.recipe.seed, name, accuracy, layers.oscillating.mean(), layers.frozen.mean())
                     for name, accuracy in {**anew, LAST_STAGE: run.accuracy()}.items()]
    return pd.DataFrame(rows, columns=["method", "seed", "statistics", "accuracy", "oscillating", "frozen"])


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Average :func:`ends` over seeds: a row for each method, its accuracies (%), oscillating and frozen weights (%)
    and n seeds."""
    accuracy = table.pivot_table(index="method", columns="statistics", values="accuracy", sort=False)
    rest = table.groupby("method", sort=False).agg(oscillating=("oscillating", "mean"), frozen=("frozen", "mean"),
                                                   n=("seed", "nunique"))
    return accuracy.join(rest)
