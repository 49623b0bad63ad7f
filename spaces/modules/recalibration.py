"""Statistics of batch norms from images: what a sub-network needs that took its weights from a larger one."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nasplug.errors import InputError

__all__ = ["recalibrate"]


def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Forget the running statistics of all batch norms, take them from ``batches`` and leave the network in evaluation.

    A statistic is the mean over the batches, each counting alike, so give batches of one size; weights do not move.
    For a network that serves a group of classes, give images of that group: those of others shift the statistics.

    Args:
        network: any module.
        batches: images ``(N, C, H, W)`` each, at least one batch.

    Raises: InputError without a batch.
    """
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for a plain mean
    seen = 0
    network.train()
    with torch.no_grad():
        for images in batches:
            network(images)
            seen += 1
    network.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    if not seen:
        raise InputError("batch norms are recalibrated on at least one batch of images, got none")
