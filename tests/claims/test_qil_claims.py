"""QIL, section 4.1: claims on made-up runs that support them, and that don't."""
import pandas as pd
import pytest
from conftest import agree, ends_at, leans

from paperlib.claims import CONTRADICTED, NOT_TESTABLE, SUPPORTED, experiments, qil_intervals, qil_tables
from paperlib.errors import InputError


def run(recipe, end, full=80.0, rows=(), pruned=None):
    """A run with these accuracies at the end and in float, 30 before; ``rows``: more history; ``pruned``: {role:
    shares by layer}."""
    made = ends_at(recipe, end, {"float": full}, rows=rows)
    if pruned:
        made._found["interval_pruning"] = pd.DataFrame(
            [(f"layer {i}", role, share, share / 2, 0.0) for role, shares in pruned.items()
             for i, share in enumerate(shares)], columns=["layer", "role", "pruned_of_all", "pruned", "at_start"])
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
    assert leans(good) == SUPPORTED and good.differences.difference.tolist() == [1.0] * 14
    assert good.table().comparison[0] == f"A1W2: lambda {share:g} minus lambda 0 (points)"
    bad = qil_tables.distillation_helps(table1(2, **{f"A8W8 {share:g}": 78.0}), share)      # a tie, in one seed
    assert leans(bad) == CONTRADICTED and agree(bad) == [2] * 6 + [1]
    other = qil_tables.distillation_helps(table1(2, **{f"A8W8 {1.5 - share:g}": 0.0}), share)
    assert leans(other) == SUPPORTED


def test_only_seeds_that_both_have_are_compared():
    found = table1(2)
    found[2, 1, 0.0] = found[2, 1, 0.0][1:]
    assert qil_tables.distillation_helps(found).table().n.tolist() == [1] + [2] * 6
    found[2, 1, 0.5] = found[2, 1, 0.5][:1]
    with pytest.raises(InputError, match="same seeds"):
        qil_tables.distillation_helps(found)


@pytest.mark.parametrize("w, a, most", [(2, 2, 0.16), (2, 1, 1.17)])
def test_close_to_the_float_network_trained_as_long(w, a, most):
    def judge(loss):
        found = table1(2)
        found[w, a, 0.5] = [run(r.recipe, 60.0 - loss, full=99.0)
                            for r in found[w, a, 0.5]]
        longer = [run(r, 60.0) for r in experiments.qil_table2("laptop", 2)["float", 32, 32]]
        return qil_tables.stays_close(found, w, a, longer)

    for loss, verdict in ((-3.0, SUPPORTED), (most, SUPPORTED), (most + 0.02, CONTRADICTED)):
        found = judge(loss)
        assert leans(found) == verdict and found.differences.difference.tolist() == pytest.approx([loss] * 2)
    assert f"A{a}W{w}" in found.claim


def test_three_bits_and_more():
    longer = [run(r, 79.0) for r in experiments.qil_table2("laptop", 2)["float", 32, 32]]
    good = qil_tables.three_bits_and_more_lose_little(table1(2), longer)
    assert leans(good) == SUPPORTED and len(good.table()) == 4 and good.most == 0.17
    assert leans(qil_tables.three_bits_and_more_lose_little(table1(**{"A5W5 0.5": 78.8}), longer)) == CONTRADICTED


def test_activations_of_few_bits():
    assert qil_tables.few_activation_bits_cost_little(table2()).most == 0.22
    costs = table2()
    costs["QIL", 2, 2] = [run(r.recipe, 79.0) for r in costs["QIL", 2, 2]]
    assert leans(qil_tables.few_activation_bits_cost_little(costs)) == CONTRADICTED
    assert leans(qil_tables.few_activation_bits_cost_little(table2())) == SUPPORTED


