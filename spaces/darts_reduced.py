"""S1 to S4: four small parts of the DARTS space, in each of which its search goes wrong in a way of its own.

Source: Zela et al., Understanding and Robustifying DARTS, ICLR 2020, section 3 and its published code.
"""

from __future__ import annotations

from nasplug.spaces.darts import DARTS, NOISE, everywhere

__all__ = ["DARTSS1", "DARTSS2", "DARTSS3", "DARTSS4", "REDUCED"]

_SHORT = {
    "max": "max_pool_3x3",
    "avg": "avg_pool_3x3",
    "skip": "skip_connect",
    "sep3": "sep_conv_3x3",
    "dil3": "dil_conv_3x3",
    "dil5": "dil_conv_5x5",
}

# One pair an edge, a line a node: what was left when the least important operations were dropped, a few at a time.
_S1 = (
    """
    skip/dil3 skip/dil5
    skip/dil5 skip/sep3 skip/dil3
    max/skip  skip/sep3 skip/sep3 skip/dil3
    skip/sep3 max/skip  skip/dil3 dil3/dil5 dil3/dil5
    """,
    """
    max/avg   max/dil3
    max/avg   max/avg   skip/dil5
    max/avg   max/sep3  skip/dil3 skip/dil5
    max/avg   max/avg   skip/dil5 skip/dil5 skip/dil5
    """,
)


class DARTSS1(DARTS):
    """S1: every edge has a pair of operations of its own, mostly a skip connection and one with weights."""

    def __init__(self) -> None:
        edges = (tuple(tuple(_SHORT[word] for word in pair.split("/")) for pair in cell.split()) for cell in _S1)
        super().__init__("darts-s1", tuple(edges))


class DARTSS2(DARTS):
    """S2: a skip connection or a separable 3x3 convolution on every edge."""

    def __init__(self) -> None:
        super().__init__("darts-s2", everywhere("skip_connect", "sep_conv_3x3"))


class DARTSS3(DARTS):
    """S3: the architectures of S2, but a supernet mixes ``none`` in."""

    def __init__(self) -> None:
        super().__init__("darts-s3", everywhere("skip_connect", "sep_conv_3x3"), mixes_none=True)


class DARTSS4(DARTS):
    """S4: noise or a separable 3x3 convolution on every edge; noise cannot help."""

    def __init__(self) -> None:
        super().__init__("darts-s4", everywhere(NOISE, "sep_conv_3x3"))


REDUCED: tuple[type[DARTS], ...] = (DARTSS1, DARTSS2, DARTSS3, DARTSS4)
