"""``nasplug cost-model``: measure, fit, predict and evaluate latencies; heavy packages are imported in the commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasplug import registry
from nasplug.errors import DataError, InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nasplug.cost_models.base import LatencyBank
    from nasplug.spaces import Genotypes, Space

app = typer.Typer(
    help="Cost models: measure, fit, predict, evaluate latencies.", no_args_is_help=True, rich_markup_mode=None
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        help="Latencies: a file of 'cost-model measure', FILE.csv (needed: the columns space, architecture, "
        "latency_ms), or the name of a table.",
    ),
]
Device = Annotated[str | None, typer.Option(help="Of a table with several: the DEVICE of its latency_DEVICE_ms.")]
Bank = Annotated[str | None, typer.Option(help="Table of source devices, for models that learn from others.")]
Sources = Annotated[str | None, typer.Option(help="Which devices of the bank, DEVICE,DEVICE,...; all if left out.")]
Architectures = Annotated[Path | None, typer.Option("--architectures", help="File with an architecture string a line.")]


class Engine(StrEnum):
    """What runs the networks."""

    eager = "eager"
    onnxruntime = "onnxruntime"


@app.command()
def measure(
    space: Annotated[str, typer.Argument(help="A space with torch networks, such as nasbench201, darts, elastic.")],
    out: Annotated[Path, typer.Option(help="CSV file; what it holds is not measured again.")],
    count: Annotated[int, typer.Option(help="How many architectures, drawn at random.", min=1)] = 50,
    architectures: Architectures = None,
    bank: Bank = None,
    sources: Sources = None,
    engine: Annotated[Engine, typer.Option(help="torch as it is, or exported to ONNX Runtime.")] = Engine.eager,
    device: Annotated[str, typer.Option(help="cpu, or cuda for eager.")] = "cpu",
    threads: Annotated[int, typer.Option(help="Cores a pass may use.", min=1)] = 1,
    batch: Annotated[int, typer.Option(help="Images a pass.", min=1)] = 1,
    side: Annotated[int, typer.Option(help="Pixels of an image's side.", min=1)] = 32,
    channels: Annotated[int, typer.Option(help="Channels of an image.", min=1)] = 3,
    classes: Annotated[int, typer.Option(help="Outputs of a network.", min=1)] = 10,
    size: Annotated[
        list[str] | None,
        typer.Option(help="NAME=NUMBER[,NUMBER,...] of the network, such as channels=16; repeatable."),
    ] = None,
    spread: Annotated[float, typer.Option(help="Accepted spread; a wider one is measured again.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Of the draw and of the weights.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Measure networks on this machine, one row each; with --bank, those that tell most about a new device."""
    import numpy as np
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from nasplug.cost_models.base import BankModel
    from nasplug.cost_models.measuring import Protocol, busy, drift
    from nasplug.cost_models.measuring import measure as run

    opened: Space = registry.load("space", space)()
    sizes = dict(_size(text) for text in size or ())
    protocol = Protocol(engine.value, device, threads, batch, side, channels, classes, sizes=sizes, spread=spread)
    rng = np.random.default_rng(seed)
    if architectures is not None:
        genotypes = opened.from_string(_lines(architectures))
    elif bank is not None:
        model: BankModel = registry.configure("cost model", "few-shot", opened).pretrain(_bank(bank, sources, opened))
        genotypes = model.suggest(count, rng)
    else:
        genotypes = opened.sample_distinct(count, rng)
    err = Console(stderr=True)
    warning = busy()
    if warning:
        err.print(f"warning: {warning}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    rows = []
    with Progress(*columns, console=err, transient=True, disable=not sys.stderr.isatty()) as bar:
        for row in bar.track(run(opened, genotypes, out, protocol, seed=seed), len(genotypes), description="measuring"):
            rows.append(row)
    drifted = drift(opened, rows[0], protocol, seed=seed) if len(rows) > 1 else 0.0
    noisy = [row for row in rows if row.noisy]
    latencies = [row.latency_ms for row in rows]
    found = {
        "file": str(out),
        "protocol": protocol.text(),
        "architectures": len(rows),
        "noisy": len(noisy),
        "range_ms": [min(latencies), max(latencies)],
        "drift": drifted,
        "warning": warning,
    }
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    typer.echo(f"{len(rows)} architectures, {min(latencies):.3f} to {max(latencies):.3f} ms ({protocol.text()}): {out}")
    if noisy:
        typer.echo(f"{len(noisy)} are noisy: their spread stayed above {spread:g}; measure on a quiet machine")
    if abs(drifted) > spread:
        typer.echo(
            f"the first network takes {drifted:+.0%} now: the machine's speed drifts (heat, other work); let it rest, "
            "and measure into another file"
        )


@app.command()
def fit(
    model: Annotated[str, typer.Argument(help="NAME or NAME:OPTION=VALUE,... ('nasplug list cost-models').")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Where the model goes, FILE.npz.")],
    device: Device = None,
    bank: Bank = None,
    sources: Sources = None,
    count: Annotated[int | None, typer.Option(help="Fit on so many, drawn at random; all if left out.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Of that draw.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Fit a cost model to measured latencies and save it; prints how well it fits what it has seen."""
    import numpy as np

    from nasplug.cost_models.accuracy import accuracy
    from nasplug.cost_models.base import BankModel

    if not str(out).endswith(".npz"):
        raise InputError(f"--out expects FILE.npz, the ending that other commands know a cost model by; got {out}")
    space, genotypes, ms, name = _latencies(data, device)
    if count is not None:
        if count > len(ms):
            raise InputError(f"{data} has {len(ms)} latencies, {count} were asked for")
        rows = np.random.default_rng(seed).permutation(len(ms))[:count]
        genotypes, ms = genotypes[rows], ms[rows]
    configured = registry.configure("cost model", model, space)
    if bank is not None:
        if not isinstance(configured, BankModel):
            raise InputError(f"{model!r} does not learn from other devices; leave --bank out")
        configured.pretrain(_bank(bank, sources, space))
    configured.fit(genotypes, ms, device=name)
    configured.save(out)
    seen = accuracy(configured.predict(genotypes), ms).to_json() if len(ms) > 1 else None
    operations = sum(parameter.size for parameter in space.parameters)
    note = None
    if configured.per_operation and len(ms) < operations:
        note = f"{len(ms)} measurements for {operations} operations: few-shot is made for so few"
    if as_json:
        found = {"model": model, "file": str(out), "device": name, "seen": seen, "note": note}
        typer.echo(json.dumps(found, indent=1))
    else:
        typer.echo(f"{model} of {name}, from {len(ms)} measurements: {out}" + (f"\n{note}" if note else ""))


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="What 'cost-model fit' wrote.")],
    strings: Annotated[
        list[str] | None, typer.Argument(metavar="ARCHITECTURE...", help="Architecture strings.")
    ] = None,
    architectures: Architectures = None,
    as_json: Json = False,
) -> None:
    """Print the predicted milliseconds of architectures, with their standard deviation where the model has one."""
    from nasplug.cost_models.base import load_cost_model

    loaded = load_cost_model(model)
    texts = [*(strings or ()), *(_lines(architectures) if architectures else ())]
    if not texts:
        raise InputError("give architectures, or a file of them with --architectures")
    genotypes = loaded.space.from_string(texts)
    ms, deviation = loaded.predict(genotypes), loaded.deviation(genotypes)
    if as_json:
        rows = [
            {"architecture": text, "latency_ms": float(a), "deviation_ms": None if b != b else float(b)}
            for text, a, b in zip(texts, ms, deviation, strict=True)
        ]
        typer.echo(json.dumps(rows, indent=1))
        return
    for text, a, b in zip(texts, ms, deviation, strict=True):
        typer.echo(f"{a:.4f}" + ("" if b != b else f" +- {b:.4f}") + f"  {text}")


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A saved model, FILE.npz, or NAME:OPTION=VALUE,... to fit anew.")],
    data: Data,
    device: Device = None,
    bank: Bank = None,
    sources: Sources = None,
    counts: Annotated[str, typer.Option(help="How many measurements to fit on, N,N,...")] = "10,20,50,100",
    seeds: Annotated[int, typer.Option(help="Draws of each number.", min=1)] = 20,
    html: Annotated[Path | None, typer.Option(help="Write the learning curve and a scatter plot to this page.")] = None,
    as_json: Json = False,
) -> None:
    """Compare predictions with latencies: of a saved model on all, of a new one on those it was not fitted on."""
    from rich.console import Console
    from rich.table import Table

    from nasplug.benchmarks.latency_evaluation import learning_curve
    from nasplug.cost_models.accuracy import accuracy
    from nasplug.cost_models.base import load_cost_model

    space, genotypes, ms, name = _latencies(data, device)
    rows: list[dict[str, Any]] = []
    if model.endswith(".npz"):
        predicted, measured = load_cost_model(Path(model), space).predict(genotypes), ms
        rows.append({"count": None, "seeds": None} | accuracy(predicted, measured).to_json())
    else:
        source = None if bank is None else _bank(bank, sources, space)
        wanted = sorted({_number(text) for text in counts.split(",")})
        registry.configure("cost model", model, space)
        points = list(
            learning_curve(
                lambda: registry.configure("cost model", model, space), genotypes, ms, wanted, seeds=seeds, bank=source
            )
        )
        for count in wanted:
            alike = [point for point in points if point.count == count]
            rows.append({"count": count, "seeds": seeds} | _means([point.accuracy.to_json() for point in alike]))
        predicted, measured = points[-1].predicted, points[-1].measured
    found = {"model": model, "data": data, "device": name, "rows": rows}
    if html is not None:
        from nasplug.benchmarks.report.latency import write_latency_page

        write_latency_page(html, f"{model} of {name}", rows, predicted, measured)
        found["html"] = str(html)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    view = Table(
        "measurements", "RMSE ms", "MAE ms", "MAPE %", "within 10 %", "Spearman", "Kendall", title=f"{model} of {name}"
    )
    for row in rows:
        numbers = (
            row["rmse"],
            row["mae"],
            _times(row["mape"], 100),
            _times(row["within_10pct"], 100),
            row["spearman"],
            row["kendall"],
        )
        view.add_row(
            "saved" if row["count"] is None else str(row["count"]), *("-" if v is None else f"{v:.4g}" for v in numbers)
        )
    Console().print(view)


# -- what comes in ---------------------------------------------------------------------------------------------------


def _latencies(data: str, device: str | None) -> tuple[Space, Genotypes, NDArray[np.float64], str]:
    """Return space, genotypes ``(n, s)``, milliseconds ``(n,)`` and the device's name of a file or a table."""
    import numpy as np

    from nasplug.benchmarks.catalog import open_benchmark
    from nasplug.benchmarks.latency_bank import latency_bank, latency_devices
    from nasplug.benchmarks.table import TableBenchmark
    from nasplug.cost_models.measurements import latencies, read_measurements

    if data.endswith(".csv"):
        if device is not None:
            raise InputError(f"{data} is a file of measurements of one device; leave --device out")
        rows = read_measurements(Path(data))
        return *latencies(rows), rows[0].machine or Path(data).stem
    table = open_benchmark(data)
    if not isinstance(table, TableBenchmark):
        raise InputError(f"{data} is not a table")
    held = list(latency_devices(table))
    if device is None and len(held) > 1:
        raise InputError(f"{data} holds latencies of {len(held)} devices; choose one with --device: {', '.join(held)}")
    bank = latency_bank(table, [device] if device else held or None)
    known = ~np.isnan(bank.ms[:, 0])
    return table.space, bank.genotypes[known], bank.ms[known, 0], bank.devices[0]


def _bank(name: str, sources: str | None, space: Space) -> LatencyBank:
    from nasplug.benchmarks.catalog import open_benchmark
    from nasplug.benchmarks.latency_bank import latency_bank
    from nasplug.benchmarks.table import TableBenchmark

    table = open_benchmark(name)
    if not isinstance(table, TableBenchmark):
        raise InputError(f"{name} is not a table")
    if table.space != space:
        raise InputError(f"the bank {name} is of space {table.space.name!r}, the latencies are of {space.name!r}")
    return latency_bank(table, sources.split(",") if sources else None)


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read architectures from {path} ({error})") from error
    return [line for line in lines if line]


def _number(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise InputError(f"expected numbers of at least 1, N,N,..., got {text!r}")
    return int(text)


def _size(text: str) -> tuple[str, int | tuple[int, ...]]:
    name, equals, value = text.partition("=")
    numbers = value.split(",")
    if not equals or not all(one.isdecimal() for one in numbers):
        raise InputError(f"expected NAME=NUMBER, such as channels=16, or NAME=NUMBER,NUMBER,..., got {text!r}")
    return name, int(value) if len(numbers) == 1 else tuple(int(one) for one in numbers)


def _means(rows: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Return the mean of each entry, None where one of them is."""
    return {
        key: None if any(row[key] is None for row in rows) else sum(row[key] for row in rows) / len(rows)
        for key in rows[0]
    }


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
