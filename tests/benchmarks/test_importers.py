import bz2
import gzip
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from nasplug.benchmarks import Signal, TableBenchmark, open_benchmark
from nasplug.benchmarks.export import export_table
from nasplug.benchmarks.importers import FORMATS, ImportOptions, add, common, import_files
from nasplug.errors import DataError, InputError, UnknownNameError
from nasplug.spaces import NASBench201

SPACE = NASBench201()
STRINGS = SPACE.to_string(SPACE.all()[[5, 100, 7777]])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NASPLUG_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def csv(tmp_path: Path, text: str, name: str = "mine.csv") -> Path:
    (tmp_path / name).write_text(text.replace("A0", STRINGS[0]).replace("A1", STRINGS[1]).replace("A2", STRINGS[2]))
    return tmp_path / name


def options(*metrics: str, **more: Any) -> ImportOptions:
    return ImportOptions(**{"space": "nasbench201", "arch_column": "arch", "metrics": metrics} | more)


GOOD = "arch,acc,lat\nA2,60.5,3\nA0,70,1.5\nA1,80.25,2\n"


# -- CSV and Parquet -------------------------------------------------------------------------------------------------


def test_csv(tmp_path: Path) -> None:
    (stored,) = add([csv(tmp_path, GOOD)], options("acc=valid@12", "lat=latency_ms"))
    table = open_benchmark("mine")
    assert isinstance(table, TableBenchmark)
    genotypes = SPACE.from_string(STRINGS)
    assert table.query(genotypes, "valid", epochs=12).tolist() == [0.70, 0.8025, 0.605]
    assert table.query(genotypes, "latency_ms").tolist() == [1.5, 2, 3]
    assert (table.search, table.report) == (Signal("valid", 12), Signal("valid", 12))
    assert "One split only (valid)" in table.notes[0]
    assert "mine.csv (blake2b" in table.info.source
    assert "not stated" in table.info.licence
    assert stored.messages == (
        "acc: taken as percent, stored as fractions (divided by 100) (highest value 80.25)",
        "3 of the 15625 architectures of nasbench201",
    )


