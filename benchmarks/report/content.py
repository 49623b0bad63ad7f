"""What the page says: a study's numbers as words and cells, ready for the template to escape and lay out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

import nasplug
from nasplug.benchmarks.report.benchmark import describe_benchmark
from nasplug.benchmarks.report.curves import Curves
from nasplug.benchmarks.report.pairs import ALPHA, Pairs, read_pairs, sign, wins
from nasplug.benchmarks.report.ranking import diagram
from nasplug.benchmarks.report.study import Study, number
from nasplug.benchmarks.report.texts import Cell, cell, interval, join, p_value, percent, plural, signed, with_interval

__all__ = ["page"]

FEW_SEEDS = 10

_STATUS = {"met": ("met", "✓"), "not met": ("unmet", "✗")}


def page(study: Study) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the template's ``page`` and the charts, both JSON-ready."""
    reference = next((s for s in ("random", "optuna:random") if s in study.strategies), None)
    pairs, ranks = read_pairs(study), _ranks(study)
    mean_rank = _mean_ranks(study, ranks)
    order = sorted(study.strategies, key=lambda s: (mean_rank[s], s))
    curves = Curves(study)
    columns = [_column(study, b, pairs.get(b, {}), reference) for b in study.benchmarks]
    times = _times(study, order)
    strategies = [
        {
            "name": s,
            "colour": curves.colour(s),
            "cells": [column.get(s) for column in columns],
            "rank": cell(mean_rank[s]),
            "rank_at": _place(mean_rank[s], len(order)),
            "rank_marks": [_place(rank, len(order)) for rank in sorted(ranks[s].values())],
            "wins": sum(column[s]["best"] for column in columns if s in column),
            "better": sum(column[s]["sign"] > 0 for column in columns if s in column),
            "worse": sum(column[s]["sign"] < 0 for column in columns if s in column),
            "is_reference": s == reference,
            "regret": _overall(study, s, "normalized_regret", "_mean", "{:z.3f}"),
            "improvement": percent(_average(study, s, "relative_improvement_pct")),
            "over_search": _overall(study, s, "relative_improvement_vs_random_search", "_pct", "{:+z.2f}"),
            "queries": [_queries(study.row(b, s)) for b in study.benchmarks],
            "time": time,
        }
        for s, time in zip(order, times, strict=True)
    ]
    charts = [curves.chart(b, f"chart-{k}") for k, b in enumerate(study.benchmarks)]
    return {
        "headline": _headline(order, mean_rank, len(study.benchmarks)),
        "lede": _lede(study, strategies, pairs, reference),
        "facts": _facts(study),
        "caveats": _caveats(study),
        "strategies": strategies,
        "benchmarks": [
            describe_benchmark(
                study, b, k, curves, pairs.get(b, {}), [s for s, one in column.items() if one["best"]], order
            )
            for k, (b, column) in enumerate(zip(study.benchmarks, columns, strict=True))
        ],
        "legend": curves.legend(),
        "reference": reference,
        "has_reference": reference is not None and len(order) > 1,
        "has_tick": any(one["tick"] is not None for column in columns for one in column.values()),
        "has_pairwise": bool(pairs),
        "has_cost": any("seconds" in one["views"] for one in charts),
        "by_cost": bool(study.early) and any("seconds" in one["views"] for one in charts),
        "has_regret": any(one["has_regret"] for one in charts),
        "alpha": ALPHA,
        "rank_note": _rank_note(study),
        "differences": _differences(study, curves),
        "wins": wins(order, pairs) if pairs else None,
        "checklists": _checklists(study),
        "command": str(study.summary.get("command") or "not recorded: the study was started from Python"),
        "provenance": _provenance(study),
        "version": nasplug.__version__,
    }, charts


# -- what the summary holds ------------------------------------------------------------------------------------------


def _ranks(study: Study) -> dict[str, dict[str, float]]:
    """Return strategy -> benchmark -> rank of its mean report value; 1 is best, ties share the average rank."""
    ranks: dict[str, dict[str, float]] = {s: {} for s in study.strategies}
    for b in study.benchmarks:
        means = {s: m for s in study.strategies if (m := number(study.row(b, s).get("value_mean"))) is not None}
        for s, mean in means.items():
            above, same = sum(m > mean for m in means.values()), sum(m == mean for m in means.values())
            ranks[s][b] = above + (same + 1) / 2
    return ranks


