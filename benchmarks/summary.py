"""From the records of a comparison to ``summary.json``: everything that a table, a report or a reader needs.

The summary is a function of ``results.parquet`` and ``timings.parquet`` alone (:mod:`nasplug.benchmarks.records`).

Shapes:
    r: runs of one strategy on one benchmark; t: queries of the longest of them; k: strategies; b: benchmarks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplug.benchmarks import statistics
from nasplug.benchmarks.base import Signal
from nasplug.benchmarks.checklist import fill_checklist
from nasplug.benchmarks.records import Floats, Runs, read_runs
from nasplug.files import write_whole

__all__ = ["SCHEMA", "summarise", "write_summary"]

SCHEMA = 1
SECONDS_POINTS = 60


def summarise(folder: Path) -> dict[str, Any]:
    """Return the summary of an output folder, JSON-ready: NaN is None.

    Raises: DataError where the files of a comparison are missing or damaged.
    """
    runs, facts, machine = read_runs(folder)
    pairwise = [pair for name in facts["benchmarks"] for pair in _pairwise([r for r in runs if r.benchmark == name])]
    rows = [_row(one, facts, pairwise) for one in runs]
    ranks = _ranks(rows, facts["strategies"])
    summary = {
        "schema": SCHEMA,
        "command": machine.get("command", ""),
        "budget": facts["budget"],
        "seeds": facts["seeds"],
        "seed": facts["seed"],
        "rows": rows,
        "pairwise": pairwise,
        "ranks": ranks,
        "anytime": [_anytime(one, _horizon(runs, one.benchmark)) for one in runs],
        "overall": _overall(runs, facts["strategies"], ranks["benchmarks"]),
        "best": {name: found for name in facts["benchmarks"] if (found := _best(runs, name)) is not None},
        "pareto": [
            _pareto(metric, [one for one in runs if one.benchmark == name], front)
            for name, about in facts["benchmarks"].items()
            for metric, front in _cost_metrics(runs, name, about)
        ],
        "random_search": {name: _random_search(one, facts["budget"]) for name, one in facts["benchmarks"].items()},
        "benchmarks": {name: _about(one) for name, one in facts["benchmarks"].items()},
        "trains": facts["trains"],
        "failures": facts["failures"],
        "environment": {key: value for key, value in machine.items() if key != "command"},
    }
    summary["checklist"] = fill_checklist(summary)
    cleaned: dict[str, Any] = _without_nan(summary)
    return cleaned


def write_summary(folder: Path) -> dict[str, Any]:
    """Write ``summary.json`` of an output folder and return its content."""
    summary = summarise(folder)
    text = json.dumps(summary, indent=1, allow_nan=False)
    write_whole(folder / "summary.json", lambda path: path.write_text(text + "\n", encoding="utf-8"))
    return summary


# -- rows ------------------------------------------------------------------------------------------------------------


def _row(runs: Runs, facts: Mapping[str, Any], pairwise: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    about = facts["benchmarks"][runs.benchmark]
    search, report = Signal.parse(about["search_signal"]), Signal.parse(about["report_signal"])
    value, mean = runs.final, runs.baseline("random_mean")
    best, budget = runs.baseline("report_best"), facts["budget"]
    improvement = statistics.relative_improvement(value, mean)
    over_median = statistics.relative_improvement(value, runs.baseline("random_median"))
    over_search = statistics.relative_improvement(value, runs.baseline("random_search_final"))
    regret = best - value
    spent, reached = runs.spent_until(runs.values, runs.baseline("search_best"))
    spent_report, reached_report = runs.spent_until(runs.reports, best)
    known = runs.baselines is not None
    return {
        "benchmark": runs.benchmark,
        "strategy": runs.strategy,
        "seeds": len(runs.seeds),
        "budget": budget,
        "metric": report.metric,
        "split_search": search.split,
        "split_report": report.split,
        "search_signal": str(search),
        "report_signal": str(report),
        "value_mean": _mean(value),
        "value_ci95": statistics.bootstrap_ci(value),
        "value_median": float(np.median(value)),
        "value_std": float(value.std(ddof=1)) if len(value) > 1 else math.nan,
        "relative_improvement_pct": _mean(improvement),
        "relative_improvement_ci95": statistics.bootstrap_ci(improvement),
        "relative_improvement_vs_median_pct": _mean(over_median),
        "relative_improvement_vs_median_ci95": statistics.bootstrap_ci(over_median),
        "relative_improvement_vs_random_search_pct": _mean(over_search),
        "relative_improvement_vs_random_search_ci95": statistics.bootstrap_ci(over_search),
        "regret_mean": _mean(regret),
        "regret_ci95": statistics.bootstrap_ci(regret),
        "normalized_regret_mean": _mean(regret / (best - mean)),
        "queries_to_optimum_mean": _mean(spent) if known else math.nan,
        "queries_to_optimum_median": float(np.median(spent)) if known else math.nan,
        "queries_to_optimum_se": _standard_error(spent) if known else math.nan,
        "queries_to_optimum_max": math.ceil(spent.max()) if known else math.nan,
        "queries_to_optimum_misses": int((~reached).sum()) if known else math.nan,
        "optimum_reached_fraction": _mean(reached) if known else math.nan,
        "queries_to_report_optimum_mean": _mean(spent_report) if known else math.nan,
        "report_optimum_reached_fraction": _mean(reached_report) if known else math.nan,
        "oracle_report_mean": _mean(np.max(np.where(np.isnan(runs.reports), -np.inf, runs.reports), axis=1)),
        "queries_mean": _mean((~np.isnan(runs.suggest_ms)).sum(axis=1)),
        "failed_evaluations_mean": _mean(runs.failed.sum(axis=1)),
        "stopped_evaluations_mean": _mean(runs.stopped.sum(axis=1)),
        "suggest_ms_median": float(np.nanmedian(runs.suggest_ms)),
        "simulated_cost_s_mean": _mean(runs.seconds[:, -1]),
        "p_holm": {
            (pair["b"] if pair["a"] == runs.strategy else pair["a"]): pair["p_holm"]
            for pair in pairwise
            if pair["benchmark"] == runs.benchmark and runs.strategy in (pair["a"], pair["b"])
        },
    }


def _mean(samples: NDArray[Any]) -> float:
    return float(np.mean(samples))


def _standard_error(samples: NDArray[Any]) -> float:
    return float(np.std(samples, ddof=1) / math.sqrt(len(samples))) if len(samples) > 1 else math.nan


# -- strategies against each other -----------------------------------------------------------------------------------


def _pairwise(runs: Sequence[Runs]) -> list[dict[str, Any]]:
    """Compare every two strategies of one benchmark on the seeds that both finished; Holm over all of these pairs."""
    pairs: list[dict[str, Any]] = []
    for a, b in combinations(runs, 2):
        _, in_a, in_b = np.intersect1d(a.seeds, b.seeds, assume_unique=True, return_indices=True)
        first, second = a.final[in_a], b.final[in_b]
        known = ~np.isnan(first) & ~np.isnan(second)
        first, second = first[known], second[known]
        if not len(first):
            continue
        better = statistics.outperformance(first, second)
        pairs.append(
            {
                "benchmark": a.benchmark,
                "a": a.strategy,
                "b": b.strategy,
                "seeds": len(first),
                "difference": _mean(first - second),
                "difference_ci95": statistics.bootstrap_ci(first - second),
                "probability_a_better": _mean(better),
                "probability_a_better_ci95": statistics.bootstrap_ci(better),
                "p": statistics.wilcoxon_p(first, second),
            }
        )
    for pair, adjusted in zip(pairs, statistics.holm([pair["p"] for pair in pairs]), strict=True):
        pair["p_holm"] = float(adjusted)
    return pairs


def _ranks(rows: Sequence[Mapping[str, Any]], strategies: Sequence[str]) -> dict[str, Any]:
    """Rank strategies by their mean report value on the benchmarks where all of them finished."""
    scores: dict[str, dict[str, float]] = {}
    for row in rows:
        scores.setdefault(row["benchmark"], {})[row["strategy"]] = row["value_mean"]
    full = {
        name: [found[s] for s in strategies]
        for name, found in scores.items()
        if all(math.isfinite(found.get(s, math.nan)) for s in strategies)
    }
    if not full:
        return {"benchmarks": [], "mean_rank": {}, "friedman_p": math.nan, "note": "no benchmark has all strategies"}
    test = statistics.rank_test(np.array(list(full.values())))
    if len(strategies) < 2:
        note = "one strategy: nothing to rank"
    elif test.has_power:
        note = (
            f"mean ranks further apart than {test.critical_distance:.2f} differ (Nemenyi, 5 %); "
            "benchmarks of one table are not independent, and mean ranks depend on who takes part"
        )
    else:
        note = (
            f"{len(full)} benchmarks cannot separate {len(strategies)} strategies by rank: the critical difference "
            f"{test.critical_distance:.2f} is at least the largest possible one, {len(strategies) - 1}; "
            "read the pairwise tests"
        )
    return {
        "benchmarks": list(full),
        "mean_rank": dict(zip(strategies, test.mean_rank.tolist(), strict=True)),
        "friedman_p": test.friedman_p,
        "nemenyi_critical_distance": test.critical_distance,
        "has_power": test.has_power,
        "note": note,
    }


def _overall(runs: Sequence[Runs], strategies: Sequence[str], benchmarks: Sequence[str]) -> list[dict[str, Any]]:
    """Average what may be averaged over the benchmarks where every strategy finished; intervals are over runs."""
    found = []
    for strategy in strategies if benchmarks else ():
        mine = [one for one in runs if one.strategy == strategy and one.benchmark in benchmarks]
        bests = [one.baseline("report_best") for one in mine]
        regrets = [
            (best - one.final) / (best - one.baseline("random_mean")) for one, best in zip(mine, bests, strict=True)
        ]
        gains = [statistics.relative_improvement(one.final, one.baseline("random_search_final")) for one in mine]
        found.append(
            {
                "strategy": strategy,
                "normalized_regret_mean": _mean(np.array([one.mean() for one in regrets])),
                "normalized_regret_ci95": statistics.stratified_ci(regrets),
                "relative_improvement_vs_random_search_pct": _mean(np.array([one.mean() for one in gains])),
                "relative_improvement_vs_random_search_ci95": statistics.stratified_ci(gains),
            }
        )
    return found


# -- architectures and what they cost --------------------------------------------------------------------------------


def _best(runs: Sequence[Runs], benchmark: str) -> dict[str, Any] | None:
    """Return the recommended architecture with the best report label, a mean over the runs that recommend it.

    Chosen with hindsight: no search saw that label.
    """
    labels: dict[str, list[float]] = {}
    strategies: dict[str, dict[str, int]] = {}
    for one in runs:
        for architecture, value in zip(one.architectures, one.final, strict=True):
            if one.benchmark == benchmark and architecture is not None and math.isfinite(value):
                labels.setdefault(architecture, []).append(float(value))
                by = strategies.setdefault(architecture, {})
                by[one.strategy] = by.get(one.strategy, 0) + 1
    if not labels:
        return None
    best = max(labels, key=lambda architecture: (_mean(np.array(labels[architecture])), len(labels[architecture])))
    return {
        "architecture": best,
        "value_mean": _mean(np.array(labels[best])),
        "runs": len(labels[best]),
        "strategies": strategies[best],
        "different": len(labels),
    }


def _cost_metrics(
    runs: Sequence[Runs], benchmark: str, about: Mapping[str, Any]
) -> list[tuple[str, list[list[float]] | None]]:
    """Return the metrics of cost that a benchmark holds, each with the front of all its architectures if known."""
    held = dict.fromkeys(metric for one in runs if one.benchmark == benchmark for metric in one.costs)
    return [(metric, about["fronts"].get(metric)) for metric in held]


def _pareto(metric: str, runs: Sequence[Runs], front: list[list[float]] | None) -> dict[str, Any]:
    """Return cost against report label: what each run recommends, and the front of all that a strategy bought.

    ``short_of_front_mean`` is how much better the best architecture that costs no more is, as a mean over runs.
    """
    strategies = {}
    for one in runs:
        cost, value = one.final_cost(metric), one.final
        all_costs, all_values = one.costs[metric].ravel(), np.where(np.isnan(one.values), math.nan, one.reports).ravel()
        bought = statistics.pareto_front(all_costs, all_values)
        found = {
            "recommended": np.stack([cost, value], axis=1).tolist(),
            "bought": np.stack([all_costs[bought], all_values[bought]], axis=1).tolist(),
            "cost_mean": _mean(cost),
            "cost_ci95": statistics.bootstrap_ci(cost),
            "short_of_front_mean": math.nan,
        }
        if front:
            at, best = np.array(front).T
            known = np.searchsorted(at, cost, side="right") - 1
            found["short_of_front_mean"] = _mean(np.where(known < 0, math.nan, best[known]) - value)
        strategies[one.strategy] = found
    return {"benchmark": runs[0].benchmark, "metric": metric, "front": front or None, "strategies": strategies}


# -- curves ----------------------------------------------------------------------------------------------------------


def _horizon(runs: Sequence[Runs], benchmark: str) -> Floats | None:
    """Return the instants of a benchmark's time curves, from its first finished evaluation to its last run's end."""
    seconds = [one.seconds for one in runs if one.benchmark == benchmark]
    if not all(np.isfinite(one).all() for one in seconds):
        return None
    ends = np.concatenate([one[:, 0] for one in seconds])
    last = max(float(one.max()) for one in seconds)
    if not last > 0:
        return None
    first = float(ends[ends > 0].min()) if (ends > 0).any() else last / SECONDS_POINTS
    return np.geomspace(first, last, SECONDS_POINTS)


def _anytime(runs: Runs, horizon: Floats | None) -> dict[str, Any]:
    """Median and quartiles over runs of the incumbent's report label, against queries and simulated seconds.

    Regret is measured against each run's own optimum, which moves with the training seeds that it reports. A query of
    a strategy that stops trainings early is what one average evaluation costs.
    """
    queries = np.array(statistics.query_grid(round(runs.spent[0, -1])))
    best = runs.baseline("report_best")[:, None]
    by_query = statistics.value_at(runs.spent, runs.curve, queries)
    found = {"benchmark": runs.benchmark, "strategy": runs.strategy, "queries": queries.tolist()}
    found |= _band("value", by_query) | _band("regret", best - by_query)
    if horizon is None:
        return found | {"seconds": None}
    by_second = statistics.value_at(runs.seconds, runs.curve, horizon)
    found |= _band("seconds_value", by_second) | _band("seconds_regret", best - by_second)
    return found | {"seconds": horizon.tolist()}


def _band(name: str, values: Floats) -> dict[str, list[float]]:
    # A run without an incumbent yet makes its column NaN: a median over the others would flatter.
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
    return {f"{name}_median": middle.tolist(), f"{name}_q25": low.tolist(), f"{name}_q75": high.tolist()}


def _random_search(about: Mapping[str, Any], budget: int) -> dict[str, Any] | None:
    """Return random search's expected incumbent, exact, on the grid of the anytime curves."""
    if not about["baselines"]:
        return None
    expected = np.mean([one["random_search"] for one in about["baselines"].values()], axis=0)
    return {"queries": statistics.query_grid(budget), "value_mean": expected.tolist()}


def _about(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return a benchmark's provenance and the landmarks of its report label, over the training seeds of the runs."""
    landmarks = {"random_mean": "random_mean", "random_median": "random_median", "random_std": "random_std"}
    landmarks |= {
        "optimum": "report_best",
        "search_optimum": "search_best",
        "random_search_final": "random_search_final",
    }
    baselines = about["baselines"]
    found = {
        key: float(np.mean([one[source] for one in baselines.values()])) if baselines else None
        for key, source in landmarks.items()
    }
    kept = {key: value for key, value in about.items() if key not in ("baselines", "period", "provenance", "fronts")}
    return {**kept, **about["provenance"], **found, "random": "uniform over the rows of the table, exact"}


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
