"""The SQLite export: NNI's own query functions and evaluator, run on our tables with no download."""

import json
import random
import sqlite3
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nasplug.benchmarks import TableBenchmark
from nasplug.benchmarks.base import Signal
from nasplug.benchmarks.table import Table, TableInfo
from nasplug.errors import DataError, InputError, MissingDependencyError, UnknownNameError
from nasplug.plugins.cli import main
from nasplug.plugins.nni.benchmark_db import (
    EDGE_LABELS,
    OPERATION_NAMES,
    dataset_of,
    export_database,
    use_database,
)
from nasplug.spaces import NASBench201, NASBenchGraphProteins, Space

SPACE = NASBench201()
CELLS = SPACE.sample_distinct(60, np.random.default_rng(0))
CELLS = CELLS[np.argsort(SPACE.keys(CELLS))]


def table(name: str = "mine", space: Space = SPACE, **columns: Any) -> TableBenchmark:
    search = Signal.parse(next(iter(columns)).replace("_at_", "@"))
    info = TableInfo(space.name, search, search, "made for tests", "MIT")
    rows = CELLS if space == SPACE else space.all()[:60]
    named = {key.replace("_at_", "@"): value for key, value in columns.items()}
    return TableBenchmark(name, Table(info, space, rows, named).to_arrow())


def labelled(name: str = "mine") -> TableBenchmark:
    rng = np.random.default_rng(1)
    valid = rng.uniform(0.1, 0.9, (60, 3))
    valid[::4, 2] = np.nan  # an architecture of two trainings
    return table(
        name,
        valid_at_200=valid,
        valid_at_12=rng.uniform(0.1, 0.9, 60),
        test_at_200=rng.uniform(0.1, 0.9, (60, 3)),
        train_s_at_200=rng.uniform(1e3, 1e4, 60),
        latency_ms=rng.uniform(5, 30, 60),
        params=np.rint(rng.uniform(1e5, 1e6, 60)),
    )


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(path) as connection:
        return connection.execute(query).fetchall()


def architecture(codes: np.ndarray) -> dict[str, str]:
    return {edge: OPERATION_NAMES[code] for edge, code in zip(EDGE_LABELS, codes, strict=True)}


def test_names_are_those_of_the_strings() -> None:
    text = SPACE.to_string(np.array([[0, 1, 2, 3, 4, 0]]))[0]
    assert text == "|none~0|+|skip_connect~0|nor_conv_1x1~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|"
    assert architecture(np.array([0, 1, 2, 3, 4, 0])) == {
        "0_1": "none",
        "0_2": "skip_connect",
        "1_2": "conv_1x1",
        "0_3": "conv_3x3",
        "1_3": "avg_pool_3x3",
        "2_3": "none",
    }


def test_cifar10_is_two_data_sets_of_nni(tmp_path: Path) -> None:
    mine = labelled()
    counts = export_database({"cifar10": mine}, tmp_path / "a.db")
    assert counts == {"cifar10-valid": 60 + 165, "cifar10": 180}
    found = rows(
        tmp_path / "a.db", "SELECT DISTINCT dataset, num_epochs, num_channels, num_cells FROM nb201trialconfig"
    )
    assert sorted(found) == [("cifar10", 200, 16, 5), ("cifar10-valid", 12, 16, 5), ("cifar10-valid", 200, 16, 5)]
    query = (
        "SELECT arch, seed, valid_acc, test_acc, ori_test_acc, training_time, latency, parameters, flops, train_acc "
        "FROM nb201trialstats JOIN nb201trialconfig ON config_id = nb201trialconfig.id "
        "WHERE dataset = '{}' AND num_epochs = 200 ORDER BY nb201trialstats.id"
    )
    first = rows(tmp_path / "a.db", query.format("cifar10-valid"))[0]
    assert json.loads(first[0]) == architecture(CELLS[0])
    expected = [mine.query(CELLS[:1], name)[0] for name in ("train_s", "latency_ms", "params")]
    assert first[1:] == (
        0,
        100 * mine.query(CELLS[:1], "valid", epochs=200, seed=0)[0],
        None,
        None,
        expected[0],
        expected[1] * 1e-3,
        expected[2] * 1e-6,
        None,
        None,
    )
    last = rows(tmp_path / "a.db", query.format("cifar10"))[-1]
    test = 100 * mine.query(CELLS[-1:], "test", epochs=200, seed=2)[0]
    assert last[1:5] == (2, test, test, test)


