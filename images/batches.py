"""Batches of images on their way into a network."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["augmented"]


def augmented(images: Tensor, pad: int, rng: np.random.Generator) -> Tensor:
    """Return the images shifted by up to ``pad`` pixels, zeros coming in, half of them mirrored."""
    count, _, height, width = images.shape
    padded = F.pad(images, (pad, pad, pad, pad))
    down, right = torch.from_numpy(rng.integers(2 * pad + 1, size=(2, count))).to(images.device)
    mirrored = torch.from_numpy(rng.random(count) < 0.5).to(images.device)
    rows = down[:, None] + torch.arange(height, device=images.device)
    columns = right[:, None] + torch.arange(width, device=images.device)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    picked = torch.arange(count, device=images.device)[:, None, None]
    return padded[picked, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
