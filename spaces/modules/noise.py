"""An operation that ignores its input: standard normal noise, drawn from a seed of its own."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Noise"]


class Noise(nn.Module):
    """Standard normal noise, ``(N, C, H, W) -> (N, C, H / stride, W / stride)``; no gradient passes.

    In training every pass draws anew; in evaluation every pass draws the same, so that two evaluations of one network
    on the same batches agree. Neither reads a stream: a draw depends on the layer's seed and on how many passes of
    training there were, and both are in the state of the network, so that a training that is resumed goes on as it
    would have. The seed comes from where weights come from.

    Source: Zela et al., Understanding and Robustifying DARTS, ICLR 2020, space S4. Differs: theirs draws from the
    global stream, and anew in evaluation.

    Args:
        stride: of the edge.
    """

    def __init__(self, stride: int = 1):
        super().__init__()
        self.stride = stride
        self.seed = int(torch.randint(2**31, ()))
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += self.training
        key = np.random.SeedSequence([self.seed, self.passes if self.training else 0]).generate_state(1)
        generator = torch.Generator(x.device).manual_seed(int(key[0]))
        shape = x[:, :, :: self.stride, :: self.stride].shape
        return torch.randn(shape, generator=generator, device=x.device, dtype=x.dtype)

    def get_extra_state(self) -> Tensor:
        """Return seed and passes, ``(2,)``."""
        return torch.tensor([self.seed, self.passes])

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from another layer's seed and passes."""
        self.seed, self.passes = state.tolist()

    def extra_repr(self) -> str:
        return f"stride={self.stride}"
