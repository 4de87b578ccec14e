"""Networks that are rounded and not trained, and the error of an output."""
import pytest
import torch
from torch import nn

from paperlib import models
from paperlib.analysis import post_training


def small():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1))
    return post_training.rounded(net, 4)


def test_only_one_kind_stays_quantized():
    qnet = small()
    part = post_training.only(qnet, "depthwise")
    assert [layer.weight_quantizer is not None for layer in post_training.layers(part).values()] == [False, True, False]
    assert all(layer.weight_quantizer is not None for layer in post_training.layers(qnet).values())
    assert not part.training


def test_ranges_are_those_of_least_error():
    for layer in post_training.layers(small()).values():
        error = (layer.quantized_weight() - layer.weight).square().mean()
        other = models.quantize(nn.Sequential(nn.Conv2d(3, 8, 3)), models.Scheme(w_bits=4, a_bits=32))[0]
        other.weight_quantizer.calibrate(layer.weight)
        assert error <= (other.weight_quantizer(layer.weight) - layer.weight).square().mean()


def test_batch_statistics_need_no_running_ones():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    x = 5 + 3 * torch.rand(32, 3, 3, 3)
    values = post_training.on_batch_statistics(net).eval()(x)
    torch.testing.assert_close(values.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    assert net[1].running_mean is not None and net.eval()(x).mean().abs() > 0.1
    labels = net(x).argmax(1)
    labels[:8] = (labels[:8] + 1) % 4
    assert post_training.accuracy(net, x, labels) == 75


@pytest.mark.parametrize("groups, stride, padding", [(1, 1, 0), (2, 2, 1), (4, 1, 1)])
def test_input_moments_give_the_error_of_an_output(groups, stride, padding):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, 3, stride, padding, groups=groups, bias=False)
    x, change = torch.randn(5, 4, 6, 6), 0.1 * torch.randn(conv.weight.shape)
    moments = post_training.input_moments(conv, x).repeat_interleave(8 // groups, 0)
    got = torch.einsum("ci,cij,cj->c", change.flatten(1), moments, change.flatten(1))
    torch.testing.assert_close(got, conv._conv_forward(x, change, None).square().mean((0, 2, 3)))


def test_weights_are_changed_in_a_copy_and_only_where_they_are_named():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4, 2))
    before = [layer.weight.clone() for layer in post_training.convolutions(net).values()]
    double, one = (post_training.with_weights(net, lambda w: 2 * w, names) for names in (None, ["2"]))
    assert [layer.weight.equal(2 * w) for layer, w in zip((double[0], double[2]), before)] == [True, True]
    assert [layer.weight.equal(w) for layer, w in zip((one[0], one[2]), before)] == [True, False]
    assert net[0].weight.equal(before[0]) and net[2].weight.equal(before[1])


def test_a_watched_network_shows_outputs_in_order_and_forgets_the_hook():
    net, x, seen = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4, 2)), torch.randn(5, 3, 1, 1), []
    post_training.watch(net, x, lambda layer, args, y: seen.append(y) or y + 1)
    assert [tuple(y.shape) for y in seen] == [(5, 4, 1, 1), (5, 2)]
    torch.testing.assert_close(seen[1], net[2](net[0](x).flatten(1) + 1))
    net(x)
    assert len(seen) == 2
