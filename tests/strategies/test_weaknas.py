import threading

import numpy as np
import pytest

from nasplug.errors import InputError
from nasplug.spaces import Categorical, Integer, NASBench201, ParameterSpace
from nasplug.strategies import History, Status, WeakNAS, WeakNASPaper, trial_rng
from nasplug.strategies.predictors import GaussianProcess, Ridge

SPACE = NASBench201()


def accuracy(genotypes):
    return (genotypes == 3).sum(axis=1) + 0.5 * (genotypes == 2).sum(axis=1) - (genotypes == 0).sum(axis=1)


def known(n, seed=0, space=SPACE):
    rows = space.sample_distinct(n, np.random.default_rng(seed))
    return History.empty(space).extended(rows, accuracy(rows).astype(float))


@pytest.fixture
def fits(monkeypatch):
    """Sizes of the fits made."""
    made = []
    plain = GaussianProcess.fit

    def fit(self, genotypes, targets, rng):
        made.append(len(genotypes))
        return plain(self, genotypes, targets, rng)

    monkeypatch.setattr(GaussianProcess, "fit", fit)
    return made


def test_no_refit_when_nothing_was_told(fits):
    strategy, history = WeakNAS(space=SPACE), known(30)
    for number in range(5):
        rows = strategy.propose(history, 1, trial_rng(0, number))
        history = history.extended(rows, np.array([np.nan]), Status.RUNNING)
    assert fits == [30]


def test_rounds_grow_with_the_history(fits):
    strategy, history = WeakNAS(space=SPACE), known(100)
    for number in range(12):
        rows = strategy.propose(history, 1, trial_rng(0, number))
        history = history.extended(rows, accuracy(rows))
    sizes = np.array(fits)
    assert (np.diff(sizes) >= 4).all()
    assert len(sizes) <= 4
    assert WeakNAS(space=SPACE)._refit_at(10) == 10  # every observation while there are few
    assert WeakNAS(space=SPACE, batch=10, initial=10)._refit_at(29) == 20


def test_the_design_comes_first_and_spreads(fits):
    strategy = WeakNAS(space=SPACE, initial=6)
    history = History.empty(SPACE)
    for number in range(6):
        rows = strategy.propose(history, 1, trial_rng(0, number))
        history = history.extended(rows, accuracy(rows))
    assert fits == []
    different = (history.genotypes[:, None] != history.genotypes[None]).sum(-1)[np.triu_indices(6, 1)]
    assert different.min() >= 4  # two random cells differ on 4.8 edges of 6, the closest of 15 pairs on 3 mostly


def test_pool_draws_are_uniform_over_the_best_predictions():
    history = known(20)
    strategy = WeakNASPaper(space=SPACE, predictor="ridge", pool=40, batch=5, initial=10)
    model = Ridge(SPACE)
    rng = np.random.default_rng(0)
    drawn = np.concatenate([strategy.propose(history, 1, trial_rng(s, 0)) for s in range(300)])
    from nasplug.strategies.targets import zscore

    predicted = model.fit(history.genotypes, zscore(history.values[:, 0]), rng).mean(SPACE.all())
    pool = np.argsort(-predicted)[:40]
    allowed = np.setdiff1d(SPACE.keys(SPACE.all()[pool]), history.keys)
    keys, counts = np.unique(SPACE.keys(drawn), return_counts=True)
    assert np.isin(keys, allowed).mean() > 0.9  # predictions that tie at the pool's edge may be taken either way
    assert len(keys) > 0.9 * len(allowed)
    assert counts.max() < 30  # 300 draws from about 35: 8.6 on average


def test_a_pool_without_a_whole_batch_goes_to_the_best_prediction():
    history = known(400)
    best = history.genotypes[np.argsort(-history.values[:, 0])[:30]]
    strategy = WeakNASPaper(space=SPACE, predictor="ridge", pool=1, batch=10, initial=10)
    first = strategy.propose(history, 1, trial_rng(0, 0))
    np.testing.assert_array_equal(first, strategy.propose(history, 1, trial_rng(1, 0)))  # nothing random about it
    assert accuracy(first)[0] >= accuracy(best).min()


def test_infeasible_regions_are_left():
    def violation(genotypes):  # more than two 3x3 convolutions are too slow
        return np.maximum((genotypes == 3).sum(axis=1) - 2.0, 0)

    strategy, history = WeakNAS(space=SPACE), History.empty(SPACE)
    for number in range(60):
        rows = strategy.propose(history, 1, trial_rng(0, number))
        history = history.extended(rows, accuracy(rows).astype(float), violation=violation(rows))
    best = max(accuracy(SPACE.all())[violation(SPACE.all()) == 0])
    assert history.values[history.best(), 0] == best
    assert (history.violation[30:] <= 0).mean() > 0.6


