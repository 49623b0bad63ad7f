"""Strategies that stop trainings early: what they see, what they pay, and what a comparison makes of it."""

import dataclasses
import json
import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest

from nasplug import registry
from nasplug.benchmarks.base import Signal
from nasplug.benchmarks.catalog import open_benchmark
from nasplug.benchmarks.compare import Study, compare
from nasplug.benchmarks.meter import Meter
from nasplug.benchmarks.search import search
from nasplug.benchmarks.summary import summarise, write_summary
from nasplug.benchmarks.table import TableBenchmark
from nasplug.errors import InputError, UnknownNameError
from nasplug.strategies import RandomSearch, Status

LENGTHS = (1, 2, 3, 4, 5, 6)
HYPERBAND = "optuna:tpe+hyperband"


@dataclass(frozen=True, kw_only=True)
class Halving(RandomSearch):
    """Random search that goes on with the better half of what was looked at after as many epochs: no state at all."""

    @property
    def stops_early(self) -> bool:
        return True

    def stops(self, history, row):
        seen = np.flatnonzero(~np.isnan(history.curves[row]))[-1]
        return history.curves[row, seen] < np.nanmedian(history.curves[:, seen])


@dataclass(frozen=True, kw_only=True)
class Patient(RandomSearch):
    """Looks at every epoch and never stops."""

    @property
    def stops_early(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    load, ours = registry.load, {"halving": Halving, "patient": Patient}
    monkeypatch.setattr(
        registry, "load", lambda role, name: ours[name] if role == "strategy" and name in ours else load(role, name)
    )


@pytest.fixture
def curves(curve_table):
    return open_benchmark(str(curve_table))


def separate(benchmark: TableBenchmark, without: str = "nothing") -> TableBenchmark:
    """The same labels as trainings of their own, without some columns."""
    table = benchmark.table()
    columns = {name: values for name, values in table.columns.items() if not name.startswith(without)}
    return TableBenchmark(
        "separate", replace(table, info=replace(table.info, continues=False), columns=columns).to_arrow()
    )


# -- what a benchmark holds ------------------------------------------------------------------------------------------


def test_fidelities_are_the_lengths_of_a_metric(curves, small_table, unlisted):
    assert curves.fidelities("valid") == LENGTHS
    assert curves.continues
    one = open_benchmark(str(small_table))
    assert (one.fidelities("valid"), one.continues) == ((12,), False)
    assert unlisted.fidelities("valid") == ()
    with pytest.raises(UnknownNameError, match="did you mean valid"):
        curves.fidelities("vald")


def test_that_lengths_are_one_training_is_kept_in_the_file(curves):
    table = curves.table()
    assert table.info.continues
    assert TableBenchmark("again", table.to_arrow()).info == table.info
    assert not separate(curves).continues
    assert separate(curves).checksum == TableBenchmark("again", table.to_arrow()).checksum  # it is no label


# -- the meter -------------------------------------------------------------------------------------------------------


def test_a_training_is_sold_by_instalments(curves):
    meter = Meter(curves, curves.search, 10, run=1, lengths=LENGTHS)
    cells = curves.space.all()
    mean_s = 6 * (10.0 + cells.sum(axis=1)).mean()
    looks = []
    whole = meter.buy(cells[100], lambda curve: looks.append(curve) or False)
    valid = [curves.query(cells[100:101], "valid", epochs=e, seed=1)[0] for e in LENGTHS]
    assert (whole.status, whole.epochs, whole.value, list(whole.curve)) == (Status.OK, 6, valid[-1], valid)
    assert whole.cost_s == 6 * (10 + cells[100].sum())
    assert meter.spent == pytest.approx(whole.cost_s / mean_s)
    assert len(looks) == 5  # the last value is final: there is nothing left to stop
    for k, curve in enumerate(looks):
        np.testing.assert_array_equal(curve, [*valid[: k + 1], *[np.nan] * (5 - k)])
    before = meter.spent
    stopped = meter.buy(cells[7], lambda curve: not math.isnan(curve[2]))
    assert (stopped.status, stopped.epochs) == (Status.PRUNED, 3)
    assert stopped.value == stopped.curve[2] == curves.query(cells[7:8], "valid", epochs=3, seed=1)[0]
    assert stopped.cost_s == 3 * (10 + cells[7].sum())
    assert meter.spent == pytest.approx(before + stopped.cost_s / mean_s)


def test_what_a_strategy_does_to_a_curve_changes_nothing(curves):
    def spoil(curve):
        curve[:] = 1.0
        return False

    bought = Meter(curves, curves.search, 2, lengths=LENGTHS).buy(curves.space.all()[3], spoil)
    assert max(bought.curve) < 1


def test_trainings_of_their_own_are_paid_one_by_one(curves):
    benchmark = separate(curves)
    meter = Meter(benchmark, benchmark.search, 10, lengths=LENGTHS)
    cell = benchmark.space.all()[100]
    bought = meter.buy(cell)
    assert bought.cost_s == (1 + 2 + 3 + 4 + 5 + 6) * (10 + cell.sum())
    assert meter.spent == pytest.approx(bought.cost_s / (6 * (10.0 + benchmark.space.all().sum(axis=1)).mean()))


@pytest.mark.parametrize(("continues", "price"), [(True, 4 / 6), (False, 10 / 6)])
def test_without_seconds_epochs_are_the_price(curves, continues, price, monkeypatch):
    benchmark = separate(curves, without="train_s")
    benchmark.continues = continues
    meter = Meter(benchmark, benchmark.search, 10, lengths=LENGTHS)
    bought = meter.buy(benchmark.space.all()[100], lambda curve: not math.isnan(curve[3]))
    assert meter.spent == pytest.approx(price)
    assert math.isnan(bought.cost_s)
    monkeypatch.setattr(curves, "architectures", lambda: None)  # seconds are known only after each training
    curves.continues = continues
    meter = Meter(curves, curves.search, 10, lengths=LENGTHS)
    cell = curves.space.all()[100]
    bought = meter.buy(cell, lambda curve: not math.isnan(curve[3]))
    assert meter.spent == pytest.approx(price)
    assert bought.cost_s == (4 if continues else 10) * (10 + cell.sum())


def test_the_end_of_the_budget_cuts_a_training_off(curves):
    meter = Meter(curves, curves.search, 1, lengths=LENGTHS)
    slow = curves.space.all()[-1]  # 34 seconds an epoch, of 22 on average
    cut = meter.buy(slow)
    assert (cut.status, cut.epochs, cut.cost_s) == (Status.PRUNED, 3, 3 * 34)
    assert meter.spent == 1
    with pytest.raises(InputError, match="budget of 1 queries is spent"):
        meter.buy(slow)


def test_a_training_may_not_get_to_its_first_look(curves):
    meter = Meter(curves, curves.search, 1, lengths=LENGTHS)
    while meter.spent < 1:
        last = meter.buy(curves.space.all()[-1], lambda curve: not math.isnan(curve[2]))
    assert (last.status, last.epochs, last.cost_s) == (Status.PRUNED, None, 0.0)
    assert math.isnan(last.value)


def test_failures_are_charged(curves, partial_table, monkeypatch):
    partial = open_benchmark(str(partial_table))
    meter = Meter(partial, partial.search, 2, lengths=(12,))
    assert meter.buy(partial.space.all()[1]).status == Status.FAILED  # not held
    assert meter.spent == 1
    diverged = curves.labels

    def labels(rows, signal, run):
        return np.full(len(rows), np.nan) if signal.epochs == 3 else diverged(rows, signal, run)

    monkeypatch.setattr(curves, "labels", labels)
    meter = Meter(curves, curves.search, 2, lengths=LENGTHS)
    failed = meter.buy(curves.space.all()[0])
    assert (failed.status, failed.epochs, failed.cost_s) == (Status.FAILED, 3, 30.0)
    assert meter.spent == pytest.approx(30 / (6 * 22))


# -- the search ------------------------------------------------------------------------------------------------------


def steps(benchmark, spec, budget=20, seed=0):
    strategy = registry.configure("strategy", spec, benchmark.space)
    return list(search(strategy, benchmark, benchmark.search, budget=budget, seed=seed))


def test_a_strategy_sees_curves_and_spends_the_seconds_of_whole_evaluations(curves):
    halving, whole = steps(curves, "halving"), steps(curves, "random")
    observations = [step.observation for step in halving]
    assert len(halving) > 1.5 * len(whole) == 30
    assert halving[-1].spent == 20
    mean_s = curves.cost_s(curves.architectures(), curves.search).mean()
    assert 0.97 * 20 * mean_s < sum(o.cost_s for o in observations) <= 20 * mean_s
    assert {o.status for o in observations} == {Status.OK, Status.PRUNED}
    epochs = [o.epochs for o in observations if o.status == Status.PRUNED]
    assert len(set(epochs)) > 2
    # Both draw the same architectures; here those that look bad early are not trained to the end.
    assert [o.genotype for o in observations[:20]] == [step.observation.genotype for step in whole]
    finished = np.mean([o.value for o in observations if o.status == Status.OK])
    assert finished > np.mean([step.observation.value for step in whole])


def test_a_search_that_stops_early_is_a_function_of_its_seed_and_begins_with_the_shorter_one(curves):
    for spec in ("halving", HYPERBAND):
        long, again, other = (steps(curves, spec, seed=seed) for seed in (0, 0, 1))
        drawn = [[step.observation.genotype for step in run] for run in (long, again, other)]
        assert drawn[0] == drawn[1] != drawn[2]
        assert [step.spent for step in long] == [step.spent for step in again]
        short = steps(curves, spec, budget=9)
        assert [s.observation.value for s in short[:-1]] == [s.observation.value for s in long[: len(short) - 1]]


def test_a_signal_ends_the_curve(curves):
    strategy = Halving(space=curves.space)
    run = list(search(strategy, curves, Signal("valid", 4), budget=5, seed=0))
    assert max(step.observation.epochs or 0 for step in run) == 4
    assert len(run[0].observation.curve) == 4


def test_one_length_is_refused(small_table, tmp_path):
    with pytest.raises(InputError, match="shows valid of one training length and the strategy stops trainings early"):
        compare(Study(benchmarks=[str(small_table)], strategies=["random", HYPERBAND]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# -- the comparison --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(curve_table, tmp_path_factory):
    out = tmp_path_factory.mktemp("early")
    compare(Study(benchmarks=[str(curve_table)], strategies=["random", HYPERBAND], seeds=3, budget=15), out)
    write_summary(out)
    return out


def test_results_say_how_far_each_training_went(folder, curve_table):
    frame = pd.read_parquet(folder / "results.parquet")
    assert list(frame.columns[-3:]) == ["epochs", "spent", "cost:train_s"]
    whole, early = frame[frame["strategy"] == "random"], frame[frame["strategy"] == HYPERBAND]
    assert whole["spent"].tolist() == [*range(1, 16)] * 3
    assert set(early["status"]) == {"ok", "pruned"}
    assert (early.groupby("seed")["spent"].last() == 15).all()
    assert (early["epochs"] == 6).eq(early["status"] == "ok").all()
    assert early["report_value"].notna().eq(early["status"] == "ok").all()
    benchmark = open_benchmark(str(curve_table))
    stopped = early[(early["status"] == "pruned") & (early["epochs"] == 3) & (early["seed"] == 1)]
    cells = benchmark.space.from_string(stopped["architecture"].tolist())
    np.testing.assert_array_equal(stopped["value"], benchmark.query(cells, "valid", epochs=3, seed=1))
    np.testing.assert_array_equal(stopped["cost_s"], 3 * (10 + cells.sum(axis=1)))


def test_other_strategies_have_the_results_they_have_alone(folder, curve_table, tmp_path):
    compare(Study(benchmarks=[str(curve_table)], strategies=["random"], seeds=3, budget=15), tmp_path)
    alone, beside = (pd.read_parquet(one / "results.parquet") for one in (tmp_path, folder))
    pd.testing.assert_frame_equal(alone, beside[beside["strategy"] == "random"][alone.columns])


def test_jobs_and_resuming_change_no_byte(folder, curve_table, tmp_path):
    study = Study(benchmarks=[str(curve_table)], strategies=["random", HYPERBAND], seeds=3, budget=15)
    compare(dataclasses.replace(study, seeds=1), tmp_path)
    grown = compare(study, tmp_path, jobs=2)
    assert (grown.reused, grown.computed) == (2, 4)
    assert (tmp_path / "results.parquet").read_bytes() == (folder / "results.parquet").read_bytes()
    # A shorter run is the beginning of a longer one, unless its end cuts a training off.
    assert compare(dataclasses.replace(study, budget=14), tmp_path).reused == 3


def test_labels_read_another_way_are_another_run(curve_table, tmp_path):
    study = Study(benchmarks=[str(curve_table)], strategies=["random", "halving"], seeds=1, budget=5)
    compare(study, tmp_path)
    table = separate(open_benchmark(str(curve_table)))
    table.checksum = open_benchmark(str(curve_table)).checksum
    assert compare(study, tmp_path, opener=lambda name: table).reused == 1


def test_summary_takes_finished_trainings_and_counts_in_average_evaluations(folder, curve_table):
    summary = summarise(folder)
    rows = {row["strategy"]: row for row in summary["rows"]}
    frame = pd.read_parquet(folder / "results.parquet")
    early = frame[frame["strategy"] == HYPERBAND]
    finished = early[early["status"] == "ok"]
    chosen = [run.loc[run["value"].idxmax(), "report_value"] for _, run in finished.groupby("seed")]
    row = rows[HYPERBAND]
    assert row["value_mean"] == pytest.approx(np.mean(chosen))
    assert row["budget"] == 15
    assert row["queries_mean"] == len(early) / 3 > 15
    assert row["stopped_evaluations_mean"] == (len(early) - len(finished)) / 3 > 5
    assert row["failed_evaluations_mean"] == 0
    assert row["simulated_cost_s_mean"] == pytest.approx(early["cost_s"].sum() / 3)
    assert row["queries_to_optimum_mean"] == 15  # not found: the whole budget
    assert (rows["random"]["queries_mean"], rows["random"]["stopped_evaluations_mean"]) == (15, 0)
    for one in summary["anytime"]:
        assert one["queries"] == list(range(1, 16))
        assert one["seconds"] is not None
        mine = frame[(frame["strategy"] == one["strategy"])]
        for k, spent in enumerate(one["queries"]):
            best = []
            for _, run in mine.groupby("seed"):
                until = run[(run["spent"] <= spent) & (run["status"] == "ok")]
                best.append(until.loc[until["value"].idxmax(), "report_value"] if len(until) else np.nan)
            expected = None if np.isnan(best).any() else pytest.approx(np.median(best))
            assert one["value_median"][k] == expected


def test_queries_to_the_optimum_are_what_was_spent(curve_table, tmp_path, monkeypatch):
    """A search that finds the best at once, after trainings that it stops: not the number of trainings counts."""
    best = open_benchmark(str(curve_table))
    cells = best.architectures()
    at = cells[[int(np.argmax(best.query(cells, "valid", seed=0)))]]

    @dataclass(frozen=True, kw_only=True)
    class Lucky(Halving):
        def _candidates(self, history, n, rng):
            return at if len(history) == 4 else self.space.sample(n, rng)

        def stops(self, history, row):
            return row < 4

    load = registry.load
    monkeypatch.setattr(registry, "load", lambda role, name: Lucky if name == "lucky" else load(role, name))
    compare(Study(benchmarks=[str(curve_table)], strategies=["lucky"], seeds=1, budget=5), tmp_path)
    frame = pd.read_parquet(tmp_path / "results.parquet")
    (row,) = summarise(tmp_path)["rows"]
    assert row["optimum_reached_fraction"] == 1
    assert row["queries_to_optimum_mean"] == pytest.approx(frame["spent"][4])
    assert 1 < row["queries_to_optimum_mean"] < 3
    assert row["queries_to_optimum_max"] == math.ceil(frame["spent"][4])


def test_patience_costs_nothing_in_the_comparison(curve_table, tmp_path):
    """Walking up the epochs without stopping buys what whole evaluations do, for the same seconds each."""
    compare(Study(benchmarks=[str(curve_table)], strategies=["random", "patient"], seeds=2, budget=12), tmp_path)
    frame = pd.read_parquet(tmp_path / "results.parquet")
    for _, run in frame.groupby("seed"):
        whole, patient = (run[run["strategy"] == name].reset_index() for name in ("random", "patient"))
        n = min(len(whole), int((patient["status"] == "ok").sum()))
        assert n > 8
        pd.testing.assert_frame_equal(
            whole[["architecture", "value", "cost_s"]][:n], patient[["architecture", "value", "cost_s"]][:n]
        )


def test_the_report_says_so_and_shows_training_time(folder):
    pytest.importorskip("plotly", reason="the report needs nasplug[report]")
    from nasplug.benchmarks.report import write_report

    page = write_report(folder).read_text(encoding="utf-8")
    assert "Strategies with a pruner stop trainings early" in page
    row = next(row for row in json.loads((folder / "summary.json").read_text())["rows"] if row["strategy"] == HYPERBAND)
    assert f"{row['queries_mean']:.0f} trainings a run, {row['stopped_evaluations_mean']:.0f} stopped" in page
    assert 'value="seconds" checked' in page
    assert 'value="queries" checked' not in page
