"""``nasplug search -s eas --budgets ...``: an architecture for every task and budget, as a table."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nasplug.errors import InputError, UnknownNameError
from nasplug.plugins.cli.progress import told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nasplug.strategies.supernet.deployment import Deployment
    from nasplug.strategies.supernet.eas import EAS

UNITS = {"flops": "multiply-adds", "params": "parameters", "latency": "ms"}


def deploy(
    strategy: str,
    budgets: str,
    *,
    tasks: str | None,
    only: Sequence[str],
    kind: str,
    cost_model: str | None,
    seed: int,
    export: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Train what is missing, answer all requests at once, print the table; see ``nasplug search --help``."""
    from rich.console import Console

    from nasplug.benchmarks.environment import one_thread
    from nasplug.files import require_writable, write_whole
    from nasplug.strategies.supernet.run import require_torch

    wanted = _numbers(budgets)
    if kind not in UNITS:
        raise UnknownNameError("kind of budget", kind, UNITS)
    if seed < 0:
        raise InputError(f"expected a seed of at least 0, got {seed}")
    configured = _configured(strategy, tasks, kind, cost_model)
    console = Console(quiet=as_json)
    require_torch()
    with one_thread(), told(as_json):
        from nasplug.spaces.modules.onnx_files import require_onnx
        from nasplug.strategies.supernet import deployment
        from nasplug.strategies.supernet.data import report_part

        if export is not None:  # what would be an error in the end is one before anything is trained
            require_onnx()
            require_writable(export)
        groups = configured.groups
        names = list(only) or [*groups.names] or ["all"]
        for name in names:
            groups.mask(name)  # likewise
        method = configured.method(seed)
        part = report_part(configured.data_set, device=configured.device)
        found = deployment.deploy(method, groups, names, wanted, kind, part)
        measured = _measured(configured, found) if kind == "latency" else [one.measured for one in found]
        files = deployment.write(method, found, export) if export is not None else []
    rows = [_row(one, value) for one, value in zip(found, measured, strict=True)]
    report = {"strategy": strategy, "seed": seed, "kind": kind, "unit": UNITS[kind], "deployments": rows}
    if out is not None:
        write_whole(out, lambda path: path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8"))
    if as_json:
        typer.echo(json.dumps(report, indent=1))
        return
    console.print(_table(rows, kind))
    for row in rows:
        if not row["met"]:
            line = f"{row['task']}: no architecture costs {row['budget']:g} or less; shown is the cheapest"
            console.print(line, markup=False, highlight=False)
    if files:
        console.print(f"wrote {len(files)} files to {export}", markup=False, highlight=False)


def _configured(strategy: str, tasks: str | None, kind: str, cost_model: str | None) -> EAS:
    from nasplug.registry import Spec, configure
    from nasplug.spaces import Elastic
    from nasplug.strategies.supernet.eas import EAS

    spec = Spec.parse(strategy)
    options = dict(spec.options)
    if tasks is not None:
        options["tasks"] = tasks
    fixed: list[Any] = [Elastic()]
    if (kind == "latency") != (cost_model is not None):
        raise InputError("--kind latency and --cost-model FILE come together: a budget in ms, and what predicts it")
    if cost_model is not None:
        from nasplug.cost_models.base import load_cost_model

        options["model"] = load_cost_model(Path(cost_model), Elastic())
    made = configure("strategy", Spec(spec.name, spec.positional, options), *fixed)
    if not isinstance(made, EAS):
        raise InputError(f"--budgets and --tasks need a strategy that answers requests, such as eas; got {spec.name!r}")
    return made


def _numbers(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = []
    if not found or not all(0 < value < float("inf") for value in found):
        raise InputError(f"--budgets expects numbers above zero with commas between them, got {text!r}")
    return found


def _measured(strategy: EAS, found: Sequence[Deployment]) -> list[float]:
    """Return milliseconds of one image on this machine's processor, one thread."""
    import numpy as np

    from nasplug.cost_models.measuring import Protocol, measure
    from nasplug.spaces import Elastic

    images = strategy.data_set
    protocol = Protocol(
        side=int(images.train.images.shape[-1]), channels=images.channels, classes=images.classes,
        sizes=strategy.sizes(images),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Elastic(), np.stack([one.genotype for one in found]), Path(folder) / "ms.csv", protocol)
        return [row.latency_ms for row in rows]


def _row(one: Deployment, measured: float | None) -> dict[str, Any]:
    return {
        "task": one.task,
        "classes": list(one.classes),
        "budget": one.budget,
        "met": one.met,
        "architecture": one.architecture,
        "predicted": one.predicted,
        "measured": measured,
        "split": one.split,
        "accuracy": one.accuracy,
    }


def _table(rows: Sequence[dict[str, Any]], kind: str) -> Any:
    from rich.table import Table

    table = Table(title=f"budgets in {UNITS[kind]}; accuracy on the task's {rows[0]['split']} images")
    for name in ("task", "budget", "predicted", "measured", "accuracy %", "architecture"):
        table.add_column(name, justify="left" if name in ("task", "architecture") else "right", overflow="fold")
    for row in rows:
        flag = "" if row["met"] else " (not met)"
        table.add_row(
            row["task"], f"{row['budget']:g}{flag}", f"{row['predicted']:.6g}", f"{row['measured']:.6g}",
            f"{100 * row['accuracy']:.1f}", row["architecture"],
        )  # fmt: skip
    return table
