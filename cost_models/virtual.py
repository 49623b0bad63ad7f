"""Virtual devices: how long a workload's kernels take on hardware described by a few numbers (the roofline model).

A kernel takes as long as its arithmetic or its memory traffic, whichever is longer, and it costs a launch: either on
top, or as the least a kernel can take where launches overlap with work (Williams et al., CACM 2009, extended by the
launch). Time is counted in launches, so a device is only ratios. Many virtual devices drawn at random are a prior of
what the latencies of any device look like: launch-bound as a GPU with one image, compute-bound as an ASIC, bound by
memory, with or without fused norms.

Shapes:
    d: devices; m: kernels; w: terms of the workload.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from nasplug.cost_models.workload import Kernels, Kind

__all__ = ["VirtualDevices", "draw_devices", "grid_of_devices"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class VirtualDevices:
    """Devices by their ratios; arrays over devices ``(d,)``, per :class:`Kind` ``(d, len(Kind))``.

    Attributes:
        batch: images a pass.
        rate: multiply-accumulates in the time of a launch, by kind.
        bandwidth: numbers moved in the time of a launch.
        launch: the launch of each kind, near 1.
        overlaps: whether work hides the launch.
        fuses: whether norms and activations are part of the convolution before them.
        zeroes: whether kernels that only write zeros run.
        fold: which of the workload's folds holds, reduced modulo how many there are.
    """

    batch: Floats
    rate: Floats
    bandwidth: Floats
    launch: Floats
    overlaps: NDArray[np.bool_]
    fuses: NDArray[np.bool_]
    zeroes: NDArray[np.bool_]
    fold: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.batch)

    def times(self, kernels: Kernels) -> Floats:
        """Return the time of each term on each device, in launches, ``(d, w)``."""
        batch = self.batch[:, None]
        arithmetic = batch * kernels.macs / self.rate[:, kernels.kind]
        traffic = (batch * kernels.values + kernels.weights) / self.bandwidth[:, None]
        work, launch = np.maximum(arithmetic, traffic), self.launch[:, kernels.kind]
        took = np.where(self.overlaps[:, None], np.maximum(work, launch), work + launch)
        took[self.fuses[:, None] & (kernels.kind == Kind.NORM)] = 0.0
        took[~self.zeroes[:, None] & (kernels.kind == Kind.ZERO)] = 0.0
        times = np.empty((len(self), len(kernels.folds[0])))
        fold = self.fold % len(kernels.folds)
        for which in range(len(kernels.folds)):
            times[fold == which] = kernels.per_term(took[fold == which], which)
        return times


def draw_devices(n: int, rng: np.random.Generator) -> VirtualDevices:
    """Draw devices from phones with one image to GPUs with 256: ratios log-uniform over several decades."""
    kinds = len(Kind)
    rate = 10 ** (rng.uniform(4.0, 9.0, (n, 1)) + rng.normal(0.0, 0.15, (n, kinds)))
    # Depthwise convolutions reach from a thirtieth to twice the rate of dense ones, grouped ones from a third up.
    rate[:, [Kind.DEPTHWISE_SMALL, Kind.DEPTHWISE_LARGE]] *= 10 ** rng.uniform(-1.5, 0.3, (n, 1))
    rate[:, Kind.GROUPED] *= 10 ** rng.uniform(-0.5, 0.0, n)
    return VirtualDevices(
        batch=2 ** rng.uniform(0.0, 8.0, n),
        rate=rate,
        bandwidth=10 ** rng.uniform(3.0, 7.0, n),
        launch=10 ** rng.normal(0.0, 0.15, (n, kinds)),
        overlaps=rng.random(n) < 0.5,
        fuses=rng.random(n) < 0.4,
        zeroes=rng.random(n) < 0.5,
        fold=rng.integers(0, 1 << 16, n),
    )


def grid_of_devices(
    rates: Sequence[float], bandwidths: Sequence[float], batches: Sequence[float], folds: int
) -> VirtualDevices:
    """Return devices of every combination, with one rate for all kinds, launches that overlap, and no zeros written."""
    rows = np.array(list(product(rates, bandwidths, batches, (0, 1), range(folds))), dtype=np.float64)
    rate, bandwidth, batch, fuses, fold = rows.T
    return VirtualDevices(
        batch=batch,
        rate=np.repeat(rate[:, None], len(Kind), axis=1),
        bandwidth=bandwidth,
        launch=np.ones((len(rows), len(Kind))),
        overlaps=np.ones(len(rows), dtype=bool),
        fuses=fuses > 0,
        zeroes=np.zeros(len(rows), dtype=bool),
        fold=fold.astype(np.int64),
    )
