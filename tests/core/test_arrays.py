"""NumPy files from outside: plain arrays of the size that is there, or an error."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from nasplug.arrays import read_arrays


def npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def header(text: str, version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text.encode()


def test_what_numpy_saves_comes_back(tmp_path: Path) -> None:
    arrays = {
        "floats": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "text": np.array("hé"),
        "empty": np.empty((0, 4), np.float32),
        "scalar": np.array(3),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        found = read_arrays(tmp_path / "a.npz", 10_000)
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype
        found["floats"][0, 0] = 1  # writable, and its own


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }\n"), "in 0 bytes"),
        (header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n") + b"\x80\x04N.", "of object"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (1,"), "TokenError|header"),
        (header("", b"\x03\x00"), "format"),
        (b"no array at all", "magic"),
        (b"", "reading magic"),
    ],
)
def test_other_members_are_refused(tmp_path: Path, content: bytes, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        read_arrays(npz(tmp_path / "a.npz", array=content), 10_000)


def test_files_that_unpack_to_too_much_or_are_none(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", zeros=np.zeros(10_000))
    with pytest.raises(ValueError, match="unpacks to more than 1000 bytes"):
        read_arrays(tmp_path / "a.npz", 1000)
    (tmp_path / "b.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match="BadZipFile"):
        read_arrays(tmp_path / "b.npz", 1000)
    with pytest.raises(OSError, match="No such file"):
        read_arrays(tmp_path / "c.npz", 1000)
    data = io.BytesIO()
    np.savez(data, x=np.arange(3))
    (tmp_path / "d.npz").write_bytes(data.getvalue().replace(struct.pack("<q", 2), struct.pack("<q", 9)))
    with pytest.raises(ValueError, match="CRC"):
        read_arrays(tmp_path / "d.npz", 1000)
