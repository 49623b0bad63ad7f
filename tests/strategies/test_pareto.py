import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nasplug.strategies.pareto import fronts


def dominates(a, b):
    return (a >= b).all() and (a > b).any()


def tables(columns):
    return st.lists(st.tuples(*[st.integers(0, 4)] * columns), min_size=1, max_size=25)


@given(st.integers(1, 3).flatmap(tables))
def test_fronts_are_those_of_the_definition(rows):
    points = np.array(rows, dtype=float)
    rank = np.empty(len(points), dtype=int)
    for place, front in enumerate(fronts(points)):
        rank[front] = place
        assert (np.diff(points[front].sum(axis=1)) <= 0).all()
    assert sorted(np.concatenate(list(fronts(points)))) == list(range(len(points)))
    for i, a in enumerate(points):
        above = [rank[j] for j, b in enumerate(points) if dominates(b, a)]
        assert rank[i] == (max(above) + 1 if above else 0)


def test_no_points_no_fronts():
    assert list(fronts(np.empty((0, 2)))) == []
