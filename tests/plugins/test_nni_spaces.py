"""NNI's search spaces: of named spaces, of an experiment's own, and with nested choices."""

import json
from typing import Any

import numpy as np
import pytest

from nasplug import registry
from nasplug.errors import InputError
from nasplug.plugins.nni.nested import NestedSpace
from nasplug.plugins.nni.spaces import check_search_space, experiment_space, search_space
from nasplug.spaces import Categorical, Float, Integer, ParameterSpace
from nasplug.strategies import History, trial_rng

FOUND: dict[str, Any] = {
    "depth": {"_type": "randint", "_value": [0, 2]},
    "opt": {
        "_type": "choice",
        "_value": [
            {"_name": "sgd", "momentum": {"_type": "quniform", "_value": [0, 1, 0.25]}},
            {
                "_name": "adam",
                "rate": {"_type": "choice", "_value": [1, 2, {"a": [1]}]},
                "deep": {
                    "_type": "choice",
                    "_value": [{"_name": "x"}, {"_name": "y", "z": {"_type": "randint", "_value": [0, 3]}}],
                },
            },
        ],
    },
}
CONFIGURATIONS = 2 * (5 + 3 * (1 + 3))


def nested() -> NestedSpace:
    space = experiment_space(FOUND)
    assert isinstance(space, NestedSpace)
    return space


@pytest.mark.parametrize("name", registry.names("space"))
def test_every_named_space_is_written_and_known_again(name: str) -> None:
    space = registry.configure("space", name)
    written = json.loads(json.dumps(search_space(space)))
    assert list(written) == [p.name for p in space.parameters]
    check_search_space(space, name, written)
    own = experiment_space(written)
    params = space.to_params(space.sample(20, np.random.default_rng(0)))
    assert own.to_params(own.from_params(params)) == [dict(sorted(one.items())) for one in params]


def test_numbers_are_written_as_the_type_that_nni_has() -> None:
    space = ParameterSpace(
        [
            Integer("units", 2, 9),
            Float("rate", 0.1, 1.0, log=True),
            Float("drop", 0.0, 0.5),
            Integer("width", 8, 64, log=True),
            Float("step", 0.1, 0.5, step=0.2),
            Categorical("act", ("relu", None, True)),
        ]
    )
    written = search_space(space)
    assert [spec["_type"] for spec in written.values()] == [
        "randint", "loguniform", "uniform", "choice", "choice", "choice",
    ]  # fmt: skip
    assert written["units"]["_value"] == [2, 10]
    assert written["width"]["_value"] == list(range(8, 65))
    check_search_space(space, "mine", written)
    with pytest.raises(InputError, match="5000 values are too many"):
        search_space(ParameterSpace([Integer("x", 1, 5000, log=True)]))


def test_values_count_as_nnis_manager_writes_them() -> None:
    """It is JavaScript: 2.0 becomes 2 on the way to the tuner."""
    space = ParameterSpace([Categorical("x", (1.0, 2.0)), Float("y", 0.0, 1.0)])
    found = {"x": {"_type": "choice", "_value": [2, 1]}, "y": {"_type": "uniform", "_value": [0, 1]}}
    check_search_space(space, "mine", found)


def test_the_same_parameters_as_in_an_optuna_study_are_an_equal_space() -> None:
    optuna = pytest.importorskip("optuna")
    from nasplug.plugins.optuna.spaces import StudySpace

    found = {
        "width": {"_type": "randint", "_value": [1, 6]},
        "rate": {"_type": "loguniform", "_value": [1e-4, 1e-1]},
        "act": {"_type": "choice", "_value": ["relu", "tanh"]},
        "drop": {"_type": "quniform", "_value": [0.0, 0.5, 0.1]},
    }
    study = StudySpace.of(
        {
            "act": optuna.distributions.CategoricalDistribution(["relu", "tanh"]),
            "rate": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True),
            "width": optuna.distributions.IntDistribution(1, 5),
            "drop": optuna.distributions.FloatDistribution(0.0, 0.5, step=0.1),
        }
    )
    assert study is not None
    assert experiment_space(found) == study.space


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1, 0.25], [0, 0.25, 0.5, 0.75, 1]),
        ([0.1, 1, 0.4], [0.4, 0.8]),  # NNI would add the ends 0.1 and 1
        ([-1, 1, 1], [-1, 0, 1]),
        ([2, 2, 2], [2]),
        ([0, 0.3, 0.1], [0, 0.1, 0.2, 0.3]),
    ],
)
def test_quniform_takes_the_multiples_in_its_range(values: list[float], expected: list[float]) -> None:
    space = experiment_space({"x": {"_type": "quniform", "_value": values}})
    assert [one["x"] for one in space.to_params(space.all())] == pytest.approx(expected)


