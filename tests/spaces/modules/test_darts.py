import numpy as np
import pytest
import torch
from torch import nn

from nasplug.errors import InputError
from nasplug.spaces import DARTS
from nasplug.spaces.darts import OPERATIONS
from nasplug.spaces.modules import darts
from nasplug.spaces.modules.build import network
from nasplug.spaces.modules.counting import count_params
from nasplug.spaces.modules.layout import DARTSCell, darts_cells

SPACE = DARTS()
V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
(GENOTYPE,) = SPACE.from_string([V2])


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


def images(n, side, channels=3):
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(0))


def test_published_network_has_its_parameters():
    assert count_params(darts.network(SPACE, GENOTYPE)) == 3_349_342


def test_reductions_stand_at_one_and_two_thirds():
    net = network(SPACE, GENOTYPE, classes=7, in_channels=1, seed=0, channels=4, layers=8)
    shapes = []
    for cell in net.cells:
        cell.register_forward_hook(lambda _, __, out: shapes.append((out.shape[1], out.shape[2])))
    assert net.eval()(images(1, 8, 1)).shape == (1, 7)
    assert shapes == [(16, 8)] * 2 + [(32, 4)] * 3 + [(64, 2)] * 3


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
def test_shallow_networks_run(layers):
    net = darts.network(SPACE, GENOTYPE, channels=4, layers=layers).eval()
    assert net(images(1, 16)).shape == (1, 10)
    assert sum(place.reduction for place in darts_cells(4, layers)) == min(layers, 2)


def test_cell_sums_the_edges_of_each_node_and_puts_nodes_side_by_side():
    inputs = (Times(1.0), Times(10.0))
    edges = map(Times, (2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0, 19.0))
    cell = darts.Cell(inputs, edges, [(0, 1), (0, 2), (1, 3), (2, 4)])
    one = torch.ones(1, 1, 1, 1)
    second = 2 * 1 + 3 * 10
    third = 5 * 1 + 7 * second
    fourth = 11 * 10 + 13 * third
    fifth = 17 * second + 19 * fourth
    assert cell(one, one).flatten().tolist() == [second, third, fourth, fifth]


