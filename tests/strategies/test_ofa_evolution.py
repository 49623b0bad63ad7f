"""Once-for-all's evolution: who becomes a parent, and what its children are."""

import numpy as np
import pytest

from nasplug.errors import InputError
from nasplug.spaces import OFAMobileNetV3
from nasplug.strategies import History, Status
from nasplug.strategies.ofa_evolution import OFAEvolution

SPACE = OFAMobileNetV3()


def history(n: int, seed: int = 0) -> History:
    rng = np.random.default_rng(seed)
    rows = SPACE.sample(n, rng)
    return History.empty(SPACE).extended(rows, rng.random(n))


def test_crossed_children_take_every_site_from_the_best_quarter():
    """Without mutants, a site's codes are those of parents: the best 25 of 130 but the unfinished generation's."""
    known = history(130)
    strategy = OFAEvolution(space=SPACE, mutants=0.0)
    children = strategy.propose(known, 50, np.random.default_rng(1))
    best = known.genotypes[np.argsort(-known.values[:100, 0])[:25]]
    depths = [np.unique(best[:, site]) for site in range(5)]
    assert all(np.isin(children[:, site], depths[site]).all() for site in range(5))
    assert np.isin(children[:, -1], best[:, -1]).all()
    assert not np.isin(known.genotypes[:100, -1], best[:, -1]).all()


def test_mutants_come_first_and_keep_most_sites():
    known = history(100)
    strategy = OFAEvolution(space=SPACE, parents=0.01)
    (parent,) = known.genotypes[[int(np.argmax(known.values[:, 0]))]]
    mutants = strategy._children(known, np.arange(100, 150), np.random.default_rng(0))
    changed = (mutants != parent).sum(axis=1)
    assert 1 < changed.mean() < 8
    crossed = strategy._children(known, np.arange(150, 200), np.random.default_rng(0))
    np.testing.assert_array_equal(crossed, np.repeat(parent[None], 50, axis=0))
    children = strategy.propose(known, 100, np.random.default_rng(0))  # crossing one parent gives nothing new
    assert len(np.unique(SPACE.keys(children))) == 100


def test_the_elite_survives_generations():
    """The best of the first generation is still a parent after poorer ones."""
    known = history(100)
    worse = SPACE.sample(300, np.random.default_rng(5))
    known = known.extended(worse, np.full(300, -1.0))
    best = known.genotypes[np.argsort(-known.values[:100, 0])[:25]]
    children = OFAEvolution(space=SPACE, mutation=0.0)._children(known, np.arange(400, 450), np.random.default_rng(2))
    assert np.isin(SPACE.keys(children), SPACE.keys(best)).all()


def test_infeasible_and_failed_are_no_parents():
    rows = SPACE.sample(100, np.random.default_rng(0))
    violation = np.where(np.arange(100) < 90, 1.0, 0.0)
    known = History.empty(SPACE).extended(rows[:95], np.arange(95)[::-1].astype(float), violation=violation[:95])
    known = known.extended(rows[95:], np.full(5, np.nan), Status.FAILED)
    children = OFAEvolution(space=SPACE, mutation=0.0)._children(known, np.arange(100, 140), np.random.default_rng(0))
    assert np.isin(SPACE.keys(children), SPACE.keys(rows[90:95])).all()


def test_the_first_population_is_random():
    strategy = OFAEvolution(space=SPACE)
    assert len(strategy.propose(history(60), 40, np.random.default_rng(0))) == 40
    none = History.empty(SPACE).extended(
        SPACE.sample(100, np.random.default_rng(0)), np.full(100, np.nan), Status.FAILED
    )
    assert len(strategy.propose(none, 5, np.random.default_rng(0))) == 5


@pytest.mark.parametrize("options", [{"parents": 0.001}, {"population": 0}, {"mutants": 1.5}, {"mutation": -0.1}])
def test_bad_options(options):
    with pytest.raises(InputError, match="ofa-evolution expects"):
        OFAEvolution(space=SPACE, **options)
