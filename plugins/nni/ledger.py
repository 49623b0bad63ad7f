"""The tuner's own record of an experiment: what was asked, and what came of it.

NNI's record pairs configurations with the wrong results when trials run side by side; this one is written by the tuner,
which knows both. One JSON object a line, only ever appended to and on disk before NNI learns of it:

    {"event": "start", "format": 1, ...}        a dispatcher began; parameter ids may start anew
    {"event": "ask", "row": 0, "number": 0, "id": 0, "params": {...}, "source": "strategy", "time": 1.7e9}
    {"event": "end", "row": 0, "status": "ok", "value": 0.93, "job": "aBc12", "note": "", "time": 1.7e9}

A later ``end`` of a row replaces the earlier one.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from nasplug.errors import DataError
from nasplug.strategies import Status

__all__ = ["FILE", "Entry", "Ledger", "read_ledger"]

FILE = "nasplug-history.jsonl"
"""Name of the file in an experiment's checkpoint folder."""

FORMAT = 1
_log = logging.getLogger("nni.nasplug")


@dataclass
class Entry:
    """One configuration and what is known of it.

    Attributes:
        row: its place in the file.
        session: which start of the dispatcher asked for it, from 1.
        number: of the proposal, from 0 over the whole experiment; None for imported results.
        parameter_id: NNI's, unique within a session; None for imported results.
        params: as the trial receives them.
        source: ``strategy``; ``random``, in place of a strategy that failed; ``import``.
        asked_s: seconds since 1970.
        status: how it ended.
        value: what the trial reported, the experiment's own direction; a hint if pruned, None if there is none.
        job: NNI's id of the trial, where known.
        note: why it failed, or where the result came from.
    """

    row: int
    session: int
    number: int | None
    parameter_id: int | None
    params: Mapping[str, Any]
    source: str
    asked_s: float
    status: Status = Status.RUNNING
    value: float | None = None
    job: str | None = None
    note: str = ""


class Ledger:
    """The record of one experiment, in memory and, with a path, on disk.

    What is in the file is read first. A line that a crash cut short is dropped; a damaged one is left out with a
    warning. A disk that cannot be written is reported once, and the experiment goes on.

    Args:
        path: the file; None keeps the record in memory.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path | None = None):
        self.entries: list[Entry] = []
        self.starts: list[Mapping[str, Any]] = []
        self.proposals = 0
        """Number of the next proposal."""
        self._by_row: dict[int, Entry] = {}
        self._file: BinaryIO | None = None
        if path is not None:
            self._read(path)
            self._file = path.open("ab")

    # -- what happened -----------------------------------------------------------------------------------------------

    def start(self, facts: Mapping[str, Any]) -> None:
        """Begin a session; ``facts`` say what the tuner is."""
        self._write({"event": "start", "format": FORMAT, **facts, "time": time.time()})

    def ask(self, params: Sequence[Mapping[str, Any]], ids: Sequence[int], source: str) -> list[Entry]:
        """Record configurations that NNI is about to get under its parameter ids."""
        first = self._next_row()
        self._write(
            *(
                {
                    "event": "ask",
                    "row": first + i,
                    "number": self.proposals + i,
                    "id": parameter_id,
                    "params": one,
                    "source": source,
                    "time": time.time(),
                }
                for i, (one, parameter_id) in enumerate(zip(params, ids, strict=True))
            )
        )
        return self.entries[len(self.entries) - len(params) :]

    def add(self, params: Mapping[str, Any], value: float, note: str) -> Entry:
        """Record a result that was not asked for."""
        row = self._next_row()
        self._write(
            {"event": "ask", "row": row, "params": params, "source": "import", "time": time.time()},
            {"event": "end", "row": row, "status": "ok", "value": value, "note": note, "time": time.time()},
        )
        return self.entries[-1]

    def end(
        self, entry: Entry, status: Status, value: float | None = None, *, job: str | None = None, note: str = ""
    ) -> None:
        """Record how an evaluation ended; ``value`` is finite or None."""
        event = {"event": "end", "row": entry.row, "status": status.name.lower(), "value": value}
        self._write({**event, "job": job, "note": note, "time": time.time()})

    # -- the file ----------------------------------------------------------------------------------------------------

    def _next_row(self) -> int:
        return max(self._by_row, default=-1) + 1

    def _write(self, *events: Mapping[str, Any]) -> None:
        text = "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events)
        for event in events:
            self._take(event)
        if self._file is None:
            return
        try:
            self._file.write(text.encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            _log.error("the history cannot be written (%s); the experiment goes on but cannot be resumed whole", error)
            self._file = None

    def _read(self, path: Path) -> None:
        if not path.exists():
            return
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            _log.warning("the last line of %s was cut short, by a crash perhaps, and is dropped", path)
            os.truncate(path, whole)
        self._take_lines(data[:whole], path)

    def _take_lines(self, data: bytes, path: Path) -> None:
        for number, line in enumerate(data.splitlines(), start=1):
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                _log.warning("line %d of %s is damaged and left out: %s", number, path, error)

    def _take(self, event: Mapping[str, Any]) -> None:
        """Apply one event; raises ValueError, KeyError or TypeError for one that makes no sense."""
        match event["event"]:
            case "start":
                if event["format"] != FORMAT:
                    raise ValueError(f"format {event['format']!r}, this version reads {FORMAT}")
                self.starts.append(event)
            case "ask":
                row, params, number = event["row"], event["params"], event.get("number")
                if not isinstance(row, int) or row in self._by_row or not isinstance(params, dict):
                    raise ValueError("expected a new row and an object of parameters")
                entry = Entry(
                    row, len(self.starts), number, event.get("id"), params, str(event["source"]), float(event["time"])
                )
                if number is not None:
                    self.proposals = max(self.proposals, int(number) + 1)
                self._by_row[row] = entry
                self.entries.append(entry)
            case "end":
                entry = self._by_row[event["row"]]
                value = event.get("value")
                status = Status[str(event["status"]).upper()]
                if (value is not None and not math.isfinite(value)) or (status is Status.OK and value is None):
                    raise ValueError(f"value {value!r} with status {status.name}")
                entry.status, entry.value = status, value
                entry.job, entry.note = event.get("job"), str(event.get("note", ""))
            case other:
                raise ValueError(f"unknown event {other!r}")


def read_ledger(path: Path) -> Ledger:
    """Return the record in a file, which is not changed; raises DataError where there is none."""
    if not path.is_file():
        raise DataError(f"no history at {path}; only experiments that ran a tuner of nasplug have one")
    ledger = Ledger()
    data = path.read_bytes()
    ledger._take_lines(data[: data.rfind(b"\n") + 1], path)  # an experiment may be writing the rest
    if not ledger.starts:
        raise DataError(f"{path} is not a history that a tuner of nasplug wrote")
    return ledger
