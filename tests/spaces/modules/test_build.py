import threading
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from nasplug.errors import InputError, UnknownNameError
from nasplug.spaces import DARTS, DARTSS4, Categorical, Elastic, NASBench201, NASBenchMacro, ParameterSpace
from nasplug.spaces.modules import darts, nasbench201, nasbench_macro
from nasplug.spaces.modules.build import network
from nasplug.spaces.modules.seeding import seeded

SMALL = [
    (NASBench201(), nasbench201.network, {"channels": 4, "cells": 1}),
    (NASBenchMacro(), nasbench_macro.network, {"stem": 4, "width": 8}),
    *(
        (space, partial(darts.network, space), {"channels": 4, "layers": 3, "auxiliary": True})
        for space in (DARTS(), DARTSS4())
    ),
]


def weights(net):
    return torch.cat([p.flatten() for p in net.parameters()])


@pytest.mark.parametrize(("space", "builder", "sizes"), SMALL)
def test_weights_are_torchs_own_from_that_seed_and_the_global_stream_stays(space, builder, sizes):
    rng = np.random.default_rng(0)
    (genotype,) = space.sample(1, rng)
    before = torch.get_rng_state()
    net = network(space, genotype, classes=5, in_channels=2, seed=7, **sizes)
    again = network(space, genotype, classes=5, in_channels=2, seed=torch.Generator().manual_seed(7), **sizes)
    other = network(space, genotype, classes=5, in_channels=2, seed=8, **sizes)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(weights(net), weights(again))
    assert not torch.equal(weights(net), weights(other))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        plain = builder(genotype, classes=5, in_channels=2, **sizes)
    assert torch.equal(weights(net), weights(plain))


def test_seeded_serves_draws_that_take_no_generator_and_leaves_others_alone():
    own = torch.Generator().manual_seed(3)
    with seeded(1):
        alphas = nn.Parameter(1e-3 * torch.randn(3, 2))
        uniform = nn.init.uniform_(torch.empty(4))
        given = torch.rand(4, generator=own)
    torch.testing.assert_close(given, torch.rand(4, generator=torch.Generator().manual_seed(3)))
    generator = torch.Generator().manual_seed(1)
    assert torch.equal(alphas, 1e-3 * torch.randn(3, 2, generator=generator))
    assert torch.equal(uniform, torch.rand(4, generator=generator))


def test_seeded_is_the_business_of_its_thread():
    drawn = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        with seeded(1):
            thread = threading.Thread(target=lambda: drawn.append(torch.rand(2)))
            thread.start()
            thread.join()
    assert torch.equal(drawn[0], torch.rand(2, generator=torch.Generator().manual_seed(5)))


def test_a_generator_given_as_seed_is_advanced():
    generator = torch.Generator().manual_seed(0)
    cell = np.full(6, 3)
    first, second = (
        network(NASBench201(), cell, classes=2, in_channels=1, seed=generator, channels=2, cells=1) for _ in range(2)
    )
    assert not torch.equal(weights(first), weights(second))


@pytest.mark.parametrize(("space", "builder", "sizes"), SMALL)
def test_every_weight_gets_a_finite_gradient(space, builder, sizes):
    genotype = {"nasbench201": np.full(6, 3), "nasbench-macro": np.full(8, 2)}.get(space.name)
    if genotype is None:
        (genotype,) = space.sample(1, np.random.default_rng(0))
    net = network(space, genotype, classes=5, in_channels=2, seed=0, **sizes)
    images = torch.randn(4, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    outputs = net.with_auxiliary(images) if "auxiliary" in sizes else (net(images),)
    sum(nn.functional.cross_entropy(out, torch.arange(4)) for out in outputs).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_a_space_without_networks_is_refused():
    space = ParameterSpace([Categorical("x", (1, 2))])
    with pytest.raises(InputError, match=r"no torch networks; spaces that have: nasbench201, .*elastic"):
        network(space, np.array([0]), classes=2, in_channels=1, seed=0)


def test_sizes_that_a_space_does_not_take_are_refused():
    with pytest.raises(UnknownNameError, match="unknown network size of space 'nasbench201' 'width'; known: cells, ch"):
        network(NASBench201(), np.zeros(6, np.int64), classes=2, in_channels=1, seed=0, width=3)
    with pytest.raises(InputError, match=r"widths of space 'elastic' are several numbers, such as 24,40,80; got 8"):
        network(Elastic(), Elastic().sample(1, np.random.default_rng(0))[0], classes=2, in_channels=1, seed=0, widths=8)


@pytest.mark.parametrize("genotype", [[0, 0, 0, 0, 0, 5], [0, 0, 0], [[0] * 6]])
def test_a_genotype_of_another_space_is_refused(genotype):
    with pytest.raises(InputError, match="nasbench201"):
        network(NASBench201(), np.array(genotype), classes=2, in_channels=1, seed=0)


@pytest.mark.parametrize(
    ("operation", "arguments", "near"),
    [
        (nasbench201.operation, ("nor_conv_5x5", 4), "did you mean nor_conv_"),
        (nasbench_macro.operation, ("mbconv_k3_e6", 4, 4, 1), "did you mean mbconv_"),
        (darts.operation, ("none", 4, 1), "did you mean noise"),
    ],
)
def test_an_operation_that_is_not_of_the_space_is_refused(operation, arguments, near):
    with pytest.raises(UnknownNameError, match=near):
        operation(*arguments)