def table2(**ends):
    ends = {"QIL": 80.0, "XNOR": 60.0} | ends
    return {key: [run(r, ends.get("A1" if key == ("QIL", 2, 1) and "A1" in ends else key[0], 70.0)) for r in recipes]
            for key, recipes in experiments.qil_table2("laptop", 2).items()}


def test_ternary_weights_beat_the_others():
    weights, both = qil_tables.beats_rivals(table2()), qil_tables.beats_rivals(table2(), 1)
    assert leans(weights) == leans(both) == SUPPORTED
    assert weights.differences.difference.tolist() == [10.0] * 8 and both.differences.difference.tolist() == [20.0] * 2
    assert weights.table().comparison.tolist() == [
        f"QIL A32W2 minus {other}, each from its float network (points)"
        for other in ("TTQ A32W2", "TWN A32W2", "BC A32W1", "BWN A32W1")]


def test_a_worse_float_network_is_no_victory():
    found = table2()
    for key, full in ((("QIL", 2, 1), 90.0), (("XNOR", 1, 1), 70.0)):
        found[key] = [run(r.recipe, r.accuracy(), full) for r in found[key]]
    assert qil_tables.beats_rivals(found, 1).differences.difference.tolist() == [0.0] * 2


@pytest.mark.parametrize("rival", ["TTQ", "TWN", "BC", "BWN", "XNOR"])
def test_one_rival_above_is_enough(rival):
    found = table2(**{rival: 80.0})
    assert [leans(qil_tables.beats_rivals(found, a)) for a in (32, 1)] == (
        [SUPPORTED, CONTRADICTED] if rival == "XNOR" else [CONTRADICTED, SUPPORTED])
    assert leans(qil_tables.beats_rivals(table2(DoReFa=99.0, float=99.0))) == SUPPORTED    # not in the table
    assert leans(qil_tables.beats_rivals(table2(A1=55.0), 1)) == CONTRADICTED


def tracked(c, d, epochs=8, roles=("weight", "activation")):
    """A run whose first layer's c and d follow these functions of the epoch, in ``roles``; other parameters settle."""
    recipe = experiments.qil_intervals("laptop", 1)[4][0]
    rows = []
    for epoch in range(epochs + 1):
        for layer in ("features.1", "features.2"):
            for role in ("weight", "activation"):
                moves = layer == "features.1" and role in roles
                values = (c(epoch), d(epoch)) if moves else (2 - 2.0 ** -epoch,) * 2
                rows += [(recipe.phases[-1].name, epoch, "quantizer", f"{layer} {role} {name}", value)
                         for name, value in zip("cd", values)]
    return run(recipe, 80.0, rows=rows)


def settles(epoch):
    return 3 - 2.0 ** -epoch


@pytest.mark.parametrize("roles", [("weight",), ("activation",)])
@pytest.mark.parametrize("c, verdict", [
    (settles, SUPPORTED), (lambda e: e / 8, CONTRADICTED),                               # moves on
    (lambda e: settles(e) + 0.3 * (e == 7), CONTRADICTED),                                # jumps up and back
    (lambda e: settles(e) + 0.3 * (e == 4), SUPPORTED), (lambda e: 0.5, SUPPORTED)])     # early; never moves
def test_bounds_come_to_rest(roles, c, verdict):
    found = qil_intervals.bounds_converge([tracked(c, lambda e: 0.5, roles=roles)])
    assert leans(found) == verdict and len(found.table()) == 4


def test_what_a_bound_goes_in_the_last_quarter_is_held_against_the_width():
    """From epoch 6 of 8, and from epoch 4 of 5; a width is 2 (d - d/q), with q = 7 for weights and 15."""
    widths = [2 * 0.1 * (1 - 1 / q) for q in (7, 7, 15, 15)]
    for epochs, way in ((8, 2), (5, 1)):
        found = qil_intervals.bounds_converge([tracked(lambda e: float(e), lambda e: 0.1, epochs=epochs)])
        assert found.differences.difference.tolist() == pytest.approx([way / width for width in widths])


