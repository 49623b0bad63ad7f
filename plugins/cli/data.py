"""``nasplug data``: add, list, show and export tables; heavy packages are imported inside the commands."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasplug import registry
from nasplug.errors import DataError, InputError

if TYPE_CHECKING:
    from nasplug.benchmarks import Benchmark, TableBenchmark

app = typer.Typer(help="Tables: add your own, list, show, export.", no_args_is_help=True, rich_markup_mode=None)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


class UnitName(StrEnum):
    """How accuracies are written in the file."""

    auto = "auto"
    percent = "percent"
    fraction = "fraction"


@app.command()
def add(
    files: Annotated[
        list[Path], typer.Argument(help="CSV, Parquet (.gz allowed), .pth, NATS-Bench folder, JSON or .npz.")
    ],
    name: Annotated[str | None, typer.Option(help="Name of the table; a table of that name gets more columns.")] = None,
    space: Annotated[str | None, typer.Option(help="Space of the architectures (CSV and Parquet).")] = None,
    arch_column: Annotated[str | None, typer.Option(help="Column of architecture strings (CSV and Parquet).")] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="COLUMN=METRIC[@EPOCHS][#SEED], repeatable: acc=valid@12; by seed a=test@200#0, b=test@200#1. "
            "Accuracies are valid, test, train and names ending in _acc or _accuracy."
        ),
    ] = None,
    unit: Annotated[UnitName, typer.Option(help="Unit of accuracies in the file.")] = UnitName.auto,
    partial: Annotated[
        bool, typer.Option("--partial", help="A CSV or Parquet file may lack architectures of its space.")
    ] = False,
    continues: Annotated[
        bool, typer.Option("--continues", help="Lengths such as valid@1, valid@2 are points of one training.")
    ] = False,
    search: Annotated[str | None, typer.Option(help="What a search sees by default, such as valid@12.")] = None,
    report: Annotated[str | None, typer.Option(help="What a report shows by default, such as test@200.")] = None,
    source: Annotated[str | None, typer.Option(help="Where the labels come from; the file's name if left out.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the labels.")] = None,
    kind: Annotated[
        str, typer.Option("--format", help="auto, csv, parquet, nasbench201-pth, nats-bench, ...")
    ] = "auto",
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite metrics that the table holds already.")] = False,
    as_json: Json = False,
) -> None:
    """Convert FILES into a table of the data folder, or add their metrics to one that is there."""
    from rich.console import Console
    from rich.progress import Progress

    from nasplug.benchmarks import TableBenchmark, importers

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("converting", total=None)
        options = importers.ImportOptions(
            space=space,
            arch_column=arch_column,
            metrics=tuple(metric or ()),
            unit=unit.value,
            partial=partial,
            search=search,
            report=report,
            continues=continues,
            source=source,
            licence=licence,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
        stored = importers.add(files, options, name=name, kind=kind, overwrite=replace)
    if as_json:
        _print_json(
            [
                _added(one.benchmark) | {"file": str(one.path), "added": one.added, "messages": one.messages}
                for one in stored
            ]
        )
        return
    for one in stored:
        for message in one.messages:
            print(message)
        if one.benchmark is None:
            continue
        if isinstance(one.benchmark, TableBenchmark):
            print(f"{one.benchmark.name}: {one.benchmark.rows} architectures, {', '.join(one.benchmark.columns())}")
        print(f"  search sees {one.benchmark.search}, report shows {one.benchmark.report}")
        for note in one.benchmark.notes:
            print(f"  note: {note}")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List built-in benchmarks and the tables of the data folder."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column
    from rich.table import Table as RichTable

    from nasplug.benchmarks.catalog import benchmark_names, user_tables
    from nasplug.benchmarks.table import read_table

    tables = user_tables()
    rows: list[dict[str, Any]] = []
    for name in benchmark_names():
        if name not in tables or name in registry.names("benchmark"):
            rows.append({"name": name, "kind": "built-in"})
            continue
        try:
            rows.append({"name": name, "kind": "table"} | _summary(read_table(tables[name])))
        except DataError as error:
            rows.append({"name": name, "kind": "damaged", "error": str(error)})
    if as_json:
        _print_json(rows)
        return
    view = RichTable(Column("name", no_wrap=True), "kind", "space", "rows", "metrics")
    for row in rows:
        metrics = row.get("error") or ", ".join(row.get("metrics", ()))
        view.add_row(row["name"], row["kind"], row.get("space", ""), str(row.get("rows", "")), escape(metrics))
    Console().print(view)


@app.command()
def info(name: Annotated[str, typer.Argument(help="Name of a benchmark.")], as_json: Json = False) -> None:
    """Show a table: rows, metrics with best, mean and median, checksum, source, licence, notes."""
    import numpy as np
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as RichTable

    from nasplug.benchmarks.base import higher_is_better

    table = _open(name)
    table.verify()
    metrics = {}
    for column, seeds in table.columns().items():
        metric, _, epochs = column.partition("@")
        values = table.query(table.architectures(), metric, epochs=int(epochs) if epochs else None)
        metrics[column] = {
            "training_seeds": seeds,
            "training_seeds_everywhere": table.n_seeds(metric, int(epochs) if epochs else None),
            "best": float(values.max() if higher_is_better(metric) else values.min()),
            "mean": float(values.mean()),
            "median": float(np.median(values)),
        }
    facts = _summary(table) | {"metrics": metrics, "checksum_verified": True}
    if as_json:
        _print_json(facts)
        return
    console = Console()
    console.print(
        f"[bold]{escape(name)}[/bold]: {table.rows} of {table.space.size:.6g} architectures of {facts['space']}"
    )
    view = RichTable("metric", "seeds", "best", "mean", "median")
    for column, one in metrics.items():
        least, most = one["training_seeds_everywhere"], one["training_seeds"]
        numbers = (f"{one[key]:.6g}" for key in ("best", "mean", "median"))
        view.add_row(column, str(most) if least == most else f"{least} to {most}", *numbers)
    console.print(view)
    for key in ("search", "report", "source", "licence"):
        console.print(f"{key}: {facts[key]}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"checksum: {facts['checksum']} (verified)", highlight=False, soft_wrap=True)
    for note in table.notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def export(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", help="Name of a benchmark. For FILE.db several, each NAME or NAME=DATASET."),
    ],
    file: Annotated[Path, typer.Argument(help="FILE.csv, FILE.csv.gz, FILE.parquet, or FILE.db for NNI.")],
    mean: Annotated[
        bool, typer.Option("--mean", help="FILE.db: one training a configuration, the mean over training seeds.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a table as CSV or Parquet, which 'nasplug data add FILE --space SPACE' reads back.

    FILE.db is what nni.nas.benchmark reads: tables over NAS-Bench-201, DATASET being cifar10, cifar100 or
    imagenet16-120. In Python, nasplug.plugins.nni.benchmark_db.use_database(FILE) hands it to NNI.
    """
    if file.suffix == ".db":
        _export_for_nni(names, file, mean, as_json)
        return
    if len(names) > 1 or mean:
        raise InputError(f"several tables, and --mean, are for FILE.db alone, got {file.name!r}")
    from nasplug.benchmarks.export import export_table

    name = names[0]
    table = _open(name)
    export_table(table, file)
    if as_json:
        _print_json({"name": name, "file": str(file), "rows": table.rows, "columns": list(table.columns())})
    else:
        print(f"{file}: {table.rows} architectures, {', '.join(table.columns())}")


