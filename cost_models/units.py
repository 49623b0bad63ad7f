"""Latencies in another unit than milliseconds, caught by their size before they are learnt from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import DataError

__all__ = ["require_milliseconds"]

PLAUSIBLE_MS = (0.1, 100_000.0)
"""Range of the median latency of a device: every one of the 66 published arrays we know lies between 2 and 120 ms."""


def require_milliseconds(ms: NDArray[np.float64], where: str) -> None:
    """Raise DataError where latencies cannot be milliseconds of whole networks, or tell networks apart by nothing.

    Args:
        ms: latencies of one device, ``(n,)``; NaN for one not measured.
        where: names the device and its file in the message.
    """
    known = ms[~np.isnan(ms)]
    bad = ~np.isfinite(known) | (known <= 0)
    if bad.any():
        raise DataError(f"{where}: latency {known[bad][0]:g}; expected finite milliseconds above zero")
    if len(known) < 2 or np.ptp(known) <= 1e-9 * known.max():
        raise DataError(f"{where}: {len(known)} latencies, all alike; measure again or leave the device out")
    median, (least, most) = float(np.median(known)), PLAUSIBLE_MS
    if not least <= median <= most:
        guess = "seconds, multiply by 1000" if median < least else "micro- or nanoseconds, divide"
        raise DataError(
            f"{where}: the median latency is {median:g} ms, expected {least:g} to {most:g}; if these are {guess}"
        )
