"""Searches that begin anew for every request: within the budget, better than chance, as many scores as they say."""

import numpy as np
import pytest

from nasplug.errors import InputError
from nasplug.spaces import Elastic
from nasplug.strategies.supernet.peers import Evolution, evolve, feasible

SPACE = Elastic()


def score(rows):
    return (rows * np.arange(1, SPACE.n_sites + 1)).sum(axis=1).astype(float)


def small(rows):
    return rows.sum(axis=1) <= 12


def test_the_best_of_an_evolution_is_allowed_and_better_than_random():
    best, scored = evolve(SPACE, score, small, np.random.default_rng(0), Evolution(population=20, generations=15))
    assert SPACE.valid(best[None]).all()
    assert small(best[None])[0]
    assert scored == 20 + 15 * 20
    random = feasible(SPACE, 320, small, np.random.default_rng(1))
    assert score(best[None])[0] > np.quantile(score(random), 0.98)
    again, _ = evolve(SPACE, score, small, np.random.default_rng(0), Evolution(population=20, generations=15))
    np.testing.assert_array_equal(again, best)


def test_random_ones_are_allowed_and_walk_from_a_start_where_hardly_any_is():
    rows = feasible(SPACE, 50, small, np.random.default_rng(0))
    assert rows.shape == (50, SPACE.n_sites)
    assert small(rows).all()

    start = np.zeros((1, SPACE.n_sites), dtype=np.int64)
    start[:, :3] = 2

    def rare(rows):
        return (rows[:, :-3] == start[:, :-3]).all(axis=1)

    with pytest.raises(InputError, match="random architectures meet the budget"):
        feasible(SPACE, 3, rare, np.random.default_rng(0))
    walked = feasible(SPACE, 30, rare, np.random.default_rng(0), start)
    assert rare(walked).all()
    assert len(np.unique(SPACE.keys(walked))) > 3


def test_a_generation_that_cannot_be_filled_is_refused():
    asked = []

    def at_first(rows):
        asked.append(len(rows))
        return np.full(len(rows), len(asked) == 1)

    with pytest.raises(InputError, match="only 0 of 4 children of a generation meet the budget"):
        evolve(SPACE, score, at_first, np.random.default_rng(0), Evolution(population=8, generations=1))
