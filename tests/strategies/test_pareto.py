import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nasplug.strategies.pareto import fronts


def dominates(a, b):
    return (a >= b).all() and (a > b).any()


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=25))
def test_fronts_are_those_of_the_definition(rows):
    points = np.array(rows, dtype=float)
    rank = np.empty(len(points), dtype=int)
    for place, front in enumerate(fronts(points)):
        rank[front] = place
    for i, a in enumerate(points):
        above = [rank[j] for j, b in enumerate(points) if dominates(b, a)]
        assert rank[i] == (max(above) + 1 if above else 0)


def test_no_points_no_fronts():
    assert list(fronts(np.empty((0, 2)))) == []
