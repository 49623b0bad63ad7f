"""Tasks of a data set: named groups of its classes. Imports no torch.

Shapes: t tasks; k classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from nasplug.errors import DataError, InputError, UnknownNameError

__all__ = ["ALL", "DEFAULTS", "Tasks", "read_tasks"]

ALL = "all"
"""The task of all classes, which every list has."""

DEFAULTS: Mapping[str, Mapping[str, Sequence[int]]] = {
    "digits": {"round": (0, 4, 6), "straight": (1, 7), "curved": (2, 3, 5), "loops": (8, 9)},
    "cifar10": {"vehicles": (0, 1, 8, 9), "animals": (2, 3, 4, 5, 6, 7)},
}
"""Data set -> its tasks where none are named."""

LARGEST_FILE = 2**20


@dataclass(frozen=True)
class Tasks:
    """Groups of two or more of the classes 0 to ``total - 1``; they may overlap, and need not cover all.

    Args:
        groups: name -> classes.
        total: number of classes k of the data set.

    Raises: InputError without a task; for a task of fewer than two classes, of a class that does not exist or stands
        in it twice; for one named :data:`ALL` that is not all.
    """

    groups: Mapping[str, Sequence[int]]
    total: int

    def __post_init__(self) -> None:
        if not self.groups:
            raise InputError("there is no task; name at least one group of classes")
        for name, classes in self.groups.items():
            wrong = [c for c in classes if isinstance(c, bool) or not isinstance(c, int) or not 0 <= c < self.total]
            if wrong:
                raise InputError(f"task {name!r}: classes are integers of 0 to {self.total - 1}, got {wrong[0]!r}")
            if len(set(classes)) != len(classes):
                raise InputError(f"task {name!r} names a class twice: {list(classes)}")
            if len(classes) < 2:
                raise InputError(
                    f"task {name!r} has {len(classes)} classes and nothing to tell apart; a task has at least 2"
                )
            if name == ALL and len(classes) != self.total:
                raise InputError(f"the task {ALL!r} is that of all {self.total} classes; give {list(classes)} a name")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the tasks, without :data:`ALL`."""
        return tuple(name for name in self.groups if name != ALL)

    @cached_property
    def masks(self) -> NDArray[np.bool_]:
        """Which classes belong to each of :attr:`names`, ``(t, k)``."""
        return np.array([self.mask(name) for name in self.names], dtype=bool).reshape(-1, self.total)

    def mask(self, name: str) -> NDArray[np.bool_]:
        """Return which classes a task has, ``(k,)``; raises UnknownNameError for another name."""
        if name == ALL:
            return np.ones(self.total, dtype=bool)
        if name not in self.groups:
            raise UnknownNameError("task", str(name), (*self.groups, ALL))
        mask = np.zeros(self.total, dtype=bool)
        mask[list(self.groups[name])] = True
        return mask


def read_tasks(path: Path, total: int) -> Tasks:
    """Return the tasks of a YAML file, ``name: [class, class, ...]`` a line.

    Raises: DataError for a file that cannot be read or is no such mapping; InputError as :class:`Tasks`.
    """
    expected = "expected lines such as 'round: [0, 4, 6]', a name and the numbers of its classes"
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise DataError(f"{path} has {path.stat().st_size} bytes; {expected}")
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read the tasks {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path} is no YAML ({' '.join(str(error).split())[:120]}); {expected}") from error
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(classes, list) for name, classes in content.items()
    ):
        raise DataError(f"{path} holds no tasks; {expected}")
    try:
        return Tasks(content, total)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
