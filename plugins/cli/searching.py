"""``nasplug search``: one run of one strategy."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer


def search(
    benchmark: Annotated[str, typer.Option("--benchmark", "-b", help="Name of a table, or its file.")],
    strategy: Annotated[str, typer.Option("--strategy", "-s", help="NAME or NAME:OPTION=VALUE,...")],
    budget: Annotated[int, typer.Option(help="Queries.")],
    seed: Annotated[int, typer.Option(help="The same run as that seed's in 'nasplug compare'.")] = 0,
    search: Annotated[str | None, typer.Option(help="What the search sees; else the table's own.")] = None,
    report: Annotated[str | None, typer.Option(help="What is reported; else the table's own.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write every query and the recommendation to this JSON file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Search one benchmark: prints each new incumbent, then the recommendation and its report label."""
    import numpy as np
    from rich.console import Console

    from nasplug import registry
    from nasplug.benchmarks import compare as protocol
    from nasplug.benchmarks.base import Signal
    from nasplug.benchmarks.catalog import open_benchmark
    from nasplug.errors import InputError

    if budget < 1 or seed < 0:
        raise InputError(f"expected a budget of at least 1 and a seed of at least 0, got {budget} and {seed}")
    opened = open_benchmark(benchmark)
    arena = protocol.Arena.of(
        opened,
        budget=budget,
        search=None if search is None else Signal.parse(search),
        report=None if report is None else Signal.parse(report),
    )
    configured = registry.configure("strategy", strategy, opened.space)
    console = Console(quiet=as_json)
    queries: list[dict[str, Any]] = []
    best: tuple[float, tuple[int, ...]] | None = None
    cost_s = 0.0
    with protocol.one_thread():
        for step in protocol.search(configured, opened, arena.search, budget=budget, seed=seed):
            seen = step.observation
            text = opened.space.to_string(np.array([seen.genotype]))[0]
            failed = math.isnan(seen.value)
            cost_s += 0.0 if failed else seen.cost_s
            queries.append(
                {
                    "query": step.query,
                    "architecture": text,
                    "value": None if failed else seen.value,
                    "cost_s": None if math.isnan(seen.cost_s) else seen.cost_s,
                    "status": seen.status.name.lower(),
                }
            )
            if not failed and (best is None or seen.value > best[0]):
                best = seen.value, seen.genotype
                console.print(
                    f"{step.query:>6}  {seen.value:.6g}  {text}", markup=False, highlight=False, soft_wrap=True
                )
    found: dict[str, Any] = {
        "benchmark": benchmark,
        "strategy": strategy,
        "seed": seed,
        "budget": budget,
        "search_signal": str(arena.search),
        "report_signal": str(arena.report),
        "simulated_cost_s": None if math.isnan(cost_s) else cost_s,
        "recommendation": None,
        "queries": queries,
    }
    if best is not None:
        genotype = np.array([best[1]])
        found["recommendation"] = {
            "architecture": opened.space.to_string(genotype)[0],
            "value": best[0],
            "report_value": float(opened.labels(genotype, arena.report, seed)[0]),
        }
    if out is not None:
        protocol.write_whole(out, lambda path: path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8"))
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    elif best is None:
        console.print(f"all {budget} evaluations failed; there is nothing to recommend")
    else:
        chosen = found["recommendation"]
        unseen = " (not seen by the search)" if arena.report != arena.search else ""
        console.print(
            f"recommended: {chosen['architecture']}\n{arena.search} {chosen['value']:.6g}, "
            f"{arena.report} {chosen['report_value']:.6g}{unseen}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
