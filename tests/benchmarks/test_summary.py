import json
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from nasplug import registry
from nasplug.benchmarks import statistics
from nasplug.benchmarks.catalog import open_benchmark
from nasplug.benchmarks.compare import Study, compare
from nasplug.benchmarks.summary import summarise, write_summary
from nasplug.errors import DataError
from nasplug.strategies import Strategy

SEEDS, BUDGET = 12, 40
ROW = {
    "benchmark",
    "strategy",
    "seeds",
    "budget",
    "metric",
    "split_search",
    "split_report",
    "value_mean",
    "value_ci95",
    "relative_improvement_pct",
    "relative_improvement_ci95",
    "regret_mean",
    "queries_to_optimum_mean",
    "optimum_reached_fraction",
    "suggest_ms_median",
    "simulated_cost_s_mean",
}


@dataclass(frozen=True, kw_only=True)
class Stepper(Strategy):
    """Moves to a random neighbour of the best: better than chance."""

    def _candidates(self, history, n, rng):
        best = history.best()
        return (
            self.space.sample(n, rng)
            if best is None
            else rng.permutation(self.space.neighbors(history.genotypes[best]))
        )


@dataclass(frozen=True, kw_only=True)
class Clairvoyant(Strategy):
    """Knows where the best searched label is and looks there second."""

    index: int = 0

    def _candidates(self, history, n, rng):
        return self.space.all()[[self.index]] if len(history) == 1 else self.space.sample(n, rng)


@pytest.fixture(scope="session")
def folder(small_table, tmp_path_factory):
    """A finished study: random, one that climbs, and one that cheats."""
    patch = pytest.MonkeyPatch()
    load = registry.load
    own = {"stepper": Stepper, "clairvoyant": Clairvoyant}
    patch.setattr(registry, "load", lambda role, name: own[name] if name in own else load(role, name))
    out = tmp_path_factory.mktemp("study")
    benchmark = open_benchmark(str(small_table))
    best = int(np.argmax(benchmark.query(benchmark.architectures(), "valid", epochs=12, seed=0)))
    strategies = ["random", "stepper", f"clairvoyant:index={best}"]
    compare(
        Study(benchmarks=[str(small_table)], strategies=strategies, seeds=SEEDS, budget=BUDGET),
        out,
        command="nasplug compare ...",
    )
    patch.undo()
    return out


@pytest.fixture(scope="session")
def summary(folder):
    return write_summary(folder)


def rows_of(summary):
    return {row["strategy"].partition(":")[0]: row for row in summary["rows"]}


def test_rows_have_the_agreed_keys_in_the_order_of_the_study(summary):
    assert [row["strategy"].partition(":")[0] for row in summary["rows"]] == ["random", "stepper", "clairvoyant"]
    assert all(set(row) >= ROW for row in summary["rows"])
    row = summary["rows"][0]
    assert (row["seeds"], row["budget"], row["metric"]) == (SEEDS, BUDGET, "test")
    assert (row["split_search"], row["split_report"]) == ("valid", "test")
    assert (row["search_signal"], row["report_signal"]) == ("valid@12:one", "test@200")


def test_a_row_is_what_a_plain_computation_gives(summary, folder, small_table):
    frame = pd.read_parquet(folder / "results.parquet")
    test = open_benchmark(str(small_table)).query(open_benchmark(str(small_table)).architectures(), "test")
    for strategy, runs in frame.groupby("strategy"):
        row = next(row for row in summary["rows"] if row["strategy"] == strategy)
        # The incumbent is chosen by what was searched, never by the report label.
        final = [run.loc[run["value"].idxmax(), "report_value"] for _, run in runs.groupby("seed")]
        assert row["value_mean"] == pytest.approx(np.mean(final))
        assert row["value_median"] == pytest.approx(np.median(final))
        assert row["value_std"] == pytest.approx(np.std(final, ddof=1))
        assert row["relative_improvement_pct"] == pytest.approx(100 * (np.mean(final) - test.mean()) / test.mean())
        assert row["regret_mean"] == pytest.approx(test.max() - np.mean(final))
        assert row["normalized_regret_mean"] == pytest.approx(row["regret_mean"] / (test.max() - test.mean()))
        assert row["simulated_cost_s_mean"] == pytest.approx(runs.groupby("seed")["cost_s"].sum().mean())
        assert row["oracle_report_mean"] == pytest.approx(runs.groupby("seed")["report_value"].max().mean())
        assert row["oracle_report_mean"] >= row["value_mean"]
        low, high = row["relative_improvement_ci95"]
        assert low <= row["relative_improvement_pct"] <= high


def test_queries_to_the_optimum_follow_the_label_that_a_run_sees(summary):
    # The planted architecture is the best under training seed 0, which the runs with even seeds see.
    row = rows_of(summary)["clairvoyant"]
    assert row["optimum_reached_fraction"] == 0.5
    assert row["queries_to_optimum_misses"] == SEEDS // 2
    assert row["queries_to_optimum_mean"] == (2 + BUDGET) / 2
    assert row["queries_to_optimum_max"] == BUDGET