def test_other_data_sets_keep_their_splits_and_a_label_of_fewer_seeds_is_repeated(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    mine = table(valid_at_12=rng.random((60, 2)), test_at_12=rng.random(60), train_s_at_12=rng.random((60, 3)))
    assert export_database({"imagenet16-120": mine}, tmp_path / "a.db") == {"imagenet16-120": 120}
    found = np.array(rows(tmp_path / "a.db", "SELECT valid_acc, test_acc, training_time FROM nb201trialstats"))
    np.testing.assert_allclose(found[:, 0], 100 * mine.column("valid@12").ravel())
    np.testing.assert_allclose(found[::2, 1], 100 * mine.query(CELLS, "test"))
    np.testing.assert_allclose(found[1::2, 1:], found[::2, 1:])
    np.testing.assert_allclose(found[::2, 2], mine.query(CELLS, "train_s"))


def test_means_are_one_training_a_configuration(tmp_path: Path) -> None:
    mine = labelled()
    assert export_database({"cifar100": mine}, tmp_path / "a.db", mean=True) == {"cifar100": 120}
    query = (
        "SELECT valid_acc FROM nb201trialstats JOIN nb201trialconfig ON config_id = nb201trialconfig.id "
        "WHERE num_epochs = 200"
    )
    np.testing.assert_allclose(np.array(rows(tmp_path / "a.db", query))[:, 0], 100 * mine.query(CELLS, "valid"))


def test_the_same_tables_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.db", "b.db"):
        export_database({"cifar100": labelled()}, tmp_path / name)
    assert (tmp_path / "a.db").read_bytes() == (tmp_path / "b.db").read_bytes()


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with pytest.raises(UnknownNameError, match="did you mean cifar10"):
        export_database({"cifar-10": labelled()}, path)
    with pytest.raises(InputError, match="mine is a table over 'nasbench-graph-proteins'"):
        export_database({"cifar10": table(space=NASBenchGraphProteins(), valid=np.full(60, 0.5))}, path)
    with pytest.raises(InputError, match="mine has no metric valid@EPOCHS or test@EPOCHS"):
        export_database({"cifar10": table(valid=np.full(60, 0.5))}, path)
    with pytest.raises(DataError, match="cannot write"):
        export_database({"cifar10": labelled()}, tmp_path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "dataset"),
    [("nasbench201-cifar100", "cifar100"), ("my/CIFAR10.arrow", "cifar10"), ("imagenet", "imagenet16-120")],
)
def test_a_name_tells_the_data_set(name: str, dataset: str) -> None:
    assert dataset_of(name) == dataset


