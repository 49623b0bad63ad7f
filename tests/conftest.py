"""Fixtures shared by all tests."""

import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

# Before anything loads NumPy or torch, and for all processes that tests start: with a test a core, more threads than
# that only wait for each other, and triple the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples every time, however long a busy machine takes over one of them.
hypothesis.settings.register_profile("nasplug", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("nasplug")

if TYPE_CHECKING:
    from nasplug.benchmarks import Benchmark

REFERENCE_VARIABLE = "NASPLUG_REFERENCE_DATA"
SEED_VARIABLE = "NASPLUG_TEST_SEED"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin every test with the same global random streams, so that it is the same in any order of tests.

    Another number in NASPLUG_TEST_SEED shows which tests hold for lucky weights only.
    """
    import numpy as np

    seed = int(os.environ.get(SEED_VARIABLE, "0"))
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)


def _reference_folder() -> Path | None:
    given = os.environ.get(REFERENCE_VARIABLE)
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of real tables; a test that needs it is marked ``reference`` and says when it is skipped."""
    folder = _reference_folder()
    if folder is None:
        pytest.skip(
            f"no reference tables: set {REFERENCE_VARIABLE} to the folder that holds nasbench201/, nasbench_macro/, ..."
        )
    return folder


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never see, and never write, the tables of the person who runs them."""
    monkeypatch.setenv("NASPLUG_DATA", str(tmp_path_factory.getbasetemp() / "nasplug-data"))


@pytest.fixture(scope="session")
def small_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole table over NAS-Bench-201 that costs nothing: two noisy validation seeds, a test label, training seconds.

    Working operations add to accuracy, so that searching pays; commands and workers open it by its path.
    """
    return _table_file(tmp_path_factory.mktemp("tables") / "small.arrow", every=1)


@pytest.fixture(scope="session")
def partial_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same labels for one architecture in five, for what happens when a label is missing."""
    return _table_file(tmp_path_factory.mktemp("tables") / "partial.arrow", every=5)


@pytest.fixture(scope="session")
def curve_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole learning curves over NAS-Bench-201: six epochs, two training seeds, seconds that grow with the operations.

    What is good in the end is good early, but for noise that fades.
    """
    return _curve_file(tmp_path_factory.mktemp("tables") / "curves.arrow")


@pytest.fixture
def unlisted(small_table: Path) -> "Benchmark":
    """The labels of the small table, by a benchmark that cannot list its architectures."""
    from nasplug.benchmarks import Benchmark, open_benchmark

    table = open_benchmark(str(small_table))

    class Unlisted(Benchmark):
        name, space, search, report = "unlisted", table.space, table.search, table.report
        query, n_seeds = table.query, table.n_seeds

        def provenance(self) -> dict[str, Any]:
            return {}

    return Unlisted()


def _curve_file(path: Path) -> Path:
    import numpy as np

    from nasplug.benchmarks.base import Signal
    from nasplug.benchmarks.table import Table, TableInfo, write_table
    from nasplug.spaces.nasbench201 import NASBench201

    space = NASBench201()
    cells = space.all()
    rng = np.random.default_rng(7)
    final = 0.5 + np.array([0.0, 0.03, 0.04, 0.06, 0.02])[cells].sum(axis=1)
    columns = {}
    for epochs in range(1, 7):
        true = final * (1 - 0.6**epochs)
        columns[f"valid@{epochs}"] = true[:, None] + rng.normal(0, 0.03 * 0.6**epochs, (len(cells), 2))
        columns[f"test@{epochs}"] = true
        columns[f"train_s@{epochs}"] = epochs * (10.0 + cells.sum(axis=1))
    info = TableInfo(
        space.name, Signal("valid", None, "one"), Signal("test"), "made for tests", "MIT", ("Made up.",), continues=True
    )
    write_table(Table(info, space, cells, columns).to_arrow(), path)
    return path


def _table_file(path: Path, every: int) -> Path:
    import numpy as np

    from nasplug.benchmarks.base import Signal
    from nasplug.benchmarks.table import Table, TableInfo, write_table
    from nasplug.spaces.nasbench201 import NASBench201

    space = NASBench201()
    cells = space.all()
    rng = np.random.default_rng(7)
    true = 0.5 + np.array([0.0, 0.03, 0.04, 0.06, 0.02])[cells].sum(axis=1) + rng.normal(0, 0.01, len(cells))
    noisy = true[:, None] + rng.normal(0, 0.02, (len(cells), 2))
    columns = {"valid@12": noisy, "test@200": true + 0.01, "train_s@12": 10.0 + cells.sum(axis=1)}
    info = TableInfo(
        space.name, Signal("valid", 12, "one"), Signal("test", 200), "made for tests", "MIT", ("Made up.",)
    )
    kept = {name: values[::every] for name, values in columns.items()}
    write_table(Table(info, space, cells[::every], kept).to_arrow(), path)
    return path