def gz(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    return packed


def parquet(path: Path) -> Path:
    pd.read_csv(path).to_parquet(path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def tsv(path: Path) -> Path:
    path.with_suffix(".tsv").write_text(path.read_text().replace(",", "\t"))
    return path.with_suffix(".tsv")


def bom(path: Path) -> Path:
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    return path


@pytest.mark.parametrize("change", [gz, parquet, tsv, bom, lambda p: gz(parquet(p)), lambda p: gz(tsv(p))])
def test_other_wrappings_hold_the_same(tmp_path: Path, change: Callable[[Path], Path]) -> None:
    plain = csv(tmp_path, GOOD)
    (one,) = import_files([plain], options("acc=valid@12"))
    (other,) = import_files([change(plain)], options("acc=valid@12"))
    assert other.name == "mine"
    assert np.array_equal(one.table.genotypes, other.table.genotypes)
    assert np.array_equal(one.table.columns["valid@12"], other.table.columns["valid@12"])


def test_parquet_with_damaged_metadata_is_its_columns(tmp_path: Path) -> None:
    plain = csv(tmp_path, GOOD)
    (one,) = import_files([plain], options("acc=valid@12"))
    path = parquet(plain)
    table = pq.read_table(path).replace_schema_metadata({b"pandas": b'{"columns": [{}], "index_columns": 3}'})
    pq.write_table(table, path)
    (other,) = import_files([path], options("acc=valid@12"))
    assert np.array_equal(one.table.columns["valid@12"], other.table.columns["valid@12"])


def test_several_files_are_rows_of_one_table(tmp_path: Path) -> None:
    first, second = csv(tmp_path, "arch,acc\nA0,1\nA1,50\n", "a.csv"), csv(tmp_path, "arch,acc\nA2,70\n", "b.csv")
    (one,) = import_files([first, second], options("acc=valid"))
    assert one.table.columns["valid"].tolist() == [0.01, 0.5, 0.7]
    third = csv(tmp_path, "arch,accuracy\nA2,70\n", "c.csv")
    with pytest.raises(DataError, match=r"a\.csv, c\.csv have different columns; .* under one --name"):
        import_files([first, third], options("acc=valid"))
    with pytest.raises(DataError, match=r"a\.csv \+ a\.csv: rows 1 and 3 are the same architecture"):
        import_files([first, first], options("acc=valid"))


def test_training_seeds(tmp_path: Path) -> None:
    path = csv(tmp_path, "arch,s7,s8,s9\nA0,60,,62\nA1,70,71,72\nA2,80,81,\n")
    (one,) = import_files([path], options("s9=test@200#9", "s7=test@200#7", "s8=test@200#8"))
    assert np.array_equal(
        one.table.columns["test@200"], [[0.6, 0.62, np.nan], [0.7, 0.71, 0.72], [0.8, 0.81, np.nan]], equal_nan=True
    )
    assert (one.table.info.search, one.table.info.report) == (
        Signal("test", 200, "one"),
        Signal("test", 200, "others"),
    )
    lonely = csv(tmp_path, "arch,s7,s8,s9\nA0,60,,\nA1,70,71,72\nA2,80,81,\n")
    (one,) = import_files([lonely], options("s7=test#7", "s8=test#8", "s9=test#9"))
    assert one.table.info.search == one.table.info.report == Signal("test")  # ':others' needs two everywhere
    empty = csv(tmp_path, "arch,s7,s8\nA0,60,1\nA1,,\nA2,80,81\n")
    with pytest.raises(DataError, match=r"row 2 .* has no value of test in s7, s8"):
        import_files([empty], options("s7=test#7", "s8=test#8"))


def test_default_signals_and_the_persons_own(tmp_path: Path) -> None:
    path = csv(tmp_path, "arch,a,b,c,d\nA0,.1,.2,.3,9\nA1,.2,.3,.4,8\nA2,.3,.4,.5,7\n")
    mapping = ("a=valid@12", "b=valid@200", "c=test@12", "d=params")
    (one,) = import_files([path], options(*mapping))
    assert (one.table.info.search, one.table.info.report) == (Signal("valid", 200), Signal("test", 12))
    assert one.table.info.notes == ()
    (one,) = import_files([path], options(*mapping, search="valid@12", source="a paper", licence="CC0"))
    assert (one.table.info.search, one.table.info.report) == (Signal("valid", 12), Signal("test", 12))
    assert (one.table.info.source, one.table.info.licence) == ("a paper", "CC0")
    (one,) = import_files([path], options("d=params", search="params", report="params"))
    assert "One split only (params)" in one.table.info.notes[0]
    with pytest.raises(InputError, match="no metric 'valid' or 'test' among params"):
        import_files([path], options("d=params"))
    with pytest.raises(UnknownNameError, match="unknown metric 'valid@90'"):
        import_files([path], options(*mapping, search="valid@90"))


def test_columns_named_like_metrics_need_no_mapping(tmp_path: Path) -> None:
    path = csv(tmp_path, "architecture,valid@12,test@200#0,test@200#1,params,comment\nA0,.1,.2,.3,9,x\nA1,.2,.3,,9,y\n")
    (one,) = import_files([path], ImportOptions(space="nasbench201"))
    assert list(one.table.columns) == ["valid@12", "test@200", "params"]


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet"])
def test_export_comes_back_equal(tmp_path: Path, ending: str) -> None:
    path = csv(tmp_path, "arch,s7,s8,v,p\nA0,60,,.125,9\nA1,70.1,71.3,.3,123456\nA2,80,81,.4,1\n")
    (stored,) = add([path], options("s7=test@200#7", "s8=test@200#8", "v=valid@12", "p=params"), name="one")
    target = tmp_path / f"out{ending}"
    export_table(stored.benchmark, target)
    (back,) = import_files([target], ImportOptions(space="nasbench201"))
    original = stored.benchmark.table()
    assert list(back.table.columns) == list(original.columns)
    for name, values in original.columns.items():
        assert np.array_equal(back.table.columns[name], values, equal_nan=True)
    before = target.read_bytes()
    export_table(stored.benchmark, target)
    assert target.read_bytes() == before
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]


def test_export_refuses(tmp_path: Path) -> None:
    (stored,) = add([csv(tmp_path, GOOD)], options("acc=valid@12"))
    with pytest.raises(InputError, match=r"\.csv, \.csv\.gz, \.parquet or, for NNI, \.db, got 'x\.xlsx'"):
        export_table(stored.benchmark, tmp_path / "x.xlsx")
    with pytest.raises(DataError, match="cannot write"):
        export_table(stored.benchmark, csv(tmp_path, GOOD) / "x.csv")  # a file where a folder should be


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("arch,acc\nA0,60\n ,70\n", "row 2 has no architecture"),
        ("arch,acc\nA0,60\n,70\n", "row 2 has no architecture"),
        ("arch,acc\nA0,60\nA1,70\nA0,61\n", r"rows 1 and 3 are the same architecture, \|none"),
        ("arch,acc\nA0,60\nA1,70\n|conv~0|,61\n", r"row 3: not a NAS-Bench-201 string: '\|conv~0\|'"),
        ("arch,acc\nA0,60\nA1,\n", r"row 2 \(\|.*\): acc must be a finite number, got an empty cell"),
        ("arch,acc\nA0,60\nA1,nan\n", r"row 2 \(\|.*acc must be a finite number, got 'nan'"),
        ("arch,acc\nA0,inf\nA1,1\n", r"row 1 .*got 'inf'"),
        ("arch,acc\nA0,60\nA1,high\n", r"row 2 .*got 'high'"),
        ("arch,acc\nA0,60\nA1,-1\n", r"row 2 .*acc must lie in \[0, 100\], got -1"),
        ("arch,acc\nA0,60\nA1,100.5\n", r"row 2 .*acc must lie in \[0, 100\], got 100.5"),
        ("arch,acc\nA0,0.5\nA1,-0.5\n", r"row 2 .*acc must lie in \[0, 1\], got -0.5"),
        ("arch,acc\nA0,0.5\nA1,1.2\n", "1.2, which is neither clearly percent nor a fraction; give --unit"),
        ("arch,acc\nA0,0.5\nA1,0.6\nA2,70\n", "reaches 70, but most of its values are at most 1"),
        ("arch,acc\n", "has no rows"),
        ("", "not a readable table"),
        ("arch,acc\nA0,60\nA1,70,80,90\n", "not a readable table"),
        ("arch,Acc\nA0,60\n", "unknown column of mine.csv 'acc'; did you mean Acc"),
        ("arch_str,acc\nA0,60\n", "unknown column of mine.csv 'arch'; did you mean arch_str"),
    ],
)
def test_bad_csv(tmp_path: Path, folder: Path, text: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        add([csv(tmp_path, text)], options("acc=valid@12"))
    assert not folder.exists()


def test_units(tmp_path: Path) -> None:
    percent = csv(tmp_path, GOOD)
    with pytest.raises(DataError, match=r"acc must lie in \[0, 1\], got 60.5; is it percent\?"):
        import_files([percent], options("acc=valid@12", unit="fraction"))
    (one,) = import_files([percent], options("acc=valid@12", unit="percent"))
    assert one.table.columns["valid@12"].max() == 0.8025
    mixed = csv(tmp_path, "arch,acc\nA0,0.5\nA1,0.6\nA2,70\n", "mixed.csv")
    assert import_files([mixed], options("acc=valid@12", unit="percent"))[0].table.columns["valid@12"].max() == 0.7
    low = csv(tmp_path, "arch,acc\nA0,0.5\nA1,0.8\n", "low.csv")
    (one,) = import_files([low], options("acc=valid@12", unit="percent"))
    assert "0.8 percent: if these are fractions" in one.messages[0]
    low = csv(tmp_path, "arch,acc\nA0,0.5\nA1,1.2\n", "low.csv")
    (one,) = import_files([low], options("acc=valid@12", unit="percent"))
    assert one.table.columns["valid@12"].max() == pytest.approx(0.012)
    (one,) = import_files([percent], options("acc=depth", search="depth", report="depth"))
    assert one.table.columns["depth"].max() == 80.25  # no accuracy by its name
    (one,) = import_files([percent], options("acc=quantised_acc", search="quantised_acc", report="quantised_acc"))
    assert one.table.columns["quantised_acc"].max() == 0.8025


def test_costs_are_known_by_their_units_and_what_is_left_out_is_told(tmp_path: Path) -> None:
    frame = pd.DataFrame({"arch": STRINGS, "latency_phone_ms": 2.0, "energy_mj": 3.0, "memory_mb": 4.0, "remark": "x"})
    frame.to_csv(tmp_path / "devices.csv", index=False)
    (one,) = import_files([tmp_path / "devices.csv"], options(search="energy_mj", report="energy_mj"))
    assert set(one.table.columns) == {"latency_phone_ms", "energy_mj", "memory_mb"}
    assert any("columns left out: remark" in message for message in one.messages)


@pytest.mark.parametrize(
    ("metrics", "match"),
    [
        (["acc"], "expected COLUMN=METRIC"),
        (["=valid"], "expected COLUMN=METRIC"),
        (["acc="], "expected COLUMN=METRIC"),
        (["acc=valid#x"], "expected COLUMN=METRIC"),
        (["acc=valid#100"], "expected COLUMN=METRIC"),
        (["acc=va lid"], "expected METRIC"),
        (["acc=valid", "lat=valid"], "'acc' and 'lat' are both valid; number their training seeds"),
        (["acc=valid#1", "lat=valid#1"], "are both valid"),
        (["acc=valid#1", "lat=valid"], "are both valid"),
        ([], "which columns of mine.csv are metrics"),
    ],
)
def test_bad_mapping(tmp_path: Path, metrics: list[str], match: str) -> None:
    with pytest.raises(InputError, match=match):
        import_files([csv(tmp_path, GOOD)], options(*metrics))


def test_what_cannot_be_guessed_is_asked(tmp_path: Path) -> None:
    path = csv(tmp_path, "cell,acc\nA0,60\n")
    with pytest.raises(InputError, match=r"give --space, one of .*nasbench201"):
        import_files([path], ImportOptions())
    with pytest.raises(InputError, match=r"give --arch-column, one of .*'cell', 'acc'"):
        import_files([path], ImportOptions(space="nasbench201"))
    with pytest.raises(InputError, match="at least one file"):
        import_files([], ImportOptions())
    with pytest.raises(DataError, match=r"no file or folder .*absent\.csv"):
        import_files([tmp_path / "absent.csv"], ImportOptions())
    with pytest.raises(DataError, match=r"no file or folder .*absent\.csv"):
        import_files([tmp_path / "absent.csv"], ImportOptions(), "csv")
    with pytest.raises(UnknownNameError, match="unknown format 'excel'"):
        import_files([path], ImportOptions(), "excel")
    (tmp_path / "what.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"what is what\.bin\? give --format"):
        import_files([tmp_path / "what.bin"], ImportOptions())
    with pytest.raises(InputError, match="one at a time, got 2"):
        import_files([tmp_path / "what.bin"] * 2, ImportOptions(), "nasbench201-pth")
    assert "auto" in FORMATS


def test_damaged_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latin = tmp_path / "latin.csv"
    latin.write_bytes(b"arch,acc\n\xe9t\xe9,60\n")
    with pytest.raises(DataError, match=r"latin\.csv is not UTF-8 text"):
        import_files([latin], options("acc=valid"))
    packed = gz(csv(tmp_path, GOOD))
    for damage, data in (
        ("cut", packed.read_bytes()[:-20]),
        ("flip", packed.read_bytes()[:10] + b"\x07" * 60),
        ("no", b"text"),
    ):
        path = tmp_path / f"{damage}.csv.gz"
        path.write_bytes(data)
        with pytest.raises(DataError, match=f"cannot read .*{damage}"):
            import_files([path], options("acc=valid"))
    broken = tmp_path / "x.parquet"
    broken.write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"x\.parquet is not a readable table"):
        import_files([broken], options("acc=valid"))
    good = parquet(csv(tmp_path, GOOD))
    monkeypatch.setattr(common, "MAX_UNPACKED_BYTES", 60)
    with pytest.raises(DataError, match=r"mine\.csv\.gz unpacks to more than 60 bytes"):
        import_files([packed], options("acc=valid"))
    monkeypatch.setattr(common, "read_bytes", lambda path: path.read_bytes())
    with pytest.raises(DataError, match=r"mine\.parquet unpacks to \d+ bytes, more than"):
        import_files([good], options("acc=valid"))


# -- adding to a table -----------------------------------------------------------------------------------------------


def test_more_columns_for_the_same_architectures(tmp_path: Path) -> None:
    add([csv(tmp_path, "arch,acc\nA0,60\nA1,70\n", "a.csv")], options("acc=valid@12"), name="t")
    second = csv(tmp_path, "arch,acc\nA1,75\nA0,65\n", "b.csv")
    (stored,) = add([second], options("acc=test@200"), name="t")
    table = stored.benchmark
    assert stored.added == ("test@200",)
    assert list(table.columns()) == ["valid@12", "test@200"]
    assert table.query(SPACE.from_string(STRINGS[:2]), "test").tolist() == [0.65, 0.75]
    assert (table.search, table.report) == (Signal("valid", 12), Signal("test", 200))
    assert table.info.notes == ()  # the note on one split went with the second split
    assert "a.csv" in table.info.source
    assert "b.csv" in table.info.source
    assert table.info.licence.count("not stated") == 1

    with pytest.raises(InputError, match="already holds test@200; --replace overwrites"):
        add([second], options("acc=test@200"), name="t")
    third = csv(tmp_path, "arch,acc\nA1,76\nA0,66\n", "c.csv")
    (stored,) = add([third], options("acc=test@200"), name="t", overwrite=True)
    assert stored.benchmark.query(SPACE.from_string(STRINGS[:2]), "test").tolist() == [0.66, 0.76]


def test_chosen_signals_stay(tmp_path: Path) -> None:
    path = csv(tmp_path, GOOD)
    add([path], options("acc=valid@12", "lat=depth", search="depth", report="valid@12"), name="t")
    (stored,) = add([path], options("acc=test@200"), name="t")
    assert (stored.benchmark.search, stored.benchmark.report) == (Signal("depth"), Signal("valid", 12))
    (stored,) = add([path], options("acc=test@300", report="test"), name="t")
    assert (stored.benchmark.search, stored.benchmark.report) == (Signal("depth"), Signal("test"))
    add([path], options("lat=depth", search="depth", report="depth"), name="plain")
    (stored,) = add([path], options("acc=valid"), name="plain")
    assert stored.benchmark.report == Signal("depth")


def test_other_architectures_or_space_are_refused(tmp_path: Path) -> None:
    add([csv(tmp_path, GOOD)], options("acc=valid@12"), name="t")
    other = csv(tmp_path, "arch,acc\nA0,60\nA1,70\n", "b.csv")
    with pytest.raises(InputError, match="holds 3 architectures and the file 2, 2 common"):
        add([other], options("acc=test@200"), name="t")
    macro = csv(tmp_path, "arch,acc\n00000000,60\n", "m.csv")
    with pytest.raises(InputError, match="is of space 'nasbench201', the file of 'nasbench-macro'"):
        add([macro], options("acc=test@200", space="nasbench-macro"), name="t")
    with pytest.raises(InputError, match="built-in"):
        add([other], options("acc=test@200"), name="nasbench201-cifar10")


def test_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NASPLUG_DATA", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cannot write .*mine"):
        add([csv(tmp_path, GOOD)], options("acc=valid@12"))


