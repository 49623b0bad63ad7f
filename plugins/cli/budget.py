"""The options of a latency budget, the same for every command that searches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nasplug.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nasplug.benchmarks.base import Benchmark

MaxLatency = Annotated[
    float | None,
    typer.Option("--max-latency", metavar="MS", help="Budget: nothing that is predicted to take longer is proposed."),
]
CostModelName = Annotated[
    str | None,
    typer.Option(
        "--cost-model", help="What predicts it: a file of 'cost-model fit', or a latency of the table, as latency_ms."
    ),
]
Margin = Annotated[
    float,
    typer.Option(
        "--margin", help="Standard deviations of the prediction to keep from the budget; below 0 takes chances."
    ),
]


def opener(max_latency: float | None, cost_model: str | None, margin: float) -> Callable[[str], Benchmark]:
    """Return what opens a benchmark by name, under the budget if there is one; raises InputError for half of one."""
    if max_latency is None or cost_model is None:
        if max_latency is not None or cost_model is not None:
            raise InputError("--max-latency and --cost-model come together: a budget, and what predicts the cost")
        from nasplug.benchmarks.catalog import open_benchmark

        return open_benchmark
    from nasplug.benchmarks.budget import Budget

    return Budget(max_latency, cost_model, margin)