def intervals(weights, activations=(0.7, 0.8), seeds=1):
    """Runs with these shares of pruned weights by layer, {bits: shares}, and of activations; seed 1 one point more."""
    return {bits: [run(r, 80.0, pruned={"weight": [s + 0.01 * r.seed for s in weights[bits]], "activation": activations[
        bits] if isinstance(activations, dict) else activations}) for r in recipes]
            for bits, recipes in experiments.qil_intervals("laptop", seeds).items()}


def test_more_weights_are_pruned_at_fewer_bits():
    found = qil_intervals.weight_pruning_rises(intervals({5: (0.2, 0.4), 4: (0.1, 0.6), 3: (0.5, 0.7)}, seeds=2))
    assert leans(found) == SUPPORTED
    assert found.differences.difference.tolist() == pytest.approx([5, 5, 25, 25])
    assert found.table().comparison.tolist() == [
        "weights pruned at 4 minus at 5 bits (points; rises in 1 of 2 layers)",
        "weights pruned at 3 minus at 4 bits (points; rises in 2 of 2 layers)"]


@pytest.mark.parametrize("at_start, verdict", [({5: 0.0, 4: 0.0, 3: 0.0}, SUPPORTED),
                                               ({5: 0.1, 4: 0.3, 3: 0.5}, CONTRADICTED)])
def test_what_is_pruned_before_training_is_not_training_s(at_start, verdict):
    found = intervals({5: (0.2,), 4: (0.4,), 3: (0.6,)})
    for bits, runs in found.items():
        for one in runs:
            one._found["interval_pruning"]["at_start"] = at_start[bits]
    assert leans(qil_intervals.weight_pruning_rises(found)) == SUPPORTED
    assert leans(qil_intervals.training_adds_to_pruning(found)) == verdict


@pytest.mark.parametrize("shares", [{5: (0.2,), 4: (0.2,), 3: (0.8,)}, {5: (0.2,), 4: (0.9,), 3: (0.8,)},
                                    {5: (0.8,), 4: (0.5,), 3: (0.2,)}])
def test_one_step_without_more_pruning_is_enough(shares):
    assert leans(qil_intervals.weight_pruning_rises(intervals(shares))) == CONTRADICTED


@pytest.mark.parametrize("three, similar", [
    ((0.75, 0.75), SUPPORTED), ((0.6, 0.74), SUPPORTED), ((0.8, 0.89), SUPPORTED), ((0.6, 0.6), CONTRADICTED),
    ((0.9, 0.9), CONTRADICTED)])
def test_a_similar_share_of_the_activations(three, similar):
    found = intervals({b: (0.5,) for b in (5, 4, 3)}, {5: (0.7, 0.8), 4: (0.75, 0.75), 3: three})
    assert leans(qil_intervals.activation_pruning_is_similar(found)) == similar


def test_a_share_of_a_layer_without_a_name_is_measured_and_not_judged():
    spread = intervals({b: (0.5,) for b in (5, 4, 3)}, {5: (0.66,), 4: (0.75,), 3: (0.84,)})
    told = qil_intervals.activations_pruned(spread)
    assert told.verdict == NOT_TESTABLE and told.differences.difference.tolist() == pytest.approx([-9.0, 0.0, 9.0])
    assert qil_intervals.activation_pruning_is_similar(spread).differences.difference.tolist() == pytest.approx([18.0])


def test_each_bit_less_costs_accuracy():
    falling = {f"A{b}W{b} 0.5": 79.0 - (5 - b) for b in (5, 4, 3, 2)}
    found = qil_tables.fewer_bits_cost_accuracy(table1(**falling))
    assert leans(found) == SUPPORTED and found.differences.difference.tolist() == [1.0] * 3
    assert leans(qil_tables.fewer_bits_cost_accuracy(table1(**{**falling, "A4W4 0.5": 79.5}))) == CONTRADICTED
