"""PROFIT, supplement section 5: weights quantized with batch norms folded into them."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..analysis.bn_folding import FOLDED, KEPT, name_of, weight_ranges
from ..runs import Run
from ..runs.seeds import same_seeds
from .verdict import CLAIM, CONTROL, OURS, Verdict, at_scale, measured

WHERE = "PROFIT, supplement, section 5"
SHARE = "share of float's accuracy"
Cells = Mapping[tuple[int, bool, bool], Sequence[Run]]      # (bits, folded, per channel) -> runs


def verdicts(cells: Cells, profile: str) -> list[Verdict]:
    """Judge the runs of :func:`paperlib.claims.experiments.folding` or of ``folding_photographs``."""
    eight = [eight_bits_survive_folding(cells)] if (8, True, False) in cells else []
    return at_scale(profile, [folding_control_trains(cells), four_bits_fail_folded(cells),
                              channels_repair_folding(cells), *eight])


def verdicts_on_ranges(cells: Cells, profile: str) -> list[Verdict]:
    """Judge the weights of float networks, folded in all of these runs and not."""
    return at_scale(profile, map(folded_weights_are_wider, cells.values()))


def kept(run: Run) -> float:
    """The validation accuracy that a run ends with, as a share of its float network's, among the images' own classes
    where the network tells more.  Below 1/2 it has failed."""
    metric = "accuracy_among" if (run.history.metric == "accuracy_among").any() else "accuracy"
    end, start = (run.values(phase, "val", metric).iloc[-1] for phase in ("weights", "float"))
    return end / start


def folded_weights_are_wider(runs: Sequence[Run]) -> Verdict:
    """Supplement section 5: weights with batch norm folded in "tend to have wider value ranges".

    "Tend" is read as more than half of the layers; "wider" in two ways, both of which must hold: max|w| grows, as the
    words say; and max|w| / median|w| grows, which is what costs levels, since a quantizer's range follows the scale of
    the weights but not their shape.  Downloaded weights are looked at as they come, so nothing in them is drawn.
    ``difference`` is the share of layers with the wider range when folded."""
    def wider(run):
        pairs = (run.find(weight_ranges).pivot(index="layer", columns="weights", values=measure)
                 for measure in ("range", "relative"))
        return [(both[FOLDED] > both[KEPT]).mean() for both in pairs]

    rows = measured(same_seeds(runs), ("max|w|", "max|w| / median|w|"), wider)
    recipe = runs[0].recipe
    return Verdict.of(f"Folded weights have wider ranges ({recipe.model}, {recipe.num_classes} classes)", WHERE, rows,
                      above=0.5, margin=OURS, unit="share of layers", counted=recipe.weights is not None)


def folding_control_trains(cells: Cells) -> Verdict:
    """Not in the paper: the float network trains on without its batch norms.

    Without this, a failure of folded weights says nothing about their bits.  ``difference`` is :func:`kept` minus 1/2
    of the folded network with float weights."""
    return _judge("The folded network trains in float (control)", cells, {(32, True, False): True}, CONTROL)


def four_bits_fail_folded(cells: Cells) -> Verdict:
    """Supplement section 5: "all models under fused-batchnorm failed to converge when 4-bit quantization is applied".

    Failed to converge: the run ends with less than half of the validation accuracy of the float network that it began
    with.  That must be so at 4 bits per tensor when folded, and neither with batch norms kept nor folded in float,
    else it is not folding or not the bits that fails.  ``difference`` is :func:`kept` minus 1/2, with the sign turned
    where failure is claimed, so that it must be positive."""
    return _judge("At 4 bits per tensor, training with folded batch norms fails; with batch norms kept it does not",
                  cells, {(4, True, False): False, (4, False, False): True, (32, True, False): True})


def eight_bits_survive_folding(cells: Cells) -> Verdict:
    """Not in the paper, which reports failure at 4 bits; at 8 bits folding is the usual practice that it cites.

    At 8 bits per tensor no run fails, neither folded nor with batch norms kept.  ``difference`` is
    :func:`kept` minus 1/2."""
    return _judge("At 8 bits per tensor, training with folded batch norms does not fail", cells,
                  {(8, True, False): True, (8, False, False): True}, CONTROL)


def channels_repair_folding(cells: Cells) -> Verdict:
    """Supplement section 5, suggested and left as future work: "it is desirable to apply channel-wise quantization".

    Repaired: at 4 bits with a range for each output channel the folded network does not fail, and closes more than half
    of the gap in accuracy between the folded network per tensor and the one that keeps its batch norms, per tensor as
    well.  ``difference`` is :func:`kept` minus 1/2, and the share of the gap that is closed minus 1/2.  Where training
    folded per tensor does not fail there is nothing to repair, and the claim does not apply."""
    rows, broken = [], _judge("", cells, {(4, True, False): False})
    for channel, tensor, norms in same_seeds(cells[4, True, True], cells[4, True, False], cells[4, False, False]):
        gap = kept(norms) - kept(tensor)
        closed = (kept(channel) - kept(tensor)) / gap if gap > 0 else 0.0
        rows += [(name_of((4, True, True)), channel, kept(channel) - 0.5),
                 ("share of the gap closed", (channel, tensor, norms), closed - 0.5)]
    return Verdict.of("At 4 bits, a range per channel repairs training with folded batch norms", WHERE, rows,
                      above=0, margin=OURS, unit=SHARE, premise=broken, of_failure=True)


def _judge(claim: str, cells: Cells, converges: Mapping[tuple, bool], kind: str = CLAIM) -> Verdict:
    """Each of these cells converges or fails, as ``converges`` says."""
    together = same_seeds(*(cells[cell] for cell in converges))
    rows = [(name_of(cell), run, (kept(run) - 0.5) * (1 if good else -1))
            for runs in together for run, (cell, good) in zip(runs, converges.items())]
    return Verdict.of(claim, WHERE, rows, above=0, margin=OURS, unit=SHARE, kind=kind, of_failure=True)
