"""A benchmark under a latency budget is the affordable part of it, wherever a benchmark is expected."""

import json
import pickle

import numpy as np
import pytest

from nasplug.benchmarks import Table, TableInfo, open_benchmark, write_table
from nasplug.benchmarks.base import Signal
from nasplug.benchmarks.budget import Budget
from nasplug.benchmarks.compare import Study, compare
from nasplug.benchmarks.search import Arena
from nasplug.benchmarks.summary import write_summary
from nasplug.cost_models.few_shot import FewShot
from nasplug.cost_models.lookup import Lookup
from nasplug.errors import DataError, InputError, UnknownNameError
from nasplug.spaces import DARTS, NASBench201

SPACE = NASBench201()


def latency(cells):
    return 2.0 + np.array([0.0, 0.1, 1.0, 2.0, 0.5])[cells].sum(axis=1)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Every second cell; the dearer the more accurate."""
    cells = SPACE.all()[::2]
    ms = latency(cells)
    columns = {"valid@3": ms / 100, "valid@12": ms / 50, "latency_ms": ms, "train_s@3": ms, "train_s@12": 4 * ms}
    info = TableInfo(SPACE.name, Signal("valid", 12), Signal("valid", 12), "made for tests", "none", ("Made up.",))
    path = tmp_path_factory.mktemp("budget") / "cells.arrow"
    write_table(Table(info, SPACE, cells, columns).to_arrow(), path)
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    cells = SPACE.sample_distinct(100, np.random.default_rng(0))
    path = tmp_path_factory.mktemp("model") / "lookup.npz"
    Lookup(space=SPACE).fit(cells, latency(cells), device="phone").save(path)
    return str(path)


@pytest.fixture(scope="module")
def few_shot(tmp_path_factory):
    """A model with a standard deviation, which a margin is made of."""
    cells = SPACE.sample_distinct(20, np.random.default_rng(0))
    path = tmp_path_factory.mktemp("model") / "few_shot.npz"
    FewShot(space=SPACE).fit(cells, latency(cells), device="phone").save(path)
    return str(path)


def test_labels_are_the_table_s_and_the_rest_is_of_the_part(table, model):
    whole, part = open_benchmark(table), Budget(6.0, model)(table)
    held = part.architectures()
    assert 0 < len(held) < len(whole.architectures())
    assert (part.cost.predict(held) <= 6.0).all()
    assert len(part.space.all()) > len(held)  # the model knows cells that the table does not
    for signal in (part.search, Signal("valid", 3), Signal("valid", 12, "one")):
        np.testing.assert_array_equal(part.labels(held, signal), whole.labels(held, signal))
        np.testing.assert_array_equal(part.cost_s(held, signal), whole.cost_s(held, signal))
    np.testing.assert_array_equal(part.seed_values(held, "valid", 3), whole.seed_values(held, "valid", 3))
    assert (part.search, part.report, part.continues) == (whole.search, whole.report, whole.continues)
    assert part.fidelities("valid") == (3, 12)
    assert (whole.costs(), part.costs()) == (
        ("latency_ms", "train_s"),
        ("predicted_latency_ms", "latency_ms", "train_s"),
    )
    np.testing.assert_array_equal(part.query(held, "predicted_latency_ms"), part.cost.predict(held))
    assert part.notes[:-1] == whole.notes
    assert "predicts within 6 ms" in part.notes[-1]


def test_what_tells_budgets_apart(table, few_shot):
    model = few_shot
    budgets = (Budget(6.0, model), Budget(7.0, model), Budget(6.0, model, 1.0))
    facts = [budget(table).provenance() for budget in budgets]
    assert len({open_benchmark(table).provenance()["checksum"], facts[0]["checksum"], facts[1]["checksum"]}) == 3
    about = facts[2]["latency_budget"]
    assert (about["max_latency_ms"], about["margin"], about["cost_model"]) == (6.0, 1.0, model)
    assert (about["model"], about["device"], about["fitted_on"]["measurements"]) == ("FewShot", "phone", 20)
    assert about["affordable"] == budgets[2](table).space.size < facts[0]["latency_budget"]["affordable"]
    assert "1 standard deviations kept from it" in budgets[2](table).notes[-1]
    assert pickle.loads(pickle.dumps(budgets[2])) == budgets[2]


def test_compare_under_a_budget(table, model, tmp_path):
    study = Study(benchmarks=[table], strategies=["random", "weaknas", "regularized-evolution"], seeds=2, budget=20)
    outcomes = [compare(study, tmp_path / str(jobs), jobs=jobs, opener=Budget(6.0, model)) for jobs in (1, 2)]
    assert [one.failures for one in outcomes] == [(), ()]
    assert (tmp_path / "1/results.parquet").read_bytes() == (tmp_path / "2/results.parquet").read_bytes()
    summary = write_summary(tmp_path / "1")
    about = summary["benchmarks"][table]
    held = Budget(6.0, model)(table).architectures()
    assert about["rows"] == len(held)
    assert about["optimum"] == pytest.approx(latency(held).max() / 50)
    assert about["random_mean"] == pytest.approx(latency(held).mean() / 50)
    assert about["latency_budget"]["max_latency_ms"] == 6.0
    assert json.dumps(summary["benchmarks"])
    assert compare(study, tmp_path / "1", opener=Budget(6.0, model)).computed == 0
    assert compare(study, tmp_path / "1", opener=Budget(7.0, model)).reused == 0


def test_what_no_benchmark_or_model_can_answer_is_refused(table, model, tmp_path):
    with pytest.raises(InputError, match="the cheapest found"):
        Budget(0.1, model)(table)
    with pytest.raises(
        InputError, match="Lookup predicts without a standard deviation, so a margin of 2 has no effect"
    ):
        Budget(6.0, model, 2.0)(table)
    with pytest.raises(UnknownNameError, match="latency_fridge_ms"):
        Budget(6.0, "latency_fridge_ms")(table)
    with pytest.raises(UnknownNameError):
        Budget(6.0, model)("no-such-table")
    other = tmp_path / "darts.npz"
    rows = DARTS().sample(200, np.random.default_rng(0))
    Lookup(space=DARTS()).fit(rows, 1.0 + (rows != 0).sum(axis=1)).save(other)
    with pytest.raises(DataError, match="darts"):
        Budget(6.0, str(other))(table)
    part = Budget(2.2, model)(table)
    few = len(part.architectures())
    with pytest.raises(InputError, match=f"more than the {few} architectures of '.* within 2.2 ms'"):
        Arena.of(part, budget=few + 1)


def test_a_benchmark_that_cannot_list_its_architectures(unlisted, monkeypatch, model):
    monkeypatch.setattr("nasplug.benchmarks.budget.open_benchmark", lambda name: unlisted)
    part = Budget(6.0, model)("unlisted")
    assert part.architectures() is None
    assert "checksum" in part.provenance()
