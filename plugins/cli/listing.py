"""``nasplug list``: what is registered, with options and defaults."""

from __future__ import annotations

import inspect
import json
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from nasplug.registry import Role


class Kind(StrEnum):
    """What can be listed."""

    strategies = "strategies"
    benchmarks = "benchmarks"
    spaces = "spaces"
    cost_models = "cost-models"


_ROLES: dict[Kind, Role] = {
    Kind.strategies: "strategy",
    Kind.benchmarks: "benchmark",
    Kind.spaces: "space",
    Kind.cost_models: "cost model",
}


_PLAIN = bool | int | float | str | None
_REFERENCE = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`")
"""A name as docstrings refer to it: a role, and dots before the name."""


def list_plugins(
    kind: Annotated[Kind | None, typer.Argument(help="Only these.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """List strategies, benchmarks, spaces and cost models, with their options."""
    found = {one.value: _entries(one) for one in ([kind] if kind else list(Kind))}
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    for title, entries in found.items():
        table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
        table.add_column("name", no_wrap=True)
        table.add_column("description")
        for entry in entries:
            options = ", ".join(f"{key}={value}" for key, value in entry["options"].items())
            text = entry["description"] if entry["available"] else f"not available: {entry['problem']}"
            table.add_row(escape(entry["name"]), escape(text + (f"\n[{options}]" if options else "")))
        console.print(table if entries else f"{title}: none", "")


def _entries(kind: Kind) -> list[dict[str, Any]]:
    from nasplug import registry

    role = _ROLES[kind]
    entries = [_entry(role, name) for name in registry.names(role)]
    if kind is Kind.benchmarks:
        from nasplug.benchmarks.catalog import user_tables

        entries += [
            {"name": name, "description": f"your table {path}", "options": {}, "available": True, "problem": None}
            for name, path in user_tables().items()
        ]
    return entries


def _entry(role: Role, name: str) -> dict[str, Any]:
    from nasplug import registry

    entry: dict[str, Any] = {"name": name, "description": "", "options": {}, "available": True, "problem": None}
    try:
        plugin = registry.load(role, name)
        options = registry.option_defaults(role, name)
    except Exception as error:  # a plugin that cannot be imported, ours or another's, must not hide the rest
        return entry | {"available": False, "problem": " ".join(str(error).split())}
    text = (inspect.getdoc(plugin) or "").partition("\n\n")[0].replace("\n", " ")
    entry["description"] = _REFERENCE.sub(r"\1", text)
    # What has another default cannot be written in a specification.
    entry["options"] = {key: value for key, value in options.items() if isinstance(value, _PLAIN)}
    return entry
