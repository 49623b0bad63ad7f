import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from nasplug.benchmarks.unpickling import RESULT_NAMES, load_pickle
from nasplug.errors import DataError


class Hostile:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_numpy_numbers_become_floats(protocol: int) -> None:
    value = {"a": np.float64(0.25), "b": [np.int64(3), np.float32(0.5)], "c": 1, "d": (None, "x", b"\xff")}
    read = load_pickle(pickle.dumps(value, protocol), "file")
    assert read == {"a": 0.25, "b": [3, 0.5], "c": 1, "d": (None, "x", b"\xff")}
    assert type(read["a"]) is float


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_is_run(tmp_path: Path, protocol: int) -> None:
    data = pickle.dumps([1, {"x": Hostile(tmp_path / "pwned")}], protocol)
    with pytest.raises(DataError, match=r"bench\.pkl is not safe to read: it asks for (posix|nt)\.system.*not run"):
        load_pickle(data, "bench.pkl")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["builtins\neval", "numpy\nload", "builtins\ngetattr", "nasplug.benchmarks.unpickling\nos"]
)
def test_no_other_name_is_known(name: str) -> None:
    with pytest.raises(DataError, match="not safe"):
        load_pickle(f"c{name}\n.".encode(), "file")


def test_dtype_cannot_be_talked_into_reading_memory() -> None:
    # An object dtype over raw bytes would be a pointer; here it is a number type that does not exist.
    scalar = b"cnumpy.core.multiarray\nscalar\n"
    dtype = b"cnumpy\ndtype\n(X\x02\x00\x00\x00O8\x89\x88tR"
    with pytest.raises(DataError, match="truncated or not a pickle"):
        load_pickle(b"\x80\x02" + scalar + dtype + b"C\x08" + struct.pack("<Q", 0x4141414141414141) + b"\x86R.", "file")


@pytest.mark.parametrize("data", [b"", b"hello", pickle.dumps(list(range(1000)))[:-1], b"\x80\x04K"])
def test_damage(data: bytes) -> None:
    with pytest.raises(DataError, match=r"file is truncated or not a pickle.*get it again"):
        load_pickle(data, "file")


def test_several_pickles_of_one_stream(tmp_path: Path) -> None:
    path = tmp_path / "two"
    path.write_bytes(pickle.dumps(1) + pickle.dumps("second"))
    with path.open("rb") as stream:
        assert load_pickle(stream, "file", {}) == 1
        assert load_pickle(stream, "file", {}) == "second"


class Plain:
    """Stands for a foreign class."""


def test_what_a_pickle_does_to_a_stand_in_ends_with_it() -> None:
    attributes = b"(N}V__defaults__\n(I1\ntst" + b"b."  # BUILD with attributes to set
    with pytest.raises(DataError, match="truncated or not a pickle"):
        load_pickle(b"cnumpy._core.multiarray\nscalar\n" + attributes, "x.pkl")
    assert RESULT_NAMES["numpy._core.multiarray", "scalar"].__defaults__ is None
    changed = load_pickle(b"cforeign\nPlain\n" + attributes, "x.pkl", {("foreign", "Plain"): Plain})
    assert changed.__defaults__ == (1,)
    assert not hasattr(Plain, "__defaults__")