def test_genotype_edges_land_where_it_says():
    net = darts.network(SPACE, GENOTYPE, channels=4, layers=3)
    normal, reduction = net.cells[0], net.cells[1]
    assert normal.sources == ((0, 1), (0, 1), (0, 1), (0, 2))
    # Node 4 of the normal cell: a skip from 0 and a separable convolution from 1, in the order of the sources.
    assert isinstance(normal.edges[4], nn.Identity)
    assert isinstance(normal.edges[5][0], darts.SeparableConv)
    assert normal.edges[7].depthwise.dilation == (2, 2)
    assert reduction.sources == ((0, 1), (1, 2), (0, 2), (1, 2))
    assert [edge.stride for edge in reduction.edges if isinstance(edge, nn.MaxPool2d)] == [2] * 5
    assert isinstance(reduction.edges[3], nn.Identity)  # a skip between nodes of a reduction cell keeps the sides


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_keep_the_width_and_stride_the_sides(name, stride):
    op = darts.operation(name, 6, stride)
    assert op(images(2, 8, 6)).shape == (2, 6, 8 // stride, 8 // stride)
    weights = {
        "sep_conv_3x3": [(6, 1, 3, 3), (6, 6, 1, 1)] * 2,
        "sep_conv_5x5": [(6, 1, 5, 5), (6, 6, 1, 1)] * 2,
        "dil_conv_3x3": [(6, 1, 3, 3), (6, 6, 1, 1)],
        "dil_conv_5x5": [(6, 1, 5, 5), (6, 6, 1, 1)],
        "skip_connect": [] if stride == 1 else [(3, 6, 1, 1)] * 2,
    }
    assert [tuple(p.shape) for p in op.parameters() if p.ndim == 4] == weights.get(name, [])


def test_average_pooling_leaves_padding_out():
    ones = torch.ones(1, 2, 4, 4)
    torch.testing.assert_close(darts.operation("avg_pool_3x3", 2, 1)(ones), ones)


@pytest.mark.parametrize(("kernel", "dilation", "stride"), [(3, 1, 1), (5, 1, 2), (3, 2, 2), (5, 2, 1)])
def test_separable_convolution_step_by_step(kernel, dilation, stride):
    op = darts.SeparableConv(4, kernel, stride=stride, dilation=dilation).eval()
    x = images(2, 8, 4)
    each = nn.functional.conv2d(
        x.clamp(min=0), op.depthwise.weight, None, stride, dilation * (kernel // 2), dilation, groups=4
    )
    expected = nn.functional.conv2d(each, op.pointwise.weight) / (1 + op.norm.eps) ** 0.5
    torch.testing.assert_close(op(x), expected)


def test_inputs_of_a_cell_are_activated_before_they_are_reshaped():
    for place in (DARTSCell(4, 4, 2, False, False), DARTSCell(4, 8, 2, False, True)):
        for module, channels in zip(darts.preprocessing(place), (place.before_last, place.last), strict=True):
            assert not module.eval()(-images(2, 8, channels).abs()).any()
    sides = [
        module(images(2, side, channels)).shape[1:]
        for module, side, channels in zip(
            darts.preprocessing(DARTSCell(4, 8, 2, False, True)), (8, 4), (4, 8), strict=True
        )
    ]
    assert sides == [(2, 4, 4)] * 2


def test_factorized_reduce_sees_every_pixel_on_a_diagonal_and_no_other():
    op = darts.operation("skip_connect", 2, 2).eval()
    nn.init.ones_(op.even.weight)
    nn.init.ones_(op.odd.weight)
    x = torch.zeros(1, 2, 4, 4)
    x[0, 0, 0, 0], x[0, 0, 1, 1], x[0, 0, 0, 1] = 3, 5, 7
    torch.testing.assert_close(op(x)[0, :, 0, 0] * (1 + 1e-5) ** 0.5, torch.tensor([3.0, 5.0]))


def test_drop_path_drops_whole_images_and_keeps_the_mean():
    x = torch.ones(4000, 2, 1, 1)
    out = darts.drop_paths(x, 0.25, torch.Generator().manual_seed(0))[:, :, 0, 0]
    assert torch.equal(out[:, 0], out[:, 1])
    assert out.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    # Three in four of 4,000 images stay: five standard deviations of the mean are 0.046.
    assert out.mean().item() == pytest.approx(1, abs=0.046)


def test_drop_path_spares_identities_and_evaluation():
    x = images(8, 8)

    def cell(edges):
        return darts.Cell((nn.Identity(), nn.Identity()), edges, [(0, 1)])

    def drawn():
        return {"drop_path": 0.9, "generator": torch.Generator().manual_seed(0)}

    kept = cell([nn.Identity(), nn.Identity()])(x, x, **drawn())
    assert torch.equal(kept, x + x)
    assert not torch.equal(cell([nn.Identity(), Times(1.0)])(x, x, **drawn()), x + x)
    net = network(SPACE, GENOTYPE, classes=3, in_channels=3, seed=0, channels=4, layers=3)
    before = torch.get_rng_state()
    assert not torch.equal(net(x, **drawn()), net(x))
    assert torch.equal(net(x, **drawn()), net(x, **drawn()))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(net.eval()(x, **drawn()), net(x))


@pytest.mark.parametrize("arguments", [{"drop_path": 0.2}, {"drop_path": 1.0, "generator": torch.Generator()}])
def test_drop_path_without_generator_or_with_nothing_left_is_refused(arguments):
    net = darts.network(SPACE, GENOTYPE, channels=4, layers=1)
    with pytest.raises(InputError, match="drop path needs a probability in"):
        net(images(2, 8), **arguments)


def test_auxiliary_head_classifies_the_second_reduction():
    net = network(SPACE, GENOTYPE, classes=7, in_channels=3, seed=0, channels=4, layers=3, auxiliary=True)
    seen = []
    net.auxiliary.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    inputs = []
    for name in ("reduce", "widen", "linear"):  # all three see activated features
        net.auxiliary.get_submodule(name).register_forward_pre_hook(lambda _, args: inputs.append(args[0].min().item()))
    logits, auxiliary = net.with_auxiliary(images(2, 32))
    assert all(smallest >= 0 for smallest in inputs)
    assert len(inputs) == 3
    assert logits.shape == auxiliary.shape == (2, 7)
    assert seen == [(2, 64, 8, 8)]
    plain = network(SPACE, GENOTYPE, classes=7, in_channels=3, seed=0, channels=4, layers=3)
    extra = 64 * 128 + 2 * 128 + 4 * 128 * 768 + 2 * 768 + 769 * 7
    assert count_params(net) - count_params(plain) == extra
    with pytest.raises(InputError, match="auxiliary=True"):
        plain.with_auxiliary(images(2, 32))
    with pytest.raises(InputError, match="32x32 images"):
        net.with_auxiliary(images(2, 16))


def test_norm_of_a_supernet_reaches_all_cells():
    net = darts.network(
        SPACE, GENOTYPE, channels=4, layers=3, auxiliary=True, norm=lambda width: nn.BatchNorm2d(width, affine=False)
    )
    assert all(norm.weight is None for norm in net.modules() if isinstance(norm, nn.BatchNorm2d))


@pytest.mark.parametrize("sizes", [{"channels": 0}, {"layers": 0}, {"classes": 0}, {"in_channels": np.int64(0)}])
def test_sizes_that_make_no_network_are_refused(sizes):
    with pytest.raises(InputError, match="must be an integer of at least 1"):
        darts.network(SPACE, GENOTYPE, **sizes)
