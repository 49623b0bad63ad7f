"""A budget is the part of a space that a model finds affordable."""

import numpy as np
import pytest

from nasplug.cost_models.constraint import affordable
from nasplug.errors import InputError
from nasplug.spaces import DARTS, NASBench201


class Counting:
    """1 ms, and one more for each site that is not 0; as much deviation as asked for."""

    def __init__(self, deviation=0.0):
        self._deviation = deviation

    def predict(self, genotypes):
        return 1.0 + (genotypes != 0).sum(axis=1)

    def deviation(self, genotypes):
        return np.full(len(genotypes), self._deviation)


def test_only_what_fits_is_in():
    part = affordable(NASBench201(), Counting(), 4.0)
    assert (Counting().predict(part.all()) <= 4.0).all()
    assert part.size == (Counting().predict(NASBench201().all()) <= 4.0).sum()


def test_a_margin_is_kept_from_the_budget_by_models_that_have_a_deviation():
    three, four = (affordable(NASBench201(), Counting(), bound).size for bound in (3.0, 4.0))
    assert affordable(NASBench201(), Counting(0.5), 4.0, margin=2.0).size == three
    assert affordable(NASBench201(), Counting(0.5), 3.0, margin=-2.0).size == four


@pytest.mark.parametrize("space", [NASBench201(), DARTS()], ids=lambda space: space.name)
@pytest.mark.parametrize("deviation", [0.0, np.nan])
@pytest.mark.parametrize("margin", [2.0, -0.5])
def test_a_margin_without_a_deviation_is_refused(space, deviation, margin):
    message = rf"Counting predicts without a standard deviation, so a margin of {margin:g} has no effect; leave it out"
    for bound in (4.0, 0.5):  # the second one affords nothing
        with pytest.raises(InputError, match=message):
            affordable(space, Counting(deviation), bound, margin=margin)


def test_two_budgets_or_models_are_two_spaces():
    class Other(Counting):
        def predict(self, genotypes):
            return super().predict(genotypes) + 0.5

    Other.__name__ = "Counting"
    assert affordable(NASBench201(), Counting(), 4.0) != affordable(NASBench201(), Counting(), 5.0)
    assert affordable(NASBench201(), Counting(), 4.2) != affordable(NASBench201(), Other(), 4.2)
    assert affordable(NASBench201(), Counting(), 4.0) == affordable(NASBench201(), Counting(), 4.0)


def test_the_cheap_corner_of_a_large_space_is_found():
    space = DARTS()
    typical = np.median(Counting().predict(space.sample(1000, np.random.default_rng(0))))
    part = affordable(space, Counting(), typical - 8)  # far less than one draw in 200 is as cheap
    some = part.sample(20, np.random.default_rng(1))
    assert (Counting().predict(some) <= typical - 8).all()


def test_a_budget_that_nothing_meets_names_the_cheapest():
    with pytest.raises(InputError, match=r"0.5 ms or less; the cheapest found, \|none~0\|\+.*, takes 1 ms"):
        affordable(NASBench201(), Counting(), 0.5)
    with pytest.raises(InputError, match=r"with a margin of 2 standard deviations.*takes 11 ms"):
        affordable(NASBench201(), Counting(5.0), 4.0, margin=2.0)
    with pytest.raises(InputError, match=r"of 'darts' is predicted at 0\.5 ms or less"):
        affordable(DARTS(), Counting(), 0.5)


@pytest.mark.parametrize(
    ("bound", "margin"), [(0.0, 0.0), (float("nan"), 0.0), (float("inf"), 0.0), (5.0, float("nan"))]
)
def test_a_bound_that_is_none_is_refused(bound, margin):
    with pytest.raises(InputError, match="a budget is finite milliseconds above zero"):
        affordable(NASBench201(), Counting(), bound, margin=margin)
