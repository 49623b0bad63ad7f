"""Elastic: the sub-networks of a small once-for-all network, for images of 8 to 32 pixels."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from nasplug.errors import InputError
from nasplug.spaces.base import Genotypes
from nasplug.spaces.staged import StagedSpace

__all__ = ["DEPTHS", "EXPANSIONS", "KERNELS", "STAGES", "Elastic"]

STAGES = 3
DEPTHS = (1, 2, 3)
KERNELS = (3, 5)
EXPANSIONS = (1, 2, 4)

_BLOCK = r"k[35]e[124]"
_STAGE = rf"{_BLOCK}(?:-{_BLOCK}){{0,2}}"
_PATTERN = re.compile(rf"{_STAGE}(?::{_STAGE}){{2}}", re.ASCII)


class Elastic(StagedSpace):
    """Three stages of one to three inverted-residual blocks, each with kernel 3 or 5 and expansion 1, 2 or 4.

    258^3 = 17.2 million networks; see :class:`StagedSpace` for sites and moves. Widths and
    strides are sizes of the torch network (:mod:`nasplug.spaces.modules.elastic`), not part of the space.

    Strings: the active blocks of each stage, ``k3e4-k5e2:k3e1:k5e4-k5e4-k3e2``.
    """

    def __init__(self) -> None:
        super().__init__("elastic", stages=STAGES, depths=DEPTHS, kernels=KERNELS, expansions=EXPANSIONS)

    def to_string(self, genotypes: Genotypes) -> list[str]:
        return [":".join(stages) for stages in self.stage_strings(genotypes)]

    def from_string(self, strings: Sequence[str]) -> Genotypes:
        rows = np.zeros((len(strings), self.n_sites), dtype=np.int64)
        for row, text in zip(rows, strings, strict=True):
            if not (isinstance(text, str) and _PATTERN.fullmatch(text)):
                raise InputError(
                    f"not an elastic string: {str(text)[:80]!r}; expected {STAGES} stages of one to three blocks, "
                    "kernel 3 or 5 and expansion 1, 2 or 4, such as k3e4-k5e2:k3e1:k5e4-k5e4-k3e2"
                )
            for stage, part in enumerate(text.split(":")):
                blocks = part.split("-")
                row[stage] = DEPTHS.index(len(blocks))
                for place, word in enumerate(blocks, self.stages + stage * self.per_stage):
                    row[place] = KERNELS.index(int(word[1]))
                    row[place + self.blocks] = EXPANSIONS.index(int(word[3]))
        return rows
