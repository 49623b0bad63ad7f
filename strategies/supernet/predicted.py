"""Once-for-all's accuracy predictor as an objective: differentiable in relaxed choices.

Shapes: r requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nasplug.spaces.modules.relaxed import Choices
from nasplug.spaces.ofa_mobilenetv3 import RESOLUTIONS, OFAMobileNetV3
from nasplug.strategies.supernet.generator import Requests

__all__ = ["PredictedError"]


class PredictedError:
    """The predicted top-1 error in per cent of networks of OFA-MobileNetV3, as the objective of a generator.

    On one-hot choices it is what the predictor says of the space's ``ofa`` encoding; tasks are not looked at.

    Args:
        arrays: ``weight_0`` to ``weight_3`` ``(in, out)`` and ``bias_0`` to ``bias_3``, as the part
            ``accuracy_predictor`` of the benchmark ``ofa-imagenet-surrogate`` has them.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]):
        self.space = OFAMobileNetV3()
        self._layers = [
            (torch.as_tensor(arrays[f"weight_{i}"]), torch.as_tensor(arrays[f"bias_{i}"])) for i in range(4)
        ]
        # The 128 bits know resolutions by bins of 16 pixels.
        self._bins = torch.eye(8)[torch.from_numpy((np.array(RESOLUTIONS) - 112) // 16)]

    def __call__(self, choices: Choices, asked: Requests | None = None) -> Tensor:
        """Return the error of each request's network, ``(r,)``."""
        active = choices.active(self.space)[..., None]
        bits = [
            (choices.kernel * active).flatten(1),
            (choices.expand * active).flatten(1),
            choices.more[0] @ self._bins,
        ]
        hidden = torch.cat(bits, dim=1)
        for weight, bias in self._layers[:-1]:
            hidden = (hidden @ weight + bias).relu()
        weight, bias = self._layers[-1]
        return 100 - 100 * (hidden @ weight + bias)[:, 0]