@pytest.mark.reference
def test_shared_files_as_they_are(reference_data: Path) -> None:
    source = reference_data / "nasbench201"
    mapping = ("cifar10_valid_accuracy=valid@12", "cifar10_test_accuracy=test@12")
    add([source / "epochs12.csv.gz"], options(*mapping, arch_column="arch_str"), name="c10")
    mapping = ("cifar10_test_accuracy=test@200",)
    (stored,) = add([source / "epochs200.csv.gz"], options(*mapping, arch_column="arch_str"), name="c10")
    table = stored.benchmark
    genotypes = SPACE.all()
    assert table.query(genotypes, "valid", epochs=12).max() == pytest.approx(0.84892)
    assert table.query(genotypes, "test", epochs=12).max() == pytest.approx(0.8916)
    assert table.query(genotypes, "test", epochs=200).max() == pytest.approx(0.943733)
    assert (table.search, table.report) == (Signal("valid", 12), Signal("test", 200))


# -- NAS-Bench-Macro -------------------------------------------------------------------------------------------------

MACRO = {"00000000": {"test_acc": [80.0, 81.0, 82.0], "params": 10, "flops": 20}}


def test_macro(tmp_path: Path) -> None:
    (tmp_path / "macro.json").write_text(json.dumps(MACRO))
    (one,) = import_files([tmp_path / "macro.json"], ImportOptions())
    assert one.table.columns["test"].tolist() == [[0.80, 0.81, 0.82]]
    assert (one.table.info.search, one.table.info.report) == (
        Signal("test", None, "one"),
        Signal("test", None, "others"),
    )
    assert one.messages == ("1 of the 6561 architectures of nasbench-macro",)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", "not readable JSON"),
        ("[" * 100_000, "not readable JSON"),
        ("[1]", "not the layout"),
        ('{"00000000": {}}', "not the layout"),
        ('{"00000000": {"test_acc": [80, 81], "params": "many", "flops": 1}}', "not readable JSON"),
        ('{"00000000": {"test_acc": [80, 180], "params": 1, "flops": 1}}', "test_acc of 00000000 must be percent"),
        ('{"00000009": {"test_acc": [80, 80], "params": 1, "flops": 1}}', "row 1"),
        (
            '{"00000000": {"test_acc": [80, 80], "params": "nan", "flops": 1}}',
            "params of 00000000 must be a finite number",
        ),
        ("{}", r"macro\.json has no networks"),
    ],
)
def test_bad_macro(tmp_path: Path, content: str, match: str) -> None:
    (tmp_path / "macro.json").write_text(content)
    with pytest.raises(DataError, match=match):
        import_files([tmp_path / "macro.json"], ImportOptions())


