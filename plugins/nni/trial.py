"""One trial of an NNI experiment: ask a benchmark what an architecture is worth, and report it.

    python -m nasplug.plugins.nni.trial --benchmark nasbench201-cifar10 [--metric valid@200:one] [--run 0]
    python -m nasplug.plugins.nni.trial --benchmark trained:digits,space=nasbench201 --intermediate valid@3

The first looks it up in a table, the second trains it.

Reports ``{"default": value, "architecture": "..."}``, of a table also the label that a report shows and the costs: the
tuner checks that the architecture is the one it asked for, and looks at nothing else.
A trial that cannot give a number exits with code 2 and reports nothing: one NaN in NNI's record makes the experiment
impossible to resume.

Outside NNI it prints the same reports for ``--architecture``, or for a random one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from nasplug.benchmarks.base import Benchmark, Signal
from nasplug.benchmarks.catalog import open_benchmark
from nasplug.errors import InputError, MissingDependencyError, NasplugError
from nasplug.spaces import Genotypes

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one trial and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m nasplug.plugins.nni.trial", description="One trial of an NNI experiment, from a benchmark."
    )
    parser.add_argument("--benchmark", required=True, help="name of a benchmark, or the file of a table")
    parser.add_argument("--metric", help="what is reported, such as valid@12; else what the benchmark shows a search")
    parser.add_argument("--run", type=int, default=0, help="which training seed, for signals of a single one")
    parser.add_argument(
        "--intermediate",
        action="append",
        default=[],
        metavar="METRIC",
        help="reported before, for assessors; repeatable",
    )
    parser.add_argument("--architecture", help="outside NNI: which architecture, as a string of its space")
    parser.add_argument("--seed", type=int, default=0, help="outside NNI: draws the architecture")
    options = parser.parse_args(arguments)
    try:
        benchmark = open_benchmark(options.benchmark)
        signal = benchmark.search if options.metric is None else Signal.parse(options.metric)
        earlier = [Signal.parse(text) for text in options.intermediate]
        if os.environ.get("NNI_PLATFORM") is None:
            _alone(benchmark, signal, earlier, options)
        else:
            _under_nni(benchmark, signal, earlier, options.run)
    except NasplugError as error:
        print("trial: " + " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


def _under_nni(benchmark: Benchmark, signal: Signal, earlier: Sequence[Signal], run: int) -> None:
    try:
        import nni
    except ModuleNotFoundError as error:
        raise MissingDependencyError("a trial under NNI needs the package 'nni'; pip install 'nasplug[nni]'") from error
    genotype = benchmark.space.from_params([nni.get_next_parameter()])
    for one in earlier:
        nni.report_intermediate_result(_report(benchmark, genotype, one, run)["default"])
    nni.report_final_result(_report(benchmark, genotype, signal, run) | _beside(benchmark, genotype, run))


def _alone(benchmark: Benchmark, signal: Signal, earlier: Sequence[Signal], options: argparse.Namespace) -> None:
    if options.architecture is not None:
        genotype = benchmark.space.from_string([options.architecture])
    else:
        genotype = benchmark.space.sample(1, np.random.default_rng(options.seed))
    for one in earlier:
        print(json.dumps(_report(benchmark, genotype, one, options.run)), flush=True)
    last = _report(benchmark, genotype, signal, options.run) | _beside(benchmark, genotype, options.run)
    print(json.dumps(last), flush=True)


def _report(benchmark: Benchmark, genotype: Genotypes, signal: Signal, run: int) -> dict[str, Any]:
    value = float(benchmark.labels(genotype, signal, run)[0])
    architecture = benchmark.space.to_string(genotype)[0]
    if not math.isfinite(value):
        raise InputError(f"{signal} of {architecture} is {value}, which is no result")
    return {"default": value, "architecture": architecture}


def _beside(benchmark: Benchmark, genotype: Genotypes, run: int) -> dict[str, float]:
    """Return what the page shows beside the metric."""
    found = {str(one): float(benchmark.labels(genotype, one, run)[0]) for one in benchmark.notable()}
    return {name: value for name, value in found.items() if math.isfinite(value)}


if __name__ == "__main__":
    sys.exit(main())
