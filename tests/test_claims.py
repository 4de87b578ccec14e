"""Claims: verdicts from made-up runs whose curves are written down here."""

import pandas as pd
import pytest

from paperlib import recipes
from paperlib.claims import NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED, duq_ends_lower, duq_starts_higher
from paperlib.errors import InputError
from paperlib.runs import Run

STAGES = [(phase, split) for phase in ("activations", "weights") for split in ("train", "val")]


def run(method, seed, **curves):
    """A run with the losses of `curves`, such as weights_val=[at epoch 0, at epoch 1, ...].

    Training curves begin at epoch 1. Curves that are not given fall to 1. Accuracies that say the opposite
    of the losses, and another phase and split, stand beside them: none of these may be looked at.
    """
    rows = []
    for phase, split in STAGES:
        start = 0 if split == "val" else 1
        losses = curves.pop(f"{phase}_{split}", [2.0, 1.5, 1.0][start:])
        for epoch, loss in enumerate(losses, start):
            rows += [(phase, epoch, 10 * epoch, split, "loss", loss),
                     (phase, epoch, 10 * epoch, split, "accuracy", 100 * loss)]
        rows.append((phase, len(losses) + start - 1, 99, "val_ema", "loss", 50.0 * (method == "duq")))
    rows.append(("float", 1, 10, "val", "loss", 50.0 * (method == "duq")))
    assert not curves
    history = pd.DataFrame(rows, columns=["phase", "epoch", "step", "split", "metric", "value"])
    recipe = recipes.activations_then_weights(method, profile="smoke", seed=seed)
    return Run(recipe, history, pd.DataFrame(), key="made up", seconds=0.0, environment={})


def ends(method, *values, seed=0):
    """A run whose curves end at these four losses, in the order of STAGES."""
    return run(method, seed, **{f"{phase}_{split}": ([9.0] if split == "val" else []) + [3.0, value]
                                for (phase, split), value in zip(STAGES, values, strict=True)})


def test_lower_at_the_end_for_every_seed():
    verdict = duq_ends_lower([ends("duq", 1, 2, 3, 4), ends("duq", 5, 6, 7, 8, seed=1)],
                             [ends("pact", 2, 3, 4, 5), ends("pact", 8, 9, 10, 11, seed=1)])
    assert verdict.verdict == REPRODUCED
    table = verdict.table()
    assert list(table.columns) == ["comparison", "mean", "sd", "n", "seeds_that_agree"]
    assert list(table.comparison) == [f"{split} loss, {phase}" for phase, split in STAGES]
    assert table["mean"].tolist() == [-2.0] * 4                             # of -1 and -3
    assert table.sd.tolist() == pytest.approx([2**0.5] * 4)                 # n - 1 in the denominator
    assert table.n.tolist() == table.seeds_that_agree.tolist() == [2] * 4
    assert verdict.differences.seed.tolist() == [0, 1] * 4


def test_one_seed_that_disagrees_is_enough():
    verdict = duq_ends_lower([ends("duq", 1, 1, 1, 1), ends("duq", 3, 3, 3, 3, seed=1)],
                             [ends("pact", 9, 9, 9, 9), ends("pact", 2, 2, 2, 2, seed=1)])
    assert verdict.verdict == NOT_REPRODUCED
    table = verdict.table()
    assert table["mean"].tolist() == [-3.5] * 4 and table.seeds_that_agree.tolist() == [1] * 4


@pytest.mark.parametrize("stage", range(4))
@pytest.mark.parametrize("loss", [2.0, 2.001], ids=["a tie", "above"])
def test_one_stage_that_disagrees_is_enough(stage, loss):
    values = [1.0] * 4
    values[stage] = loss
    verdict = duq_ends_lower([ends("duq", *values)], [ends("pact", 2, 2, 2, 2)])
    assert verdict.verdict == NOT_REPRODUCED
    assert verdict.table().seeds_that_agree.tolist() == [int(k != stage) for k in range(4)]


