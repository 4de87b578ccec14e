"""QIL, Table 1 and 2: what distillation adds, what few bits cost, and whom ternary weights beat."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..runs import Run
from ..runs.seeds import shared_seeds
from . import published
from .verdict import OURS, PAPERS, Verdict, at_scale

TABLE1, TABLE2 = "QIL, section 4.1 and Table 1", "QIL, section 4.1 and Table 2"
MUCH = 1.0      # points that a layer may cost if it is quantized
RIVALS = {32: ("TTQ", "TWN", "BC", "BWN"), 1: ("XNOR",)}    # of ternary weights, by bits of activations
Cells = Mapping[tuple, Sequence[Run]]


def verdicts(found: Mapping[int, Cells], profile: str) -> list[Verdict]:
    """Judge the runs {1: runs of Table 1, 2: runs of Table 2} of :func:`paperlib.claims.experiments.qil_tables`."""
    table1, table2 = found[1], found[2]
    return at_scale(profile, [
        *(distillation_helps(table1, share) for share in (0.5, 1.0)), distillation_speeds_up(table1),
        fewer_bits_cost_accuracy(table1),
        *(stays_close(table1, 2, a_bits, table2["float", 32, 32]) for a_bits in (2, 1)),
        three_bits_and_more_lose_little(table1, table2["float", 32, 32]), few_activation_bits_cost_little(table2),
        *(beats_rivals(table2, a_bits) for a_bits in RIVALS)])


def allowance(w_bits: int, a_bits: int) -> float:
    """Look up how many points the paper's network of these bits, with lambda 0.5, is below its full precision."""
    where = {"paper_id": published.QIL, "table": "Table 1", "metric": "top1"}
    return round(published.value(method="full precision", **where) -
                 published.value(method="QIL-v1 lambda=0.5", w_bits=w_bits, a_bits=a_bits, **where), 2)


def distillation_helps(found: Cells, share: float = 0.5) -> Verdict:
    """Section 4.1: distillation, with lambda 0.5 or 1, improves the accuracy on CIFAR-10.

    Read as: above lambda 0 at the end of training, at each bit-width of Table 1 and for every seed.  ``difference`` is
    the accuracy with lambda ``share`` minus that with lambda 0, in points."""
    rows = [(f"A{a}W{w}: lambda {share:g} minus lambda 0 (points)", (taught, alone),
             taught.accuracy() - alone.accuracy())
            for w, a, s in found if s == share
            for taught, alone in shared_seeds(found[w, a, s], found[w, a, 0.0])]
    return Verdict.of(f"Distillation with lambda {share:g} improves the accuracy on CIFAR-10 at each bit-width", TABLE1,
                      rows, above=0)


def distillation_speeds_up(found: Cells) -> Verdict:
    """Section 3.2: distillation is there to train faster and better.

    Read as: the validation accuracy, mean over all epochs, is nearer to where it ends with lambda 0.5 than with lambda
    0, at each bit-width of Table 1, so that a higher end alone is not called faster.  ``difference`` is by how many
    points it is nearer."""
    def behind(run):
        course = run.values(run.recipe.phases[-1].name, "val", "accuracy").drop(0)
        return course.iloc[-1] - course.mean()

    rows = [(f"A{a}W{w}: points below the end, mean over epochs, lambda 0 minus lambda 0.5", pair,
             behind(pair[1]) - behind(pair[0]))
            for w, a, s in found if s == 0.5 for pair in shared_seeds(found[w, a, s], found[w, a, 0.0])]
    return Verdict.of("Distillation with lambda 0.5 makes training on CIFAR-10 faster", TABLE1, rows, above=0)


def fewer_bits_cost_accuracy(found: Cells) -> Verdict:
    """Section 1: fewer bits degrade the accuracy; in Table 1 with lambda 0.5 only from 3 to 2 bits.

    Read as: each step from 5 to 4, 3 and 2 bits of weights and activations costs accuracy.  ``difference`` is the
    accuracy at more bits minus that at fewer, in points."""
    rows = [(f"A{more}W{more} minus A{fewer}W{fewer}, lambda 0.5 (points)", pair,
             pair[0].accuracy() - pair[1].accuracy()) for more, fewer in ((5, 4), (4, 3), (3, 2))
            for pair in shared_seeds(found[more, more, 0.5], found[fewer, fewer, 0.5])]
    return Verdict.of("Each step from 5 to 4, 3 and 2 bits costs accuracy on CIFAR-10", "QIL, section 1 and Table 1",
                      rows, above=0)


def stays_close(found: Cells, w_bits: int, a_bits: int, longer: Sequence[Run]) -> Verdict:
    """Section 4.1: with lambda 0.5, A2W2 loses only 0.16 points against full precision, and A1W2 1.17.

    Read as: no more than that, at the end of training.  Full precision is ``longer``, the float network that was
    trained for as long as the quantized one.  ``difference`` is full precision minus QIL, in points."""
    most, name = allowance(w_bits, a_bits), f"A{a_bits}W{w_bits}"
    return Verdict.of(f"{name} with lambda 0.5 loses at most {most:g} points against a float network trained as long",
                      TABLE1, _losses(found, [(w_bits, a_bits)], longer), below=most, margin=PAPERS,
                      printed=f"{most:g} points")


def three_bits_and_more_lose_little(found: Cells, longer: Sequence[Run]) -> Verdict:
    """Table 1: from 8 down to 3 bits, with lambda 0.5, at most 0.17 points are lost against full precision.

    Read as in :func:`stays_close`, at each of these bit-widths."""
    cells = [(b, b) for b in (8, 5, 4, 3)]
    most = max(allowance(*cell) for cell in cells)
    return Verdict.of(f"8 to 3 bits with lambda 0.5 lose at most {most:g} points against a float network trained as "
                      "long", TABLE1, _losses(found, cells, longer), below=most, margin=PAPERS,
                      printed=f"{most:g} points")