def test_random_search_scores_its_own_expectation(summary):
    row = rows_of(summary)["random"]
    standard_error = 100 * row["value_std"] / row["value_mean"] / math.sqrt(SEEDS)
    # Four standard errors: about one false alarm in a thousand other seeds.
    assert abs(row["relative_improvement_vs_random_search_pct"]) < 4 * standard_error
    assert rows_of(summary)["stepper"]["relative_improvement_vs_random_search_pct"] > 0


def test_pairs_are_tested_on_equal_seeds_and_corrected(summary, folder):
    pairs = summary["pairwise"]
    assert [(p["a"].partition(":")[0], p["b"].partition(":")[0]) for p in pairs] == [
        ("random", "stepper"),
        ("random", "clairvoyant"),
        ("stepper", "clairvoyant"),
    ]
    assert [p["p_holm"] for p in pairs] == statistics.holm([p["p"] for p in pairs]).tolist()
    rows = rows_of(summary)
    first = pairs[0]
    assert first["difference"] == pytest.approx(rows["random"]["value_mean"] - rows["stepper"]["value_mean"])
    assert first["probability_a_better"] < 0.5
    assert rows["stepper"]["p_holm"]["random"] == first["p_holm"] == rows["random"]["p_holm"]["stepper"]


def test_averages_over_benchmarks_are_those_of_the_rows(summary):
    for one, row in zip(summary["overall"], summary["rows"], strict=True):
        assert one["strategy"] == row["strategy"]
        assert one["normalized_regret_mean"] == pytest.approx(row["normalized_regret_mean"])
        key = "relative_improvement_vs_random_search"
        assert one[f"{key}_pct"] == pytest.approx(row[f"{key}_pct"])
        assert one[f"{key}_ci95"] == pytest.approx(row[f"{key}_ci95"])  # one benchmark: the same resamples


def test_best_is_the_recommendation_with_the_best_report_label(summary, folder):
    frame = pd.read_parquet(folder / "results.parquet")
    final = [run.loc[run["value"].idxmax()] for _, run in frame.groupby(["strategy", "seed"])]
    means = pd.DataFrame(final).groupby("architecture")["report_value"].agg(["mean", "size"])
    (found,) = summary["best"].values()
    assert found["value_mean"] == pytest.approx(means["mean"].max())
    assert means.loc[found["architecture"], "mean"] == pytest.approx(means["mean"].max())
    assert found["runs"] == means.loc[found["architecture"], "size"] == sum(found["strategies"].values())
    assert found["different"] == len(means)


def test_costs_of_what_is_recommended_and_the_front_of_the_table(summary, folder, small_table):
    (found,) = summary["pareto"]
    assert found["metric"] == "train_s"
    benchmark = open_benchmark(str(small_table))
    held = benchmark.architectures()
    cost, value = benchmark.query(held, "train_s"), benchmark.query(held, "test")
    front = statistics.pareto_front(cost, value)
    np.testing.assert_allclose(found["front"], np.stack([cost[front], value[front]], axis=1))
    frame = pd.read_parquet(folder / "results.parquet")
    cells = benchmark.space.from_string(frame["architecture"].tolist())
    np.testing.assert_array_equal(frame["cost:train_s"], benchmark.query(cells, "train_s"))
    for strategy, runs in frame.groupby("strategy"):
        final = [run.loc[run["value"].idxmax()] for _, run in runs.groupby("seed")]
        mine = found["strategies"][strategy]
        assert mine["recommended"] == [[run["cost:train_s"], run["report_value"]] for run in final]
        short = [max(v for c, v in found["front"] if c <= run["cost:train_s"]) - run["report_value"] for run in final]
        assert mine["short_of_front_mean"] == pytest.approx(np.mean(short))
        bought = statistics.pareto_front(runs["cost:train_s"].to_numpy(), runs["report_value"].to_numpy())
        assert mine["bought"] == runs.iloc[bought][["cost:train_s", "report_value"]].to_numpy().tolist()


def test_ranks_of_one_benchmark_have_no_power(summary):
    ranks = summary["ranks"]
    assert sorted(ranks["mean_rank"].values()) == [1, 2, 3]
    assert not ranks["has_power"]
    assert "cannot separate 3 strategies" in ranks["note"]
    assert ranks["friedman_p"] is None


def test_curves_end_where_the_rows_are(summary):
    rows = rows_of(summary)
    for curve in summary["anytime"]:
        row = rows[curve["strategy"].partition(":")[0]]
        assert curve["queries"][-1] == BUDGET
        assert curve["value_median"][-1] == pytest.approx(row["value_median"])
        assert curve["value_q25"][-1] <= curve["value_median"][-1] <= curve["value_q75"][-1]
        assert len(curve["seconds"]) == len(curve["seconds_value_median"])
    longest = max(curve["seconds_value_median"][-1] for curve in summary["anytime"])
    assert longest == pytest.approx(max(row["value_median"] for row in rows.values()))


