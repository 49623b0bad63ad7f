import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from nasplug.benchmarks import Signal, Table, TableBenchmark, TableInfo, read_table, write_table
from nasplug.benchmarks import table as table_module
from nasplug.errors import DataError, InputError, UnknownNameError
from nasplug.spaces import NASBench201

SPACE = NASBench201()
INFO = TableInfo(
    "nasbench201", Signal("valid", 200, "one"), Signal("test", 200), "made up", "MIT", ("made up numbers",)
)


def make(rows: int = 50, seed: int = 0, info: TableInfo = INFO) -> Table:
    rng = np.random.default_rng(seed)
    genotypes = SPACE.all()[rng.permutation(SPACE.size)[:rows]]
    valid = rng.uniform(0.1, 0.9, size=(rows, 3))
    valid[::2, 1] = np.nan  # a hole: seeds move up to fill it
    columns = {
        "valid@12": valid[:, 2] / 2,
        "valid@200": valid,
        "test@200": rng.uniform(0.1, 0.9, size=rows),
        "train_s@200": rng.uniform(10, 20, size=rows),
        "params": np.rint(rng.uniform(1e5, 1e6, size=rows)),
    }
    return Table(info, SPACE, genotypes, columns)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_table(make().to_arrow(), tmp_path / "small.arrow")
    return tmp_path / "small.arrow"


def test_round_trip(path: Path) -> None:
    written, read = make(), read_table(path)
    assert read.name == "small"
    assert read.rows == 50
    assert read.info == INFO
    assert (read.search, read.report, read.notes[:-1]) == (INFO.search, INFO.report, INFO.notes)
    assert "holds 50 of the 15625 architectures of nasbench201" in read.notes[-1]
    complete = TableBenchmark("all", make(SPACE.size).to_arrow())
    assert complete.notes == INFO.notes
    assert np.array_equal(read.architectures(), written.genotypes)
    assert (np.diff(SPACE.keys(read.architectures())) > 0).all()
    for name, values in written.columns.items():
        assert np.array_equal(read.column(name), values.reshape(50, -1), equal_nan=True)
    write_table(read.table().to_arrow(), path.with_name("again"))
    assert path.with_name("again").read_bytes() == path.read_bytes()


