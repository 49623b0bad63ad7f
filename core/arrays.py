"""Reading NumPy's ``.npz`` files from outside: plain arrays, no larger than the file says and the caller allows."""

from __future__ import annotations

import io
import math
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_arrays"]

MAX_ARRAYS = 1_000
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_arrays(path: Path, max_bytes: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file by name.

    numpy.load believes the header of an array and allocates what it asks for; here an array must be as large as its
    part of the file, which is looked at first. Objects are refused.

    Args:
        path: of the file.
        max_bytes: what all arrays together may unpack to.

    Raises: OSError where the file cannot be read; ValueError for everything that is no such file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MAX_ARRAYS or sum(one.file_size for one in members) > max_bytes:
                raise ValueError(f"it unpacks to more than {max_bytes} bytes or {MAX_ARRAYS} arrays")
            return {one.filename.removesuffix(".npy"): _array(archive.read(one)) for one in members}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, tokenize.TokenError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _array(data: bytes) -> NDArray[Any]:
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"an array of format {version}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        shape, fortran, dtype = _HEADERS[version](stream)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise ValueError(f"an array of {dtype} {shape} in {len(data) - stream.tell()} bytes")
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C").copy()
