"""``nasplug compare`` and ``nasplug report``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nasplug.errors import InputError, MissingDependencyError
from nasplug.plugins.cli.budget import CostModelName, Margin, MaxLatency, opener
from nasplug.plugins.cli.progress import Watch

DEFAULT_STRATEGIES = ("random", "regularized-evolution", "local-search", "weaknas", "optuna:tpe")

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Html = Annotated[bool, typer.Option("--html/--no-html", help="Write report.html for people to read.")]


def compare(
    benchmark: Annotated[
        list[str] | None, typer.Option("--benchmark", "-b", help="Repeatable; all out-of-the-box tables if left out.")
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            "--strategy",
            "-s",
            help="NAME or NAME:OPTION=VALUE,..., repeatable; if left out " + ", ".join(DEFAULT_STRATEGIES) + ".",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs a strategy and benchmark.")] = 20,
    budget: Annotated[int, typer.Option(help="Queries a run; with a pruner, what as many average ones cost.")] = 100,
    jobs: Annotated[int, typer.Option(help="Worker processes; -1 for one a core.")] = -1,
    backend: Annotated[str, typer.Option(help="What runs workers: loky (processes here), dask or ray.")] = "loky",
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a running Dask or Ray cluster; else one is started here.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results; finished runs there are used again.")] = Path(
        "nasplug-compare"
    ),
    search: Annotated[
        str | None, typer.Option(help="What searches see, such as valid@12; else the table's own.")
    ] = None,
    report: Annotated[
        str | None, typer.Option(help="What is reported, such as test@200; else the table's own.")
    ] = None,
    max_latency: MaxLatency = None,
    cost_model: CostModelName = None,
    margin: Margin = 0.0,
    seed: Annotated[int, typer.Option(help="First seed; run i has seed + i.")] = 0,
    html: Html = True,
    as_json: Json = False,
) -> None:
    """Compare strategies on benchmarks: relative improvement over random, with intervals, tests and a report.

    Run it again with the same --out to resume. Exit code 1: some runs failed, the others are complete.
    """
    from nasplug.benchmarks import compare as protocol
    from nasplug.benchmarks.base import Signal
    from nasplug.benchmarks.summary import write_summary

    err, opens = Console(stderr=True), opener(max_latency, cost_model, margin)
    study = protocol.Study(
        benchmarks=benchmark or _default_benchmarks(err),
        strategies=strategy or _default_strategies(err),
        seeds=seeds,
        budget=budget,
        seed=seed,
        search=None if search is None else Signal.parse(search),
        report=None if report is None else Signal.parse(report),
    )
    runs = dict.fromkeys(study.strategies, len(study.benchmarks) * study.seeds)
    with Watch(runs, err, quiet=as_json) as watch:
        outcome = protocol.compare(
            study,
            out,
            jobs=jobs,
            backend=backend,
            scheduler=scheduler,
            opener=opens,
            command=_command(),
            progress=watch,
        )
        watch.stage("statistics")
        summary = write_summary(out)
    page = _write_html(out, err) if html and summary["rows"] else None
    extra = {"runs_computed": outcome.computed, "runs_reused": outcome.reused}
    _show(summary, out, page, as_json, extra)
    for failure in outcome.failures:
        err.print(f"nasplug: run failed: {failure}", markup=False, highlight=False, soft_wrap=True)
    if outcome.failures:
        raise typer.Exit(1)


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What 'nasplug compare --out' wrote.")],
    html: Html = True,
    show: Annotated[bool, typer.Option("--open", help="Open report.html in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Make summary.json and report.html again from the results in DIR."""
    from nasplug.benchmarks.summary import write_summary

    if show and not html:
        raise InputError("--open shows report.html, which --no-html does not write; give one of them")
    summary, err = write_summary(folder), Console(stderr=True)
    page = _write_html(folder, err) if html and summary["rows"] else None
    _show(summary, folder, page, as_json, {})
    if show and page:
        import webbrowser

        if not webbrowser.open(page.resolve().as_uri()):
            err.print(f"no browser to open here; open {page} yourself", markup=False, soft_wrap=True)


def _command() -> str:
    import shlex

    return shlex.join(["nasplug", *sys.argv[1:]])


