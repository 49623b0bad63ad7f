import numpy as np
import pytest
import torch
from torch import nn

from nasplug.errors import InputError
from nasplug.spaces import Elastic
from nasplug.spaces.modules import complexity
from nasplug.spaces.modules.counting import count_multiply_adds, count_params
from nasplug.spaces.modules.elastic import SuperNetwork, network
from nasplug.spaces.modules.layout import ELASTIC_SMALL, elastic_layers
from nasplug.spaces.modules.recalibration import recalibrate
from nasplug.spaces.modules.relaxed import one_hot
from nasplug.spaces.modules.seeding import seeded

SPACE = Elastic()
SIZES = [ELASTIC_SMALL, {"stem": 4, "widths": (4, 6, 6), "strides": (1, 1, 2)}]


def drawn(n: int, seed: int = 0) -> np.ndarray:
    return SPACE.sample(n, np.random.default_rng(seed))


def images(n: int, channels: int = 1, side: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(seed))


def made(sizes=ELASTIC_SMALL, seed: int = 0) -> SuperNetwork:
    with seeded(seed):
        net = SuperNetwork(**sizes, in_channels=1)
        for part in net.modules():  # norms that are all alike would hide a channel taken for another
            if isinstance(part, nn.BatchNorm2d):
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.bias)
    return net


@pytest.mark.parametrize("sizes", SIZES)
def test_an_extracted_network_is_the_slice(sizes):
    net, x = made(sizes), images(16)
    for genotype in [*drawn(12), SPACE.n_choices - 1, np.zeros(SPACE.n_sites, np.int64)]:
        plain = net.extract(genotype).train()
        torch.testing.assert_close(plain(x), net(x, genotype), rtol=0, atol=1e-6)


def test_an_extracted_network_is_its_own():
    net, x = made(), images(16)
    (genotype,) = drawn(1)
    plain = net.extract(genotype).train()
    before = net(x, genotype)
    for weight in plain.parameters():
        weight.data.zero_()
    torch.testing.assert_close(net(x, genotype), before)


def test_an_extracted_network_keeps_the_classes_it_is_for():
    net, x = made(), images(16)
    (genotype,) = drawn(1)
    torch.testing.assert_close(net.extract(genotype, [7, 2]).train()(x), net(x, genotype)[:, [7, 2]], rtol=0, atol=1e-6)


@pytest.mark.parametrize("sizes", SIZES)
def test_one_hot_choices_are_the_slices_request_by_request(sizes):
    net, genotypes = made(sizes), drawn(4, seed=3)
    x = torch.cat([images(9, seed=i) * (1 + i) for i in range(4)])
    relaxed = net.relaxed(x, one_hot(SPACE, genotypes))
    for i, genotype in enumerate(genotypes):
        rows = slice(9 * i, 9 * (i + 1))
        torch.testing.assert_close(relaxed[rows], net(x[rows], genotype), rtol=0, atol=2e-5)


def test_every_choice_that_matters_gets_a_gradient():
    choices = one_hot(SPACE, (SPACE.n_choices - 1)[None])
    for part in choices[:3]:
        part.mul_(0.9).add_(0.02).requires_grad_()
    made().relaxed(images(8), choices).square().mean().backward()
    for part in (choices.kernel, choices.expand):
        assert part.grad.isfinite().all()
        assert (part.grad != 0).all()
    # The first blocks cannot be left out: only weights beyond the first depth lead anywhere.
    assert (choices.depth.grad[..., 1:] != 0).all()


def test_active_blocks_of_soft_depths():
    choices = one_hot(SPACE, drawn(5))
    np.testing.assert_array_equal(choices.active(SPACE).numpy(), SPACE.active(drawn(5)))
    soft = choices._replace(depth=torch.tensor([[[0.2, 0.3, 0.5]] * 3]))
    torch.testing.assert_close(soft.active(SPACE), torch.tensor([[1.0, 0.8, 0.5] * 3]))


def test_closed_forms_are_exact_for_both_sizes():
    genotypes = drawn(6)
    for sizes, side in ((ELASTIC_SMALL, 8), ({}, 32), ({"strides": (2, 2, 2)}, 7)):
        nets = [network(g, in_channels=1, classes=4, **sizes) for g in genotypes]
        counted = [(count_params(net), count_multiply_adds(net, (1, side, side))) for net in nets]
        given = {"in_channels": 1, "classes": 4, **sizes}
        assert complexity.params(SPACE, genotypes, **given).tolist() == [p for p, _ in counted]
        assert complexity.flops(SPACE, genotypes, size=side, **given).tolist() == [f for _, f in counted]


def test_recalibrated_statistics_are_those_of_the_images():
    net = made()
    (genotype,) = drawn(1, seed=1)
    plain, x = net.extract(genotype), images(64)
    recalibrate(plain, [x, x])
    assert not plain.training
    # Over one whole batch the two differ by a factor of n / (n - 1) in the variance alone; few channels are so flat
    # that it shows.
    assert (plain(x) - net(x, genotype)).abs().median() < 0.05
    once = plain(x)
    recalibrate(plain, [3 * x])
    assert not torch.allclose(plain(x), once)
    assert plain.stem.norm.momentum == 0.1
    with pytest.raises(InputError, match="at least one batch"):
        recalibrate(plain, [])


def test_sizes_that_make_no_network_are_refused():
    with pytest.raises(InputError, match="widths must be 3 numbers, one a stage"):
        elastic_layers(widths=(8, 8))
    with pytest.raises(InputError, match="strides must be 3 numbers, each 1 or 2"):
        elastic_layers(strides=(1, 2, 3))
    with pytest.raises(InputError, match="width 2 must be an integer of at least 1"):
        elastic_layers(widths=(8, 0, 8))
