"""What an experiment found, from the tuner's own record; neither NNI nor a running experiment is needed."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasplug.errors import DataError, InputError
from nasplug.plugins.nni.ledger import FILE, Entry, Ledger, read_ledger
from nasplug.registry import configure
from nasplug.strategies import Status

__all__ = ["Export", "read_experiment", "write_export"]

COLUMNS = ("number", "architecture", "value", "status", "job", "source", "note")


@dataclass(frozen=True)
class Export:
    """An experiment's trials in the order in which they were asked for, JSON-ready.

    Attributes:
        about: the tuner's arguments.
        trials: ``number``, ``architecture`` (a string of the named space, else JSON), ``params``, ``value`` (as
            reported; of a pruned trial a hint), ``status``, ``job``, ``source``, ``note``.
    """

    about: dict[str, Any]
    trials: list[dict[str, Any]]

    @property
    def best(self) -> dict[str, Any] | None:
        """The finished trial with the best value, None while nothing has finished."""
        done = [trial for trial in self.trials if trial["status"] == "ok"]
        sign = -1 if self.about["optimize_mode"] == "minimize" else 1
        return max(done, key=lambda trial: sign * trial["value"], default=None)


def read_experiment(experiment: str) -> Export:
    """Return the trials of an experiment: its id in this user's home, its folder, or the history file.

    Raises: DataError where there is none, or it was not written by a tuner of nasplug.
    """
    ledger = read_ledger(_find(experiment))
    about = {key: value for key, value in ledger.starts[-1].items() if key not in ("event", "format", "time")}
    if "optimize_mode" not in about:
        raise DataError(f"the history of {experiment} does not say what its tuner was")
    texts = _architectures(ledger, about.get("space"))
    return Export(about, [_row(entry, text) for entry, text in zip(ledger.entries, texts, strict=True)])


def _find(experiment: str) -> Path:
    path = Path(experiment)
    if path.is_file():
        return path
    if path.is_dir():
        return next((one for one in (path / FILE, path / "checkpoint" / FILE) if one.exists()), path / FILE)
    home = Path.home() / "nni-experiments"
    folder = home / experiment
    try:
        listed = json.loads((home / ".experiment").read_text(encoding="utf-8"))
        folder = Path(listed[experiment]["logDir"]) / experiment
    except (OSError, ValueError, KeyError, TypeError):
        pass
    if not folder.is_dir():
        raise DataError(f"no experiment {experiment!r} in {home}; give its id, its folder, or the file {FILE} in it")
    return folder / "checkpoint" / FILE


def _architectures(ledger: Ledger, space_name: str | None) -> list[str]:
    params = [entry.params for entry in ledger.entries]
    if space_name is not None and params:
        try:
            space = configure("space", space_name)
            return list(space.to_string(space.from_params(params)))
        except InputError:
            pass  # a space of another installation, or edited by hand: the parameters still say all
    return [json.dumps(one, separators=(",", ":")) for one in params]


def _row(entry: Entry, architecture: str) -> dict[str, Any]:
    return {
        "number": entry.number,
        "architecture": architecture,
        "params": dict(entry.params),
        "value": entry.value,
        "status": Status(entry.status).name.lower(),
        "job": entry.job,
        "source": entry.source,
        "note": entry.note,
    }


def write_export(export: Export, path: Path) -> int:
    """Write a ``.json`` file of all trials, or a ``.csv`` of those that finished, as ``nasplug data add`` reads it.

    Returns: how many trials were written.

    Raises: InputError for another ending; DataError where the file cannot be written.
    """
    from nasplug.files import write_whole

    match path.suffix:
        case ".json":
            trials = export.trials
            text = json.dumps({**export.about, "trials": trials}, indent=1) + "\n"
            write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
        case ".csv":
            trials = [trial for trial in export.trials if trial["status"] == "ok"]
            write_whole(path, lambda part: _save_csv(trials, part))
        case other:
            raise InputError(f"expected a file ending in .csv or .json, got {other or str(path)!r}")
    return len(trials)


def _save_csv(trials: Sequence[dict[str, Any]], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(trials)
