"""Reading pickles from outside without running them.

A pickle is a program. Here it may build plain Python values and, of the names it asks for, only those that the caller
maps to harmless ones; any other name stops the reading before anything of it is imported.
"""

from __future__ import annotations

import inspect
import io
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, BinaryIO, ClassVar

from nasplug.errors import DataError

__all__ = ["RESULT_NAMES", "load_pickle"]


class _Dtype:
    """What a pickle says about a NumPy scalar type; unlike numpy.dtype it cannot be talked into reading memory."""

    _STRUCT: ClassVar = {"f8": "d", "f4": "f", "i8": "q", "i4": "i"}

    def __init__(self, code: str, align: Any = False, copy: Any = False):
        self.code, self.order = str(code), "<"

    def __setstate__(self, state: Any) -> None:
        self.order = str(state[1]) if state[1] in ("<", ">") else "<"

    def unpack(self, data: bytes) -> float:
        number: float = struct.unpack(self.order + self._STRUCT[self.code], data)[0]
        return number


def _scalar(dtype: _Dtype, data: Any) -> float:
    return dtype.unpack(data if isinstance(data, bytes) else data.encode("latin-1"))


def _encode(text: str, encoding: str) -> bytes:
    """``_codecs.encode``, by which protocol 2 spells bytes; only Latin-1."""
    return str(text).encode("latin-1")


Allowed = Mapping[tuple[str, str], Callable[..., Any]]

RESULT_NAMES: Allowed = {
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
}
"""Names that result files use: plain containers, and NumPy numbers, which become Python floats."""


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: BinaryIO, allowed: Allowed):
        super().__init__(stream)
        self._allowed = allowed
        self._given: dict[tuple[str, str], Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name, made anew: a pickle may set attributes on it, and must not reach the next."""
        asked = module, name
        if asked not in self._allowed:
            raise DataError(f"it asks for {module}.{name}, which result data have no use for; it was not run")
        if asked not in self._given:
            ours = self._allowed[asked]
            if inspect.isfunction(ours):
                ours = partial(ours)
            elif isinstance(ours, type) and ours.__module__ != "builtins" and ours is not OrderedDict:
                ours = type(ours.__name__, (ours,), {})
            self._given[asked] = ours
        return self._given[asked]

    def persistent_load(self, pid: Any) -> None:
        """Stand for a tensor's storage in a torch file: weights are left where they are."""


def load_pickle(data: bytes | BinaryIO, what: str, allowed: Allowed = RESULT_NAMES) -> Any:
    """Return the value of one pickle, built from plain types and ``allowed`` names only.

    Args:
        data: the pickle, or an open binary file that stands at one (and after the call, behind it).
        what: file name, for messages.
        allowed: ``(module, name)`` -> what stands for it.

    Raises:
        DataError: truncated or corrupt, or it asks for another name.
    """
    try:
        return _Unpickler(io.BytesIO(data) if isinstance(data, bytes) else data, allowed).load()
    except DataError as error:
        raise DataError(f"{what} is not safe to read: {error}") from None
    except Exception as error:  # damaged pickles raise nearly anything
        raise DataError(
            f"{what} is truncated or not a pickle ({type(error).__name__}: {error}); get it again"
        ) from None
