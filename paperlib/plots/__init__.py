"""Pictures: for each figure a function from a tidy DataFrame to a matplotlib Figure, and one for its alternative
text."""
from .ablation import ablation, ablation_table, at_chance, describe_ablation, ladder
from .accumulator_bits import describe_sum_bits, sum_bits
from .accuracy import (
           above_full,
           accuracies,
           accuracy_by_bits,
           accuracy_table,
           by_network,
           describe_accuracy_by_bits,
           published_accuracy,
)
from .aiwq import (
           aiwq_by_kind,
           aiwq_by_layer,
           aiwq_layers,
           aiwq_over_iterations,
           aiwq_steps,
           describe_aiwq_by_layer,
           describe_aiwq_over_iterations,
           describe_one_weight,
           norm_behind,
           one_weight,
)
from .cost_accuracy import cost_accuracy, describe_cost_accuracy, our_points, paper_points
from .deploy import deployed, describe_deployed
from .folding import (
           describe_folded_ranges,
           describe_folding,
           folded_ranges,
           folded_summary,
           folding,
           folding_accuracy,
           folding_in_words,
)
from .hswish import (
           describe_hswish,
           describe_hswish_errors,
           hswish,
           hswish_errors,
           hswish_grid_table,
           hswish_in_words,
           hswish_methods,
           hswish_padding,
)
from .loss_curves import along_rounds, describe_loss_curves, loss_curves
from .pact_vs_duq import describe_four_quantizers, describe_pact_vs_duq, end_values, four_quantizers, pact_vs_duq
from .qil_intervals import (
           describe_interval_bounds,
           describe_interval_distributions,
           interval_bounds,
           interval_distributions,
           interval_motion,
           interval_values,
           last_bounds,
)
from .qil_photographs import (
           describe_qil_photographs,
           other_methods,
           paper_photographs,
           photographs_table,
           qil_photographs,
)
from .qil_pruning import describe_pruned_by_bits, intervals_in_words, pruned_by_bits, pruned_shares, pruned_table
from .qil_quantizer import (
           describe_qil_activations,
           describe_qil_gradients,
           describe_qil_layer,
           describe_qil_weights,
           qil_activations,
           qil_curves,
           qil_flow,
           qil_gradients,
           qil_layer,
           qil_weights,
)
from .qil_reasons import describe_qil_reason_bars, qil_reason_bars, qil_reasons, qil_reasons_in_words
from .qil_tables import (
           describe_qil_table1,
           describe_qil_table2,
           near_guessing,
           paper_accuracies,
           qil_accuracies,
           qil_by_bits,
           qil_by_method,
           qil_losses,
           qil_table1,
           qil_table2,
)
from .scoreboard import describe_scoreboard, scoreboard
from .style import caption, histories, save, show

__all__ = ["ablation", "ablation_table", "above_full", "accuracies", "accuracy_by_bits", "accuracy_table",
           "aiwq_by_kind", "aiwq_by_layer", "aiwq_layers", "aiwq_over_iterations", "aiwq_steps", "along_rounds",
           "at_chance", "by_network", "caption", "cost_accuracy", "deployed", "describe_ablation",
           "describe_accuracy_by_bits", "describe_aiwq_by_layer", "describe_aiwq_over_iterations",
           "describe_cost_accuracy", "describe_deployed", "describe_folded_ranges", "describe_folding",
           "describe_four_quantizers", "describe_hswish", "describe_hswish_errors", "describe_interval_bounds",
           "describe_interval_distributions", "describe_loss_curves", "describe_one_weight", "describe_pact_vs_duq",
           "describe_pruned_by_bits", "describe_qil_activations", "describe_qil_gradients",            "describe_qil_layer", "describe_qil_photographs", "describe_qil_reason_bars", "describe_qil_table1",
           "describe_qil_table2", "describe_qil_weights", "describe_scoreboard", "describe_sum_bits", "end_values",
           "folded_ranges", "folded_summary", "folding", "folding_accuracy", "folding_in_words", "four_quantizers",
           "histories", "hswish", "hswish_errors", "hswish_grid_table", "hswish_in_words", "hswish_methods",
           "hswish_padding", "interval_bounds", "interval_distributions", "interval_motion",            "interval_values", "intervals_in_words", "ladder", "last_bounds", "loss_curves", "near_guessing",
           "norm_behind", "one_weight", "other_methods", "our_points", "pact_vs_duq", "paper_accuracies",
           "paper_photographs", "paper_points", "photographs_table", "pruned_by_bits", "pruned_shares", "pruned_table",
           "published_accuracy", "qil_accuracies", "qil_activations", "qil_by_bits", "qil_by_method", "qil_curves",
           "qil_flow", "qil_gradients", "qil_layer", "qil_losses", "qil_photographs", "qil_reason_bars",
           "qil_reasons", "qil_reasons_in_words", "qil_table1", "qil_table2", "qil_weights", "save", "scoreboard",
           "show", "sum_bits"]
