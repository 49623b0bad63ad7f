"""Superkernels against plain layers, in float64: what is cut is what a layer of its own would be."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nasplug.errors import InputError
from nasplug.spaces.modules.superkernel import (
    Gate,
    JointKernel,
    NestedSqueeze,
    SuperBlock,
    Superkernel,
    indicator,
)

INF = float("inf")


@pytest.fixture(autouse=True)
def _stream():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def superkernel(ring=-INF, upper=-INF, keep=-INF, hidden=12):
    kernel = Superkernel(hidden).double()
    for gate, threshold in ((kernel.ring, ring), (kernel.upper, upper), (kernel.keep, keep)):
        nn.init.constant_(gate.threshold, threshold)
    return kernel


def depthwise(kernel, x, stride=1):
    weight = kernel().weight
    return F.conv2d(x, weight, stride=stride, padding=2, groups=len(weight))


@pytest.mark.parametrize("stride", [1, 2])
def test_everything_kept_is_the_plain_wide_convolution(stride):
    kernel, x = superkernel(), torch.randn(2, 12, 7, 7).double()
    plain = F.conv2d(x, kernel.weight, stride=stride, padding=2, groups=12)
    assert torch.equal(depthwise(kernel, x, stride), plain)


@pytest.mark.parametrize("stride", [1, 2])
def test_without_the_ring_it_is_a_centred_3x3(stride):
    kernel, x = superkernel(ring=INF), torch.randn(2, 12, 7, 7).double()
    plain = F.conv2d(x, kernel.weight[:, :, 1:4, 1:4], stride=stride, padding=1, groups=12)
    torch.testing.assert_close(depthwise(kernel, x, stride), plain, rtol=0, atol=1e-15)


def test_without_the_upper_half_the_lower_is_a_narrower_convolution():
    kernel, x = superkernel(upper=INF), torch.randn(2, 12, 7, 7).double()
    out = depthwise(kernel, x)
    assert not out[:, 6:].any()
    assert torch.equal(out[:, :6], F.conv2d(x[:, :6], kernel.weight[:6], padding=2, groups=6))


def test_nothing_kept_gives_zeros():
    assert not depthwise(superkernel(keep=INF), torch.randn(2, 12, 7, 7).double()).any()


def test_a_skipped_block_adds_a_constant_to_its_input():
    block = SuperBlock(superkernel(keep=INF, hidden=24), 4, 4, 1).double()
    for norm in (block.expand_norm, block.depthwise_norm, block.project_norm):
        nn.init.normal_(norm.bias)
        norm.running_mean.normal_()
    x = torch.randn(3, 4, 6, 6).double()
    constant = block.eval()(x) - x
    assert constant.abs().max() > 0.1
    assert (constant - constant[:1, :, :1, :1]).abs().max() < 2e-15


def test_an_indicator_is_a_step_with_the_slope_of_a_sigmoid():
    margin = torch.tensor([-INF, -3.0, -1e-30, 0.0, 2.0, INF], dtype=torch.float64, requires_grad=True)
    taken = indicator(margin)
    assert taken.tolist() == [0, 0, 0, 1, 1, 1]
    taken.sum().backward()
    soft = torch.sigmoid(margin.detach())
    assert torch.equal(margin.grad, soft * (1 - soft))


def test_the_gradient_of_a_threshold_is_the_chain_rule_written_out():
    kernel = superkernel(0.0, 0.0, 0.0)
    wanted = torch.randn(12, 1, 5, 5).double()
    (kernel().weight * wanted).sum().backward()
    weight, centre = kernel.weight.detach(), kernel.centre
    ring = weight * (1 - centre)
    lower, upper = weight.chunk(2)
    wanted_upper = wanted[6:]

    def slope(gate, group):
        soft = torch.sigmoid(gate.margin(group).detach())
        return soft * (1 - soft)

    at_keep, at_upper = slope(kernel.keep, lower), slope(kernel.upper, upper)
    of_keep, of_upper = (wanted * weight).sum(), (wanted_upper * upper).sum()
    # The kernel grows by the ring, and with it the norms that the later decisions look at.
    size = lower.numel() ** 0.5
    along_lower, along_upper = (
        (half * ring_half).sum() / (torch.linalg.vector_norm(half) * size)
        for half, ring_half in zip((lower, upper), ring.chunk(2), strict=True)
    )
    of_ring = (wanted * ring).sum() + of_keep * at_keep * along_lower + of_upper * at_upper * along_upper
    torch.testing.assert_close(kernel.ring.threshold.grad, -slope(kernel.ring, ring) * of_ring)
    torch.testing.assert_close(kernel.upper.threshold.grad, -at_upper * of_upper)
    torch.testing.assert_close(kernel.keep.threshold.grad, -at_keep * of_keep)


def test_plain_norms_have_no_gradient_left_and_normalised_ones_have():
    slopes = {}
    for faithful in (True, False):
        kernel = Superkernel(240, faithful=faithful)
        kernel().weight.sum().backward()
        margin = kernel.ring.margin(kernel.weight * (1 - kernel.centre))
        margin = margin.detach()
        slopes[faithful] = float(torch.sigmoid(margin) * (1 - torch.sigmoid(margin)))
        norm = torch.linalg.vector_norm(kernel.weight.detach() * (1 - kernel.centre))
        assert float(margin) == pytest.approx(float(norm) / (1 if faithful else (240 * 16) ** 0.5))
        assert bool(kernel.ring.threshold.grad) is not faithful
    assert slopes[True] == 0
    assert slopes[False] > 0.2


def test_decisions_are_taken_one_after_the_other():
    kernel = superkernel(0.0, 0.0, 0.0)
    ring = kernel.weight * (1 - kernel.centre)
    with torch.no_grad():
        kernel.weight[6:] *= 0.1
        kernel.weight[6:, :, 1:4, 1:4] *= 0.1  # the upper half lives in its ring
    with_ring, without = kernel.weight[6:], (kernel.weight * kernel.centre)[6:]
    between = kernel.upper.scale * (torch.linalg.vector_norm(with_ring) + torch.linalg.vector_norm(without)) / 2
    nn.init.constant_(kernel.upper.threshold, float(between.detach()))
    assert kernel().choices.argmax() == 3
    nn.init.constant_(kernel.ring.threshold, INF)
    assert kernel().choices.argmax() == 0
    assert ring.any()


@pytest.mark.parametrize(
    ("kernel", "blocks"),
    [
        (Superkernel(12), [(3, 6), (5, 6), (3, 12), (5, 12), None]),
        (Superkernel(12, skippable=False), [(3, 6), (5, 6), (3, 12), (5, 12)]),
        (JointKernel(12), [None, (3, 6), (5, 12)]),
    ],
)
def test_every_choice_is_forced_decoded_and_counted(kernel, blocks):
    for choice, expected in enumerate(blocks):
        kernel.force(choice)
        shape = kernel()
        assert shape.choices.tolist() == [float(i == choice) for i in range(len(blocks))]
        block = kernel.block(choice)
        assert (block and block[:2]) == expected
        inside = torch.zeros(12, 1, 5, 5)
        if block:
            rim = (5 - block.kernel) // 2
            inside[: block.hidden, :, rim : 5 - rim, rim : 5 - rim] = 1
        assert torch.equal(shape.weight != 0, inside * kernel.weight != 0)
        assert bool(shape.keep) == (block is not None)
        assert not block or bool(shape.expand) == (block.hidden == 12)
    kernel.force(None)
    assert kernel().choices.argmax() == (3 if len(blocks) > 3 else 2)


def test_an_odd_number_of_channels_is_refused():
    for kind in (Superkernel, JointKernel):
        with pytest.raises(InputError, match="even number of channels, got 7"):
            kind(7)


# -- squeeze-and-excitation --------------------------------------------------------------------------------------------


def test_a_narrower_squeeze_is_a_slice():
    nested = NestedSqueeze(6, (2, 5)).double()
    x = torch.randn(3, 6, 4, 4).double()
    for width, units in ((0, 0), (1, 2), (2, 5)):
        nested.force(width)
        taken = nested.indicators()
        assert nested.choices(taken).tolist() == [float(i == width) for i in range(3)]
        expected = x
        if units:
            squeezed = F.conv2d(x.mean((2, 3), keepdim=True), nested.reduce.weight[:units], nested.reduce.bias[:units])
            excited = F.conv2d(squeezed.relu(), nested.excite.weight[:, :units], nested.excite.bias)
            expected = x * torch.sigmoid(excited)
        torch.testing.assert_close(nested(x, taken), expected, rtol=0, atol=1e-15)


def test_units_stay_only_behind_those_before_them():
    nested = NestedSqueeze(6, (2, 5))
    nn.init.constant_(nested.gates[0].threshold, INF)
    assert [float(one.detach()) for one in nested.indicators()] == [0, 0]
    assert nested.choices(nested.indicators()).tolist() == [1, 0, 0]


def test_a_block_with_a_squeeze_counts_all_its_choices():
    block = SuperBlock(Superkernel(24), 4, 4, 1, squeeze=NestedSqueeze(24, (1, 2))).double()
    for choice in range(13):
        block.force(choice)
        assert block.choices().tolist() == [float(i == choice) for i in range(13)]
        cut = block.block(choice)
        assert cut == (
            None if choice == 12 else ((3, 5)[choice % 2], (12, 24)[choice // 2 % 2], (0, 1, 2)[choice // 4])
        )
    block.force(None)
    assert block.choices().argmax() == 11


@pytest.mark.parametrize("widths", [(), (0, 2), (3, 3)])
def test_squeezes_that_do_not_ascend_are_refused(widths):
    with pytest.raises(InputError, match="ascend from at least 1"):
        NestedSqueeze(6, widths)


def test_every_decision_feels_what_it_costs():
    block = SuperBlock(Superkernel(24), 4, 4, 1, squeeze=NestedSqueeze(24, (1, 2))).double()
    costs = torch.arange(13, 0, -1).double()
    (block.choices() * costs).sum().backward()
    gates = [part for part in block.modules() if isinstance(part, Gate)]
    assert len(gates) == 5
    assert all(gate.threshold.grad != 0 for gate in gates)
    # Costs fall from one choice to the next, so dropping any group would cost: every threshold wants to fall.
    assert all(a > b for a, b in pairwise(costs.tolist()))
    assert all(float(gate.threshold.grad) > 0 for gate in (block.kernel.ring, block.kernel.upper))


def test_dropout_scales_what_stays():
    gate = Gate(4)
    group = torch.ones(4, requires_grad=True)
    gate.factor = 1 / 0.6
    assert float(gate(group).detach()) == pytest.approx(1 / 0.6)
    gate.factor = 0.0
    assert float(gate(group)) == 0
    np.testing.assert_allclose(float(gate.margin(group)), 1.0)
