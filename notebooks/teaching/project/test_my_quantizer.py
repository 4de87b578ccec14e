"""What every quantizer of weights promises; all of it must hold for yours.  ``python -m pytest`` in this folder."""
import my_quantizer  # noqa: F401  (registers "mine")
import pytest
import score
import torch

from paperlib import models, quantizers
from paperlib.training.evaluation import evaluate

every_width = pytest.mark.parametrize("bits", quantizers.find("mine", "weight").bit_widths)


def weight():
    return torch.randn(16, 8, 3, 3, generator=torch.Generator().manual_seed(0)).double()


def calibrated(bits, x):
    return quantizers.build("mine", role="weight", bits=bits).double().calibrate(x)


@every_width
def test_as_many_levels_as_the_bits_allow_in_ascending_order(bits):
    levels = calibrated(bits, weight()).levels()
    assert 2 <= len(levels) <= 2**bits and (levels.diff() > 0).all()


@every_width
def test_every_value_becomes_a_level_and_the_order_of_values_is_kept(bits):
    x = weight()
    q = calibrated(bits, x)
    y = q(x)
    assert torch.isin(y, q.levels()).all()
    assert (y.flatten()[x.flatten().argsort()].diff() >= 0).all()


@every_width
def test_codes_and_back_is_the_forward_pass(bits):
    x = weight()
    q = calibrated(bits, x)
    assert torch.equal(q.decode(q.encode(x)), q(x))


@every_width
def test_a_gradient_reaches_most_weights(bits):
    x = weight().requires_grad_()
    calibrated(bits, x.detach())(x).sum().backward()
    assert x.grad.isfinite().all() and (x.grad != 0).double().mean() > 0.5


def test_a_copy_with_the_same_state_quantizes_alike():
    x = weight()
    q, other = calibrated(4, x), calibrated(4, 3 * x)
    other.load_state_dict(q.state_dict())
    assert torch.equal(other(x), q(x))


def test_eight_bits_cost_a_network_less_than_two_points():
    train, test = score.data(200, 500)
    whole = models.build("mobilenet_v3_large", width=0.5, weights="CIFAR10_V1")
    assert score.score("mine", 8, train, test) >= evaluate(whole, test)["accuracy"] - 2