def _export_for_nni(names: list[str], file: Path, mean: bool, as_json: bool) -> None:
    from nasplug.plugins.nni.benchmark_db import dataset_of, export_database

    tables: dict[str, TableBenchmark] = {}
    for text in names:
        name, _, dataset = text.partition("=")
        dataset = dataset or dataset_of(name)
        if dataset in tables:
            raise InputError(f"two tables of {dataset}: {tables[dataset].name} and {name}; one file holds one of each")
        tables[dataset] = _open(name)
    trainings = export_database(tables, file, mean=mean)
    if as_json:
        _print_json({"names": [table.name for table in tables.values()], "file": str(file), "trainings": trainings})
    else:
        print(f"{file}: {', '.join(f'{count} trainings of {name}' for name, count in trainings.items())}")


def _open(name: str) -> TableBenchmark:
    from nasplug.benchmarks import TableBenchmark, open_benchmark

    benchmark = open_benchmark(name)
    if not isinstance(benchmark, TableBenchmark):
        raise InputError(f"{name!r} is a {type(benchmark).__name__}, not a table")
    return benchmark


def _summary(table: TableBenchmark) -> dict[str, Any]:
    return {
        "name": table.name,
        "metrics": list(table.columns()),
        "search": str(table.search),
        "report": str(table.report),
        "notes": list(table.notes),
    } | {key: value for key, value in table.provenance().items() if key != "benchmark"}


def _added(benchmark: Benchmark | None) -> dict[str, Any]:
    """Return what is known of a benchmark that files were added to, JSON-ready; nothing of one that is incomplete."""
    from nasplug.benchmarks import TableBenchmark

    if benchmark is None:
        return {}
    return _summary(benchmark) if isinstance(benchmark, TableBenchmark) else benchmark.provenance()


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
