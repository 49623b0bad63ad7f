"""Errors and ranks of predictions, on numbers worked out by hand."""

import math

import numpy as np
import pytest

from nasplug.cost_models.accuracy import accuracy
from nasplug.errors import InputError


def test_by_hand():
    found = accuracy(np.array([1.0, 2.1, 5.0]), np.array([1.0, 2.0, 4.0]))
    assert found.tested == 3
    assert found.mae == pytest.approx(1.1 / 3)
    assert found.rmse == pytest.approx(math.sqrt(1.01 / 3))
    assert found.mape == pytest.approx((0 + 0.05 + 0.25) / 3)
    assert found.within_10pct == pytest.approx(2 / 3)
    assert found.spearman == found.kendall == pytest.approx(1.0)


def test_ranks_of_a_constant_are_unknown():
    found = accuracy(np.array([2.0, 2.0]), np.array([1.0, 3.0]))
    assert math.isnan(found.spearman)
    assert found.to_json()["kendall"] is None


@pytest.mark.parametrize(("predicted", "measured"), [([1.0], [1.0]), ([1.0, 2.0], [1.0, 2.0, 3.0])])
def test_what_cannot_be_compared_is_refused(predicted, measured):
    with pytest.raises(InputError, match="two arrays of equal length"):
        accuracy(np.array(predicted), np.array(measured))