def _mean_ranks(study: Study, ranks: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the summary's mean ranks; where no benchmark has all strategies, the mean of the ranks there are."""
    given = {s: number(study.mapping("ranks", "mean_rank").get(s)) for s in study.strategies}
    known = {s: rank for s, rank in given.items() if rank is not None}
    if len(known) == len(given):
        return known
    return {s: float(np.mean(list(found.values()))) if found else math.inf for s, found in ranks.items()}


def _rank_note(study: Study) -> str:
    p, note = number(study.mapping("ranks").get("friedman_p")), study.mapping("ranks").get("note")
    sentences = [str(note)] if note else []
    if p is not None:
        sentences.insert(0, f"Friedman's test: {p_value(p)}")
    return "; ".join(sentences) + "." if sentences else ""


def _average(study: Study, strategy: str, key: str) -> float | None:
    known = [v for b in study.benchmarks if (v := number(study.row(b, strategy).get(key))) is not None]
    return sum(known) / len(known) if known else None


def _overall(study: Study, strategy: str, key: str, ending: str, form: str) -> Cell:
    """Return the summary's average over benchmarks with its interval, else the mean of the rows without one."""
    found = next((one for one in study.entries("overall") if one.get("strategy") == strategy), {})
    mean = number(found.get(f"{key}{ending}"))
    made = cell(_average(study, strategy, f"{key}{ending}") if mean is None else mean, form)
    return made if mean is None else with_interval(made, found.get(f"{key}_ci95"), 1, form)


def _differences(study: Study, curves: Curves) -> str | None:
    """Return the critical-difference diagram, None where there is nothing to rank or one benchmark only."""
    given = study.mapping("ranks", "mean_rank")
    mean_rank = {s: rank for s in study.strategies if (rank := number(given.get(s))) is not None}
    distance = number(study.mapping("ranks").get("nemenyi_critical_distance"))
    if distance is None or len(mean_rank) < 2 or len(study.benchmarks) < 2:
        return None
    ordered = sorted(mean_rank.items(), key=lambda item: item[1])
    label = f"Critical-difference diagram, critical difference {distance:.2f}; mean ranks: " + ", ".join(
        f"{s} {rank:.2f}" for s, rank in ordered
    )
    return diagram(mean_rank, {s: curves.colour(s) for s in mean_rank}, distance, label)


# -- words -----------------------------------------------------------------------------------------------------------


def _headline(order: Sequence[str], mean_rank: Mapping[str, float], n_benchmarks: int) -> str:
    on = "on one benchmark" if n_benchmarks == 1 else f"on {n_benchmarks} benchmarks"
    first = [s for s in order if mean_rank[s] == mean_rank[order[0]]]
    if len(order) == 1:
        return f"{order[0]} {on}"
    if len(first) > 1:
        return f"{join(first)} share the first rank of {len(order)} strategies {on}"
    return f"{order[0]} ranks first of {len(order)} strategies {on}"


def _lede(
    study: Study, strategies: Sequence[Mapping[str, Any]], pairs: Mapping[str, Pairs], reference: str | None
) -> list[str]:
    """Return the sentences under the headline: how sure the first rank is, and how much it is worth."""
    first, others, n = strategies[0], [s["name"] for s in strategies[1:]], len(study.benchmarks)
    name, sentences = first["name"], []
    if others:
        following = strategies[1]
        sentences.append(
            f"Its mean rank is {first['rank']['text']} (next: {following['name']}, {following['rank']['text']}) "
            f"and its mean accuracy the best on {first['wins']} of {n}."
        )
    if others and pairs:
        signs = [[sign(pairs[b].get((name, other))) for other in others] for b in pairs]
        text = f"It is significantly better than every other strategy on {_of(sum(min(s) > 0 for s in signs), n)}"
        if reference in others and len(others) > 1:
            text += f", and than {reference} at equal budget on {_of(first['better'], n)}"
        worse = sum(min(s) < 0 for s in signs)
        sentences.append(f"{text}; on {worse or 'none'} is any other significantly better.")
    gains = _span(study, name, "relative_improvement_pct")
    if gains:
        text = f"What it recommends is {gains} better than the average architecture"
        over_search = _span(study, name, "relative_improvement_vs_random_search_pct")
        sentences.append(text + (f", and {over_search} better than random search finds." if over_search else "."))
    return [" ".join(sentences)] if sentences else []


def _of(count: int, n: int) -> str:
    return f"{count or 'none'} of {n}"


def _span(study: Study, strategy: str, key: str) -> str:
    known = [v for b in study.benchmarks if (v := number(study.row(b, strategy).get(key))) is not None]
    if not known:
        return ""
    low, high = (signed(v, 1) if v < 0 else f"{v:.1f}" for v in (min(known), max(known)))
    return f"{low} %" if low == high else f"{low} to {high} %"


def _facts(study: Study) -> list[tuple[str, str]]:
    def span(key: str) -> str:
        found = sorted({int(v) for row in study.rows.values() if (v := number(row.get(key))) is not None})
        return "–" if not found else f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,}–{found[-1]:,}"

    return [
        ("Strategies", f"{len(study.strategies)}"),
        ("Benchmarks", f"{len(study.benchmarks)}"),
        ("Seeds", span("seeds")),
        ("Budget, queries", span("budget")),
        ("Evaluations", f"{study.evaluations:,}"),
    ]


