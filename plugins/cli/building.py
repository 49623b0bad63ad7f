"""``nasplug data build``: measure a table by training every architecture."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def build(
    name: Annotated[str, typer.Argument(help="digits201 or digits-macro.")],
    seeds: Annotated[int, typer.Option(help="Training seeds.", min=1)] = 3,
    jobs: Annotated[int, typer.Option(help="Processes, one core each.", min=1)] = 2,
    folder: Annotated[
        Path | None, typer.Option(help="Where the build lives; 'built/NAME' of the data folder if left out.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train every architecture of a space on scikit-learn's digits: hours, to be stopped and started at will.

    What is done is kept; the same command goes on. At the end the labels are the table NAME-local, and FOLDER/NAME.npz
    is the file that nasplug itself packages.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from nasplug.benchmarks.catalog import table_path
    from nasplug.benchmarks.table import write_table
    from nasplug.benchmarks.trained.build import build as run
    from nasplug.benchmarks.trained.measured import pack, read_packed, to_table
    from nasplug.folder import data_folder

    folder = folder or data_folder() / "built" / name
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(f"training {name}", total=None)
        for done, total in run(name, folder, seeds=seeds, jobs=jobs):
            bar.update(task, completed=done, total=total)
    packed, table = folder / f"{name}.npz", f"{name}-local"
    pack(name, folder, packed, seeds=seeds)
    stored = table_path(table)
    write_table(to_table(name, read_packed(packed)).to_arrow(), stored)
    if as_json:
        typer.echo(json.dumps({"table": table, "path": str(stored), "packed": str(packed), "chunks": total}))
    else:
        typer.echo(f"{table}: {stored}")
