"""Any history over any space, whatever its numbers: strategies propose valid, new architectures and do not complain."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasplug import registry
from nasplug.errors import SpaceExhaustedError
from nasplug.spaces import Categorical, Float, Integer, NASBench201, ParameterSpace, Space
from nasplug.strategies import History, Status, Strategy, trial_rng

SPECS = (
    "random",
    "regularized-evolution:population=5",
    "local-search",
    "ofa-evolution:population=4",
    "weaknas",
    "weaknas-paper:predictor=ridge",
)


def _parameter(name: str) -> st.SearchStrategy[Categorical | Float | Integer]:
    low = st.integers(-9, 9)
    return st.one_of(
        st.builds(Categorical, st.just(name), st.integers(1, 6).map(lambda n: tuple(range(n)))),
        st.builds(lambda a, n: Integer(name, a, a + n), low, st.integers(0, 400)),
        st.builds(lambda n: Integer(name, 1, 1 + n, log=True), st.integers(0, 10**6)),
        st.builds(lambda a: Float(name, a, a + 1.5), low),
        st.builds(lambda n: Float(name, 0.0, n / 10, step=0.1), st.integers(0, 12)),
    )


SPACES: st.SearchStrategy[Space] = st.one_of(
    st.integers(1, 5)
    .flatmap(lambda n: st.tuples(*[_parameter(f"p{i}") for i in range(n)]))
    .map(lambda parameters: ParameterSpace(list(parameters))),
    st.just(NASBench201()),
)
NUMBERS = st.floats(allow_nan=False) | st.floats(0, 1) | st.just(0.5)
ROWS = st.tuples(st.sampled_from(Status), NUMBERS, st.floats() | st.just(0.0), st.integers(0, 2**63))


@st.composite
def histories(draw: st.DrawFn, objectives: int = 1) -> History:
    """Draw up to 40 rows over one of :data:`SPACES`; rows may repeat, which parallel workers can bring about."""
    space = draw(SPACES)
    history = History.empty(space, objectives)
    for status, value, violation, seed in draw(st.lists(ROWS, max_size=40)):
        known = status in (Status.OK, Status.PRUNED)
        more = [draw(NUMBERS) for _ in range(objectives - 1)]
        values = np.array([[value, *more]]) if known else np.full((1, objectives), np.nan)
        row = space.sample(1, np.random.default_rng(seed))
        history = history.extended(row, values, status, np.array([violation]))
    return history


def proposed(strategy: Strategy, history: History, n: int, seed: int) -> None:
    """Propose, and check what every proposal promises."""
    space = history.space
    left = space.size - len(np.unique(history.keys)) if space.enumerable else None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            rows = strategy.propose(history, n, trial_rng(seed, len(history)))
        except SpaceExhaustedError:
            assert left == 0
            return
    assert left != 0
    assert space.valid(rows).all()
    keys = space.keys(rows)
    assert len(np.unique(keys)) == len(keys)
    assert not np.isin(keys, history.keys).any()
    assert len(rows) == (n if left is None else min(n, left))


@pytest.mark.parametrize("spec", SPECS)
@settings(max_examples=25)
@given(history=histories(), n=st.integers(1, 9), seed=st.integers(0, 99))
def test_any_history(spec: str, history: History, n: int, seed: int) -> None:
    strategy: Strategy = registry.configure("strategy", spec, history.space)
    proposed(strategy, history, n, seed)
    if history.finished.any():
        assert history.space.valid(strategy.recommend(history)[None]).all()


@settings(max_examples=25)
@given(history=histories(objectives=2), n=st.integers(1, 5), seed=st.integers(0, 99))
def test_any_history_of_two_objectives(history: History, n: int, seed: int) -> None:
    proposed(registry.configure("strategy", "weaknas", history.space), history, n, seed)