def test_bytes_depend_on_content_only(tmp_path: Path) -> None:
    shuffled = make()
    order = np.random.default_rng(1).permutation(50)
    other = Table(INFO, SPACE, shuffled.genotypes[order], {k: v[order] for k, v in shuffled.columns.items()})
    for name, one in (("a", shuffled), ("b", other)):
        write_table(one.to_arrow(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_query_by_row_seed_epochs(path: Path) -> None:
    table, benchmark = make(), read_table(path)
    rows = np.random.default_rng(2).integers(50, size=200)
    genotypes, valid = table.genotypes[rows], table.columns["valid@200"]
    assert np.array_equal(benchmark.query(genotypes, "valid"), np.nanmean(valid, axis=1)[rows])
    assert np.array_equal(benchmark.query(genotypes, "valid", epochs=12), table.columns["valid@12"][rows])
    assert np.array_equal(benchmark.query(genotypes, "valid", seed=1), valid[rows, 1])
    assert np.array_equal(benchmark.query(genotypes, "params"), table.columns["params"][rows])
    assert benchmark.query(genotypes[:0], "valid").shape == (0,)


def test_seeds_are_packed_and_counted(path: Path) -> None:
    benchmark = read_table(path)
    assert benchmark.n_seeds("valid") == 2  # every second architecture has two of three
    assert benchmark.n_seeds("test") == 1
    assert benchmark.columns()["valid@200"] == 3
    assert not np.isnan(benchmark.column("valid@200")[:, :2]).any()
    with pytest.raises(DataError, match=r"seeds 0\.\.1 of valid, got 2"):
        benchmark.query(benchmark.architectures(), "valid", seed=2)


def test_one_and_others_share_no_training(path: Path) -> None:
    benchmark = read_table(path)
    genotypes, values = benchmark.architectures(), benchmark.column("valid@200")
    for run in range(4):
        shown = run % 2
        assert np.array_equal(benchmark.labels(genotypes, Signal("valid", 200, "one"), run), values[:, shown])
        others = benchmark.labels(genotypes, Signal("valid", 200, "others"), run)
        assert np.array_equal(others, np.nanmean(np.delete(values, shown, axis=1), axis=1))  # a third seed counts
    assert np.array_equal(benchmark.labels(genotypes, Signal("valid", 200)), np.nanmean(values, axis=1))
    with pytest.raises(InputError, match="others' needs two"):
        benchmark.labels(genotypes, Signal("test", 200, "others"))


def test_cost_is_the_training_of_that_length(path: Path) -> None:
    benchmark = read_table(path)
    genotypes = benchmark.architectures()
    assert np.array_equal(benchmark.cost_s(genotypes, Signal("valid")), benchmark.column("train_s@200")[:, 0])
    assert np.isnan(benchmark.cost_s(genotypes, Signal("valid", 12))).all()


def test_refuses_what_it_does_not_hold(path: Path) -> None:
    benchmark = read_table(path)
    held = set(SPACE.keys(benchmark.architectures()).tolist())
    absent = next(key for key in range(SPACE.size) if key not in held)
    asked = np.concatenate([benchmark.architectures()[:3], SPACE.all()[absent : absent + 1]])
    with pytest.raises(DataError) as caught:
        benchmark.query(asked, "valid")
    assert SPACE.to_string(asked[3:])[0] in str(caught.value)
    assert "row 3" in str(caught.value)
    assert "50 of the 15625" in str(caught.value)
    for extreme in ([0] * 6, [4] * 6):
        if SPACE.keys(np.array([extreme]))[0] not in held:
            with pytest.raises(DataError, match="does not hold"):
                benchmark.query(np.array([extreme]), "valid")
    with pytest.raises(UnknownNameError, match="did you mean valid"):
        benchmark.query(asked[:1], "vallid")
    with pytest.raises(DataError, match="valid at 12, 200 epochs, got 90"):
        benchmark.query(asked[:1], "valid", epochs=90)
    with pytest.raises(DataError, match="no training length"):
        benchmark.query(asked[:1], "params", epochs=12)


@pytest.mark.parametrize(
    "bad", [np.full((1, 6), 9), np.full((1, 6), -1), np.zeros((1, 5), int), np.zeros(6, int), np.zeros((1, 6))]
)
def test_refuses_what_is_no_architecture(path: Path, bad: np.ndarray) -> None:
    with pytest.raises(InputError, match="nasbench201"):
        read_table(path).query(bad, "valid")


def test_out_of_range_codes_never_alias_a_row(path: Path) -> None:
    benchmark = read_table(path)
    genotype = benchmark.architectures()[10].copy()
    site = int(np.flatnonzero(genotype[:-1] > 0)[0])
    genotype[site] -= 1
    genotype[site + 1] += 5  # same mixed-radix key as row 10
    assert SPACE.keys(genotype[None])[0] == SPACE.keys(benchmark.architectures()[10:11])[0]
    with pytest.raises(InputError, match="not an architecture"):
        benchmark.query(genotype[None], "valid")


def test_sparse_keys_are_searched(tmp_path: Path) -> None:
    first_last = SPACE.all()[[0, -1, 7000]]
    table = Table(INFO, SPACE, first_last, {"valid@200": np.array([0.1, 0.2, 0.3]), "test@200": np.ones(3)})
    benchmark = TableBenchmark("sparse", table.to_arrow())
    assert benchmark.query(first_last, "valid").tolist() == [0.1, 0.2, 0.3]
    with pytest.raises(DataError, match="does not hold"):
        benchmark.query(SPACE.all()[[1]], "valid")


def test_provenance_is_json(path: Path) -> None:
    facts = read_table(path).provenance()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["rows"] == 50
    assert facts["licence"] == "MIT"
    assert facts["checksum"].startswith("blake2b:")


# -- content that makes no table -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"valid@200": np.ones(2)}, r"shape \(3,\)"),
        ({"valid@200": np.ones((3, 101))}, "shape"),
        ({"valid@200": np.array([0.1, np.inf, 0.2])}, "infinite in row 1"),
        ({"valid@200": np.array([0.1, 0.2, np.nan])}, "no value in row 2"),
        ({"valid@200": np.array([[np.nan, np.nan], [1, 1], [1, 1]])}, "no value in row 0"),
        ({"valid 200": np.ones(3)}, "METRIC@EPOCHS"),
        ({"valid@0": np.ones(3)}, "METRIC@EPOCHS"),
        ({}, "at least one"),
        ({"valid@200": np.ones(3)}, "unknown metric 'test@200'"),
        ({"valid@12": np.ones(3), "test@200": np.ones(3)}, "unknown metric 'valid@200'"),
    ],
)
def test_bad_columns(columns: dict[str, np.ndarray], match: str) -> None:
    with pytest.raises(InputError, match=match):
        Table(INFO, SPACE, SPACE.all()[:3], columns)