def _losses(found: Cells, cells: Iterable[tuple[int, int]], longer: Sequence[Run]) -> list[tuple]:
    return [(f"float trained as long minus A{a}W{w} (points)", (run, full), full.accuracy() - run.accuracy())
            for w, a in cells for run, full in shared_seeds(found[w, a, 0.5], longer)]


def few_activation_bits_cost_little(found: Cells) -> Verdict:
    """Table 2: with ternary weights, 2 bits for activations instead of 32 cost 0.22 points.

    Read as: no more than that.  ``difference`` is float activations minus 2-bit ones, in points."""
    where = {"paper_id": published.QIL, "table": "Table 2", "metric": "top1", "w_bits": 2,
             "method": "QIL-v1 lambda=0.5 (ternary w)"}
    most = round(published.value(a_bits=32, **where) - published.value(a_bits=2, **where), 2)
    rows = [("A32W2 minus A2W2 (points)", pair, pair[0].accuracy() - pair[1].accuracy())
            for pair in shared_seeds(found["QIL", 2, 32], found["QIL", 2, 2])]
    return Verdict.of(f"With ternary weights, 2-bit activations cost at most {most:g} points", TABLE2, rows, below=most,
                      margin=PAPERS, printed=f"{most:g} points")


def verdicts_on_parts(found: Mapping[str, Sequence[Run]], profile: str) -> list[Verdict]:
    """Judge the runs of :func:`paperlib.claims.experiments.qil_parts`, each sentence of section 4.1, but the last, of
    section 1, by the run in which what it praises is left out.

    Read as: the recipe as it is ends above the other; "significantly" as by a point at least.  Normalized weights are
    there for "training stability", as are low rates of fully connected layers, and a layer that collapses once it is
    quantized has lost its accuracy, so trainings that fail without these three are evidence, too.  The text "focuses"
    on the training loss instead of the error; that this is better is our reading.  ``difference`` is the recipe minus
    the other, in points."""
    whole, (unscaled, full_rate, all_layers, still) = found["as in the table"], list(found.values())[1:]

    def gains(other: Sequence[Run], words: str) -> list[tuple]:
        return [(f"A2W2, lambda 0.5: as in the table minus {words} (points)", pair,
                 pair[0].accuracy() - pair[1].accuracy()) for pair in shared_seeds(whole, other)]

    text = "QIL, section 4.1"
    return at_scale(profile, [
        Verdict.of("Normalized weights make training more stable", text,
                   gains(unscaled, "not normalized"), above=0, of_failure=True),
        Verdict.of("A hundredth of the rate for fully-connected layers helps", text, gains(full_rate, "the full rate"),
                   above=0, of_failure=True),
        Verdict.of(f"Quantizing the first and the last layer costs much accuracy, {MUCH:g} point at least", text,
                   gains(all_layers, "all layers quantized"), above=MUCH, margin=OURS, of_failure=True),
        Verdict.of("Intervals that are learned by the loss are better than those of least error", "QIL, section 1",
                   gains(still, "intervals left as they were set"), above=0)])


def verdicts_on_steps(found: Mapping[str, Cells], profile: str) -> list[Verdict]:
    """Judge the runs of :func:`paperlib.claims.experiments.qil_reasons`."""
    return at_scale(profile, [more_bits_first(found)])


def more_bits_first(found: Mapping[str, Cells]) -> Verdict:
    """Section 4.2: starting from the weights of more bits "provides fast and stable convergence".  The paper does so on
    ImageNet.

    Read as: step by step ends above at once, with as many epochs in all, for each of the two bit-widths.
    ``difference`` is the former minus the latter, in points."""
    steps, at_once = found["5 times, step by step"], found["5 times the epochs"]
    rows = [(f"A{a}W{w}: step by step minus at once (points)", pair, pair[0].accuracy() - pair[1].accuracy())
            for w, a in ((2, 2), (2, 1)) for pair in shared_seeds(steps[w, a], at_once[w, a])]
    return Verdict.of("QIL converges better, to a higher accuracy, if each bit-width starts from the next higher one",
                      "QIL, section 4.2", rows, above=0)


def beats_rivals(found: Cells, a_bits: int = 32) -> Verdict:
    """Table 2: QIL's ternary weights are more accurate than TTQ, TWN, BC and BWN with float activations; and, with
    1-bit activations, than XNOR.

    Read as: above each of them at the end of training, each counted from the float network that it began with, since
    XNOR's has another activation and is worse.  The paper cites their numbers, here they were trained like QIL, but
    without a teacher, as in the table.  DoReFa has no number there and is no part of the claim.  ``difference`` is QIL
    minus the other, in points."""
    def from_float(run):
        return run.accuracy() - run.accuracy(run.recipe.phases[0].name)

    rivals = [key for key in found if key[0] in RIVALS[a_bits]]
    rows = [(f"QIL A{a_bits}W2 minus {key[0]} A{key[2]}W{key[1]}, each from its float network (points)", (ours, other),
             from_float(ours) - from_float(other))
            for key in rivals for ours, other in shared_seeds(found["QIL", 2, a_bits], found[key])]
    what, whom = "float" if a_bits == 32 else f"{a_bits}-bit", ", ".join(key[0] for key in rivals)
    return Verdict.of(f"QIL's ternary weights with {what} activations and a teacher beat {whom}, without one", TABLE2,
                      rows, above=0)