def test_a_choice_may_hold_any_json() -> None:
    values = [1, "1", True, None, 1.5, [3, 3], {"a": 1}]
    space = experiment_space({"x": {"_type": "choice", "_value": values}})
    assert [one["x"] for one in space.to_params(space.all())] == values
    assert space.from_params([{"x": value} for value in values])[:, 0].tolist() == list(range(7))


# -- nested choices --------------------------------------------------------------------------------------------------


def test_every_configuration_once() -> None:
    space = nested()
    params = space.to_params(space.all())
    assert space.size == len(params) == len({json.dumps(one) for one in params}) == CONFIGURATIONS
    assert space.from_params(params).tolist() == space.all().tolist()
    assert space.from_string(space.to_string(space.all())).tolist() == space.all().tolist()
    assert {"depth": 1, "opt": {"_name": "adam", "deep": {"_name": "y", "z": 2}, "rate": {"a": [1]}}} in params
    assert {"depth": 0, "opt": {"_name": "sgd", "momentum": 0.25}} in params


def test_moves_stay_among_the_configurations() -> None:
    space, rng = nested(), np.random.default_rng(0)
    rows = space.sample(400, rng)
    assert space.valid(rows).all()
    assert len(np.unique(space.keys(rows))) == CONFIGURATIONS
    for moved in (space.mutate(rows, rng), space.mutate(np.repeat(space.all(), 5, axis=0), rng)):
        assert space.valid(moved).all()
    assert (space.mutate(rows, rng) != rows).any(axis=1).all()
    assert space.valid(space.crossover(rows, rows[::-1], rng)).all()
    for row in space.all():
        near = space.neighbors(row)
        assert space.valid(near).all()
        assert len(np.unique(space.keys(near))) == len(near)
        assert not (near == row).all(axis=1).any()
    assert np.array_equal(space.canonical(rows), space.keys(rows))


def test_what_comes_into_being_is_drawn_from_its_prior() -> None:
    space, rng = nested(), np.random.default_rng(0)
    sgd = space.from_params([{"depth": 0, "opt": {"_name": "sgd", "momentum": 0.5}}])
    rates = [
        str(one["opt"]["rate"])
        for one in space.to_params(space.mutate(np.repeat(sgd, 400, axis=0), rng))
        if "rate" in one["opt"]
    ]
    assert min(rates.count(rate) for rate in ("1", "2", "{'a': [1]}")) > 0.2 * len(rates)


def test_too_many_configurations_are_not_listed() -> None:
    wide = {"_type": "choice", "_value": [{"_name": "a", "x": {"_type": "uniform", "_value": [0, 1]}}, {"_name": "b"}]}
    space = experiment_space({"p": wide, "q": wide})
    assert space.size == (2**20 + 2) ** 2
    assert not space.enumerable
    with pytest.raises(InputError, match="too many configurations"):
        space.all()


@pytest.mark.parametrize("strategy", ["random", "regularized-evolution", "local-search", "weaknas"])
def test_every_strategy_searches_a_nested_space_to_its_end(strategy: str) -> None:
    space = nested()
    made, history = registry.configure("strategy", strategy, space), History.empty(space)
    for number in range(CONFIGURATIONS):
        rows = made.propose(history, 1, trial_rng(0, number))
        assert space.valid(rows).all()
        history = history.extended(rows, rows.sum(axis=1).astype(float))
    assert len(np.unique(history.keys)) == CONFIGURATIONS


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"depth": 0}, "'opt' is missing"),
        ({"depth": 0, "opt": "sgd"}, "expects {'_name': ...}"),
        ({"depth": 0, "opt": {"_name": "sgd"}}, "'opt/sgd/momentum' is missing"),
        ({"depth": 0, "opt": {"_name": "lion"}}, "unknown choice of 'opt'"),
        ({"depth": 5, "opt": {"_name": "sgd", "momentum": 0}}, "lies in"),
    ],
)
def test_parameters_that_are_none_of_a_nested_space_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        nested().from_params([params])
