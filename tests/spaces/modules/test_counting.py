import pytest
import torch
from torch import nn

from nasplug.spaces.modules.counting import count_multiply_adds, count_params


def test_counts_of_a_module_made_by_hand():
    grouped = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    net = nn.Sequential(grouped, nn.BatchNorm2d(6), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(6, 5))
    assert count_params(net) == (6 * 2 * 9 + 6) + 12 + (30 + 5)
    assert count_multiply_adds(net, (4, 8, 8)) == 16 * 6 * 2 * 9 + 30
    assert count_multiply_adds(net, (4, 8, 8), bias=True) == 16 * (6 * 2 * 9 + 6) + 35


def test_a_layer_used_twice_works_twice_and_weighs_once():
    layer = nn.Linear(3, 3)
    net = nn.Sequential(layer, layer)
    assert (count_params(net), count_multiply_adds(net, (3,))) == (12, 18)


def test_a_module_without_weights_counts_nothing():
    assert (count_params(nn.ReLU()), count_multiply_adds(nn.ReLU(), (3, 4, 4))) == (0, 0)


def test_counting_leaves_the_module_as_it_was():
    frozen = nn.BatchNorm2d(2).eval()
    net = nn.Sequential(nn.Conv2d(1, 2, 1), frozen, nn.BatchNorm2d(2)).double()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    count_multiply_adds(net, (1, 4, 4))
    with pytest.raises(RuntimeError):
        count_multiply_adds(net, (3, 4, 4))
    assert [part.training for part in net] == [True, False, True]
    assert not any(part._forward_hooks for part in net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
