"""Good-practice checklists, filled from what a comparison actually did.

Sources: Lindauer and Hutter, Best practices for scientific research on neural architecture search, JMLR 21(243), 2020
(14 items); Yang, Esperanca and Carlucci, NAS evaluation is frustratingly hard, ICLR 2020 (7 items). The words are ours.
The last group, how much a person intervenes, is a stand-in of our own: the published one was not available to us.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any, Literal

__all__ = ["fill_checklist"]

Status = Literal["met", "not met", "not applicable"]


def fill_checklist(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return one entry a practice: source, number, item, status and the sentence of evidence.

    Args:
        summary: the summary of a comparison without its checklist.
    """
    groups = (
        ("Lindauer & Hutter 2020", count(1), _best_practice(summary)),
        ("Yang et al. 2020", count(1), _frustrating(summary)),
        ("human intervention (nasplug's own stand-in)", iter("abcdef"), _intervention(summary)),
    )
    return [
        {"source": source, "number": str(number), "item": item, "status": status, "evidence": evidence}
        for source, numbers, items in groups
        for number, (item, status, evidence) in zip(numbers, items, strict=False)
    ]


_Item = tuple[str, Status, str]
"""Practice, status, evidence; its number is its place in the list."""


def _met(condition: object) -> Status:
    return "met" if condition else "not met"


def _training(summary: Mapping[str, Any]) -> tuple[Status, str]:
    """Return status and evidence of practices of training."""
    if not summary["trains"]:
        return "not applicable", "No network is trained here: every label comes from a table."
    return "met", f"Trained here, by what is installed beside this report: {', '.join(summary['trains'])}."


def _best_practice(summary: Mapping[str, Any]) -> list[_Item]:
    benchmarks, rows = summary["benchmarks"], summary["rows"]
    strategies = list(dict.fromkeys(row["strategy"] for row in rows))
    bases = [name.partition(":")[0] for name in strategies]
    variants = sorted({base for base in bases if bases.count(base) > 1})
    version = summary["environment"].get("nasplug")
    sums = [one.get("checksum") for one in benchmarks.values()]
    same_split = [name for name, one in benchmarks.items() if one["search_signal"] == one["report_signal"]]
    on_test = [name for name, one in benchmarks.items() if one["search_signal"].startswith("test")]
    timed = [one["benchmark"] for one in summary["anytime"] if one["seconds"] is not None]
    listed = [name for name, one in benchmarks.items() if one["rows"]]
    finished = min((row["seeds"] for row in rows), default=0)
    runs_random = "random" in strategies
    lost = len(summary["failures"])
    seeds = f"seeds {summary['seed']} to {summary['seed'] + summary['seeds'] - 1}"
    return [
        ("Release the training pipeline", *_training(summary)),
        (
            "Release the code of the method",
            "met",
            f"Everything that ran is installed beside nasplug {version}, in source.",
        ),
        (
            "Release it now, not when it is polished",
            _met(summary["command"]),
            f"One command repeats the study: {summary['command']}"
            if summary["command"]
            else "The study was started from Python; no command line is recorded.",
        ),
        (
            "Compare on the same benchmark, not only the same data set",
            _met(all(sums)),
            f"{len(sums)} tables, each fixed by its checksum."
            if all(sums)
            else "A benchmark has no checksum, so another run may see other labels.",
        ),
        (
            "Ablate",
            _met(variants),
            f"Variants of {', '.join(variants)} ran side by side."
            if variants
            else "Every strategy ran in one configuration; give it twice with different options to ablate it.",
        ),
        (
            "Same evaluation protocol for all; never select on what is reported",
            _met(not same_split and not on_test),
            f"Search and report look at the same labels on {', '.join(same_split)}."
            if same_split
            else f"The search selects by a test label on {', '.join(on_test)}."
            if on_test
            else "One loop for all strategies; report labels are looked up after the searches have ended.",
        ),
        (
            "Show performance as a function of compute",
            _met(rows),
            f"Anytime curves against queries everywhere, against simulated seconds on {len(set(timed))} of "
            f"{len(benchmarks)} benchmarks.",
        ),
        (
            "Compare with random sampling and with random search",
            _met(len(listed) == len(benchmarks) or runs_random),
            f"Random sampling and the expectation of random search at equal budget are exact on {len(listed)} of "
            f"{len(benchmarks)} benchmarks; random search itself {'ran too' if runs_random else 'was not run'}.",
        ),
        (
            "Repeat runs, with controlled and reported seeds",
            _met(finished >= 10 and not lost),
            f"{finished} or more finished runs a strategy and benchmark, {seeds}, the same for every strategy"
            + (f"; {lost} runs failed." if lost else "."),
        ),
        (
            "Use tabular or surrogate benchmarks for the statistics",
            _met(listed),
            f"{len(listed)} of {len(benchmarks)} benchmarks are tables.",
        ),
        (
            "Control what else may differ: hardware, library versions",
            _met(not summary["environment"].get("cluster")),
            "Runs were made by a cluster's workers; of its machines nothing is recorded."
            if summary["environment"].get("cluster")
            else "All runs on one environment, one thread each; versions and hardware are in the report.",
        ),
        (
            "Say how the method's own settings were tuned, and count that",
            "not met",
            "The comparison cannot see how options were chosen: strategies ran as named, defaults otherwise.",
        ),
        (
            "Report the end-to-end cost",
            _met(len(set(timed)) == len(benchmarks)),
            f"Every query is charged, failures included; seconds are known on {len(set(timed))} of {len(benchmarks)} "
            "benchmarks. The final training is not included.",
        ),
        (
            "Report all details of the set-up",
            _met(summary["command"] and all(sums)),
            "Command, seeds, budget, signals, checksums, versions and hardware are in summary.json.",
        ),
    ]