def test_what_is_predicted_infeasible_does_not_come_back():
    space = ParameterSpace([Integer("x", 0, 60)])
    strategy, history = WeakNAS(space=space), History.empty(space)
    for number in range(15):
        rows = strategy.propose(history, 1, trial_rng(0, number))
        history = history.extended(rows, rows[:, 0].astype(float), violation=np.maximum(rows[:, 0] - 30.0, 0))
    assert history.values[history.best(), 0] == 30  # without foresight it walks down from 60


def test_feasibility_is_sought_while_there_is_none():
    strategy, history = WeakNAS(space=SPACE), History.empty(SPACE)
    for number in range(40):
        rows = strategy.propose(history, 1, trial_rng(0, number))
        # Only the cell of six average pools is feasible; the objective pulls elsewhere.
        history = history.extended(rows, accuracy(rows).astype(float), violation=(rows != 4).sum(axis=1).astype(float))
    assert history.violation.min() <= 0


def test_two_objectives_spread_along_the_front():
    def values(genotypes):
        return np.stack([(genotypes == 3).sum(axis=1), (genotypes == 4).sum(axis=1)], axis=1).astype(float)

    strategy, history = WeakNAS(space=SPACE), History.empty(SPACE, 2)
    for number in range(70):
        rows = strategy.propose(history, 1, trial_rng(0, number))
        history = history.extended(rows, values(rows))
    found = {tuple(v) for v in history.values.tolist() if sum(v) == 6}
    assert len(found) >= 5  # of the 7 points of the true front


def test_pruned_values_are_hints_and_failures_are_avoided():
    history = known(20)
    rows = SPACE.sample_distinct(2, np.random.default_rng(5), history.keys)
    pruned = history.extended(rows[:1], np.array([1e9]), Status.PRUNED)
    proposed = WeakNAS(space=SPACE).propose(pruned, 1, trial_rng(0, 0))
    plain = history.extended(rows[:1], np.array([np.median(history.values)]))
    np.testing.assert_array_equal(proposed, WeakNAS(space=SPACE).propose(plain, 1, trial_rng(0, 0)))
    nothing_but = History.empty(SPACE).extended(SPACE.all()[:8], np.full(8, np.nan), Status.FAILED)
    assert len(WeakNAS(space=SPACE).propose(nothing_but, 2, trial_rng(0, 0))) == 2


@pytest.mark.parametrize("target", ["rank", "log-regret", "zscore"])
def test_a_constraint_that_failed_is_the_worst_of_all(target):
    violation = np.array([np.nan, *np.arange(1.0, 10.0)])
    history = History.empty(SPACE).extended(SPACE.all()[:10], np.arange(10.0), violation=violation)
    assert len(WeakNAS(space=SPACE, target=target).propose(history, 2, trial_rng(0, 10))) == 2
    assert history.best() == 1


def test_infinite_values_do_no_harm():
    history = known(10).extended(SPACE.all()[:2], np.array([-np.inf, np.inf]))
    assert len(WeakNAS(space=SPACE).propose(history, 3, trial_rng(0, 0))) == 3


@pytest.mark.parametrize("predictor", ["ridge", "gradient-boosting"])
@pytest.mark.parametrize("acquisition", ["ei", "pool"])
def test_predictors_and_acquisitions_combine(predictor, acquisition):
    strategy = WeakNAS(space=SPACE, predictor=predictor, acquisition=acquisition, batch=5)
    history = known(25)
    for number in range(6):
        rows = strategy.propose(history, 1, trial_rng(0, number))
        history = history.extended(rows, accuracy(rows))
    assert history.values[25:].max() > np.quantile(history.values[:25], 0.9)


def test_threads_share_one_strategy():
    strategy, history = WeakNAS(space=SPACE), known(40)
    expected = WeakNAS(space=SPACE).propose(history, 3, trial_rng(0, 0)).tolist()
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(strategy.propose(history, 3, trial_rng(0, 0)).tolist()))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [expected] * 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predictor": "gpp"}, "did you mean gp"),
        ({"target": "ranks"}, "did you mean rank"),
        ({"initial": 0}, "initial >= 1, got 0"),
        ({"batch": 0}, "batch >= 1, got 0"),
        ({"pool": -1}, "pool >= 1, got -1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        WeakNAS(space=SPACE, **options)


def test_paper_defaults():
    paper = WeakNASPaper(space=SPACE)
    assert (paper.predictor, paper.target, paper.acquisition) == ("mlp", "zscore", "pool")
    assert (paper.initial, paper.batch, paper.pool, paper.design) == (10, 10, 100, "uniform")


def test_a_space_with_one_architecture():
    space = ParameterSpace([Categorical("only", ("x",))])
    assert len(WeakNAS(space=space).propose(History.empty(space), 3, trial_rng(0, 0))) == 1
