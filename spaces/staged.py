"""Spaces of networks that are stages of inverted-residual blocks: how many blocks, and what each looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nasplug.spaces.base import Genotypes, Space
from nasplug.spaces.graph import Graph, chain
from nasplug.spaces.parameters import Categorical, Parameter

__all__ = ["StagedSpace", "indicators"]


class StagedSpace(Space):
    """Stages whose last blocks may be left out, each block with its kernel and expansion, and what else is chosen.

    Sites: ``depth_1``, ... a stage; ``kernel_1_1``, ... and ``expand_1_1``, ... by stage and block; then ``more``.
    Block b of a stage is active where b is at most the stage's depth, and only active blocks count. Samples, moves,
    strings and parameters give inactive blocks the code 0, so that two genotypes they make differ exactly where the
    networks do; any other code there is valid too and of the same canonical class.

    Moves change the kernel or expansion of an active block or a site of ``more``, or add or take the last block of a
    stage.

    Shapes: n genotypes; s sites; t stages; b blocks of the largest network.

    Args:
        name: the registered name.
        stages: how many, t.
        depths: blocks of a stage, consecutive numbers.
        kernels: kernel sizes, ascending.
        expansions: hidden channels over channels that come in, ascending.
        more: further sites.
    """

    encodings: ClassVar[tuple[str, ...]] = ("onehot", "pairwise", "counts")

    def __init__(
        self,
        name: str,
        *,
        stages: int,
        depths: Sequence[int],
        kernels: Sequence[int],
        expansions: Sequence[int],
        more: Sequence[Parameter] = (),
    ):
        self.stages, self.per_stage, self.blocks = stages, depths[-1], stages * depths[-1]
        self.depths, self.kernels, self.expansions = tuple(depths), tuple(kernels), tuple(expansions)
        places = [f"{stage}_{block}" for stage in range(1, stages + 1) for block in range(1, self.per_stage + 1)]
        super().__init__(
            name,
            [
                *(Categorical(f"depth_{stage}", self.depths) for stage in range(1, stages + 1)),
                *(Categorical(f"kernel_{place}", self.kernels) for place in places),
                *(Categorical(f"expand_{place}", self.expansions) for place in places),
                *more,
            ],
        )
        ends = [0, stages, stages + self.blocks, stages + 2 * self.blocks, self.n_sites]
        self.depth_sites, self.kernel_sites, self.expand_sites, self.more_sites = (
            slice(start, end) for start, end in pairwise(ends)
        )
        self.stage_of, self.place = np.divmod(np.arange(self.blocks), self.per_stage)

    # -- which blocks count ------------------------------------------------------------------------------------------

    def active(self, genotypes: Genotypes) -> NDArray[np.bool_]:
        """Return which blocks each network has, ``(n, b)``."""
        active: NDArray[np.bool_] = np.array(self.depths)[genotypes[:, self.depth_sites]][:, self.stage_of] > self.place
        return active

    def masked(self, genotypes: Genotypes) -> Genotypes:
        """Return the genotypes with code 0 in inactive blocks, ``(n, s)``."""
        active = self.active(genotypes)
        settled = np.array(genotypes, dtype=np.int64)
        settled[:, self.kernel_sites] *= active
        settled[:, self.expand_sites] *= active
        return settled

    def counting(self, genotypes: Genotypes) -> NDArray[np.bool_]:
        """Return the sites that make a difference, ``(n, s)``."""
        active = self.active(genotypes)
        always = np.ones((len(genotypes), self.n_sites), dtype=bool)
        return np.concatenate([always[:, self.depth_sites], active, active, always[:, self.more_sites]], axis=1)

    def canonical(self, genotypes: Genotypes) -> NDArray[np.int64]:
        """Return the class id of each row, ``(n,)``: the key of its masked form (maybe a hash, :meth:`Space.keys`)."""
        return self.keys(self.masked(genotypes))

    def representative(self, genotypes: Genotypes) -> Genotypes:
        return self.masked(genotypes)

    # -- moves -------------------------------------------------------------------------------------------------------

    def sample(self, n: int, rng: np.random.Generator) -> Genotypes:
        """Draw ``n`` genotypes, ``(n, s)``: every site uniform, then masked."""
        return self.masked(super().sample(n, rng))

    def mutate(self, genotypes: Genotypes, rng: np.random.Generator) -> Genotypes:
        """Change one site that counts, ``(n, s)``; a block that comes in is drawn uniformly."""
        children = self.masked(genotypes)
        counts = self.counting(children)
        sites = np.argmax(np.where(counts, rng.random(counts.shape), -1.0), axis=1)
        top = len(self.depths) - 1
        for site in np.unique(sites):
            rows = np.flatnonzero(sites == site)
            codes = children[rows, site]
            if site >= self.stages:
                children[rows, site] = self.parameters[site].perturb(codes, rng)
                continue
            step = np.where(codes == 0, 1, np.where(codes == top, -1, rng.choice([-1, 1], size=len(rows))))
            children[rows, site] = codes + step
            grown = rows[step > 0]
            last = site * self.per_stage + np.array(self.depths)[children[grown, site]] - 1
            children[grown, self.kernel_sites.start + last] = rng.integers(len(self.kernels), size=len(grown))
            children[grown, self.expand_sites.start + last] = rng.integers(len(self.expansions), size=len(grown))
        return self.masked(children)

    def resample(self, genotypes: Genotypes, share: float, rng: np.random.Generator) -> Genotypes:
        """Draw each site again with probability ``share``, ``(n, s)``; a block that comes in is drawn uniformly."""
        hidden = super().sample(len(genotypes), rng)
        shown = self.counting(genotypes)
        return self.masked(super().resample(np.where(shown, genotypes, hidden), share, rng))

    def crossover(self, first: Genotypes, second: Genotypes, rng: np.random.Generator) -> Genotypes:
        """Return one child a pair, ``(n, s)``: each site from either parent, a block from one that has it."""
        child = super().crossover(self.masked(first), self.masked(second), rng)
        here, there = self.active(first), self.active(second)
        for sites in (self.kernel_sites, self.expand_sites):
            only_one = np.where(here, first[:, sites], second[:, sites])
            child[:, sites] = np.where(here & there, child[:, sites], only_one)
        return self.masked(child)

    def neighbors(self, genotype: NDArray[np.int64]) -> Genotypes:
        """Return the networks one move away, ``(k, s)``, masked; a block that comes in comes in all its forms."""
        row = self.masked(np.asarray(genotype, dtype=np.int64)[None])[0]
        forms = np.indices((len(self.kernels), len(self.expansions))).reshape(2, -1).T
        near = []
        for site in np.flatnonzero(self.counting(row[None])[0]):
            for code in self.parameters[site].alternatives(int(row[site])):
                if site < self.stages and abs(code - row[site]) > 1:
                    continue
                moved = row.copy()
                moved[site] = code
                grows = site < self.stages and code > row[site]
                for kernel, expand in forms if grows else forms[:1]:
                    if grows:
                        last = site * self.per_stage + self.depths[code] - 1
                        moved[[self.kernel_sites.start + last, self.expand_sites.start + last]] = kernel, expand
                    near.append(moved.copy())
        return self.masked(np.stack(near))

    # -- words and encodings -----------------------------------------------------------------------------------------

    def stage_strings(self, genotypes: Genotypes) -> list[list[str]]:
        """Return the active blocks of each stage of each row, such as ``k3e4-k5e6``."""
        kernels = np.array(self.kernels)[genotypes[:, self.kernel_sites]].tolist()
        expansions = np.array(self.expansions)[genotypes[:, self.expand_sites]].tolist()
        depths = np.array(self.depths)[genotypes[:, self.depth_sites]].tolist()
        texts = []
        for kernel, expand, depth in zip(kernels, expansions, depths, strict=True):
            blocks = [f"k{k}e{e}" for k, e in zip(kernel, expand, strict=True)]
            texts.append(["-".join(blocks[i * self.per_stage :][:d]) for i, d in enumerate(depth)])
        return texts

    def graphs(self, genotype: NDArray[np.int64]) -> tuple[Graph, ...]:
        """Return the chain of active blocks, a row a stage."""
        return (chain("network", [stage.split("-") for stage in self.stage_strings(genotype[None])[0]]),)

    def from_params(self, params: Sequence[Mapping[str, Any]]) -> Genotypes:
        """Return the masked genotypes ``(n, s)`` of parameter dicts, whatever they say of inactive blocks."""
        return self.masked(super().from_params(params))

    def _encode_onehot(self, genotypes: Genotypes) -> NDArray[np.float32]:
        depths = indicators(genotypes[:, self.depth_sites], len(self.depths))
        more = range(self.n_sites)[self.more_sites]
        rest = [self.parameters[site].coordinate(genotypes[:, site])[:, None].astype(np.float32) for site in more]
        return np.concatenate([depths, self.block_indicators(genotypes), *rest], axis=1)

    def _encode_pairwise(self, genotypes: Genotypes) -> NDArray[np.float32]:
        single = self._encode_onehot(genotypes)
        both = genotypes[:, self.kernel_sites] * len(self.expansions) + genotypes[:, self.expand_sites]
        forms = indicators(both, len(self.kernels) * len(self.expansions), self.active(genotypes))
        more = self.more_sites.stop - self.more_sites.start
        chosen, rest = single[:, : single.shape[1] - more], single[:, single.shape[1] - more :]
        return np.concatenate([single, forms, *(chosen * rest[:, [i]] for i in range(more))], axis=1)

    def _encode_counts(self, genotypes: Genotypes) -> NDArray[np.float32]:
        active, every = self.active(genotypes), np.ones((len(genotypes), self.stages), dtype=bool)
        parts = [
            ((genotypes[:, sites, None] == np.arange(size)) & counted[..., None]).sum(axis=1)
            for sites, counted, size in (
                (self.depth_sites, every, len(self.depths)),
                (self.kernel_sites, active, len(self.kernels)),
                (self.expand_sites, active, len(self.expansions)),
            )
        ]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def block_indicators(self, genotypes: Genotypes) -> NDArray[np.float32]:
        """Return the indicators of kernels, then of expansions, block by block; none of an inactive block."""
        active = self.active(genotypes)
        kernels = indicators(genotypes[:, self.kernel_sites], len(self.kernels), active)
        return np.concatenate([kernels, indicators(genotypes[:, self.expand_sites], len(self.expansions), active)], 1)


def indicators(codes: NDArray[np.int64], size: int, active: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Return ``size`` indicators a column of codes ``(n, m)``, ``(n, m * size)``; none where not active."""
    rows = np.vstack([np.eye(size, dtype=np.float32), np.zeros((1, size), dtype=np.float32)])
    return rows[codes if active is None else np.where(active, codes, size)].reshape(len(codes), size * codes.shape[1])
