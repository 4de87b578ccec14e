"""Networks rounded and not trained."""
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
