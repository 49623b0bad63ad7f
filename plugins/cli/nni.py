"""``nasplug nni``: names for the strategies in NNI, search spaces, and what an experiment found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nasplug.plugins.nni.export import Export

app = typer.Typer(
    help="NNI: register tuners, print search spaces, export experiments.", no_args_is_help=True, rich_markup_mode=None
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Strategies = Annotated[list[str] | None, typer.Argument(metavar="[STRATEGY]...", help="All if left out.")]


@app.command()
def register(strategies: Strategies = None, as_json: Json = False) -> None:
    """Let NNI know the strategies by name: tuner: {name: WeakNAS, classArgs: {space: nasbench201, seed: 0}}."""
    from nasplug.plugins.nni.register import register

    _say("registered", register(strategies or ()), as_json)


@app.command()
def unregister(strategies: Strategies = None, as_json: Json = False) -> None:
    """Take the strategies from NNI's list of algorithms."""
    from nasplug.plugins.nni.register import unregister

    _say("unregistered", unregister(strategies or ()), as_json)


def _say(what: str, tuners: dict[str, str], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({what: tuners}, indent=1))
    for name, strategy in () if as_json else tuners.items():
        typer.echo(f"{what} {name} ({strategy})")
    if not tuners and not as_json:
        typer.echo(f"nothing {what}")


@app.command("search-space")
def search_space(
    space: Annotated[str, typer.Argument(help="Name of a space; nasplug list spaces shows them.")],
    out: Annotated[Path | None, typer.Option(help="Write it to this file instead.")] = None,
) -> None:
    """Print the search space of a named space, as NNI's searchSpaceFile."""
    from nasplug.files import write_whole
    from nasplug.plugins.nni.spaces import search_space
    from nasplug.registry import configure

    text = json.dumps(search_space(configure("space", space)), indent=1)
    if out is None:
        typer.echo(text)
    else:
        write_whole(out, lambda path: path.write_text(text + "\n", encoding="utf-8"))


@app.command()
def export(
    experiment: Annotated[str, typer.Argument(help="Id of an experiment, or its folder.")],
    out: Annotated[Path | None, typer.Option(help="Write all trials to this .csv or .json file.")] = None,
    as_json: Json = False,
) -> None:
    """Show what an experiment found, by the tuner's own record: right at any concurrency, unlike NNI's export."""
    from nasplug.plugins.nni.export import read_experiment, write_export

    found = read_experiment(experiment)
    written = 0 if out is None else write_export(found, out)
    if as_json:
        typer.echo(json.dumps({**found.about, "best": found.best, "trials": found.trials}, indent=1))
    else:
        _show(found, out, written)


def _show(found: Export, out: Path | None, written: int) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if out is None:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("number", "value", "status", "architecture"):
            table.add_column(column, justify="right" if column in ("number", "value") else "left")
        for trial in found.trials:
            value = "" if trial["value"] is None else f"{trial['value']:.6g}"
            number = "" if trial["number"] is None else str(trial["number"])
            table.add_row(number, value, trial["status"], escape(trial["architecture"]))
        console.print(table)
    else:
        console.print(f"{written} trials in {out}", markup=False, highlight=False, soft_wrap=True)
    best = "nothing has finished"
    if found.best is not None:
        best = f"best: {found.best['value']:.6g}  {found.best['architecture']}"
    console.print(best, markup=False, highlight=False, soft_wrap=True)
