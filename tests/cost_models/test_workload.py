"""Terms add up to what they stand for, and kernels to the networks' closed forms."""

import numpy as np
import pytest

from nasplug.cost_models.workload import workload
from nasplug.registry import configure, names
from nasplug.spaces import FBNet, NASBench201, NASBenchMacro, OFAMobileNetV3
from nasplug.spaces.modules import complexity


@pytest.mark.parametrize("name", names("space"))
def test_total_is_the_product_with_the_matrix(name):
    space = configure("space", name)
    work, rng = workload(space), np.random.default_rng(0)
    some, weights = space.sample(40, rng), rng.normal(size=work.width)
    np.testing.assert_allclose(work.total(some, weights), work.matrix(some) @ weights)
    assert work.total(some[:0], weights).shape == (0,)


@pytest.mark.parametrize("space", [NASBench201(), NASBenchMacro()])
def test_macs_add_up_to_the_closed_form(space):
    work, some = workload(space), space.sample(50, np.random.default_rng(1))
    rest = complexity.flops(space, some) - work.total(some, work.kernels.per_term(work.kernels.macs))
    np.testing.assert_allclose(rest, rest[0])
    assert rest[0] > 0


def test_weights_add_up_to_the_closed_form():
    space = NASBench201()
    work, some = workload(space), space.sample(50, np.random.default_rng(1))
    norms = 2 * np.isin(some, (2, 3)).sum(axis=1) * 5 * (16 + 32 + 64)  # no kernel's weights
    rest = complexity.params(space, some) - norms - work.total(some, work.kernels.per_term(work.kernels.weights))
    np.testing.assert_allclose(rest, rest[0])


def test_work_of_a_resolution_grows_with_its_area():
    space = OFAMobileNetV3()
    work, some = workload(space), space.sample(200, np.random.default_rng(2))
    macs = work.total(some, work.kernels.per_term(work.kernels.macs)) / 1e6
    totals = space.encode(some, "totals").astype(float)
    # Near, not equal: the work before a stride follows another area, and squeezing is not in those totals.
    assert np.corrcoef(macs, totals[:, :3].sum(axis=1))[0, 1] > 0.9995
    np.testing.assert_allclose(macs, totals[:, :3].sum(axis=1), rtol=0.05)


def test_launches_of_fbnet_blocks():
    work, kernels = workload(FBNet()), workload(FBNet()).kernels
    launches = kernels.per_term(np.ones(len(kernels.term))).reshape(22, 9)
    assert launches[2].tolist() == [9, 10, 9, 9, 9, 10, 9, 9, 0]  # a shuffle more for groups; the identity is free
    assert launches[5].tolist() == [8, 9, 8, 8, 8, 9, 8, 8, 3]  # no addition where the side halves; a skip resizes
    assert work.connected is None


def test_dead_operations_are_told_from_working_ones():
    space = NASBench201()
    work = workload(space)
    # Edge 0-1 convolves into node 1, which nothing reads: alive is only the skip from 0 to 3.
    cell = space.from_string(["|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"])
    macs = work.kernels.macs
    written, left = (work.total(cell, work.kernels.per_term(macs, fold))[0] for fold in (0, 1))
    assert written == 15 * 9 * 16 * 16 * 32 * 32
    assert left == 0
    assert work.connected(cell).tolist() == [True]
    cut = space.from_string(["|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|"])
    assert work.connected(cut).tolist() == [False]
    assert (~work.connected(space.all())).sum() == 341  # as counted in the published latencies


def test_a_space_without_a_described_network_has_its_onehot():
    space = configure("space", "nasbench-graph")
    work = workload(space)
    assert work.kernels is None
    assert work.matrix(space.sample(3, np.random.default_rng(0))).shape == (3, work.width)