def _caveats(study: Study) -> list[dict[str, str]]:
    """Return what a careful reader would hold against the numbers: the benchmarks' notes, then what the data shows."""
    where: dict[str, list[str]] = defaultdict(list)
    for b in study.benchmarks:
        notes = study.about(b).get("notes")
        for note in notes if isinstance(notes, list) else ():
            where[str(note)].append(b)
    fewest = min((int(v) for row in study.rows.values() if (v := number(row.get("seeds"))) is not None), default=None)
    if fewest is not None and fewest < FEW_SEEDS:
        where[f"With {plural(fewest, 'seed')} the intervals are rough and few differences can reach significance."] = []
    skewed = [b for b in study.benchmarks if _is_skewed(study.about(b))]
    if skewed:
        where[
            "Broken architectures drag the mean of the space below its median, so every sane strategy improves on it "
            "by much: read an improvement beside that of random search."
        ] = skewed
    if study.early:
        where[
            "Strategies with a pruner stop trainings early: a query of theirs, in every table and curve, is what the "
            "average evaluation costs. Other strategies may prefer slow networks: compare them over training time."
        ] = [
            f"{s} on {b}: {row['queries_mean']:.0f} trainings a run, {row['stopped_evaluations_mean']:.0f} stopped"
            for (b, s), row in study.early.items()
        ]
    failures = study.entries("failures")
    if failures:
        where[f"{plural(len(failures), 'run')} ended in an error, not counted here."] = list(
            dict.fromkeys(f"{one.get('strategy')} on {one.get('benchmark')}: {one.get('error')}" for one in failures)
        )
    lacking = [f"{s} on {b}" for b in study.benchmarks for s in study.strategies if not study.row(b, s)]
    if lacking:
        where["Not every strategy ran on every benchmark; ranks are over those where all did."] = lacking
    everywhere = list(study.benchmarks)
    return [
        {"text": text, "where": "all benchmarks" if names == everywhere and len(names) > 1 else ", ".join(names)}
        for text, names in where.items()
    ]


def _is_skewed(about: Mapping[str, Any]) -> bool:
    mean, median = number(about.get("random_mean")), number(about.get("random_median"))
    return mean is not None and median is not None and median > 1.02 * mean


# -- cells -----------------------------------------------------------------------------------------------------------


def _column(study: Study, benchmark: str, pairs: Pairs, reference: str | None) -> dict[str, Cell]:
    """Return strategy -> its cell of the results table; positions are percent of the column's own scale."""
    rows = {s: row for s in study.strategies if (row := study.row(benchmark, s))}
    gains = {s: number(row["relative_improvement_pct"]) for s, row in rows.items()}
    bounds = {s: interval(row.get("relative_improvement_ci95")) for s, row in rows.items()}
    mean, search = (number(study.about(benchmark).get(key)) for key in ("random_mean", "random_search_final"))
    tick = 100 * (search - mean) / mean if mean and search is not None else gains.get(reference) if reference else None
    marks = [v for s in rows for v in (gains[s], *bounds[s], tick) if v is not None]
    low, high = (min(marks), max(marks)) if marks else (0.0, 1.0)
    pad = 0.06 * (high - low) or 1.0

    def at(value: float | None) -> float | None:
        return None if value is None else round(100 * (value - low + pad) / (high - low + 2 * pad), 1)

    means = {s: m for s, row in rows.items() if (m := number(row["value_mean"])) is not None}
    best = [s for s, m in means.items() if m == max(means.values())]
    cells = {}
    for s, (lower, upper) in bounds.items():
        against = pairs.get((best[0], s)) if best and s not in best else None
        cells[s] = {
            "accuracy": cell(means.get(s), scale=100),
            "best": s in best,
            "tie": against is not None and against["p"] is not None and sign(against) == 0,
            "sign": 0 if reference is None else sign(pairs.get((s, reference))),
            "at": at(gains[s]),
            "low": at(lower),
            "high": at(upper),
            "tick": at(tick),
            "improvement": percent(gains[s])["text"],
            "interval": "" if lower is None or upper is None else f"[{signed(lower)}, {signed(upper)}]",
        }
    return cells


