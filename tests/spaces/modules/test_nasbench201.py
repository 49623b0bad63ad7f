import numpy as np
import pytest
import torch
from torch import nn

from nasplug.errors import InputError
from nasplug.spaces import NASBench201
from nasplug.spaces.modules import nasbench201
from nasplug.spaces.modules.build import network
from nasplug.spaces.modules.counting import count_params
from nasplug.spaces.nasbench201 import EDGES, OPERATIONS

SPACE = NASBench201()
CONV3, SKIP = 3, 1


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


def test_parameters_of_six_convolutions_part_by_part():
    net = nasbench201.network(np.full(6, CONV3))
    stages = [sum(count_params(block) for block in net.blocks[first : first + 5]) for first in (0, 6, 12)]
    assert count_params(net.stem) == 464
    assert stages == [70_080, 278_400, 1_109_760]
    assert [count_params(net.blocks[i]) for i in (5, 11)] == [14_464, 57_600]
    assert (count_params(net.norm), count_params(net.head)) == (128, 650)
    assert count_params(net) == 1_531_546


def test_cell_sums_products_over_its_four_paths():
    # Different primes, so that a wrong source, target or order of edges changes the sum.
    a, b, c, d, e, f = (2.0, 3.0, 5.0, 7.0, 11.0, 13.0)
    out = nasbench201.Cell(map(Times, (a, b, c, d, e, f)))(torch.ones(1, 1, 1, 1))
    assert out.item() == d + a * e + b * f + a * c * f
    assert EDGES == ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


def test_operations_compute_what_their_names_say():
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert not nasbench201.operation("none", 4)(x).any()
    assert torch.equal(nasbench201.operation("skip_connect", 4)(x), x)
    pool = nasbench201.operation("avg_pool_3x3", 4)
    torch.testing.assert_close(pool(torch.ones(1, 4, 8, 8)), torch.ones(1, 4, 8, 8))  # padding takes no part
    torch.testing.assert_close(pool(x)[:, :, 3, 3], x[:, :, 2:5, 2:5].mean(dim=(2, 3)))
    torch.testing.assert_close(pool(x)[:, :, 0, 0], x[:, :, :2, :2].mean(dim=(2, 3)))
    for name, kernel in (("nor_conv_1x1", 1), ("nor_conv_3x3", 3)):
        op = nasbench201.operation(name, 4).eval()
        assert op.conv.weight.shape == (4, 4, kernel, kernel)
        expected = torch.nn.functional.conv2d(x.clamp(min=0), op.conv.weight, padding=kernel // 2)
        torch.testing.assert_close(op(x), expected / np.sqrt(1 + op.norm.eps))
    assert len(OPERATIONS) == 5


def test_residual_block_halves_and_adds_its_pooled_input():
    block = nasbench201.ResidualBlock(4, 8)
    nn.init.zeros_(block.second.norm.weight)
    x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    pooled = x.reshape(3, 4, 4, 2, 4, 2).mean(dim=(3, 5))
    torch.testing.assert_close(block(x), torch.einsum("oi,nihw->nohw", block.shortcut.conv.weight[:, :, 0, 0], pooled))
    assert all("bias" not in name for name, _ in block.named_parameters() if "norm" not in name)


def test_runs_on_small_grey_images():
    sides = []
    net = network(SPACE, np.full(6, CONV3), classes=7, in_channels=1, seed=0, channels=4, cells=1)
    for block in net.blocks:
        block.register_forward_hook(lambda _, __, out: sides.append(tuple(out.shape[1:])))
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 7)
    assert sides == [(4, 8, 8), (8, 4, 4), (8, 4, 4), (16, 2, 2), (16, 2, 2)]


def test_head_sees_normed_features_without_their_negative_part():
    net = nasbench201.network(np.full(6, CONV3), channels=4, cells=1)
    seen = {}
    for name in ("norm", "head"):
        net.get_submodule(name).register_forward_hook(lambda _, args, out, name=name: seen.update({name: (*args, out)}))
    logits = net(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    normed = seen["norm"][1]
    assert normed.min() < 0
    assert torch.equal(seen["head"][0], normed.clamp(min=0))
    means = normed.clamp(min=0).mean(dim=(2, 3))
    torch.testing.assert_close(logits, means @ net.head.linear.weight.T + net.head.linear.bias)


@pytest.mark.parametrize("cell", [[0] * 6, [CONV3, 0, 0, 0, 0, CONV3]])
def test_disconnected_cell_trains_to_a_constant(cell):
    net = network(SPACE, np.array(cell), classes=3, in_channels=1, seed=0, channels=4, cells=1)
    images = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    logits = net(images)
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0, 1])).backward()
    assert net.head.linear.bias.grad.abs().sum() > 0
    torch.testing.assert_close(logits, logits[:1].expand(5, 3))


def test_members_of_a_class_may_differ_in_parameters_and_by_a_learned_constant():
    # Node 1 is zero either way; the second cell convolves it.
    plain, dead = SPACE.from_string(
        [f"|none~0|+|none~0|none~1|+|skip_connect~0|{op}~1|none~2|" for op in ("none", "nor_conv_3x3")]
    )
    assert SPACE.canonical(plain[None]) == SPACE.canonical(dead[None])
    one, other = (nasbench201.network(cell, channels=4, cells=1) for cell in (plain, dead))
    assert count_params(other) - count_params(one) == sum(9 * c * c + 2 * c for c in (4, 8, 16))
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    offset = other.blocks[0].edges[4].norm.bias
    torch.testing.assert_close(other.blocks[0](x), one.blocks[0](x))
    nn.init.ones_(offset)
    torch.testing.assert_close(other.blocks[0](x), one.blocks[0](x) + 1)


def test_norm_of_a_supernet_reaches_all_cells():
    net = nasbench201.network(
        np.full(6, CONV3), channels=4, cells=1, norm=lambda width: nn.BatchNorm2d(width, affine=False)
    )
    assert all(norm.weight is None for norm in net.modules() if isinstance(norm, nn.BatchNorm2d))


@pytest.mark.parametrize("sizes", [{"channels": 0}, {"cells": 1.0}, {"classes": True}, {"in_channels": -1}])
def test_sizes_that_make_no_network_are_refused(sizes):
    with pytest.raises(InputError, match="must be an integer of at least 1"):
        nasbench201.network(np.full(6, SKIP), **sizes)