def _default_benchmarks(err: Console) -> list[str]:
    """Return the built-in tables that can be opened; says which cannot."""
    from nasplug.benchmarks.builtin import OUT_OF_THE_BOX
    from nasplug.benchmarks.catalog import open_benchmark

    found: list[str] = []
    missing: dict[str, list[str]] = {}
    with err.status("opening tables"):
        for name in OUT_OF_THE_BOX:
            try:
                open_benchmark(name)
                found.append(name)
            except MissingDependencyError as error:
                missing.setdefault(str(error), []).append(name)
    for reason, names in missing.items():
        err.print(f"left out {', '.join(names)}: {reason}", style="dim", markup=False)
    if not found:
        raise MissingDependencyError("no table is installed; pip install 'nasplug[tables]', or name yours with -b")
    return found


def _default_strategies(err: Console) -> list[str]:
    from nasplug import registry

    found = []
    for spec in DEFAULT_STRATEGIES:
        try:
            registry.load("strategy", registry.Spec.parse(spec).name)
            found.append(spec)
        except MissingDependencyError as error:
            err.print(f"left out {spec}: {error}", style="dim", markup=False)
    return found


def _write_html(folder: Path, err: Console) -> Path | None:
    from nasplug.benchmarks.report import write_report

    try:
        return write_report(folder)
    except MissingDependencyError as error:
        err.print(f"no report.html: {error}", style="dim", markup=False)
        return None


# -- what a person sees ----------------------------------------------------------------------------------------------


def _show(summary: Mapping[str, Any], out: Path, page: Path | None, as_json: bool, extra: Mapping[str, Any]) -> None:
    if as_json:
        short = {key: summary[key] for key in ("rows", "pairwise", "ranks", "failures", "command")}
        typer.echo(json.dumps({"out": str(out), "report": page and str(page)} | dict(extra) | short, indent=1))
        return
    console = Console()
    ranks = summary["ranks"]["mean_rank"]
    for name in summary["benchmarks"]:
        rows = [row for row in summary["rows"] if row["benchmark"] == name]
        if rows:
            console.print(_table(name, rows))
    if len(ranks) > 1:
        console.print(_rank_table(ranks), escape(summary["ranks"]["note"]), "", style=None, highlight=False)
    console.print(f"results, summary and report in {out}" if page else f"results and summary in {out}", markup=False)
    if page:
        console.print(f"open {page}", markup=False, soft_wrap=True)


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    first = rows[0]
    title = (
        f"{name}: search sees {first['search_signal']}, report {first['report_signal']}, "
        f"{first['budget']} queries, {first['seeds']} seeds"
    )
    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column, justify in _COLUMNS:
        table.add_column(column, justify=justify, no_wrap=True)
    ordered = sorted(rows, key=lambda row: -(row["value_mean"] or 0))
    for row in ordered:
        missed = row["queries_to_optimum_misses"]
        table.add_row(
            escape(row["strategy"]),
            _number(row["value_mean"], ".4f"),
            _with_interval(row["relative_improvement_pct"], row["relative_improvement_ci95"]),
            _number(row["relative_improvement_vs_random_search_pct"], "+.2f"),
            _number(row["queries_to_optimum_mean"], ".1f") + (f" ({missed})" if missed else ""),
            _number(row["suggest_ms_median"], ".2f"),
            style="bold" if row["value_mean"] == ordered[0]["value_mean"] else None,
        )
    return table


_COLUMNS: tuple[tuple[str, Literal["left", "right"]], ...] = (
    ("strategy", "left"),
    ("value", "right"),
    ("% over random\n[95 % interval]", "right"),
    ("% over\nsearch", "right"),
    ("to optimum\n(missed)", "right"),
    ("ms a\nquery", "right"),
)


def _rank_table(ranks: Mapping[str, float]) -> Table:
    table = Table(title="all benchmarks", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("strategy", no_wrap=True)
    table.add_column("mean rank", justify="right")
    for name, rank in sorted(ranks.items(), key=lambda item: item[1]):
        table.add_row(escape(name), f"{rank:.2f}")
    return table


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _with_interval(value: float | None, bounds: Sequence[float | None]) -> str:
    interval = "" if bounds[0] is None else f" [{bounds[0]:.1f}, {bounds[1]:.1f}]"
    return _number(value, "+.2f") + escape(interval)
