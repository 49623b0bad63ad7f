"""Single-Path NAS: a chain of inverted residuals in stages, each layer with its kernel, expansion or none at all.

Source: Stamoulis et al., ECML-PKDD 2019, arXiv:1904.02877; the macro-architecture as in the authors' code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError
from nasplug.spaces.base import Genotypes, Space
from nasplug.spaces.graph import Graph, chain
from nasplug.spaces.nasbench_macro import identities_last
from nasplug.spaces.parameters import Categorical

__all__ = [
    "DIGITS_STAGES",
    "IMAGENET_STAGES",
    "SQUEEZES",
    "Block",
    "SinglePath",
    "SinglePathDigits",
    "SinglePathImageNet",
    "SinglePathImageNetSE",
    "squeeze_units",
]

IMAGENET_STAGES = (4, 4, 4, 4, 4)
"""Searchable layers a stage; one fixed layer stands before and one behind them."""

DIGITS_STAGES = (3, 3)

SQUEEZES = (0, 25, 50)
"""Width of a block's squeeze, in percent of the channels that come in; 0 for no squeeze-and-excitation."""


class Block(NamedTuple):
    """What a searchable layer is: kernel 3 or 5, expansion 3 or 6, squeeze in percent of the channels that come in."""

    kernel: int
    expansion: int
    squeeze: int = 0

    def __str__(self) -> str:
        return f"k{self.kernel}_e{self.expansion}" + (f"_s{self.squeeze}" if self.squeeze else "")

    @property
    def word(self) -> str:
        """How architecture strings write it: ``53`` is kernel 5, expansion 3; ``53s25`` has a squeeze too."""
        return f"{self.kernel}{self.expansion}" + (f"s{self.squeeze}" if self.squeeze else "")


def squeeze_units(block: Block, inputs: int) -> int:
    """Return the units of a block's squeeze, 0 where it has none and at least 1 where it has."""
    return max(1, block.squeeze * inputs // 100) if block.squeeze else 0


class SinglePath(Space):
    """Stages of inverted residuals; site ``layer_i`` is the block of layer i, from 1, all layers counted through.

    The first layer of a stage resizes and is always there; the others may be skipped. Codes put the expansion before
    the kernel, so that the bits of a code are the two decisions: 0 k3_e3, 1 k5_e3, 2 k3_e6, 3 k5_e6, then the same
    with each squeeze, last skip. A skipped layer does nothing wherever it stands in its stage, so chains that differ
    in that alone are one canonical class.

    Strings are kernel and expansion a layer, ``--`` for skip, stages apart: ``33 33 33 --|56 33 33 33``.

    Args:
        name: the registered name.
        stages: layers a stage.
        squeezes: widths of squeeze-and-excitation to choose from, the first 0.
    """

    def __init__(self, name: str, stages: Sequence[int], squeezes: Sequence[int] = (0,)):
        self.stages = tuple(stages)
        self.blocks = tuple(Block(k, e, s) for s in squeezes for e in (3, 6) for k in (3, 5))
        self.skip = len(self.blocks)
        self.starts = tuple(sum(self.stages[:i]) for i in range(len(self.stages)))
        names = tuple(map(str, self.blocks))
        super().__init__(
            name,
            [
                Categorical(f"layer_{i + 1}", names if i in self.starts else (*names, "skip"))
                for i in range(sum(self.stages))
            ],
        )

    def to_string(self, genotypes: Genotypes) -> list[str]:
        words = [*(block.word for block in self.blocks), "--"]
        return [
            "|".join(
                " ".join(words[code] for code in row[start : start + length])
                for start, length in zip(self.starts, self.stages, strict=True)
            )
            for row in genotypes.tolist()
        ]

    def from_string(self, strings: Sequence[str]) -> Genotypes:
        codes = {word: code for code, word in enumerate((*(block.word for block in self.blocks), "--"))}
        layout = re.compile(r"\|".join(" ".join([r"[\w-]+"] * length) for length in self.stages), re.ASCII)
        rows = np.full((len(strings), self.n_sites), -1)
        for row, text in enumerate(strings):
            if isinstance(text, str) and layout.fullmatch(text):
                rows[row] = [codes.get(word, -1) for word in re.split(r"[ |]", text)]
            if not self.in_range(rows[row : row + 1]).all():
                example = "|".join(" ".join(["33"] * length) for length in self.stages)
                raise InputError(
                    f"not an architecture of {self.name!r}: {str(text)[:80]!r}; expected {self.n_sites} layers such as "
                    f"{example!r}, each one of {', '.join(list(codes)[:-1])}, or -- behind the first of its stage"
                )
        return rows

    def graphs(self, genotype: NDArray[np.int64]) -> tuple[Graph, ...]:
        """Return the chain, a row a stage; skipped layers are there."""
        names = [*map(str, self.blocks), "skip"]
        ends = zip(self.starts, self.stages, strict=True)
        stages = [[names[code] for code in genotype[start : start + length]] for start, length in ends]
        return (chain("network", stages),)

    def canonical(self, genotypes: Genotypes) -> NDArray[np.int64]:
        """Return the class id of each row, ``(n,)``: the key of the member whose stages end in their skips."""
        return self.keys(self.representative(genotypes))

    def representative(self, genotypes: Genotypes) -> Genotypes:
        return identities_last(genotypes, self.starts, self.stages, self.skip)


class SinglePathImageNet(SinglePath):
    """The 20 searchable layers of the published 22-layer network, 4^5 * 5^15 = 3.1e13 chains.

    The winner of the paper is ``33 33 33 --|56 33 33 33|56 33 33 33|56 53 53 53|56 56 56 56``.
    """

    def __init__(self) -> None:
        super().__init__("single-path-imagenet", IMAGENET_STAGES)


class SinglePathImageNetSE(SinglePath):
    """The same with squeeze-and-excitation as one more decision a layer, 12^5 * 13^15 = 1.3e22 chains.

    Source: arXiv:1907.00959, whose encoding is not public; widths are those of the only independent implementation
    known, 0, 25 and 50 %. Differs: taken from the channels that come in, as MnasNet does.
    """

    def __init__(self) -> None:
        super().__init__("single-path-imagenet-se", IMAGENET_STAGES, SQUEEZES)


class SinglePathDigits(SinglePath):
    """Two stages of three layers for images of 8x8, 4^2 * 5^4 = 10,000 chains; widths are sizes of the network."""

    def __init__(self) -> None:
        super().__init__("single-path-digits", DIGITS_STAGES)
