"""What trials report to NNI, read with care."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["finite"]


def finite(reported: Any) -> float | None:
    """Return the finite number that a trial reported, by itself or as ``default``; None where there is none."""
    value = reported.get("default") if isinstance(reported, Mapping) else reported
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except (OverflowError, TypeError):  # an integer beyond all floats; a complex number
        return None
