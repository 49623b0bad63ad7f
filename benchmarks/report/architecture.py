"""A found architecture in pictures and words: drawn by its space's graphs, else its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nasplug import registry
from nasplug.benchmarks.report.drawing import draw
from nasplug.benchmarks.report.study import number
from nasplug.benchmarks.report.texts import join, plural
from nasplug.errors import NasplugError
from nasplug.spaces import Graph, Space

__all__ = ["describe"]

MOST_PARAMETERS = 80


def describe(found: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the page says of the summary's best architecture of a benchmark, None where there is none.

    Args:
        found: the summary's entry, empty where nothing finished.
        about: the facts of the benchmark; ``space`` is looked for among the registered spaces.
    """
    text, value, optimum = found.get("architecture"), number(found.get("value_mean")), number(about.get("optimum"))
    if not isinstance(text, str) or value is None:
        return None
    by = found.get("strategies")
    counts = {str(s): int(n) for s, k in by.items() if (n := number(k))} if isinstance(by, Mapping) else {}
    runs = number(found.get("runs"))
    words = [f"{100 * value:.2f} % reported"]
    if optimum is not None:
        short = 100 * (optimum - value)
        near = "no worse than" if short < 5e-7 else f"{short:.2f} points below"  # above: a run's own training seeds
        words.append(f"{near} the best of the table")
    if counts and runs:
        names = [f"{s} ({n})" for s, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
        words.append(f"recommended by {plural(int(runs), 'run')} of {join(names)}")
    graphs, parameters = _look(text, str(about.get("space")))
    return {
        "text": text,
        "words": f"{'; '.join(words)}.",
        "graphs": [{"title": graph.title, "svg": draw(graph), "lines": graph.sentences()} for graph in graphs],
        "parameters": parameters,
    }


def _look(text: str, name: str) -> tuple[tuple[Graph, ...], list[tuple[str, str]]]:
    """Return the graphs of an architecture string, or its parameters; neither where its space cannot be had."""
    if name not in registry.names("space"):
        return (), []
    try:
        space: Space = registry.load("space", name)()
        genotype = space.from_string([text])
    except (NasplugError, TypeError):  # a space that is not installed, or takes arguments; another space's string
        return (), []
    graphs = space.graphs(genotype[0])
    if graphs or space.n_sites > MOST_PARAMETERS:
        return graphs, []
    return (), [(name, str(value)) for name, value in space.to_params(genotype)[0].items()]
