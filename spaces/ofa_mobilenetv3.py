"""OFA-MobileNetV3: the sub-networks of a once-for-all network for ImageNet (Cai et al., ICLR 2020)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nasplug.errors import InputError
from nasplug.spaces.base import Genotypes, Space
from nasplug.spaces.parameters import Categorical, Integer

__all__ = ["BLOCKS", "DEPTHS", "EXPANSIONS", "KERNELS", "RESOLUTIONS", "STAGES", "OFAMobileNetV3", "Settings"]

STAGES = 5
BLOCKS = 20
"""Blocks of the largest network, four a stage."""

DEPTHS = (2, 3, 4)
KERNELS = (3, 5, 7)
EXPANSIONS = (3, 4, 6)
RESOLUTIONS = tuple(range(128, 225, 4))
"""Sides of the input image in pixels."""

STEM = 24
"""Channels of the first convolution and of the block behind it, which never changes."""

WIDTHS = (32, 48, 96, 136, 192)
STRIDES = (2, 2, 2, 1, 2)
SQUEEZE = (False, True, False, True, True)
"""Whether the blocks of a stage squeeze and excite."""

HARD_SWISH = (False, False, True, True, True)
"""Whether the blocks of a stage use h-swish instead of ReLU."""

HEAD = (1152, 1536, 1000)
"""Outputs of the final expansion, of the mixing layer and of the classifier."""

_PER_STAGE = BLOCKS // STAGES
_DEPTH = slice(0, STAGES)
_KERNEL = slice(STAGES, STAGES + BLOCKS)
_EXPAND = slice(STAGES + BLOCKS, STAGES + 2 * BLOCKS)
_RESOLUTION = STAGES + 2 * BLOCKS
_STAGE_OF = np.arange(BLOCKS) // _PER_STAGE
_PLACE = np.arange(BLOCKS) % _PER_STAGE
_BLOCK = r"k[357]e[346]"
_PATTERN = re.compile(rf"(\d{{3}})((?::{_BLOCK}(?:-{_BLOCK}){{1,3}}){{{STAGES}}})", re.ASCII)


@dataclass(frozen=True)
class Settings:
    """What sub-networks look like, in plain numbers. Shapes: n networks.

    Attributes:
        kernel: kernel size of each block, int64 ``(n, 20)``; 0 where the block is inactive.
        expand: expansion ratio, ``(n, 20)``; 0 where inactive.
        depth: active blocks of each stage, ``(n, 5)``.
        resolution: side of the input image, ``(n,)``.
    """

    kernel: NDArray[np.int64]
    expand: NDArray[np.int64]
    depth: NDArray[np.int64]
    resolution: NDArray[np.int64]


class OFAMobileNetV3(Space):
    """Five stages of two to four inverted-residual blocks, each with its kernel and expansion, and the input's side.

    Sites: ``depth_1`` to ``depth_5``; ``kernel_1_1`` to ``kernel_5_4`` and ``expand_1_1`` to ``expand_5_4``, by stage
    and block; ``resolution``. Block b of a stage is active where b is at most the stage's depth, and only active blocks
    count: 7,371^5 = 2.2e19 networks at each of 25 resolutions. Samples, moves, strings and parameters give inactive
    blocks the code 0, so that two genotypes they make differ exactly where the networks do; any other code there is
    valid too and of the same canonical class.

    Strings: resolution, then the active blocks of each stage, ``192:k3e4-k5e6:k7e3-k3e3-k5e6:...``.

    Moves change the kernel or expansion of an active block, the resolution, or add or take the last block of a stage.

    Encodings (an inactive block has no indicator):
        onehot: 15 of depth, 60 of kernel, 60 of expansion, and the resolution in [0, 1]: 136.
        pairwise: one-hot, then kernel times expansion of each block, and the resolution times every indicator:
            136 + 180 + 135.
        counts: how many stages have each depth, how many blocks each kernel and each expansion: 9.
        ofa: 60 kernel, 60 expansion, 8 bins of 16 pixels from 112 up: the 128 bits of once-for-all's accuracy predictor
            and of arXiv:2101.00732. Depth is implied; resolutions of one bin look alike.
        help: as ``ofa`` with one bit a resolution, the 145 bits of arXiv:2106.08630.
        work: what each block computes, in millions: multiply-accumulates of its expansion, its depthwise convolution
            and its projection, elements entering and leaving the depthwise convolution: 100; and the
            multiply-accumulates of the layers that never change: 101.
        stages: the five kinds of work and the active blocks, summed over each stage: 30.
        totals: the five kinds of work and the active blocks, summed over the network, and the layers that never change:
            7. Columns 0, 1, 2 and 6 add up to the network's multiply-accumulates in millions.
    """

    encodings = ("onehot", "pairwise", "counts", "ofa", "help", "work", "stages", "totals")

    def __init__(self) -> None:
        blocks = [f"{stage}_{block}" for stage in range(1, STAGES + 1) for block in range(1, _PER_STAGE + 1)]
        super().__init__(
            "ofa-mobilenetv3",
            [
                *(Categorical(f"depth_{stage}", DEPTHS) for stage in range(1, STAGES + 1)),
                *(Categorical(f"kernel_{block}", KERNELS) for block in blocks),
                *(Categorical(f"expand_{block}", EXPANSIONS) for block in blocks),
                Integer("resolution", RESOLUTIONS[0], RESOLUTIONS[-1], step=RESOLUTIONS[1] - RESOLUTIONS[0]),
            ],
        )

    # -- which blocks count ------------------------------------------------------------------------------------------

    def active(self, genotypes: Genotypes) -> NDArray[np.bool_]:
        """Return which blocks each network has, ``(n, 20)``."""
        active: NDArray[np.bool_] = np.array(DEPTHS)[genotypes[:, _DEPTH]][:, _STAGE_OF] > _PLACE
        return active

    def masked(self, genotypes: Genotypes) -> Genotypes:
        """Return the genotypes with code 0 in inactive blocks, ``(n, 46)``."""
        active = self.active(genotypes)
        settled = np.array(genotypes, dtype=np.int64)
        settled[:, _KERNEL] *= active
        settled[:, _EXPAND] *= active
        return settled

    def canonical(self, genotypes: Genotypes) -> NDArray[np.int64]:
        """Return the class id of each row, ``(n,)``: the key of its masked form (a hash, see :meth:`Space.keys`)."""
        return self.keys(self.masked(genotypes))

    def representative(self, genotypes: Genotypes) -> Genotypes:
        return self.masked(genotypes)

    # -- plain numbers -----------------------------------------------------------------------------------------------

    def settings(self, genotypes: Genotypes) -> Settings:
        """Return kernels, expansions, depths and resolutions of valid genotypes."""
        active = self.active(genotypes)
        return Settings(
            kernel=np.array(KERNELS)[genotypes[:, _KERNEL]] * active,
            expand=np.array(EXPANSIONS)[genotypes[:, _EXPAND]] * active,
            depth=np.array(DEPTHS)[genotypes[:, _DEPTH]],
            resolution=np.array(RESOLUTIONS)[genotypes[:, _RESOLUTION]],
        )

    def from_settings(self, kernel: ArrayLike, expand: ArrayLike, depth: ArrayLike, resolution: ArrayLike) -> Genotypes:
        """Return the masked genotypes ``(n, 46)`` of plain numbers, as published latency files hold them.

        Args:
            kernel: ``(n, 20)``; what stands in inactive blocks is not looked at.
            expand: ``(n, 20)``, likewise.
            depth: ``(n, 5)``.
            resolution: ``(n,)``.

        Raises: InputError for another shape, or the first value that the space does not have.
        """
        given = {"kernel": kernel, "expand": expand, "depth": depth, "resolution": resolution}
        arrays = {name: np.asarray(values) for name, values in given.items()}
        n = len(arrays["resolution"]) if arrays["resolution"].ndim else 0
        for name, shape in {
            "kernel": (n, BLOCKS),
            "expand": (n, BLOCKS),
            "depth": (n, STAGES),
            "resolution": (n,),
        }.items():
            if arrays[name].shape != shape:
                raise InputError(f"{self.name}: {name} must have shape {shape}, got {arrays[name].shape}")
        depths = _codes("depth", arrays["depth"], DEPTHS)
        inactive = np.repeat(np.array(DEPTHS)[depths], _PER_STAGE, axis=1) <= _PLACE
        columns = [
            depths,
            _codes("kernel", np.where(inactive, KERNELS[0], arrays["kernel"]), KERNELS),
            _codes("expand", np.where(inactive, EXPANSIONS[0], arrays["expand"]), EXPANSIONS),
            _codes("resolution", arrays["resolution"][:, None], RESOLUTIONS),
        ]
        return np.concatenate(columns, axis=1)

    # -- moves -------------------------------------------------------------------------------------------------------

    def sample(self, n: int, rng: np.random.Generator) -> Genotypes:
        """Draw ``n`` genotypes, ``(n, 46)``: depths, kernels, expansions and resolution uniform, then masked."""
        return self.masked(super().sample(n, rng))

    def mutate(self, genotypes: Genotypes, rng: np.random.Generator) -> Genotypes:
        """Change one site that counts, ``(n, 46)``; a block that comes in is drawn uniformly."""
        children = self.masked(genotypes)
        counts = self._counting(children)
        sites = np.argmax(np.where(counts, rng.random(counts.shape), -1.0), axis=1)
        for site in np.unique(sites):
            rows = np.flatnonzero(sites == site)
            codes = children[rows, site]
            if site >= STAGES:
                children[rows, site] = self.parameters[site].perturb(codes, rng)
                continue
            step = np.where(codes == 0, 1, np.where(codes == len(DEPTHS) - 1, -1, rng.choice([-1, 1], size=len(rows))))
            children[rows, site] = codes + step
            grown = rows[step > 0]
            last = site * _PER_STAGE + np.array(DEPTHS)[children[grown, site]] - 1
            children[grown, _KERNEL.start + last] = rng.integers(len(KERNELS), size=len(grown))
            children[grown, _EXPAND.start + last] = rng.integers(len(EXPANSIONS), size=len(grown))
        return self.masked(children)

    def resample(self, genotypes: Genotypes, share: float, rng: np.random.Generator) -> Genotypes:
        """Draw each site again with probability ``share``, ``(n, 46)``; a block that comes in is drawn uniformly."""
        hidden = super().sample(len(genotypes), rng)
        shown = self._counting(genotypes)
        return self.masked(super().resample(np.where(shown, genotypes, hidden), share, rng))

    def crossover(self, first: Genotypes, second: Genotypes, rng: np.random.Generator) -> Genotypes:
        """Return one child a pair, ``(n, 46)``: each site from either parent, a block from one that has it."""
        child = super().crossover(self.masked(first), self.masked(second), rng)
        here, there = self.active(first), self.active(second)
        for sites in (_KERNEL, _EXPAND):
            only_one = np.where(here, first[:, sites], second[:, sites])
            child[:, sites] = np.where(here & there, child[:, sites], only_one)
        return self.masked(child)

    def neighbors(self, genotype: NDArray[np.int64]) -> Genotypes:
        """Return the networks one move away, ``(k, 46)``, masked; a block that comes in comes in all nine forms."""
        row = self.masked(np.asarray(genotype, dtype=np.int64)[None])[0]
        near = []
        for site in np.flatnonzero(self._counting(row[None])[0]):
            for code in self.parameters[site].alternatives(int(row[site])):
                if site < STAGES and abs(code - row[site]) > 1:
                    continue
                moved = row.copy()
                moved[site] = code
                forms = np.indices((len(KERNELS), len(EXPANSIONS))).reshape(2, -1).T
                for kernel, expand in forms if site < STAGES and code > row[site] else forms[:1]:
                    if site < STAGES and code > row[site]:
                        last = site * _PER_STAGE + DEPTHS[code] - 1
                        moved[[_KERNEL.start + last, _EXPAND.start + last]] = kernel, expand
                    near.append(moved.copy())
        return self.masked(np.stack(near))

    def _counting(self, genotypes: Genotypes) -> NDArray[np.bool_]:
        """Return the sites that make a difference, ``(n, 46)``."""
        active = self.active(genotypes)
        always = np.ones((len(genotypes), STAGES), dtype=bool)
        return np.concatenate([always, active, active, always[:, :1]], axis=1)

    # -- words -------------------------------------------------------------------------------------------------------

    def to_string(self, genotypes: Genotypes) -> list[str]:
        s = self.settings(genotypes)
        columns = (s.kernel.tolist(), s.expand.tolist(), s.depth.tolist(), s.resolution.tolist())
        texts = []
        for kernel, expand, depth, resolution in zip(*columns, strict=True):
            blocks = [f"k{k}e{e}" for k, e in zip(kernel, expand, strict=True)]
            stages = ["-".join(blocks[i * _PER_STAGE : i * _PER_STAGE + d]) for i, d in enumerate(depth)]
            texts.append(":".join([str(resolution), *stages]))
        return texts

    def from_string(self, strings: Sequence[str]) -> Genotypes:
        kernel, expand = np.zeros((2, len(strings), BLOCKS), dtype=np.int64)
        depth, resolution = np.zeros((len(strings), STAGES), dtype=np.int64), np.zeros(len(strings), dtype=np.int64)
        for row, text in enumerate(strings):
            match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
            if match is None or int(match[1]) not in RESOLUTIONS:
                raise InputError(
                    f"not an OFA-MobileNetV3 string: {str(text)[:80]!r}; expected a resolution of 128, 132, ..., 224 "
                    "and five stages of two to four blocks, such as "
                    "192:k3e4-k5e6:k7e3-k3e3:k3e6-k3e3-k5e4:k5e3-k3e3:k3e6-k3e3-k7e4-k3e3"
                )
            resolution[row] = int(match[1])
            for stage, part in enumerate(match[2][1:].split(":")):
                blocks = part.split("-")
                depth[row, stage] = len(blocks)
                for block, word in enumerate(blocks, stage * _PER_STAGE):
                    kernel[row, block], expand[row, block] = int(word[1]), int(word[3])
        return self.from_settings(kernel, expand, depth, resolution)

    def from_params(self, params: Sequence[Mapping[str, Any]]) -> Genotypes:
        """Return the masked genotypes ``(n, 46)`` of parameter dicts, whatever they say of inactive blocks."""
        return self.masked(super().from_params(params))

    # -- encodings ---------------------------------------------------------------------------------------------------

    def _encode_onehot(self, genotypes: Genotypes) -> NDArray[np.float32]:
        depths = _indicators(genotypes[:, _DEPTH], np.ones((len(genotypes), STAGES), dtype=bool))
        resolution = self.parameters[-1].coordinate(genotypes[:, _RESOLUTION])[:, None].astype(np.float32)
        return np.concatenate([depths, self._blocks(genotypes), resolution], axis=1)

    def _encode_pairwise(self, genotypes: Genotypes) -> NDArray[np.float32]:
        single = self._encode_onehot(genotypes)
        active = self.active(genotypes)
        both = genotypes[:, _KERNEL] * len(EXPANSIONS) + genotypes[:, _EXPAND]
        forms = _indicators(both, active, len(KERNELS) * len(EXPANSIONS))
        return np.concatenate([single, forms, single[:, :-1] * single[:, -1:]], axis=1)

    def _encode_counts(self, genotypes: Genotypes) -> NDArray[np.float32]:
        active, every = self.active(genotypes), np.ones((len(genotypes), STAGES), dtype=bool)
        parts = [
            ((genotypes[:, sites, None] == np.arange(3)) & counted[..., None]).sum(axis=1)
            for sites, counted in ((_DEPTH, every), (_KERNEL, active), (_EXPAND, active))
        ]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def _encode_ofa(self, genotypes: Genotypes) -> NDArray[np.float32]:
        bins = (np.array(RESOLUTIONS)[genotypes[:, _RESOLUTION]] - 112) // 16
        return np.concatenate([self._blocks(genotypes), np.eye(8, dtype=np.float32)[bins]], axis=1)

    def _encode_help(self, genotypes: Genotypes) -> NDArray[np.float32]:
        resolution = np.eye(len(RESOLUTIONS), dtype=np.float32)[genotypes[:, _RESOLUTION]]
        return np.concatenate([self._blocks(genotypes), resolution], axis=1)

    def _blocks(self, genotypes: Genotypes) -> NDArray[np.float32]:
        """Return 60 indicators of kernels, then 60 of expansions, ``(n, 120)``; none of an inactive block."""
        active = self.active(genotypes)
        return np.concatenate(
            [_indicators(genotypes[:, _KERNEL], active), _indicators(genotypes[:, _EXPAND], active)], axis=1
        )

    def _encode_work(self, genotypes: Genotypes) -> NDArray[np.float32]:
        blocks, rest = self._work
        resolution = genotypes[:, _RESOLUTION]
        forms = genotypes[:, _KERNEL] * len(EXPANSIONS) + genotypes[:, _EXPAND]
        forms[~self.active(genotypes)] = len(KERNELS) * len(EXPANSIONS)
        work = blocks[resolution[:, None], np.arange(BLOCKS), forms].reshape(len(genotypes), BLOCKS * blocks.shape[-1])
        return np.concatenate([work, rest[resolution, None]], axis=1)

    def _encode_stages(self, genotypes: Genotypes) -> NDArray[np.float32]:
        work = self._encode_work(genotypes)[:, :-1].reshape(len(genotypes), STAGES, _PER_STAGE, 5).sum(axis=2)
        depth = np.array(DEPTHS, dtype=np.float32)[genotypes[:, _DEPTH], None]
        return np.concatenate([work, depth], axis=2).reshape(len(genotypes), STAGES * 6)

    def _encode_totals(self, genotypes: Genotypes) -> NDArray[np.float32]:
        stages = self._encode_stages(genotypes).reshape(len(genotypes), STAGES, 6).sum(axis=1)
        return np.concatenate([stages, self._work[1][genotypes[:, _RESOLUTION], None]], axis=1)

    @cached_property
    def _work(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What every form of a block computes at every resolution, ``(25, 20, 10, 5)``, the last form being none, and
        what the other layers compute, ``(25,)``; in millions.
        """
        kernel, expand = (choices.ravel() for choices in np.meshgrid(KERNELS, EXPANSIONS, indexing="ij"))
        blocks = np.zeros((len(RESOLUTIONS), BLOCKS, len(kernel) + 1, 5))
        resolution = np.array(RESOLUTIONS, dtype=np.float64)[:, None]
        first = side = (resolution + 1) // 2
        channels = STEM
        for block in range(BLOCKS):
            stage = _STAGE_OF[block]
            after = (side - 1) // STRIDES[stage] + 1 if _PLACE[block] == 0 else side
            entering, leaving = side**2 * channels * expand, after**2 * channels * expand
            columns = [entering * channels, leaving * kernel**2, leaving * WIDTHS[stage], entering, leaving]
            blocks[:, block, :-1] = np.stack(columns, axis=-1)
            side, channels = after, WIDTHS[stage]
        stem = first**2 * STEM * (3 * 9 + 9 + STEM)
        head = side**2 * channels * HEAD[0] + HEAD[0] * HEAD[1] + HEAD[1] * HEAD[2]
        return (blocks / 1e6).astype(np.float32), ((stem + head)[:, 0] / 1e6).astype(np.float32)


def _codes(name: str, values: NDArray[Any], choices: Sequence[int]) -> NDArray[np.int64]:
    """Return the code of each value, of the same shape; raises InputError for a value that is no choice."""
    matches = values[..., None] == np.array(choices)
    known = matches.any(axis=-1)
    if not known.all():
        row, column = np.argwhere(~known)[0].tolist()
        raise InputError(
            f"ofa-mobilenetv3: {name} {values[row, column]} in row {row} is none of {', '.join(map(str, choices))}"
        )
    return matches.argmax(axis=-1)


def _indicators(codes: NDArray[np.int64], active: NDArray[np.bool_], size: int = 3) -> NDArray[np.float32]:
    """Return ``size`` indicators a column of codes ``(n, m)``, ``(n, size m)``; none where inactive."""
    rows = np.vstack([np.eye(size, dtype=np.float32), np.zeros((1, size), dtype=np.float32)])
    return rows[np.where(active, codes, size)].reshape(len(codes), size * codes.shape[1])