def test_a_name_that_tells_none_is_asked_for_one() -> None:
    with pytest.raises(InputError, match="write mine=DATASET"):
        dataset_of("mine")


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_the_database(small_table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.db"
    assert run("data", "export", f"{small_table}=cifar100", file, "--json") == 0
    assert json.loads(capsys.readouterr().out)["trainings"] == {"cifar100": 3 * 15_625}
    assert run("data", "export", f"{small_table}=cifar100", file, "--mean") == 0
    assert capsys.readouterr().out == f"{file}: {2 * 15_625} trainings of cifar100\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["TABLE", "x.db"], "tells no data set"),
        (["TABLE=cifar10", "TABLE=cifar10", "x.db"], "two tables of cifar10"),
        (["TABLE=cifar", "x.db"], "did you mean"),
        (["TABLE", "TABLE", "x.csv"], "several tables, and --mean, are for FILE.db alone"),
        (["TABLE", "x.csv", "--mean"], "several tables, and --mean, are for FILE.db alone"),
    ],
)
def test_the_command_says_what_is_wrong(
    arguments: list[str], message: str, small_table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [argument.replace("TABLE", str(small_table)) for argument in arguments]
    assert run("data", "export", *given) == 2
    assert message in capsys.readouterr().err


# -- in NNI ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nni_benchmark() -> Any:
    """NNI's own benchmark code; importing it takes seconds."""
    pytest.importorskip("peewee", reason="nni.nas.benchmark needs nasplug[nni-nas]")
    pytest.importorskip("pytorch_lightning", reason="nni.nas needs nasplug[nni-nas]")
    import nni.nas.benchmark as benchmark
    from nni.nas.benchmark.nasbench201 import query

    yield benchmark, query.query_nb201_trial_stats
    query.proxy.initialize(None)


def test_the_layout_is_that_of_nnis_own_models(nni_benchmark: Any, tmp_path: Path) -> None:
    from nni.nas.benchmark.nasbench201 import schema
    from playhouse.sqlite_ext import SqliteExtDatabase

    export_database({"cifar10": labelled()}, tmp_path / "ours.db")
    theirs = SqliteExtDatabase(tmp_path / "theirs.db")
    schema.proxy.initialize(theirs)
    theirs.create_tables([schema.Nb201TrialConfig, schema.Nb201TrialStats, schema.Nb201IntermediateStats])
    theirs.close()
    for name in ("nb201trialconfig", "nb201trialstats", "nb201intermediatestats"):
        for pragma, fields in (("table_info", slice(3)), ("index_list", slice(1, 2))):
            query = f"PRAGMA {pragma}({name})"
            ours, nnis = ([row[fields] for row in rows(tmp_path / f, query)] for f in ("ours.db", "theirs.db"))
            assert sorted(ours) == sorted(nnis)


def test_nnis_query_function_answers_from_our_table(nni_benchmark: Any, tmp_path: Path) -> None:
    query = nni_benchmark[1]
    mine = labelled()
    export_database({"cifar10": mine, "cifar100": mine}, tmp_path / "a.db")
    use_database(tmp_path / "a.db")
    for codes in CELLS[:8]:
        arch = architecture(codes)
        one = codes[None]
        every = list(query(arch, 200, "cifar100"))
        values = mine.seed_values(one, "valid", 200)[0]
        np.testing.assert_allclose([found["valid_acc"] for found in every], 100 * values[~np.isnan(values)])
        assert every[0]["config"]["arch"] == arch
        (mean,) = query(arch, 200, "cifar10-valid", reduction="mean")
        np.testing.assert_allclose(mean["valid_acc"], 100 * mine.query(one, "valid", epochs=200)[0])
        np.testing.assert_allclose(mean["latency"], mine.query(one, "latency_ms")[0] / 1e3)
        assert mean["flops"] is None
        np.testing.assert_allclose(every[-1]["latency"], mean["latency"])
    assert len(list(query(None, 12, "cifar10-valid"))) == 60
    assert list(query(architecture(CELLS[0]), 200, "imagenet16-120")) == []


def test_nnis_evaluator_runs_on_our_table_with_nnis_strategy(nni_benchmark: Any, tmp_path: Path) -> None:
    """``BenchmarkModelSpace`` and ``NasBench201Benchmark`` as they are; a fraction is what the trial reports."""
    from nni.nas.execution import SequentialExecutionEngine
    from nni.nas.strategy import Random

    rng = np.random.default_rng(3)
    everything = SPACE.all()
    info = TableInfo(SPACE.name, Signal("valid", 200), Signal("valid", 200), "made for tests", "MIT")
    whole = TableBenchmark("w", Table(info, SPACE, everything, {"valid@200": rng.random((15_625, 2))}).to_arrow())
    export_database({"cifar100": whole}, tmp_path / "a.db", mean=True)
    use_database(tmp_path / "a.db")
    space = nni_benchmark[0].BenchmarkModelSpace(nni_benchmark[0].NasBench201Benchmark(dataset="cifar100"))
    engine = SequentialExecutionEngine(max_model_count=5)
    before = random.getstate()
    strategy = Random(seed=1)
    strategy(space, engine)
    assert random.getstate() == before
    models = list(strategy.list_models(sort=False))
    assert len(models) == 5
    for model in models:
        codes = np.array([[OPERATION_NAMES.index(model.sample[edge]) for edge in EDGE_LABELS]])
        np.testing.assert_allclose(model.metric, whole.query(codes, "valid")[0])


def test_a_file_that_is_none_of_these_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unable to open database file"):
        use_database(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("no database at all, but long enough to be read as the header of one " * 20)
    with pytest.raises(DataError, match="file is not a database"):
        use_database(tmp_path / "text.db")
    empty = tmp_path / "empty.db"
    with sqlite3.connect(empty) as connection:
        connection.execute("CREATE TABLE nb201trialconfig (id)")
    with pytest.raises(DataError, match="no such table: nb201trialstats"):
        use_database(empty)
    with sqlite3.connect(empty) as connection:
        connection.execute("CREATE TABLE nb201trialstats (id)")
    with pytest.raises(DataError, match="holds no trainings"):
        use_database(empty)


def test_without_the_packages_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_database({"cifar10": labelled()}, tmp_path / "a.db")
    for name in ("peewee", "playhouse", "nni.nas.benchmark.nasbench201.schema"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'nasplug\[nni-nas\]'"):
        use_database(tmp_path / "a.db")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)
