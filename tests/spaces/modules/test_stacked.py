import copy

import numpy as np
import pytest
import torch
from torch import nn

from nasplug.errors import InputError
from nasplug.spaces import DARTS, NASBench201, NASBenchMacro
from nasplug.spaces.modules.build import network
from nasplug.spaces.modules.layers import ConvNorm, Head, ReLUConvNorm
from nasplug.spaces.modules.stacked import Stack, _Conv, _met

SPACES = {
    "nasbench201": (NASBench201(), {"channels": 4, "cells": 1}),
    "nasbench-macro": (NASBenchMacro(), {"stem": 2, "width": 8, "strides": (1, 2, 2)}),
    "nasbench-macro at one pixel": (NASBenchMacro(), {"stem": 2, "width": 8}),
}
CELLS = [
    "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",  # never sees the image
    "|skip_connect~0|+|nor_conv_1x1~0|none~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|",
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|",
    "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|",
    "|avg_pool_3x3~0|+|avg_pool_3x3~0|none~1|+|skip_connect~0|none~1|none~2|",
]


def networks(name: str) -> list[nn.Module]:
    """Different architectures, one of them twice with other weights, every weight and statistic a number of its own."""
    space, sizes = SPACES[name]
    rows = space.sample(3, np.random.default_rng(1)) if "macro" in name else space.from_string(CELLS)
    made = [
        network(space, row, classes=5, in_channels=2, seed=seed, **sizes).double()
        for seed, row in enumerate([*rows, *rows[:1]])
    ]
    generator = torch.Generator().manual_seed(0)
    for net in made:
        for tensor in (*net.parameters(), *net.buffers()):
            if tensor.is_floating_point():
                tensor.data += 0.2 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
    return made


def batch(n: int = 8, side: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 2, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def flat(tensors) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def statistics(net: nn.Module) -> torch.Tensor:
    return flat(buffer for name, buffer in net.named_buffers() if "running" in name)


@pytest.mark.parametrize("name", SPACES)
def test_a_stack_is_its_networks_alone(name):
    alone = networks(name)
    stack = Stack(copy.deepcopy(alone))
    # Every weight differs from every other, so sorting tells which one in the stack is which.
    weights, places = flat(p for net in alone for p in net.parameters()).sort()
    stacked_weights, stacked_places = flat(stack.parameters()).sort()
    assert torch.equal(weights, stacked_weights)
    assert weights.unique().numel() == weights.numel()
    known, known_places = flat(statistics(net) for net in alone).sort()
    stacked_known, stacked_known_places = statistics(stack).sort()
    assert torch.equal(known, stacked_known)

    labels = torch.arange(8) % 5
    expected = torch.stack([net(batch()) for net in alone])
    logits = stack(batch())
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
    for one, of in ((logits, stack), (expected, None)):
        loss = sum(nn.functional.cross_entropy(each, labels) for each in one)
        loss.backward()
        assert of is None or all(p.grad is not None for p in of.parameters() if p.numel())
    grads = flat(p.grad if p.grad is not None else torch.zeros_like(p) for net in alone for p in net.parameters())
    torch.testing.assert_close(
        flat(p.grad for p in stack.parameters())[stacked_places], grads[places], rtol=1e-7, atol=1e-9
    )
    torch.testing.assert_close(
        statistics(stack)[stacked_known_places], flat(statistics(net) for net in alone)[known_places]
    )

    stack.eval()
    expected = torch.stack([net.eval()(batch(3, seed=1)) for net in alone])
    torch.testing.assert_close(stack(batch(3, seed=1)), expected, rtol=1e-9, atol=1e-9)


def test_images_may_change_their_size():
    alone = networks("nasbench201")
    stack = Stack(alone).eval()
    for side in (8, 12, 4):
        expected = torch.stack([net.eval()(batch(side=side)) for net in alone])
        torch.testing.assert_close(stack(batch(side=side)), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5, 7])
def test_taps_that_meet_padding_alone_are_left_out_and_nothing_changes(kernel, stride):
    for padding in range(kernel):
        for side in range(max(1, kernel - 2 * padding), 9):
            convs = [nn.Conv2d(2, 2, kernel, stride, padding, groups=2, bias=False).double() for _ in range(3)]
            images = torch.randn(2, 6, side, side, dtype=torch.double, requires_grad=True)
            stack = _Conv(convs)
            out = stack(images)
            alone = torch.cat([conv(part) for conv, part in zip(convs, images.split(2, dim=1), strict=True)], dim=1)
            torch.testing.assert_close(out, alone)
            (gradient,) = torch.autograd.grad(out.square().sum(), stack.weight)
            parts = torch.autograd.grad(alone.square().sum(), [conv.weight for conv in convs])
            torch.testing.assert_close(gradient, torch.cat(parts))


