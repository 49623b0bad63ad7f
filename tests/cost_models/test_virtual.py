"""Virtual devices take the time that the roofline says."""

import numpy as np

from nasplug.cost_models.virtual import draw_devices, grid_of_devices
from nasplug.cost_models.workload import Kernels, Kind, workload
from nasplug.spaces import FBNet, NASBench201


def kernels(*rows):
    kind, macs, values, weights = np.array(rows, dtype=float).T
    return Kernels(np.arange(len(rows)), kind.astype(int), macs, values, weights, (np.eye(len(rows)),))


def test_a_kernel_takes_the_longest_of_launch_arithmetic_and_traffic():
    some = kernels((Kind.POINTWISE, 5000, 10, 0), (Kind.POINTWISE, 10, 700, 20), (Kind.COPY, 0, 10, 0))
    devices = grid_of_devices([1000.0], [100.0], [1.0, 2.0], 1)
    np.testing.assert_allclose(devices.times(some), np.repeat([[5.0, 7.2, 1.0], [10.0, 14.2, 1.0]], 2, axis=0))


def test_norms_are_fused_and_zeros_left_out_where_the_device_does():
    some = kernels((Kind.NORM, 0, 10, 0), (Kind.ZERO, 0, 10, 0))
    plain, fused = grid_of_devices([1000.0], [100.0], [1.0], 1).times(some)
    assert plain.tolist() == [1.0, 0.0]
    assert fused.tolist() == [0.0, 0.0]
    drawn = draw_devices(200, np.random.default_rng(0))
    took = drawn.times(some)
    assert ((took[:, 0] == 0) == drawn.fuses).all()
    assert ((took[:, 1] > 0) == drawn.zeroes).all()


def test_drawn_devices_reach_from_launch_bound_to_compute_bound():
    work = workload(FBNet())
    times = draw_devices(300, np.random.default_rng(1)).times(work.kernels)
    genotypes = FBNet().sample(300, np.random.default_rng(2))
    latencies = work.matrix(genotypes) @ times.T
    launches = work.total(genotypes, work.kernels.per_term(np.ones(len(work.kernels.term))))
    macs = work.total(genotypes, work.kernels.per_term(work.kernels.macs))
    assert max(np.corrcoef(launches, one)[0, 1] for one in latencies.T) > 0.99
    assert max(np.corrcoef(macs, one)[0, 1] for one in latencies.T) > 0.99
    assert (times >= 0).all()


def test_folds_are_shared_out_and_the_seed_decides():
    work = workload(NASBench201())
    times = draw_devices(100, np.random.default_rng(3)).times(work.kernels)
    written = (times[:, :30] > 0).any(axis=1)
    assert ((times[:, 30:] > 0).any(axis=1) != written).all()
    assert 20 < written.sum() < 80
    np.testing.assert_array_equal(times, draw_devices(100, np.random.default_rng(3)).times(work.kernels))