def test_unreadable_macro(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(DataError, match="cannot read"):
        import_files([tmp_path / "folder.json"], ImportOptions(), "nasbench-macro")


@pytest.mark.reference
def test_real_macro(reference_data: Path) -> None:
    path = reference_data / "nasbench_macro" / "nas-bench-macro_cifar10.json"
    (stored,) = add([path], ImportOptions())
    table, content = stored.benchmark, json.loads(path.read_text())
    names = list(content)
    means = table.query(table.space.from_string(names), "test")
    assert means == pytest.approx(np.array([content[name]["mean_acc"] for name in names]) / 100)
    assert table.rows == 6561
    assert stored.messages == ()


# -- NAS-Bench-201 .pth and NATS-Bench -------------------------------------------------------------------------------

SPLITS = {
    "cifar10-valid": ("x-valid", "ori-test"),
    "cifar10": ("ori-test",),
    "cifar100": ("x-valid", "x-test", "ori-test"),
    "ImageNet16-120": ("x-valid", "x-test", "ori-test"),
}
OFFICIAL = {
    "cifar10": ("cifar10-valid", "cifar10"),
    "cifar100": ("cifar100", "cifar100"),
    "imagenet16-120": ("ImageNet16-120", "ImageNet16-120"),
}


def official_content(seeds: dict[str, dict[str, list[int]]]) -> dict[str, Any]:
    """What a NAS-Bench-201 file holds, made with the real API's classes: three cells, ``seeds[length][dataset]``."""
    api = pytest.importorskip("nas_201_api.api_utils", reason="needs nas-bench-201 and torch")
    rng = np.random.default_rng(0)
    infos = {}
    for index, string in enumerate(STRINGS):
        infos[index] = {}
        for hp, epochs in (("less", 12), ("full", 200)):
            results = api.ArchResults(index, string)
            for dataset, splits in SPLITS.items():
                for seed in seeds[hp].get(dataset, [])[: 1 + index]:
                    curve = {i: float(a) for i, a in enumerate(rng.uniform(10, 90, epochs))}
                    config = {"channel": 16, "num_cells": 5, "arch_str": string, "class_num": 10}
                    one = api.ResultsCount(
                        dataset, None, curve, curve, np.float64(0.5 + index), 100.0 + index, config, seed, epochs, None
                    )
                    one.update_train_info(
                        curve, None, curve, {i: float(t) for i, t in enumerate(rng.uniform(1, 2, epochs))}
                    )
                    one.update_latency([np.float64(x) for x in rng.uniform(0.01, 0.02, 3)])
                    for split in splits:
                        accs, losses = (
                            {f"{split}@{i}": float(v) for i, v in enumerate(rng.uniform(0, 100, epochs))} for _ in "ab"
                        )
                        one.update_eval(accs, losses, dict.fromkeys(accs, 0.5))
                    results.update(dataset, seed, one)
            infos[index][hp] = results.state_dict()
    return {
        "meta_archs": STRINGS,
        "total_archs": 3,
        "arch2infos": infos,
        "evaluated_indexes": {0, 1, 2},
    }


ALL_SEEDS = {
    "less": {"cifar10-valid": [777, 888], "cifar10": [777], "cifar100": [777], "ImageNet16-120": [777]},
    "full": {dataset: [777, 888, 999] for dataset in SPLITS},
}


def check_against(api: Any, tables: dict[str, TableBenchmark], strings: list[str]) -> None:
    """Every number of our tables is what the benchmark's own API answers."""
    for ours, (valid_set, test_set) in OFFICIAL.items():
        table = tables[ours]
        for string in strings:
            genotype, index = SPACE.from_string([string]), api.query_index_by_arch(string)
            for hp in ("12", "200"):
                for metric, dataset in (("valid", valid_set), ("test", test_set)):
                    mean = api.get_more_info(index, dataset, hp=hp, is_random=False)[f"{metric}-accuracy"]
                    assert table.query(genotype, metric, epochs=int(hp))[0] == pytest.approx(mean / 100, rel=1e-12)
                    seeds = api.query_meta_info_by_index(index, hp).get_dataset_seeds(dataset)
                    by_seed = [
                        api.get_more_info(index, dataset, hp=hp, is_random=s)[f"{metric}-accuracy"] for s in seeds
                    ]
                    held = table.seed_values(genotype, metric, int(hp))[0]
                    assert held[~np.isnan(held)] == pytest.approx(np.array(by_seed) / 100, rel=1e-12)
                time = api.get_more_info(index, valid_set, hp=hp, is_random=False)["train-all-time"]
                assert table.cost_s(genotype, Signal("valid", int(hp)))[0] == pytest.approx(time, rel=1e-9)
            costs = api.get_cost_info(index, valid_set, hp="200")
            assert table.query(genotype, "latency_ms")[0] == pytest.approx(costs["latency"] * 1e3, rel=1e-6)
            assert table.query(genotype, "params")[0] == pytest.approx(costs["params"] * 1e6, rel=1e-9)
            assert table.query(genotype, "flops")[0] == pytest.approx(costs["flops"] * 1e6, rel=1e-9)


@pytest.fixture(scope="module")
def pth(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch = pytest.importorskip("torch")
    content, paths = official_content(ALL_SEEDS), {}
    for kind, zipped in (("legacy", False), ("zip", True)):
        paths[kind] = tmp_path_factory.mktemp("pth") / "NAS-Bench-201-v1_1-096897.pth"
        torch.save(content, paths[kind], _use_new_zipfile_serialization=zipped)
    return paths


@pytest.mark.parametrize("kind", ["legacy", "zip"])
def test_pth_is_what_nas_201_api_answers(pth: dict[str, Path], kind: str) -> None:
    from nas_201_api import NASBench201API

    stored = add([pth[kind]], ImportOptions(), name="official")
    tables = {one.benchmark.name.removeprefix("official-"): one.benchmark for one in stored}
    assert set(tables) == set(OFFICIAL)
    check_against(NASBench201API(official_content(ALL_SEEDS), verbose=False), tables, STRINGS)
    c10 = tables["cifar10"]
    assert (c10.search, c10.report) == (Signal("valid", 200, "one"), Signal("test", 200))
    assert "different trainings" in c10.notes[0]
    assert c10.info.licence == "MIT"
    assert tables["cifar100"].info.notes == ()


def test_architectures_refused_only_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def picky(self: NASBench201, strings: list[str]) -> np.ndarray:
        if len(strings) > 1:
            raise InputError("not these together")
        return np.zeros((1, 6), dtype=np.int64)

    monkeypatch.setattr(NASBench201, "from_string", picky)
    with pytest.raises(DataError, match=r"mine\.csv: not these together"):
        import_files([csv(tmp_path, GOOD)], options("acc=valid"))


def test_old_pth_with_fewer_short_trainings(tmp_path: Path) -> None:
    """Version 1.0 has 12 epochs for cifar10-valid only; and a column that some cells lack is left out, and said so."""
    torch = pytest.importorskip("torch")
    content = official_content(ALL_SEEDS | {"less": {"cifar10-valid": [777]}})
    del content["arch2infos"][1]["full"]["dataset_seed"]["cifar100"]
    torch.save(content, tmp_path / "old.pth")
    tables = {one.dataset: one for one in import_files([tmp_path / "old.pth"], ImportOptions())}
    assert "valid@12" in tables["cifar10"].table.columns
    assert "test@12" not in tables["cifar10"].table.columns
    assert "cifar100" not in tables
    assert "3 of the 15625 architectures of nasbench201" in tables["cifar10"].messages
    del content["arch2infos"][2]["less"]
    del content["arch2infos"][1]["full"]["all_results"]["cifar10", 777]["eval_acc1es"]["ori-test@199"]
    del content["arch2infos"][1]["full"]["all_results"]["cifar10", 888]["eval_acc1es"]["ori-test@199"]
    torch.save(content, tmp_path / "old.pth")
    tables = {one.dataset: one for one in import_files([tmp_path / "old.pth"], ImportOptions())}
    assert "test@200 is left out: 2 of 3 architectures have it" in tables["cifar10"].messages
    assert "valid@12 is left out: 2 of 3 architectures have it" in tables["cifar10"].messages


class Hostile:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("zipped", [False, True])
def test_hostile_pth(tmp_path: Path, zipped: bool) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"meta_archs": Hostile(tmp_path / "pwned")}, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match=r"x\.pth is not safe to read: it asks for posix\.system"):
        import_files([tmp_path / "x.pth"], ImportOptions())
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("kind", ["legacy", "zip"])
def test_truncated_pth(tmp_path: Path, pth: dict[str, Path], kind: str) -> None:
    data = pth[kind].read_bytes()
    (tmp_path / "cut.pth").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"cut\.pth"):
        import_files([tmp_path / "cut.pth"], ImportOptions())