def test_a_large_kernel_on_small_images_shrinks():
    taps = _met(size=2, kernel=5, stride=1, padding=2)
    assert (taps.start, taps.stop) == (1, 4)


def test_networks_are_copied_and_a_single_one_is_kept():
    alone = networks("nasbench201")
    before = [p.clone() for p in alone[2].parameters()]
    with torch.no_grad():
        for p in Stack(alone).parameters():
            p.zero_()
    assert all(torch.equal(p, b) for p, b in zip(alone[2].parameters(), before, strict=True))
    single = Stack(alone[2:3])
    assert single.body is alone[2]
    assert torch.equal(single(batch()), alone[2](batch())[None])


@pytest.mark.parametrize("name", SPACES)
def test_a_network_that_diverges_does_not_disturb_its_neighbours(name):
    healthy = networks(name)
    stack = Stack(healthy)
    others = [k for k in range(len(healthy)) if k != 2]
    of_others = ~torch.isin(flat(stack.parameters()), flat(healthy[2].parameters()))

    def logits_and_gradients(stack: Stack) -> tuple[torch.Tensor, torch.Tensor]:
        logits = stack(batch())
        logits.pow(2).sum().backward()
        return logits.detach()[others], flat(p.grad for p in stack.parameters())[of_others]

    expected = logits_and_gradients(stack)
    for value in (float("nan"), float("inf"), 1e300):
        broken = copy.deepcopy(healthy)
        with torch.no_grad():
            broken[2].stem.conv.weight.fill_(value)
        stack = Stack(broken)
        torch.testing.assert_close(logits_and_gradients(stack), expected, rtol=1e-9, atol=1e-9)
        assert value == 1e300 or not torch.isfinite(flat(p.grad for p in stack.parameters())).all()


def test_in_single_precision_only_rounding_differs():
    alone = [net.float().eval() for net in networks("nasbench201")]
    expected = torch.stack([net(batch().float()) for net in alone])
    torch.testing.assert_close(Stack(alone).eval()(batch().float()), expected, rtol=1e-3, atol=1e-4)


class Scaled(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


def conv(**options) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 2, 3, **options))


REFUSED = {
    "at least one network": lambda: [],
    "a convolution with bias": lambda: [conv(), conv()],
    "other padding than zeros": lambda: [conv(bias=False, padding_mode="circular") for _ in range(2)],
    "type Scaled has no stacked form": lambda: [nn.Sequential(Scaled(2, 2, 3, bias=False)) for _ in range(2)],
    "type MaxPool2d has no stacked form": lambda: [nn.Sequential(nn.MaxPool2d(2)) for _ in range(2)],
    "cumulative statistics": lambda: [nn.Sequential(nn.BatchNorm2d(2, momentum=None)) for _ in range(2)],
    "without running statistics": lambda: [
        nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False)) for _ in range(2)
    ],
    "type Skeleton has no stacked form": lambda: [
        network(DARTS(), np.full(22, 2), classes=5, in_channels=2, seed=seed, channels=4, layers=3) for seed in range(2)
    ],
    "of one space": lambda: [
        network(space, space.all()[7], classes=5, in_channels=2, seed=0, **sizes)
        for space, sizes in list(SPACES.values())[:2]
    ],
    "equal sizes": lambda: [
        network(NASBench201(), NASBench201().all()[7], classes=5, in_channels=2, seed=0, channels=c) for c in (4, 8)
    ],
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_has_no_stacked_form_is_refused(message):
    with pytest.raises(InputError, match=message):
        Stack(REFUSED[message]())


def test_the_same_layer_with_other_settings_is_another_layer():
    def net(eps: float, note: float) -> nn.Module:
        blocks = [ConvNorm(2, 4, 3), ReLUConvNorm(4, 4, 3), Head(4, 5)]
        blocks[1].norm.eps, blocks[1].note = eps, note
        return nn.Sequential(*blocks).double().eval()

    alone = [net(1e-5, 0.5), net(0.5, 0.5), net(1e-5, 0.25)]
    stack = Stack(alone).eval()
    assert len(stack.body[1].kinds) == 3
    torch.testing.assert_close(stack(batch()), torch.stack([one(batch()) for one in alone]))