def _frustrating(summary: Mapping[str, Any]) -> list[_Item]:
    benchmarks = summary["benchmarks"]
    spaces = sorted({one["space"] for one in benchmarks.values()})
    spread = [name for name, one in benchmarks.items() if one.get("random_std") is not None]
    return [
        (
            "Report with and without training tricks",
            "not met" if summary["trains"] else "not applicable",
            "One recipe of training was used." if summary["trains"] else _training(summary)[1],
        ),
        (
            "Publish mean and spread of randomly sampled architectures",
            _met(len(spread) == len(benchmarks)),
            f"Exact mean, median and standard deviation over all architectures for {len(spread)} of "
            f"{len(benchmarks)} benchmarks.",
        ),
        (
            "Use spaces that contain bad networks too",
            _met(any((one.get("random_std") or 0) > 0.01 for one in benchmarks.values())),
            "Standard deviation of a random architecture: "
            + ", ".join(f"{name} {100 * benchmarks[name]['random_std']:.1f} %" for name in spread)
            + ".",
        ),
        (
            "Use several data sets of different kinds",
            _met(len(benchmarks) > 1),
            f"{len(benchmarks)} benchmarks over the spaces {', '.join(spaces)}.",
        ),
        (
            "Ablate every hidden component",
            "not applicable",
            "Operations, macro-structure and training are fixed by the benchmarks.",
        ),
        (
            "Release code, seeds and protocol; average over seeds; use tables",
            _met(summary["seeds"] > 1),
            f"{summary['seeds']} seeds; every evaluation is in results.parquet.",
        ),
        (
            "Retune nothing for a new task, or charge it to the budget",
            "met",
            "Each strategy ran with one configuration on every benchmark.",
        ),
    ]


def _intervention(summary: Mapping[str, Any]) -> list[_Item]:
    tasks = len(summary["benchmarks"])
    return [
        (
            "The space is not cut by hand for the task",
            "not met",
            "The spaces were designed by hand, by their authors.",
        ),
        (
            "Encodings and features are not picked by hand for the task",
            "met",
            f"One configuration a strategy served all {tasks} benchmarks.",
        ),
        (
            "The strategy's settings are not tuned for the task",
            "met",
            f"One configuration a strategy served all {tasks} benchmarks.",
        ),
        (
            "The stopping rule is not set by hand",
            "not met",
            f"The budget of {summary['budget']} queries was given.",
        ),
        (
            "Preprocessing is not specific to the task",
            "met" if summary["trains"] else "not applicable",
            "Images are normalised by their own mean and deviation." if summary["trains"] else _training(summary)[1],
        ),
        (
            "No person acts between the search and the final model",
            "met",
            "The recommendation is the best searched label, taken by rule.",
        ),
    ]
