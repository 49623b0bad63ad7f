"""Channel gates of DNAL (Guo et al., Pattern Recognition 126, 2022, arXiv 2103.02126): soft switches that turn binary.

Shapes: N images, C channels of a layer, H x W pixels.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from nasplug.errors import InputError

__all__ = ["Gate", "Mode", "scale_at"]

Mode = Literal["open", "soft", "hard"]

LAST_SCALE = 1e4
"""Scale of the last epoch: gates of scores further than 0.001 from zero are then 0 or 1 to within 5e-5."""


def scale_at(epoch: int, epochs: int = 10) -> float:
    """Return the scale of 0-based ``epoch`` of ``epochs``, ``10^(4 (epoch + 1) / epochs)``: 10,000 in the last one.

    Raises: InputError unless ``0 <= epoch < epochs``.
    """
    if not 0 <= epoch < epochs:
        raise InputError(f"the scale is defined for epochs 0 to {epochs - 1}, got {epoch}")
    return float(LAST_SCALE ** ((epoch + 1) / epochs))


class Gate(nn.Module):
    """Multiply each channel by its gate, ``(N, C, H, W) -> (N, C, H, W)``; stands right behind a batch-norm.

    Modes:
        open: channels pass as they are; the gate does not exist.
        soft: channel c is multiplied by ``sigmoid(scale * scores[c])``.
        hard: channel c is multiplied by ``mask[c]``, 0 or 1.

    Attributes:
        scores: ``(C,)``, learnt.
        scale: of the soft mode, a positive number that a search raises.
        mask: bool ``(C,)``.
        mode: one of the above; "open" at first.
    """

    mask: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mask", torch.ones(channels, dtype=torch.bool))
        self.scale = 1.0
        self.mode: Mode = "open"

    def values(self) -> Tensor:
        """Return the gates in the present mode, ``(C,)``."""
        if self.mode == "open":
            return torch.ones_like(self.scores)
        return torch.sigmoid(self.scale * self.scores) if self.mode == "soft" else self.mask.to(self.scores.dtype)

    def forward(self, x: Tensor) -> Tensor:
        return x if self.mode == "open" else x * self.values()[:, None, None]

    def extra_repr(self) -> str:
        return f"{len(self.scores)}, mode={self.mode}, scale={self.scale:g}"
