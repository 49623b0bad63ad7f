"""OFA-MobileNetV3: the sub-networks of a once-for-all network for ImageNet (Cai et al., ICLR 2020)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nasplug.errors import InputError
from nasplug.spaces.base import Genotypes
from nasplug.spaces.parameters import Integer
from nasplug.spaces.staged import StagedSpace

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


class OFAMobileNetV3(StagedSpace):
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
        step = RESOLUTIONS[1] - RESOLUTIONS[0]
        super().__init__(
            "ofa-mobilenetv3",
            stages=STAGES,
            depths=DEPTHS,
            kernels=KERNELS,
            expansions=EXPANSIONS,
            more=[Integer("resolution", RESOLUTIONS[0], RESOLUTIONS[-1], step=step)],
        )

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

    # -- words -------------------------------------------------------------------------------------------------------

    def to_string(self, genotypes: Genotypes) -> list[str]:
        resolutions = np.array(RESOLUTIONS)[genotypes[:, _RESOLUTION]].tolist()
        stages = self.stage_strings(genotypes)
        return [":".join([str(side), *blocks]) for side, blocks in zip(resolutions, stages, strict=True)]

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

    # -- encodings ---------------------------------------------------------------------------------------------------

    def _encode_ofa(self, genotypes: Genotypes) -> NDArray[np.float32]:
        bins = (np.array(RESOLUTIONS)[genotypes[:, _RESOLUTION]] - 112) // 16
        return np.concatenate([self.block_indicators(genotypes), np.eye(8, dtype=np.float32)[bins]], axis=1)

    def _encode_help(self, genotypes: Genotypes) -> NDArray[np.float32]:
        resolution = np.eye(len(RESOLUTIONS), dtype=np.float32)[genotypes[:, _RESOLUTION]]
        return np.concatenate([self.block_indicators(genotypes), resolution], axis=1)

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
