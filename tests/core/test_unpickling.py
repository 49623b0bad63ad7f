import os
import pickle
import struct
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from nasplug.errors import DataError
from nasplug.unpickling import ARRAY_NAMES, RESULT_NAMES, PickledArray, load_pickle


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


@pytest.mark.parametrize("name", ["builtins\neval", "numpy\nload", "builtins\ngetattr", "nasplug.unpickling\nos"])
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


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["u1", "<i8", ">i4", "f4", ">f8"])
def test_arrays_of_numbers(kind: str, order: Literal["C", "F"], protocol: int) -> None:
    array = np.arange(6, dtype=kind).reshape(2, 3).copy(order)
    read = load_pickle(pickle.dumps({"a": array}, protocol), "file", ARRAY_NAMES)["a"]
    assert isinstance(read, PickledArray)
    np.testing.assert_array_equal(read.values, array)
    assert read.values.dtype == array.dtype
    assert not read.values.flags.writeable


def test_arrays_are_read_only_where_they_are_asked_for() -> None:
    with pytest.raises(DataError, match="not safe to read"):
        load_pickle(pickle.dumps(np.arange(3)), "file")


@pytest.mark.parametrize(
    "array", [np.array([{}, 1], dtype=object), np.array(["a"]), np.zeros(2, "datetime64[s]"), np.zeros(2, "u1,u1")]
)
def test_arrays_of_anything_else_are_refused(array: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"truncated or not a pickle|not safe to read"):
        load_pickle(pickle.dumps(array), "file", ARRAY_NAMES)


def test_an_array_cannot_claim_more_than_the_file_holds() -> None:
    honest = pickle.dumps(np.zeros(300, np.uint8), 2)
    assert honest.count(b"M\x2c\x01\x85") == 1  # its shape, (300,)
    with pytest.raises(DataError, match="cannot reshape"):
        load_pickle(honest.replace(b"M\x2c\x01\x85", b"J\xff\xff\xff\x7f\x85"), "file", ARRAY_NAMES)
    # Protocol 5 hands over a buffer; bytes(2**40) would be a terabyte of zeros.
    dtype = b"cnumpy\ndtype\n(X\x02\x00\x00\x00u1\x89\x88tR"
    buffer = b"\x80\x04cnumpy._core.numeric\n_frombuffer\n(\x8a\x06\x00\x00\x00\x00\x00\x01" + dtype
    with pytest.raises(DataError, match="a bytes-like object is required"):
        load_pickle(buffer + b"K\x01\x85X\x01\x00\x00\x00CtR.", "file", ARRAY_NAMES)


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
