"""Relaxed choices of a staged space: what a differentiable network, cost or predictor takes instead of a genotype.

Shapes: r requests, each an architecture of its own; t stages; b blocks of the largest network.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nasplug.spaces.base import Genotypes
from nasplug.spaces.staged import StagedSpace

__all__ = ["Choices", "one_hot"]


class Choices(NamedTuple):
    """Weights of every choice, which sum to 1 a site; all of it on one makes it a network of the space.

    Attributes:
        depth: ``(r, t, depths)``.
        kernel: ``(r, b, kernels)``.
        expand: ``(r, b, expansions)``.
        more: ``(r, codes)`` of each further site.
    """

    depth: Tensor
    kernel: Tensor
    expand: Tensor
    more: tuple[Tensor, ...] = ()

    def active(self, space: StagedSpace) -> Tensor:
        """Return how much of each block there is, ``(r, b)``: the weight of depths that include it."""
        depths = torch.tensor(space.depths, device=self.depth.device)
        includes = (depths[:, None] > torch.arange(space.per_stage, device=depths.device)).to(self.depth.dtype)
        return (self.depth @ includes).flatten(1)


def one_hot(space: StagedSpace, genotypes: Genotypes) -> Choices:
    """Return genotypes ``(r, s)`` as choices, float32; of an inactive block too."""
    codes = torch.as_tensor(genotypes)

    def bits(sites: slice, size: int) -> Tensor:
        return F.one_hot(codes[:, sites], size).float()

    more = range(space.n_sites)[space.more_sites]
    return Choices(
        bits(space.depth_sites, len(space.depths)),
        bits(space.kernel_sites, len(space.kernels)),
        bits(space.expand_sites, len(space.expansions)),
        tuple(bits(slice(site, site + 1), space.parameters[site].size)[:, 0] for site in more),
    )