def test_weights_in_a_pth_are_ignored(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    content = official_content(ALL_SEEDS)
    content["arch2infos"][0]["full"]["all_results"]["cifar10", 777]["net_state_dict"] = {"w": torch.ones(3)}
    for zipped in (False, True):
        torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
        assert len(import_files([tmp_path / "w.pth"], ImportOptions())) == 3


def saved(path: Path, content: Any) -> Path:
    torch = pytest.importorskip("torch")
    torch.save(content, path)
    return path


def test_pth_of_another_layout(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    with pytest.raises(DataError, match="not the layout of a NAS-Bench-201 file"):
        import_files([saved(path, {"state_dict": {}})], ImportOptions())
    content = official_content(ALL_SEEDS)
    del content["arch2infos"][0]["full"]["all_results"]["cifar10", 777]["epochs"]
    with pytest.raises(DataError, match="records of cifar10 have an unknown layout"):
        import_files([saved(path, content)], ImportOptions())
    content = official_content(ALL_SEEDS)
    content["arch2infos"][0]["full"]["all_results"]["cifar10", 777]["epochs"] = 90
    with pytest.raises(DataError, match="a record of 200 epochs says 90"):
        import_files([saved(path, content)], ImportOptions())
    content = official_content(ALL_SEEDS)
    content["arch2infos"][0]["full"]["all_results"]["cifar10", 777]["eval_acc1es"]["ori-test@199"] = 940
    with pytest.raises(DataError, match="accuracy 940 is not in percent"):
        import_files([saved(path, content)], ImportOptions())
    with pytest.raises(DataError, match="no valid or test accuracies"):
        import_files([saved(path, official_content({"less": {}, "full": {}}))], ImportOptions())
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(DataError, match=r"not written by torch.save"):
        import_files([path], ImportOptions())
    for inner, packing in (("a", zipfile.ZIP_STORED), ("a/data.pkl", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(path, "w", packing) as archive:
            archive.writestr(inner, pickle.dumps(b"0" * 10**6))
        with pytest.raises(DataError, match=r"zip file, but not one that torch.save wrote"):
            import_files([path], ImportOptions())
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=r"cannot read .*x\.pth"):
        import_files([path], ImportOptions(), "nasbench201-pth")


@pytest.fixture
def nats(tmp_path: Path) -> Path:
    """A NATS-Bench folder of the three cells above."""
    content = official_content(ALL_SEEDS)
    target = tmp_path / "NATS-tss-simple"
    target.mkdir()
    meta = {key: content[key] for key in ("meta_archs", "total_archs")} | {
        "arch2infos": None,
        "evaluated_indexes": set(),
    }
    (target / "meta.pickle.pbz2").write_bytes(bz2.compress(pickle.dumps(meta)))
    for index, record in content["arch2infos"].items():
        record = {"12": record["less"], "200": record["full"]}
        (target / f"{index:06d}.pickle.pbz2").write_bytes(bz2.compress(pickle.dumps(record)))
    return target


def test_nats_folder(nats: Path, pth: dict[str, Path]) -> None:
    seen: list[tuple[int, int]] = []
    from_folder = import_files([nats], ImportOptions(progress=lambda done, total: seen.append((done, total))))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    for one, other in zip(from_folder, import_files([pth["zip"]], ImportOptions()), strict=True):
        assert one.name == f"nats-tss-{one.dataset}"
        assert one.table.columns.keys() == other.table.columns.keys()
        for name, values in one.table.columns.items():
            assert np.array_equal(values, other.table.columns[name], equal_nan=True)


def test_folder_around_a_nats_folder(nats: Path) -> None:
    names = [one.name for one in import_files([nats], ImportOptions())]
    assert [one.name for one in import_files([nats.parent], ImportOptions())] == names
    shutil.copytree(nats, nats.with_name("second"))
    with pytest.raises(DataError, match=r"cannot read .*meta"):
        import_files([nats.parent], ImportOptions())


def repack(path: Path, content: Any) -> None:
    path.write_bytes(bz2.compress(pickle.dumps(content)))


def test_damaged_nats_folder(nats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell, meta = nats / "000001.pickle.pbz2", nats / "meta.pickle.pbz2"
    good, good_meta = cell.read_bytes(), meta.read_bytes()
    cell.write_bytes(good[:100])
    with pytest.raises(DataError, match=r"cannot read .*000001"):
        import_files([nats], ImportOptions())
    repack(cell, {"12": Hostile(tmp_path / "pwned")})
    with pytest.raises(DataError, match=r"000001\.pickle\.pbz2 is not safe to read: it asks for posix\.system"):
        import_files([nats], ImportOptions())
    assert not (tmp_path / "pwned").exists()
    repack(cell, {"12": {"a": 1}})
    with pytest.raises(DataError, match=r"000001.* has not the layout of NATS-Bench"):
        import_files([nats], ImportOptions())
    cell.write_bytes((nats / "000002.pickle.pbz2").read_bytes())
    with pytest.raises(DataError, match=r"000001\.pickle\.pbz2 is of \|.*says \|"):
        import_files([nats], ImportOptions())
    cell.write_bytes(good)
    repack(cell, {"12": {"arch_str": STRINGS[1], "all_results": {("a", 1): 3}, "dataset_seed": {}}})
    with pytest.raises(DataError, match=r"000001.* has not the layout of NATS-Bench"):
        import_files([nats], ImportOptions())
    cell.write_bytes(good)
    repack(meta, {})
    with pytest.raises(DataError, match="has not the layout of NATS-Bench"):
        import_files([nats], ImportOptions())
    meta.unlink()
    with pytest.raises(DataError, match=r"cannot read .*meta"):
        import_files([nats], ImportOptions())
    meta.write_bytes(good_meta)
    monkeypatch.setattr(common, "MAX_UNPACKED_BYTES", 16 * 1000)
    with pytest.raises(DataError, match="unpacks to far more"):
        import_files([nats], ImportOptions())
    monkeypatch.undo()
    for index in range(3):
        (nats / f"{index:06d}.pickle.pbz2").unlink()
    with pytest.raises(DataError, match="no architecture files"):
        import_files([nats], ImportOptions())
    shutil.rmtree(nats)


@pytest.mark.reference
def test_nats_sample_is_what_nats_bench_answers(reference_data: Path) -> None:
    nats_bench = pytest.importorskip("nats_bench")
    path = reference_data / "nats_tss_sample" / "NATS-tss-v1_0-3ffb9-simple"
    api = nats_bench.create(str(path), "tss", fast_mode=True, verbose=False)
    stored = add([path], ImportOptions())
    tables = {one.benchmark.name.removeprefix("nats-tss-"): one.benchmark for one in stored}
    check_against(api, tables, [api.arch(index) for index in (0, 11, 284)])
    assert {one.benchmark.rows for one in stored} == {3}
    assert stored[0].messages == ("3 of the 15625 architectures of nasbench201",)