def test_only_the_last_epoch_counts_at_the_end():
    low, high = [9.0, 0.1, 0.1, 2.0], [9.0, 5.0, 5.0, 1.0]
    duq, pact = (run(method, 0, activations_val=curve, weights_val=curve, activations_train=curve[1:],
                     weights_train=curve[1:]) for method, curve in (("duq", low), ("pact", high)))
    assert duq_ends_lower([duq], [pact]).verdict == NOT_REPRODUCED
    assert duq_ends_lower([pact], [duq]).verdict == REPRODUCED


@pytest.mark.parametrize("claim", [duq_ends_lower, duq_starts_higher])
@pytest.mark.parametrize("better", ["duq", "pact"])
def test_too_small_a_scale_is_not_judged(claim, better):
    values = (1, 1, 1, 1), (2, 2, 2, 2)
    duq, pact = values if better == "duq" else reversed(values)
    verdict = claim([ends("duq", *duq)], [ends("pact", *pact)], testable=False)
    assert verdict.verdict == NOT_TESTABLE
    table = verdict.table()
    assert table["mean"].notna().all() and table.sd.isna().all()        # the numbers are shown all the same


@pytest.mark.parametrize("epochs, early", [(1, 1), (5, 1), (19, 1), (20, 2), (39, 3)])
def test_early_is_the_first_tenth_and_at_least_one_epoch(epochs, early):
    """DuQ is above by 1 in the early epochs, far below before (epoch 0) and after them."""
    flat = [3.0] * (epochs + 1)
    duq = [0.0] + [4.0] * early + [0.0] * (epochs - early)
    verdict = duq_starts_higher([run("duq", 0, weights_val=duq)], [run("pact", 0, weights_val=flat)])
    assert verdict.verdict == REPRODUCED
    assert verdict.differences.difference.tolist() == [1.0]
    duq = [9.0] + [2.0] * early + [9.0] * (epochs - early)
    verdict = duq_starts_higher([run("duq", 0, weights_val=duq)], [run("pact", 0, weights_val=flat)])
    assert verdict.verdict == NOT_REPRODUCED
    assert verdict.differences.difference.tolist() == [-1.0]


def test_starts_higher_for_several_seeds():
    flat = [3.0, 3.0, 3.0]
    pact = [run("pact", seed, weights_val=flat) for seed in (4, 2)]
    duq = [run("duq", seed, weights_val=[0.0, first, 0.0]) for seed, first in ((4, 4.0), (2, 6.0))]
    verdict = duq_starts_higher(duq, pact)
    assert verdict.verdict == REPRODUCED
    [row] = verdict.table().itertuples()
    assert (row.mean, row.n, row.seeds_that_agree) == (2.0, 2, 2) and row.sd == pytest.approx(2**0.5)
    assert verdict.differences.seed.tolist() == [4, 2]
    duq[1] = run("duq", 2, weights_val=[9.0, 3.0, 9.0])                     # a tie
    assert duq_starts_higher(duq, pact).verdict == NOT_REPRODUCED
    assert duq_starts_higher(duq, pact).table().seeds_that_agree.tolist() == [1]


def test_a_loss_that_is_not_a_number_reproduces_nothing():
    broken, fine = ends("duq", *[float("nan")] * 4), ends("pact", 2, 2, 2, 2)
    assert duq_ends_lower([broken], [fine]).verdict == NOT_REPRODUCED


@pytest.mark.parametrize("claim", [duq_ends_lower, duq_starts_higher])
@pytest.mark.parametrize("duq, pact", [([], []), ([0], []), ([], [0]), ([0], [1]), ([0, 1], [1, 0]),
                                       ([0, 1], [0])])
def test_runs_that_cannot_be_compared(claim, duq, pact):
    with pytest.raises(InputError, match="same seeds"):
        claim([run("duq", seed) for seed in duq], [run("pact", seed) for seed in pact])


def test_a_run_without_the_stage_is_named():
    bare = run("duq", 0)
    bare.history = bare.history[bare.history.phase == "float"]
    with pytest.raises(InputError, match="activations"):
        duq_ends_lower([bare], [run("pact", 0)])
