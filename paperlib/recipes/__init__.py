"""Recipes: an experiment as a list of phases, plain data that prints as a table."""
from .baselines import activations_then_weights, weights_alone
from .profit import profit
from .qil import qil, vgg7
from .recipe import Recipe

__all__ = ["Recipe", "activations_then_weights", "profit", "qil", "vgg7", "weights_alone"]
