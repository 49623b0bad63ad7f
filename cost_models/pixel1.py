"""``pixel1``: Single-Path NAS's measured layers on a Pixel 1, a lookup table that is ready without a fit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from nasplug.cost_models.lookup import Lookup
from nasplug.errors import InputError
from nasplug.spaces import Genotypes, SinglePathImageNet

__all__ = ["Pixel1"]


@dataclass(kw_only=True, eq=False)
class Pixel1(Lookup):
    """Milliseconds of networks of ``single-path-imagenet`` at 224x224 on a Google Pixel 1, TFLite, one thread.

    The sum of the four blocks that were measured in each of the 20 layers, of what all networks share (19.6 ms), and
    of nothing for a skip. The published winner takes 80.44 ms by this table; its paper says 79.48.

    Source: the authors' table, rounded to 0.01 ms. Differs: their search approximates a block of kernel 3 and
    expansion 3 from the other three, off by up to 4.8 %; here every entry is used as it was measured.

    Raises: InputError for any other space, of whose kernels the table knows nothing, and on :meth:`fit`.
    """

    def __post_init__(self) -> None:
        if not isinstance(self.space, SinglePathImageNet):
            raise InputError(
                f"the Pixel 1 table holds the kernels of 'single-path-imagenet' and none of {self.space.name!r}; "
                "measure that space and fit a lookup table to it"
            )
        content = _table()
        # Rows of the file list kernel 3 before kernel 5, the codes of the space expansion 3 before expansion 6.
        layers = np.array(content["layers"])[:, [0, 2, 1, 3]]
        blocks = {
            (p.name, choice): float(layers[site, code]) if code < self.space.skip else 0.0
            for site, p in enumerate(self.space.parameters)
            for code, choice in enumerate(p.decode(np.arange(p.size)))
        }
        self.fit_blocks(blocks, content["rest"], device=content["device"])

    def _fit(self, genotypes: Genotypes, ms: NDArray[np.float64]) -> None:
        raise InputError("the Pixel 1 table is what was measured and is not fitted; fit 'lookup' instead")


@cache
def _table() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(files("nasplug.cost_models").joinpath("pixel1.yaml").read_text("utf-8"))
    return content
