"""What a supernet is worth on images under some mixture: accuracy and loss, with the statistics of the batch.

Shapes: d decisions; o choices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nasplug.errors import InputError
from nasplug.strategies.supernet.data import Part

__all__ = ["BATCH", "Evaluate", "Forward", "batch_statistics", "evaluator", "recalibrated", "require_masks"]

BATCH = 512
"""Images evaluated together, at most: a norm takes its statistics from them, so they are many, and always the same."""

Forward = Callable[[Tensor, Tensor], Tensor]
"""A supernet: images ``(N, channels, H, W)`` and a mixture ``(d, o)`` to logits ``(N, classes)``. A torch module of
somebody else is one once its forward pass takes the mixture."""

Evaluate = Callable[[Tensor], tuple[float, float]]
"""What a mixture ``(d, o)`` is worth: accuracy, a fraction, and mean loss."""


def evaluator(forward: Forward, part: Part, *, shuffled: Sequence[int] | None = None, crop: int = 0) -> Evaluate:
    """Return what measures mixtures on a part of the images: always all of them, in the same order, not augmented.

    So taking an operation away that does nothing changes nothing at all. A module has its batch norms use the
    statistics of the batch, and gets its running ones back.

    Args:
        forward: the supernet.
        part: the images.
        shuffled: a seed, for what DARTS-PT's code does instead: a new order, and new crops, every time.
        crop: of the augmentation then.
    """
    looks = count()

    @torch.no_grad()
    def evaluate(mixture: Tensor) -> tuple[float, float]:
        right, loss, seen = 0, 0.0, 0
        with batch_statistics(forward):
            again = None if shuffled is None else [*shuffled, next(looks)]
            for images, labels in part.chunks(BATCH) if again is None else part.batches(BATCH, again, crop=crop):
                logits = forward(images, mixture)
                right += int((logits.argmax(dim=1) == labels).sum())
                loss += float(F.cross_entropy(logits, labels, reduction="sum"))
                seen += len(labels)
        return right / seen, loss / seen

    return evaluate


def _norms(forward: Forward) -> list[Any]:
    return [m for m in forward.modules() if isinstance(m, _BatchNorm)] if isinstance(forward, nn.Module) else []


@contextmanager
def batch_statistics(forward: Forward) -> Iterator[None]:
    """Let the batch norms of a module use the statistics of the batch within the ``with`` block.

    Everything else, dropout above all, is in evaluation mode; modes and running statistics are put back.
    """
    if not isinstance(forward, nn.Module):
        yield
        return
    modes = {module: module.training for module in forward.modules()}
    norms = [norm for norm in _norms(forward) if norm.track_running_stats]
    kept = {norm: {name: buffer.clone() for name, buffer in norm.named_buffers(recurse=False)} for norm in norms}
    forward.eval()
    for norm in norms:
        norm.train()
    try:
        yield
    finally:
        for norm, buffers in kept.items():
            for name, buffer in buffers.items():
                norm.get_buffer(name).copy_(buffer)
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def recalibrated(supernet: nn.Module, mixture: Tensor, images: Iterable[Tensor]) -> Iterator[None]:
    """Let the batch norms use, within the ``with`` block, the mean statistics of some batches under a mixture.

    They are what a network of its own would have learnt (Guo et al., Single Path One-Shot, ECCV 2020, section 3.4).
    Modes, statistics and settings are put back.

    Args:
        supernet: whose norms are meant; it takes images and a mixture.
        mixture: ``(d, o)``.
        images: batches to take the statistics from.
    """
    norms = _norms(supernet)
    names = ("training", "track_running_stats", "momentum")
    settings = {norm: {name: getattr(norm, name) for name in names} for norm in norms}
    modes = {module: module.training for module in supernet.modules()}
    buffers = {norm: (norm.running_mean, norm.running_var, norm.num_batches_tracked) for norm in norms}
    supernet.eval()
    try:
        device = next(supernet.parameters()).device
        for norm in norms:
            norm.running_mean = torch.zeros(norm.num_features, device=device)
            norm.running_var = torch.ones(norm.num_features, device=device)
            norm.num_batches_tracked = torch.zeros((), dtype=torch.long, device=device)
            norm.track_running_stats, norm.momentum, norm.training = True, None, True  # no momentum: the plain mean
        with torch.no_grad():
            for batch in images:
                supernet(batch, mixture)
        supernet.eval()
        yield
    finally:
        for norm in norms:
            norm.running_mean, norm.running_var, norm.num_batches_tracked = buffers[norm]
            for name, value in settings[norm].items():
                setattr(norm, name, value)
        for module, mode in modes.items():
            module.training = mode


@torch.no_grad()
def require_masks(forward: Forward, images: Tensor, mixture: Tensor) -> None:
    """Raise InputError where a supernet does not look at the mixture: then every removal would seem harmless.

    Each decision in turn loses all that it mixes; at least one of them must change the logits of the images.
    """
    with batch_statistics(forward):
        whole = forward(images, mixture)
        for decision in range(len(mixture)):
            without = mixture.clone()
            without[decision] = 0
            if not torch.equal(forward(images, without), whole):
                return
    raise InputError(
        f"the supernet gives the same logits whichever of its {len(mixture)} decisions is taken out: it ignores the "
        "mixture. Its forward pass must weigh each operation's output by the mixture it is given"
    )
