"""Latencies in another unit are caught by their size."""

import numpy as np
import pytest

from nasplug.cost_models.units import require_milliseconds
from nasplug.errors import DataError

MS = np.array([3.0, np.nan, 20.0, 150.0])


def test_milliseconds_pass():
    require_milliseconds(MS, "here")


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (MS / 1000, "here: the median latency is 0.02 ms.*if these are seconds, multiply by 1000"),
        (MS * 1e6, "micro- or nanoseconds"),
        (np.full(5, 3.0), "5 latencies, all alike"),
        (MS[:1], "1 latencies, all alike"),
        (np.append(MS, 0.0), "latency 0; expected finite"),
        (np.append(MS, np.inf), "latency inf; expected finite"),
    ],
)
def test_others_are_refused(ms, words):
    with pytest.raises(DataError, match=words):
        require_milliseconds(ms, "here")
