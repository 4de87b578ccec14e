"""The papers' testable sentences: each a function of runs that returns a verdict with its numbers."""
from ..runs.seeds import on_shared_seeds, same_seeds, shared_seeds
from .ablation import ablation_on_photographs, beats_previous_methods, each_part_helps, published_gain
from .accuracy import allowance, fewer_bits_cost_accuracy, four_bits_stay_close
from .aiwq import aiwq_by_bits, aiwq_grows, aiwq_in_words, aiwq_is_uneven, norms_jump
from .cost import accuracy_gains, almost_half_the_size, costs_as_much_as_dsq, saves
from .folding import (
           channels_repair_folding,
           eight_bits_survive_folding,
           folded_weights_are_wider,
           folding_control_trains,
           four_bits_fail_folded,
)
from .hswish import (
           duq_learns_better_levels,
           fixed_split_does_not_fit,
           hswish_outputs_differ,
           pact_has_nothing_below_zero,
)
from .loss_curves import (
           aiwq_order_calms,
           freezing_orders,
           orders_in_words,
           profit_calms,
           profit_ends_lower,
           profit_lies_lower,
)
from .pact_vs_duq import beside_guessing, duq_ends_lower, duq_ends_lower_than, duq_starts_higher
from .qil import (
           activation_pruning_is_similar,
           activations_pruned,
           bounds_converge,
           distillation_helps,
           qil_allowance,
           qil_beats,
           qil_stays_close,
           weight_pruning_rises,
)
from .qil_photographs import (
           distillation_does_not_help,
           few_bits_keep_full_accuracy,
           photographs_by_bits,
           qil_photographs_allowance,
           two_bits_cost_most,
)
from .verdict import FAILED, NOT_RECORDED, NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED, Verdict, comparisons, listed

__all__ = ["FAILED", "NOT_RECORDED", "NOT_REPRODUCED", "NOT_TESTABLE", "REPRODUCED", "Verdict",
           "ablation_on_photographs", "accuracy_gains", "activation_pruning_is_similar", "activations_pruned",
           "aiwq_by_bits", "aiwq_grows", "aiwq_in_words", "aiwq_is_uneven", "aiwq_order_calms", "allowance",
           "almost_half_the_size", "beats_previous_methods", "beside_guessing", "bounds_converge",
           "channels_repair_folding", "comparisons", "costs_as_much_as_dsq", "distillation_does_not_help",
           "distillation_helps", "duq_ends_lower", "duq_ends_lower_than", "duq_learns_better_levels",
           "duq_starts_higher", "each_part_helps", "eight_bits_survive_folding", "few_bits_keep_full_accuracy",
           "fewer_bits_cost_accuracy", "fixed_split_does_not_fit", "folded_weights_are_wider", "folding_control_trains",
           "four_bits_fail_folded", "four_bits_stay_close", "freezing_orders", "hswish_outputs_differ", "listed",
           "norms_jump", "on_shared_seeds", "orders_in_words", "pact_has_nothing_below_zero", "photographs_by_bits",
           "profit_calms", "profit_ends_lower", "profit_lies_lower", "published_gain", "qil_allowance", "qil_beats",
           "qil_photographs_allowance", "qil_stays_close", "same_seeds", "saves", "shared_seeds", "two_bits_cost_most",
           "weight_pruning_rises"]