def test_doubled_architecture() -> None:
    with pytest.raises(DataError, match=r"row 2: architecture \|none~0\|.* twice"):
        Table(INFO, SPACE, SPACE.all()[[0, 1, 0]], {"valid@200": np.ones(3), "test@200": np.ones(3)})


# -- files that are no table -----------------------------------------------------------------------------------------


def meta_of(path: Path) -> tuple[pa.Table, dict]:
    arrow = pa.ipc.open_file(str(path)).read_all()
    return arrow, json.loads(arrow.schema.metadata[b"nasplug"])


def rewrite(path: Path, arrow: pa.Table, meta: object) -> None:
    write_table(arrow.replace_schema_metadata({b"nasplug": json.dumps(meta).encode()}), path)


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_truncated_file(path: Path, keep: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(DataError, match=r"small\.arrow is not a usable nasplug table.*nasplug data add"):
        read_table(path)


def test_every_flipped_byte_of_the_labels_is_noticed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    start = data.find(np.ascontiguousarray(make().columns["test@200"]).tobytes())
    assert start > 0
    data[start + 17] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="checksum"):
        read_table(path)


def test_large_tables_are_verified_on_request(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrow, meta = meta_of(path)
    rewrite(path, arrow, meta | {"checksum": "0" * 32})
    monkeypatch.setattr(table_module, "_VERIFIED_BYTES", 10)
    benchmark = read_table(path)
    with pytest.raises(DataError, match=r"small\.arrow is not .* \(its checksum is \w+, 0{32} was written"):
        benchmark.verify()


def test_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "text.arrow").write_text("hello")
    write_table(pa.table({"a": [1, 2]}), tmp_path / "other.arrow")
    for name in ("text", "other"):
        with pytest.raises(DataError, match=rf"{name}\.arrow is not a usable nasplug table"):
            read_table(tmp_path / f"{name}.arrow")
    with pytest.raises(DataError, match="no table file"):
        read_table(tmp_path / "absent.arrow")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"version": 2}, "format version 2"),
        ({"rows": 51}, "header says 51"),
        ({"space": "nasbench999"}, "unknown space"),
        ({"search": "???"}, "METRIC"),
        ({"notes": [3]}, "texts"),
        ({"notes": None}, "TypeError"),
        ({"report": "test@12"}, "unknown metric 'test@12'"),
        ({"space": "nasbench-graph"}, "not the sites of space"),
    ],
)
def test_wrong_metadata(path: Path, change: dict, match: str) -> None:
    arrow, meta = meta_of(path)
    rewrite(path, arrow, meta | change)
    with pytest.raises(DataError, match=match):
        read_table(path)


def sealed(arrow: pa.Table, meta: dict) -> pa.Table:
    """A table whose checksum is right, so that only its content can be wrong."""
    batch = arrow.to_batches()[0]
    checksum = table_module._checksum(batch, TableInfo.from_json(meta))
    text = json.dumps(meta | {"checksum": checksum, "rows": arrow.num_rows}).encode()
    return arrow.replace_schema_metadata({b"nasplug": text})


def test_wrong_content_with_a_right_checksum(path: Path) -> None:
    arrow, meta = meta_of(path)
    with pytest.raises(DataError, match="not sorted, distinct"):
        TableBenchmark("x", sealed(arrow.take(list(range(49, -1, -1))).combine_chunks(), meta))
    out_of_range = arrow.set_column(0, arrow.schema.field(0), pa.array([9] * 50, pa.int8()))
    with pytest.raises(DataError, match="not sorted, distinct"):
        TableBenchmark("x", sealed(out_of_range, meta))
    at = arrow.schema.get_field_index("test@200")
    integers = arrow.set_column(at, "test@200", pa.array(range(50), pa.int64()))
    with pytest.raises(DataError, match="expected float64"):
        TableBenchmark("x", sealed(integers, meta))


# -- writing ---------------------------------------------------------------------------------------------------------


def test_interrupted_write_keeps_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"cannot write .*small\.arrow .No space left on device.*NASPLUG_DATA"):
        write_table(make(seed=1).to_arrow(), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["small.arrow"]


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        write_table(make().to_arrow(), tmp_path / "file" / "x.arrow")


def test_written_file_is_readable_by_others(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_repr_names_rows_and_metrics(path: Path) -> None:
    assert repr(read_table(path)).startswith("TableBenchmark('small', rows=50, metrics=['valid@12', 'valid@200'")


def test_info_survives_json() -> None:
    info = replace(INFO, notes=("a", "b"))
    assert TableInfo.from_json(json.loads(json.dumps(info.to_json()))) == info