def test_landmarks_are_exact(summary, small_table):
    (about,) = summary["benchmarks"].values()
    benchmark = open_benchmark(str(small_table))
    test = benchmark.query(benchmark.architectures(), "test")
    assert about["random_mean"] == pytest.approx(test.mean())
    assert about["random_median"] == pytest.approx(np.median(test))
    assert about["optimum"] == test.max()
    assert about["checksum"] == benchmark.provenance()["checksum"]
    assert about["notes"] == ["Made up."]


def test_the_summary_is_strict_json_and_is_made_again_from_the_tables(summary, folder):
    text = (folder / "summary.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON")) == json.loads(
        json.dumps(summarise(folder))
    )


def test_the_checklist_is_filled_from_the_run(summary):
    items = {(item["source"][:8], item["number"]): item for item in summary["checklist"]}
    assert len([key for key in items if key[0] == "Lindauer"]) == 14
    assert len([key for key in items if key[0] == "Yang et "]) == 7
    assert {item["status"] for item in items.values()} <= {"met", "not met", "not applicable"}
    assert items["Lindauer", "9"]["status"] == "met"
    assert "12 or more finished runs" in items["Lindauer", "9"]["evidence"]
    assert items["Lindauer", "6"]["status"] == "met"
    assert items["Lindauer", "12"]["status"] == "not met"
    assert any("own stand-in" in item["source"] for item in summary["checklist"])


def test_the_checklist_knows_who_trained_and_where(summary):
    from nasplug.benchmarks.checklist import fill_checklist

    def items(**changes):
        return {(one["source"][:8], one["number"]): one for one in fill_checklist(summary | changes)}

    assert items()["Lindauer", "1"]["status"] == "not applicable"
    assert items()["Lindauer", "11"]["status"] == "met"
    trained = items(trains=["trained:digits", "darts-pt"])
    assert trained["Lindauer", "1"]["status"] == "met"
    assert "trained:digits, darts-pt" in trained["Lindauer", "1"]["evidence"]
    assert trained["Yang et ", "1"]["status"] == "not met"
    spread = items(environment=summary["environment"] | {"cluster": True})
    assert spread["Lindauer", "11"]["status"] == "not met"


def test_the_checklist_names_what_was_not_met(small_table, tmp_path):
    from nasplug.benchmarks.base import Signal

    test = Signal("test", 200)
    one = {"benchmarks": [str(small_table)], "strategies": ["random"], "seeds": 2, "budget": 5}
    compare(Study(**one, search=test, report=test), tmp_path / "same")
    compare(Study(**one, search=test, report=Signal("valid", 12)), tmp_path / "by-test")
    same, by_test = (
        {i["number"]: i for i in summarise(tmp_path / name)["checklist"] if i["source"].startswith("Lindauer")}
        for name in ("same", "by-test")
    )
    assert "same labels" in same["6"]["evidence"]
    assert "selects by a test label" in by_test["6"]["evidence"]
    assert same["6"]["status"] == by_test["6"]["status"] == same["9"]["status"] == same["3"]["status"] == "not met"


def test_runs_without_a_list_of_architectures_have_no_landmarks(unlisted, tmp_path):
    compare(Study(benchmarks=["u"], strategies=["random"], seeds=2, budget=5), tmp_path, opener=lambda name: unlisted)
    summary = summarise(tmp_path)
    (row,) = summary["rows"]
    assert row["value_mean"] is not None
    missing = ("relative_improvement_pct", "regret_mean", "queries_to_optimum_mean", "simulated_cost_s_mean")
    assert [row[key] for key in missing] == [None] * 4
    assert summary["anytime"][0]["seconds"] is None
    assert summary["random_search"] == {"u": None}


def test_one_seed_has_no_interval(small_table, tmp_path):
    compare(Study(benchmarks=[str(small_table)], strategies=["random"], seeds=1, budget=5), tmp_path)
    (row,) = summarise(tmp_path)["rows"]
    assert row["value_ci95"] == [None, None]
    assert row["value_std"] is None
    assert math.isfinite(row["relative_improvement_pct"])


def test_failed_evaluations_do_not_become_incumbents(partial_table, tmp_path):
    compare(Study(benchmarks=[str(partial_table)], strategies=["random"], seeds=6, budget=60), tmp_path)
    (row,) = summarise(tmp_path)["rows"]
    assert 30 < row["failed_evaluations_mean"] < 60
    assert row["relative_improvement_pct"] > 0


@pytest.mark.parametrize("name", ["results.parquet", "timings.parquet"])
def test_missing_or_damaged_files_are_named(name, folder, tmp_path):
    for file in ("results.parquet", "timings.parquet"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    (tmp_path / name).write_bytes(b"PAR1 but no more")
    with pytest.raises(DataError, match=rf"{name} is not a file of 'nasplug compare'"):
        summarise(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=rf"{name} is missing"):
        summarise(tmp_path)


def test_files_of_two_studies_do_not_mix(folder, small_table, tmp_path):
    compare(Study(benchmarks=[str(small_table)], strategies=["random"], seeds=2, budget=BUDGET), tmp_path)
    (tmp_path / "timings.parquet").write_bytes((folder / "timings.parquet").read_bytes())
    with pytest.raises(DataError, match="do not belong together"):
        summarise(tmp_path)
