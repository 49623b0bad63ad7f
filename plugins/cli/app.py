"""The commands of ``nasplug`` and how they end.

Exit codes: 0 done, 1 some runs failed, 2 bad input, in one line on stderr, 130 interrupted.

Heavy packages are imported inside commands, so that ``nasplug --help`` is quick.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from nasplug.errors import NasplugError
from nasplug.plugins.cli import building, comparing, costs, data, listing, nni, searching

__all__ = ["app", "main"]

INTERRUPTED = 130

app = typer.Typer(
    name="nasplug",
    help="Architecture-search strategies, compared on NAS-Bench tables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # which would take [class, ...] for markup
)
app.command("list")(listing.list_plugins)
app.command("compare")(comparing.compare)
app.command("search")(searching.search)
app.command("report")(comparing.report)
data.app.command("build")(building.build)
app.add_typer(data.app, name="data")
app.add_typer(costs.app, name="cost-model")
app.add_typer(nni.app, name="nni")


def _version(show: bool) -> None:
    if show:
        from nasplug import __version__

        typer.echo(f"nasplug {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit the process with its code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; bad input is one line on stderr and 2."""
    try:
        code = app(list(arguments), prog_name="nasplug", standalone_mode=False)
    except NasplugError as error:
        return _complain(error)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        # Typer's own usage errors, whose class has moved between its versions.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        return _complain(message()) if message() else 2  # without a command the help has been printed
    if code == INTERRUPTED:
        return _complain("interrupted; 'compare' resumes where it was", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _complain(what: object, code: int = 2) -> int:
    print("nasplug: " + " ".join(str(what).split()), file=sys.stderr)
    return code
