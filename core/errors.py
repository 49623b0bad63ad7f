"""The errors that nasplug raises for bad input.

Each says what was expected, what came and what to do. They inherit the matching builtin as well, so ``except
ValueError`` keeps working; the command line turns any of them into one line and exit code 2.
"""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "DataError",
    "InputError",
    "MissingDependencyError",
    "NasplugError",
    "SpaceExhaustedError",
    "TrainingError",
    "UnknownNameError",
]


class NasplugError(Exception):
    """Base of all errors raised on purpose by nasplug."""


class InputError(NasplugError, ValueError):
    """An argument, option or value that cannot be used."""


class DataError(InputError):
    """A file or table that is missing, damaged or does not hold what was asked."""


class SpaceExhaustedError(InputError):
    """Every architecture of the space is already in the history."""


class TrainingError(NasplugError, ArithmeticError):
    """A training that cannot go on: its loss is no number, or nothing is left that could learn.

    Attributes:
        remedy: what to do about it, a sentence without its full stop.
    """

    remedy = "Lower the learning rate, or look at the images"


class MissingDependencyError(NasplugError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""


class UnknownNameError(InputError, LookupError):
    """A name that is not registered; the message offers the nearest ones.

    Args:
        kind: what was looked up, singular, for example ``"strategy"``.
        name: the name that came.
        known: the names that exist.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]):
        known = sorted(known)
        near = get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known) or 'none'}"
        super().__init__(f"unknown {kind} {name!r}; {hint}")
        self._given = (kind, name, known)

    def __reduce__(self) -> tuple[type, tuple[str, str, list[str]]]:
        """Travel between processes: an exception is otherwise rebuilt from its message alone."""
        return type(self), self._given
