"""QIL, section 4.1: claims on made-up runs that support them, and that don't."""
import pandas as pd
import pytest

from paperlib.claims import NOT_REPRODUCED, REPRODUCED, experiments, qil_intervals, qil_tables
from paperlib.errors import InputError
from paperlib.runs import Run


def run(recipe, end, full=80.0, rows=(), pruned=None):
    """A run with these accuracies at the end and in float, 30 before; ``rows``: more history; ``pruned``: {role:
    shares by layer}."""
    rows = [(p.name, epoch, epoch, "val", "accuracy", 30.0 if epoch < p.epochs else full if p.name == "float" else end)
            for p in recipe.phases for epoch in range(p.epochs + 1)] + list(rows)
    history = pd.DataFrame(rows, columns=["phase", "epoch", "step", "split", "metric", "value"])
    made = Run(recipe, history, pd.DataFrame(), key="made up", seconds=0.0, environment={})
    if pruned:
        made._found["interval_pruning"] = pd.DataFrame(
            [(f"layer {i}", role, share, share / 2) for role, shares in pruned.items()
             for i, share in enumerate(shares)], columns=["layer", "role", "pruned_of_all", "pruned"])
    return made


def table1(seeds=1, **ends):
    """Runs of Table 1 that end at 79, with lambda 0 at 78; ``ends`` of the last seed by "A1W2 0.5" and so on."""
    return {(w, a, share): [run(r, ends.get(f"A{a}W{w} {share:g}" if r.seed == seeds - 1 else "", 78 + (share > 0)))
                            for r in recipes]
            for (w, a, share), recipes in experiments.qil_table1("laptop", seeds).items()}


def test_allowances_are_the_papers():
    assert qil_tables.allowance(2, 2) == 0.16 and qil_tables.allowance(2, 1) == 1.17


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_distillation_must_help_everywhere(share):
    good = qil_tables.distillation_helps(table1(2), share)
    assert good.verdict == REPRODUCED and good.differences.difference.tolist() == [1.0] * 14
    assert good.table().comparison[0] == f"A1W2: lambda {share:g} minus lambda 0 (points)"
    bad = qil_tables.distillation_helps(table1(2, **{f"A8W8 {share:g}": 78.0}), share)      # a tie, in one seed
    assert bad.verdict == NOT_REPRODUCED and bad.table().seeds_that_agree.tolist() == [2] * 6 + [1]
    other = qil_tables.distillation_helps(table1(2, **{f"A8W8 {1.5 - share:g}": 0.0}), share)
    assert other.verdict == REPRODUCED


def test_only_seeds_that_both_have_are_compared():
    found = table1(2)
    found[2, 1, 0.0] = found[2, 1, 0.0][1:]
    assert qil_tables.distillation_helps(found).table().n.tolist() == [1] + [2] * 6
    found[2, 1, 0.5] = found[2, 1, 0.5][:1]
    with pytest.raises(InputError, match="same seeds"):
        qil_tables.distillation_helps(found)


@pytest.mark.parametrize("w, a, most", [(2, 2, 0.16), (2, 1, 1.17)])
@pytest.mark.parametrize("trained_as_long", [False, True])
def test_close_to_each_float_network(w, a, most, trained_as_long):
    def judge(loss):
        found = table1(2)
        found[w, a, 0.5] = [run(r.recipe, 60.0 - loss, full=99.0 if trained_as_long else 60.0)
                            for r in found[w, a, 0.5]]
        longer = [run(r, 60.0) for r in experiments.qil_table2("laptop", 2)["float", 32, 32]] if trained_as_long else ()
        return qil_tables.stays_close(found, w, a, longer)

    for loss, verdict in ((-3.0, REPRODUCED), (most, REPRODUCED), (most + 0.02, NOT_REPRODUCED)):
        found = judge(loss)
        assert found.verdict == verdict and found.differences.difference.tolist() == pytest.approx([loss] * 2)
    assert ("as long" in found.claim) == trained_as_long and f"A{a}W{w}" in found.claim


def table2(**ends):
    ends = {"QIL": 80.0, "XNOR": 60.0} | ends
    return {key: [run(r, ends.get("A1" if key == ("QIL", 2, 1) and "A1" in ends else key[0], 70.0)) for r in recipes]
            for key, recipes in experiments.qil_table2("laptop", 2).items()}


def test_ternary_weights_beat_the_others():
    weights, both = qil_tables.beats_rivals(table2()), qil_tables.beats_rivals(table2(), 1)
    assert weights.verdict == both.verdict == REPRODUCED
    assert weights.differences.difference.tolist() == [10.0] * 8 and both.differences.difference.tolist() == [20.0] * 2
    assert weights.table().comparison.tolist() == [
        "QIL A32W2 minus TTQ A32W2 (points)", "QIL A32W2 minus TWN A32W2 (points)",
        "QIL A32W2 minus BC A32W1 (points)", "QIL A32W2 minus BWN A32W1 (points)"]


@pytest.mark.parametrize("rival", ["TTQ", "TWN", "BC", "BWN", "XNOR"])
def test_one_rival_above_is_enough(rival):
    found = table2(**{rival: 80.0})
    assert [qil_tables.beats_rivals(found, a).verdict for a in (32, 1)] == (
        [REPRODUCED, NOT_REPRODUCED] if rival == "XNOR" else [NOT_REPRODUCED, REPRODUCED])
    assert qil_tables.beats_rivals(table2(DoReFa=99.0, float=99.0)).verdict == REPRODUCED    # not in the table
    assert qil_tables.beats_rivals(table2(A1=55.0), 1).verdict == NOT_REPRODUCED


