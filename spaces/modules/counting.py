"""Parameters and multiply-adds of a torch module as it stands, any module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["count_multiply_adds", "count_params"]


def count_params(module: nn.Module) -> int:
    """Return the number of weights, trainable or not, each shared one once."""
    return sum(weight.numel() for weight in module.parameters())


def count_multiply_adds(module: nn.Module, image: tuple[int, ...], *, bias: bool = False) -> int:
    """Return the multiply-adds of all ``nn.Conv2d`` and ``nn.Linear`` in one forward pass, measured by running it.

    The module runs once in evaluation mode, without gradients, on one image of zeros; mode, weights and statistics are
    left as they were. Arithmetic done by anything but these two layers is not seen.

    Args:
        module: takes a batch of images.
        image: shape of one image, ``(channels, H, W)``.
        bias: whether a bias counts as one more addition an output, as in NAS-Bench-201's tables.
    """
    counted = 0

    def hook(layer: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal counted
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        per_output = layer.weight[0].numel() + (bias and layer.bias is not None)
        counted += output.numel() * per_output

    modes = {part: part.training for part in module.modules()}
    hooks = [part.register_forward_hook(hook) for part in modes if isinstance(part, nn.Conv2d | nn.Linear)]
    first = next(module.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(1, *image, dtype=first.dtype, device=first.device))
    finally:
        for handle in hooks:
            handle.remove()
        for part, mode in modes.items():
            part.training = mode
    return counted
