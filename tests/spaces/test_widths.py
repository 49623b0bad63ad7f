import numpy as np
import pytest
import torch

from nasplug.errors import InputError
from nasplug.spaces.modules import complexity, convnets
from nasplug.spaces.modules.build import network
from nasplug.spaces.modules.counting import count_multiply_adds, count_params
from nasplug.spaces.modules.gating import Gated
from nasplug.spaces.modules.slimming import slimmed
from nasplug.spaces.widths import MobileNetWidths, ResNetWidths, VGGWidths, WidthSpace

SHAPES = {"vgg": (VGGWidths, convnets.vgg), "resnet": (ResNetWidths, convnets.resnet),
          "mobilenet": (MobileNetWidths, convnets.mobilenet)}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_sites_are_the_groups_of_the_network(name):
    space, build = SHAPES[name][0](), SHAPES[name][1]
    gated = Gated(build(in_channels=1), (1, 8, 8))
    groups = [(group.name, group.channels) for group in gated.groups]
    assert [(p.name, p.high) for p in space.parameters] == groups
    assert all(group.required for group in gated.groups)
    assert space.counts(space.full[None])[0].tolist() == [channels for _, channels in groups]


@pytest.mark.parametrize("name", SHAPES)
def test_a_slim_network_is_the_plain_one_of_its_widths(name):
    space, build = SHAPES[name][0](), SHAPES[name][1]
    gated = Gated(build(in_channels=1), (1, 8, 8)).eval()
    (counts,) = space.counts(space.sample(1, np.random.default_rng(0)))
    slim = slimmed(
        gated, gated.masks_of(counts, {key: gate.scores.detach().numpy() for key, gate in gated.gates.items()})
    )
    plain = build(counts, in_channels=1).eval()
    assert count_params(plain) == count_params(slim)
    plain.load_state_dict(slim.state_dict())
    images = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(plain(images), slim(images), rtol=1e-6, atol=1e-6)


def test_levels_reach_the_full_width_and_counts_come_back():
    space = WidthSpace("mine", [("a", 32), ("b", 20), ("c", 5), ("d", 9)], levels=8, lows=[1, 1, 0, 9])
    levels = [p.decode(np.arange(p.size)) for p in space.parameters]
    assert levels[0] == [4, 8, 12, 16, 20, 24, 28, 32]
    assert levels[1] == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]
    assert levels[2] == [0, 1, 2, 3, 4, 5]
    assert levels[3] == [9]
    every = space.all()
    np.testing.assert_array_equal(space.at_least(space.counts(every)), every)
    assert space.counts(space.at_least(np.array([[5, 1, 0, 3], [99, 20, 5, 9]]))).tolist() == [
        [8, 2, 0, 9],
        [32, 20, 5, 9],
    ]
    assert WidthSpace("all", [("a", 7)], levels=None).size == 7
    for width, some in ((44, 8), (14, 4), (13, 4), (5, 8)):  # nothing at all is among them, however they divide
        (site,) = WidthSpace("mine", [("a", width)], levels=some, lows=[0]).parameters
        counts = site.decode(np.arange(site.size))
        assert (counts[0], counts[-1]) == (0, width)
        assert len(counts) > min(some, width)


def test_counts_may_be_multiples():
    space = WidthSpace(
        "mine", [("a", 64), ("b", 16), ("c", 40), ("d", 32)], levels=None, lows=[1, 1, 1, 0], multiple=16
    )
    levels = [p.decode(np.arange(p.size)) for p in space.parameters]
    assert levels[0] == [16, 32, 48, 64]
    assert levels[1] == [16]
    assert levels[2] == [8, 24, 40]  # as far as the width is one
    assert levels[3] == [0, 16, 32]
    assert space.counts(space.at_least(np.array([[33, 3, 9, 1]]))).tolist() == [[48, 16, 24, 16]]
    coarse = WidthSpace("mine", [("a", 64)], levels=8, multiple=3)
    assert coarse.parameters[0].decode(np.arange(coarse.parameters[0].size)) == [1, 10, 19, 28, 37, 46, 55, 64]


def test_bad_input():
    for bad in ({"lows": [1]}, {"lows": [1, 9]}, {"lows": [-1, 1]}):
        with pytest.raises(InputError, match="every group needs a low"):
            WidthSpace("mine", [("a", 4), ("b", 8)], **bad)
    for bad in ({"levels": 0}, {"multiple": 0}):
        with pytest.raises(InputError, match="levels and multiple must be at least 1"):
            WidthSpace("mine", [("a", 4)], **bad)
    with pytest.raises(InputError, match="expected 6 widths"):
        convnets.vgg([1, 2])
    with pytest.raises(InputError, match=r"stage1\.conv2\.norm must be an integer of at least 1, got 0"):
        convnets.vgg([1, 0, 1, 1, 1, 1])


@pytest.mark.parametrize("name", SHAPES)
def test_closed_forms_count_the_network(name):
    space = SHAPES[name][0]()
    some = np.concatenate([space.full[None], space.sample(2, np.random.default_rng(1))])
    for size, in_channels in ((8, 1), (13, 3)):
        params = complexity.params(space, some, classes=7, in_channels=in_channels)
        flops = complexity.flops(space, some, classes=7, in_channels=in_channels, size=size)
        for row, p, f in zip(some, params, flops, strict=True):
            net = network(space, row, classes=7, in_channels=in_channels, seed=0)
            assert count_params(net) == p
            assert count_multiply_adds(net, (in_channels, size, size)) == f
