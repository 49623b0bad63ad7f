"""What is particular to evolution and local search."""

import numpy as np
import pytest

from nasplug.errors import InputError
from nasplug.spaces import NASBench201
from nasplug.strategies import History, LocalSearch, RegularizedEvolution, Status, trial_rng

SPACE = NASBench201()


def test_evolution_forgets_all_but_the_latest():
    rows = SPACE.sample_distinct(30, np.random.default_rng(0))
    values = np.arange(30.0)[::-1].copy()  # the best are the oldest
    history = History.empty(SPACE).extended(rows, values)
    strategy = RegularizedEvolution(space=SPACE, population=5, tournament=5)
    for seed in range(20):
        child = strategy.propose(history, 1, trial_rng(seed, 0))[0]
        assert (child != rows[25]).sum() == 1  # the best of the last five, changed at one edge


def test_evolution_counts_only_what_finished():
    rows = SPACE.sample_distinct(9, np.random.default_rng(0))
    history = History.empty(SPACE).extended(rows, np.full(9, np.nan), Status.FAILED)
    assert len(RegularizedEvolution(space=SPACE, population=5).propose(history, 2, trial_rng(0, 0))) == 2


def test_evolution_refuses_a_tournament_above_the_population():
    with pytest.raises(InputError, match="1 <= tournament <= population, got 6 and 5"):
        RegularizedEvolution(space=SPACE, population=5, tournament=6)


def test_local_search_tries_the_neighbours_of_the_best_then_of_the_next():
    rows = SPACE.sample_distinct(10, np.random.default_rng(0))
    history = History.empty(SPACE).extended(rows, np.arange(10.0))
    near = {tuple(row) for row in SPACE.neighbors(rows[9]).tolist()} - {tuple(row) for row in rows.tolist()}
    proposed = LocalSearch(space=SPACE).propose(history, len(near) + 3, trial_rng(0, 0)).tolist()
    assert {tuple(row) for row in proposed[: len(near)]} == near
    second = {tuple(row) for row in SPACE.neighbors(rows[8]).tolist()}
    assert {tuple(row) for row in proposed[len(near) :]} <= second


def test_local_search_refuses_an_empty_start():
    with pytest.raises(InputError, match="initial >= 1, got 0"):
        LocalSearch(space=SPACE, initial=0)
