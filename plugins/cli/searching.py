"""``nasplug search``: one run of one strategy."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasplug.plugins.cli import deploying
from nasplug.plugins.cli.budget import CostModelName, Margin, MaxLatency, opener
from nasplug.plugins.cli.progress import told

if TYPE_CHECKING:
    from nasplug.benchmarks.search import Step
    from nasplug.strategies import Observation


def search(
    strategy: Annotated[str, typer.Option("--strategy", "-s", help="NAME or NAME:OPTION=VALUE,...")],
    benchmark: Annotated[
        str | None, typer.Option("--benchmark", "-b", help="Name of a table, or its file.", show_default=False)
    ] = None,
    budget: Annotated[
        int | None, typer.Option(help="Queries; with a pruner, what as many average ones cost.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="The same run as that seed's in 'nasplug compare'.")] = 0,
    search: Annotated[str | None, typer.Option(help="What the search sees; else the table's own.")] = None,
    report: Annotated[str | None, typer.Option(help="What is reported; else the table's own.")] = None,
    max_latency: MaxLatency = None,
    cost_model: CostModelName = None,
    margin: Margin = 0.0,
    out: Annotated[
        Path | None, typer.Option(help="Write every query and the recommendation to this JSON file.")
    ] = None,
    tasks: Annotated[str | None, typer.Option(help="eas: YAML file of tasks, 'name: [class, ...]' a line.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="eas: a task to deploy, again for more; else all.")] = None,
    budgets: Annotated[str | None, typer.Option(help="eas: costs to deploy for, with commas between them.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="eas: of the budgets: flops (if left out), params or latency.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="eas: write every deployment to this folder, as torch and ONNX.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Search one benchmark: prints each new incumbent, then the recommendation and its report label.

    With --budgets, and a strategy that answers requests: prints an architecture for every task and budget.
    """
    import numpy as np
    from rich.console import Console

    from nasplug import registry
    from nasplug.benchmarks import search as loop
    from nasplug.benchmarks.base import Signal
    from nasplug.benchmarks.budget import WithinBudget
    from nasplug.benchmarks.environment import one_thread
    from nasplug.errors import InputError
    from nasplug.files import write_whole
    from nasplug.strategies import Status

    if budgets is not None:
        of_tables = (benchmark, budget, max_latency, search, report)
        if margin != 0 or any(given is not None for given in of_tables):
            raise InputError(
                "--budgets asks no table: leave out --benchmark, --budget, --search, --report, --max-latency and "
                "--margin"
            )
        deploying.deploy(
            strategy, budgets, tasks=tasks, only=task or (), kind=kind or "flops", cost_model=cost_model, seed=seed,
            export=export, out=out, as_json=as_json,
        )  # fmt: skip
        return
    if tasks is not None or task or kind is not None or export is not None:
        raise InputError("--tasks, --task, --kind and --export belong to --budgets, the costs to deploy for")
    for name, given in (("--benchmark", benchmark), ("--budget", budget)):
        if given is None:
            raise InputError(f"Missing option '{name}'.")
    assert benchmark is not None
    assert budget is not None
    if budget < 1 or seed < 0:
        raise InputError(f"expected a budget of at least 1 and a seed of at least 0, got {budget} and {seed}")
    opened = opener(max_latency, cost_model, margin)(benchmark)
    arena = loop.Arena.of(
        opened,
        budget=budget,
        search=None if search is None else Signal.parse(search),
        report=None if report is None else Signal.parse(report),
    )
    configured = registry.configure("strategy", strategy, opened.space)
    console = Console(quiet=as_json)
    queries: list[dict[str, Any]] = []
    best: Observation | None = None
    with one_thread(), told(as_json):
        for step in loop.search(configured, opened, arena.search, budget=budget, seed=seed):
            seen = step.observation
            queries.append(_entry(step, opened.space.to_string(np.array([seen.genotype]))[0]))
            if seen.status == Status.OK and (best is None or seen.value > best.value):
                best = seen
                line = f"{step.query:>6}  {seen.value:.6g}  {queries[-1]['architecture']}"
                console.print(line, markup=False, highlight=False, soft_wrap=True)
    costs = [one["cost_s"] for one in queries if one["value"] is not None]
    found: dict[str, Any] = {
        "benchmark": benchmark,
        "strategy": strategy,
        "seed": seed,
        "budget": budget,
        "max_latency_ms": max_latency,
        "cost_model": cost_model,
        "search_signal": str(arena.search),
        "report_signal": str(arena.report),
        "simulated_cost_s": None if None in costs else math.fsum(costs),
        "recommendation": None,
        "queries": queries,
    }
    if best is not None:
        genotype = np.array([best.genotype])
        found["recommendation"] = {
            "architecture": opened.space.to_string(genotype)[0],
            "value": best.value,
            "report_value": float(opened.labels(genotype, arena.report, seed)[0]),
        }
        if isinstance(opened, WithinBudget):
            found["recommendation"]["latency_ms"] = float(opened.cost.predict(genotype)[0])
    if out is not None:
        write_whole(out, lambda path: path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8"))
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    else:
        console.print(_outcome(found), markup=False, highlight=False, soft_wrap=True)


def _entry(step: Step, architecture: str) -> dict[str, Any]:
    """Return one query, JSON-ready: NaN is None."""
    seen = step.observation
    return {
        "query": step.query,
        "architecture": architecture,
        "value": None if math.isnan(seen.value) else seen.value,
        "epochs": seen.epochs,
        "cost_s": None if math.isnan(seen.cost_s) else seen.cost_s,
        "status": seen.status.name.lower(),
    }


def _outcome(found: Mapping[str, Any]) -> str:
    chosen, search, report = (found[key] for key in ("recommendation", "search_signal", "report_signal"))
    if chosen is None:
        stopped = any(one["status"] == "pruned" for one in found["queries"])
        ended = "were stopped or failed" if stopped else "failed"
        return f"all {len(found['queries'])} evaluations {ended}; there is nothing to recommend"
    unseen = "" if report == search else " (not seen by the search)"
    return (
        f"recommended: {chosen['architecture']}\n"
        f"{search} {chosen['value']:.6g}, {report} {chosen['report_value']:.6g}{unseen}"
        + (f"\npredicted latency {chosen['latency_ms']:.4g} ms" if "latency_ms" in chosen else "")
    )
