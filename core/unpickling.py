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
from typing import Any, BinaryIO, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import DataError

__all__ = ["ARRAY_NAMES", "RESULT_NAMES", "PickledArray", "load_pickle"]


class _Dtype:
    """What a pickle says about a NumPy scalar type; unlike numpy.dtype it cannot be talked into reading memory."""

    _STRUCT: ClassVar = {"f8": "d", "f4": "f", "i8": "q", "i4": "i", "u1": "B"}

    def __init__(self, code: str, align: Any = False, copy: Any = False):
        self.code, self.order = str(code), "<"

    def __setstate__(self, state: Any) -> None:
        self.order = str(state[1]) if state[1] in ("<", ">") else "<"

    def unpack(self, data: bytes) -> float:
        number: float = struct.unpack(self.order + self._STRUCT[self.code], data)[0]
        return number

    def array(self, data: bytes | memoryview, shape: Any, order: Literal["C", "F"]) -> NDArray[Any]:
        return np.frombuffer(data, self.order + self._STRUCT[self.code]).reshape(shape, order=order)


class PickledArray:
    """What a pickle says is a NumPy array: numbers that are in the file, one for one, so no larger than it.

    Attributes:
        values: the array, read-only.
    """

    def __init__(self) -> None:
        self.values: NDArray[Any] = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.values = dtype.array(_bytes(data), shape, "F" if fortran else "C")


def _reconstruct(kind: Any, shape: Any, code: Any) -> PickledArray:
    """Return an array still without values: they come by ``__setstate__``."""
    return PickledArray()


def _frombuffer(data: bytes | bytearray, dtype: _Dtype, shape: Any, order: Any) -> PickledArray:
    """Return an array as protocol 5 spells it."""
    made = PickledArray()
    made.values = dtype.array(memoryview(data).toreadonly(), shape, order)
    return made


def _bytes(data: bytes | str) -> bytes:
    """Return the bytes of a string: Python 2, whose strings were bytes, is read as Latin-1."""
    return data if isinstance(data, bytes) else data.encode("latin-1")


def _scalar(dtype: _Dtype, data: Any) -> float:
    return dtype.unpack(_bytes(data))


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

ARRAY_NAMES: Allowed = {
    **RESULT_NAMES,
    ("numpy", "ndarray"): PickledArray,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
}
"""The same and NumPy arrays of numbers, which become :class:`PickledArray`."""


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: BinaryIO, allowed: Allowed, persistent: Callable[[Any], Any]):
        super().__init__(stream, encoding="latin-1")
        self._allowed, self._persistent = allowed, persistent
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

    def persistent_load(self, pid: Any) -> Any:
        """Return what stands for a tensor's storage in a torch file."""
        return self._persistent(pid)


def load_pickle(
    data: bytes | BinaryIO,
    what: str,
    allowed: Allowed = RESULT_NAMES,
    *,
    persistent: Callable[[Any], Any] = lambda pid: None,
) -> Any:
    """Return the value of one pickle, built from plain types and ``allowed`` names only.

    Args:
        data: the pickle, or an open binary file that stands at one (and after the call, behind it).
        what: file name, for messages.
        allowed: ``(module, name)`` -> what stands for it.
        persistent: from the identifier of a tensor's storage to what stands for it; by default weights are left where
            they are.

    Raises:
        DataError: truncated or corrupt, or it asks for another name.
    """
    try:
        return _Unpickler(io.BytesIO(data) if isinstance(data, bytes) else data, allowed, persistent).load()
    except DataError as error:
        raise DataError(f"{what} is not safe to read: {error}") from None
    except Exception as error:  # damaged pickles raise nearly anything
        raise DataError(
            f"{what} is truncated or not a pickle ({type(error).__name__}: {error}); get it again"
        ) from None