def tracked(c, d, epochs=8, roles=("weight", "activation")):
    """A run whose first layer's c and d follow these functions of the epoch, in ``roles``; other parameters settle."""
    recipe = experiments.qil_intervals("laptop", 1)[4][0]
    rows = []
    for epoch in range(epochs + 1):
        for layer in ("features.1", "features.2"):
            for role in ("weight", "activation"):
                moves = layer == "features.1" and role in roles
                values = (c(epoch), d(epoch)) if moves else (1 - 2.0 ** -epoch,) * 2
                rows += [(recipe.phases[-1].name, epoch, epoch, "quantizer", f"{layer} {role} {name}", value)
                         for name, value in zip("cd", values)]
    return run(recipe, 80.0, rows=rows)


def settles(epoch):
    return 3 - 2.0 ** -epoch


@pytest.mark.parametrize("roles", [("weight",), ("activation",)])
@pytest.mark.parametrize("c, verdict", [
    (settles, REPRODUCED), (lambda e: e / 8, NOT_REPRODUCED),                               # moves on
    (lambda e: settles(e) + 0.3 * (e == 7), NOT_REPRODUCED),                                # jumps up and back
    (lambda e: settles(e) + 0.3 * (e == 4), REPRODUCED), (lambda e: 0.5, NOT_REPRODUCED)])  # early; never moves
def test_bounds_come_to_rest(roles, c, verdict):
    found = qil_intervals.bounds_converge([tracked(c, lambda e: 0.5, roles=roles)])
    assert found.verdict == verdict and len(found.table()) == 4


def test_a_bound_that_moves_evenly_goes_a_quarter_of_its_way_in_the_last_quarter():
    found = qil_intervals.bounds_converge([tracked(lambda e: float(e), lambda e: 0.1)])
    assert found.differences.difference.tolist() == pytest.approx([0.25] * 4)
    short = qil_intervals.bounds_converge([tracked(lambda e: float(e), lambda e: 0.1, epochs=5)])  # from epoch 3 of 5
    assert short.differences.difference.tolist() == pytest.approx([0.4] * 4)


def intervals(weights, activations=(0.7, 0.8), seeds=1):
    """Runs with these shares of pruned weights by layer, {bits: shares}, and of activations; seed 1 one point more."""
    return {bits: [run(r, 80.0, pruned={"weight": [s + 0.01 * r.seed for s in weights[bits]], "activation": activations[
        bits] if isinstance(activations, dict) else activations}) for r in recipes]
            for bits, recipes in experiments.qil_intervals("laptop", seeds).items()}


def test_more_weights_are_pruned_at_fewer_bits():
    found = qil_intervals.weight_pruning_rises(intervals({5: (0.2, 0.4), 4: (0.1, 0.6), 3: (0.5, 0.7)}, seeds=2))
    assert found.verdict == REPRODUCED
    assert found.differences.difference.tolist() == pytest.approx([5, 5, 25, 25])
    assert found.table().comparison.tolist() == [
        "weights pruned at 4 minus at 5 bits (points; rises in 1 of 2 layers)",
        "weights pruned at 3 minus at 4 bits (points; rises in 2 of 2 layers)"]


@pytest.mark.parametrize("shares", [{5: (0.2,), 4: (0.2,), 3: (0.8,)}, {5: (0.2,), 4: (0.9,), 3: (0.8,)},
                                    {5: (0.8,), 4: (0.5,), 3: (0.2,)}])
def test_one_step_without_more_pruning_is_enough(shares):
    assert qil_intervals.weight_pruning_rises(intervals(shares)).verdict == NOT_REPRODUCED


@pytest.mark.parametrize("three, about, similar", [
    ((0.75, 0.75), REPRODUCED, REPRODUCED), ((0.6, 0.74), REPRODUCED, REPRODUCED),
    ((0.8, 0.89), REPRODUCED, REPRODUCED), ((0.6, 0.6), NOT_REPRODUCED, NOT_REPRODUCED),
    ((0.9, 0.9), NOT_REPRODUCED, NOT_REPRODUCED)])
def test_three_quarters_of_the_activations(three, about, similar):
    found = intervals({b: (0.5,) for b in (5, 4, 3)}, {5: (0.7, 0.8), 4: (0.75, 0.75), 3: three})
    assert qil_intervals.activations_pruned(found).verdict == about
    assert qil_intervals.activation_pruning_is_similar(found).verdict == similar


def test_near_and_similar_are_two_claims():
    spread = intervals({b: (0.5,) for b in (5, 4, 3)}, {5: (0.66,), 4: (0.75,), 3: (0.84,)})
    assert qil_intervals.activations_pruned(spread).verdict == REPRODUCED
    assert qil_intervals.activation_pruning_is_similar(spread).differences.difference.tolist() == pytest.approx([18.0])
    low = intervals({b: (0.5,) for b in (5, 4, 3)}, (0.4,))
    assert qil_intervals.activations_pruned(low).verdict == NOT_REPRODUCED
    assert qil_intervals.activation_pruning_is_similar(low).verdict == REPRODUCED
