"""Options as people type them, sound or not: a plugin that takes them works with them, else it says what is wrong."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nasplug import registry
from nasplug.errors import NasplugError
from nasplug.registry import Spec, names, option_defaults
from nasplug.spaces import Categorical, Float, Integer, ParameterSpace
from nasplug.strategies import History, Status, trial_rng

SPACE = ParameterSpace([Categorical("a", tuple(range(5))), Integer("b", 0, 9), Float("c", 0.0, 1.0)])
STRATEGIES = ("random", "regularized-evolution", "local-search", "ofa-evolution", "weaknas", "weaknas-paper")
SCALARS = st.one_of(
    st.integers(-2, 12),
    st.floats(-2.0, 2.0),
    st.sampled_from([float("nan"), float("inf"), 1e-300, "", "ridge", "gp", "x", None, True, False]),
)


def refused(role: str, spec: Spec | str, *fixed: object) -> str | None:
    """Return what is said of a spec that is refused."""
    try:
        registry.configure(role, spec, *fixed)
    except NasplugError as error:
        return str(error)
    return None


@given(st.text(max_size=40))
def test_any_text_is_a_spec_or_refused(text: str) -> None:
    try:
        spec = Spec.parse(text)
    except NasplugError:
        return
    assert spec.name
    assert spec.name == spec.name.strip()


TEXTS = st.text("abcdeginrstw-:=,.0123456789[]{}&*!", max_size=30)


@given(role=st.sampled_from(["space", "strategy", "cost model"]), text=TEXTS)
@example(role="strategy", text="a=2001-99-99")
@example(role="strategy", text="a=" + "[" * 5000)
def test_any_text_configures_or_is_refused(role: str, text: str) -> None:
    with pytest.raises(NasplugError):
        registry.configure(role, f"no-{text}")
    name = names(role)[len(text) % len(names(role))]
    error = refused(role, f"{name}:{text}", *([SPACE] if role != "space" else []))
    assert error is None or "\n" not in error


@pytest.mark.parametrize("name", STRATEGIES)
@settings(max_examples=25)
@given(data=st.data())
def test_options_that_are_taken_work(name: str, data: st.DataObject) -> None:
    known = sorted(option_defaults("strategy", name))
    if not known:
        return
    chosen = data.draw(st.dictionaries(st.sampled_from(known), SCALARS, min_size=1, max_size=3))
    if (error := refused("strategy", Spec(name, (), chosen), SPACE)) is not None:
        assert any(option in error for option in chosen)
        return
    strategy = registry.configure("strategy", Spec(name, (), chosen), SPACE)
    rng = np.random.default_rng(0)
    history = History.empty(SPACE).extended(SPACE.sample_distinct(25, rng), rng.random(25))
    history = history.extended(SPACE.sample_distinct(2, rng, history.keys), np.full(2, np.nan), Status.FAILED)
    rows = strategy.propose(history, 2, trial_rng(0, 27))
    assert SPACE.valid(rows).all()
    assert not np.isin(SPACE.keys(rows), history.keys).any()
