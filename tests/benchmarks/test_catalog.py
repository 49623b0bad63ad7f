from pathlib import Path

import numpy as np
import pytest

from nasplug.benchmarks import Signal, Table, TableInfo, benchmark_names, open_benchmark, write_table
from nasplug.benchmarks.catalog import table_path, user_tables
from nasplug.errors import DataError, InputError, UnknownNameError
from nasplug.spaces import NASBench201


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NASPLUG_DATA", str(tmp_path))
    space = NASBench201()
    info = TableInfo("nasbench201", Signal("valid"), Signal("valid"), "made up", "MIT")
    table = Table(info, space, space.all()[:4], {"valid": np.arange(4) / 10})
    write_table(table.to_arrow(), tmp_path / "tables" / "mine.arrow")
    (tmp_path / "tables" / ".half-written.tmp").write_text("x")
    return tmp_path


def test_names_and_opening(folder: Path) -> None:
    assert benchmark_names()[-1] == "mine"
    assert "nasbench201-cifar10" in benchmark_names()
    assert list(user_tables()) == ["mine"]
    by_name, by_file = open_benchmark("mine"), open_benchmark(str(folder / "tables" / "mine.arrow"))
    assert by_name.name == by_file.name == "mine"
    assert by_name.provenance() == by_file.provenance()


def test_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASPLUG_DATA", str(tmp_path / "none"))
    assert user_tables() == {}


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match="did you mean nasbench201-cifar10"):
        open_benchmark("nasbench201-cifar1O")
    with pytest.raises(DataError, match="no table file"):
        open_benchmark("absent.arrow")


@pytest.mark.parametrize("name", ["", "../up", "a b", "-x", "x" * 101, "nasbench201-cifar10", "a/b"])
def test_names_that_cannot_be_tables(name: str) -> None:
    with pytest.raises(InputError, match="name"):
        table_path(name)
