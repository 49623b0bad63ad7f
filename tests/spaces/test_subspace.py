"""Part of a space: everything that is proposed is allowed, and the rest is the space's own."""

import pickle

import numpy as np
import pytest

from nasplug import registry
from nasplug.errors import InputError, SpaceExhaustedError
from nasplug.spaces import DARTS, Categorical, NASBench201, ParameterSpace
from nasplug.spaces.subspace import Subspace
from nasplug.strategies import History, trial_rng

RNG = np.random.default_rng


def few_convolutions(genotypes):
    return (genotypes == 3).sum(axis=1) + (genotypes == 2).sum(axis=1) <= 1


@pytest.fixture(scope="module")
def part():
    return Subspace(NASBench201(), few_convolutions, "at most one convolution")


def test_it_lists_what_is_allowed(part):
    whole = NASBench201()
    assert part.size == few_convolutions(whole.all()).sum() == len(part.all())
    np.testing.assert_array_equal(part.all(), whole.all()[few_convolutions(whole.all())])
    np.testing.assert_array_equal(part.index(part.all()), np.arange(part.size))
    assert part.valid(whole.all()).sum() == part.size


def test_samples_and_moves_are_allowed(part):
    some = part.sample(300, RNG(0))
    moved = part.mutate(some, RNG(1))
    assert part.valid(some).all()
    assert part.valid(moved).all()
    assert ((moved != some).sum(axis=1) == 1).all()
    assert part.valid(part.crossover(some[:100], some[100:200], RNG(2))).all()
    assert part.valid(part.resample(some, 0.5, RNG(3))).all()
    near = part.neighbors(some[0])
    assert len(near)
    assert part.valid(near).all()
    assert part.valid(part.representative(some)).all()


def test_samples_of_a_listed_part_are_uniform():
    part = Subspace(NASBench201(), lambda g: g[:, 0] + g[:, 1] + g[:, 2] == 0, "three edges are none")
    counts = np.bincount(part.index(part.sample(12_500, RNG(0))), minlength=part.size)
    assert part.size == 125
    assert abs(counts - 100).max() < 60  # six standard deviations


def test_a_rare_part_of_a_large_space_is_walked(monkeypatch):
    whole = DARTS()
    known = np.tile(whole.sample(1, RNG(0)), (4, 1))
    anchor = known[0]

    def close(genotypes):
        return (genotypes != anchor).sum(axis=1) <= 6

    part = Subspace(whole, close, "near one cell", known)
    some = part.sample(50, RNG(1))
    assert close(some).all()
    assert len(np.unique(some, axis=0)) > 25
    assert part.size == whole.size


def test_a_rare_part_is_not_looked_for_in_the_whole_space():
    whole, asked = DARTS(), [0]
    known = whole.sample(1, RNG(0))

    def close(genotypes):
        asked[0] += len(genotypes)
        return (genotypes != known[0]).sum(axis=1) <= 6

    part = Subspace(whole, close, "near one cell", known)
    part.sample(1, RNG(1))  # finds out that it is rare
    asked[0] = 0
    part.sample(100, RNG(1))
    assert asked[0] < 100 * 40


def test_words_and_encodings_are_the_space_s_own(part):
    whole, some = NASBench201(), part.all()[:20]
    assert part.to_string(some) == whole.to_string(some)
    np.testing.assert_array_equal(part.from_string(whole.to_string(some)), some)
    assert part.to_params(some) == whole.to_params(some)
    np.testing.assert_array_equal(part.from_params(whole.to_params(some)), some)
    np.testing.assert_array_equal(part.canonical(some), whole.canonical(some))
    np.testing.assert_array_equal(part.keys(some), whole.keys(some))
    assert part.encodings == whole.encodings
    for kind in part.encodings:
        np.testing.assert_array_equal(part.encode(some, kind), whole.encode(some, kind))


def test_parts_by_different_rules_are_different_spaces(part):
    other = Subspace(NASBench201(), few_convolutions, "another text")
    again = Subspace(NASBench201(), few_convolutions, "at most one convolution")
    assert part != other
    assert part == again
    assert hash(part) == hash(again)
    assert pickle.loads(pickle.dumps(part)) == part


def test_nothing_allowed_is_refused():
    with pytest.raises(InputError, match="no architecture of 'nasbench201' is allowed where never"):
        Subspace(NASBench201(), lambda g: np.zeros(len(g), bool), "never")
    with pytest.raises(InputError, match="no architecture of 'darts' is allowed where never"):
        Subspace(DARTS(), lambda g: np.zeros(len(g), bool), "never", DARTS().sample(3, RNG(0)))


def test_it_is_exhausted_when_all_that_is_allowed_is_taken():
    whole = ParameterSpace([Categorical("a", tuple(range(9))), Categorical("b", tuple(range(9)))])
    part = Subspace(whole, lambda g: g[:, 0] == g[:, 1], "a is b")
    assert part.size == 9
    assert len(part.sample_distinct(9, RNG(0))) == 9
    with pytest.raises(SpaceExhaustedError):
        part.sample_distinct(1, RNG(0), part.keys(part.all()))


@pytest.mark.parametrize("name", ["random", "regularized-evolution", "local-search", "weaknas", "optuna:tpe"])
def test_strategies_search_it_as_any_space(part, name):
    if name.startswith("optuna"):
        pytest.importorskip("optuna")
    strategy = registry.configure("strategy", name, part)
    history = History.empty(part)
    for number in range(40):
        proposed = strategy.propose(history, 1, trial_rng(0, number))
        assert part.valid(proposed).all()
        history = history.extended(proposed, -np.abs(proposed - 1).sum(axis=1))
    assert len(np.unique(history.keys)) == 40