def _place(rank: float, n: int) -> float | None:
    """Return where a rank stands on a track from 1 (left) to ``n``, in percent, clear of the ends."""
    return round(3 + 94 * (rank - 1) / max(n - 1, 1), 1) if math.isfinite(rank) else None


def _queries(row: Mapping[str, Any]) -> Cell:
    mean, median, missed, seeds = (
        number(row.get(key))
        for key in ("queries_to_optimum_mean", "queries_to_optimum_median", "queries_to_optimum_misses", "seeds")
    )
    if mean is None:
        return {"text": "–", "sort": "", "notes": [], "never": False}
    never = bool(seeds) and missed == seeds
    notes = [] if median is None or never else [f"median {median:.0f}"]
    if missed:
        notes.append("never reached" if never else f"{missed:.0f} of {seeds:.0f} missed")
    return {"text": f"> {mean:.0f}" if never else f"{mean:.1f}", "sort": mean, "notes": notes, "never": never}


def _times(study: Study, order: Sequence[str]) -> list[dict[str, Any]]:
    grouped = {str(s): group.dropna().to_numpy(float) for s, group in study.timings.groupby("strategy")["suggest_ms"]}
    medians = {s: float(np.median(grouped[s])) for s in order if len(grouped[s])}
    positive = [m for m in medians.values() if m > 0] or [1.0]
    low = min(positive) / 2
    made: list[dict[str, Any]] = []
    for s in order:
        if s not in medians:
            made.append({"width": None, "cells": [cell(None)] * 4})
            continue
        ms = grouped[s]
        shown = (medians[s], float(np.quantile(ms, 0.95)), float(ms.mean()), float(ms.max()))
        width = round(100 * math.log(max(medians[s], low) / low) / math.log(max(positive) / low), 1)
        made.append({"width": width, "cells": [cell(v, "{:.1f}" if v >= 10 else "{:.2f}") for v in shown]})
    return made


def _checklists(study: Study) -> list[dict[str, Any]]:
    groups: dict[str, list[Cell]] = defaultdict(list)
    for entry in study.entries("checklist"):
        text = {key: str(entry.get(key, "")) for key in ("source", "number", "item", "status", "evidence")}
        kind, mark = _STATUS.get(text["status"], ("other", "–"))
        groups[text.pop("source")].append({**text, "kind": kind, "mark": mark})
    made = []
    for source, entries in groups.items():
        statuses = [one["status"] for one in entries]
        tally = ", ".join(f"{statuses.count(status)} {status}" for status in sorted(set(statuses), key=_status_order))
        made.append({"name": source[:1].upper() + source[1:], "tally": tally, "entries": entries})
    return made


def _status_order(status: str) -> tuple[bool, bool, str]:
    return status not in _STATUS, status != "met", status


def _provenance(study: Study) -> list[tuple[str, list[tuple[str, str]]]]:
    first, n = number(study.summary.get("seed")), number(study.summary.get("seeds"))
    protocol = {key: study.summary[key] for key in ("budget",) if key in study.summary}
    if first is not None and n is not None:
        protocol["seeds"] = f"{first:.0f} to {first + n - 1:.0f}, the same for every strategy"
    parts = [
        ("Protocol", list(_flat(protocol))),
        ("Versions and hardware", list(_flat(study.mapping("environment")))),
        ("Files, SHA-256", list(_flat(study.files))),
        *((f"Table: {b}", list(_flat(study.about(b)))) for b in study.benchmarks),
    ]
    return [(title, facts) for title, facts in parts if facts]


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key} › ")
        elif isinstance(value, list):
            yield f"{prefix}{key}", ", ".join(map(str, value)) or "none"
        elif value is not None:
            yield f"{prefix}{key}", str(value)
