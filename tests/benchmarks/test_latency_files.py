"""Latency files in HELP's layout: read, checked, made tables and banks; the published tasks on them."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest

from nasplug.benchmarks import importers, open_benchmark
from nasplug.benchmarks.importers import ImportOptions
from nasplug.benchmarks.importers.help_npz import official_order, read_help
from nasplug.benchmarks.latency_bank import latency_bank, latency_devices
from nasplug.benchmarks.latency_tasks import TASKS, help_trimmed_rows, unmeasured_rows
from nasplug.errors import DataError, UnknownNameError
from nasplug.spaces import FBNet, NASBench201, OFAMobileNetV3

RNG = np.random.default_rng(0)
CELLS = (RNG.random(15625) * 20 + 2).astype(np.float32)
ARCH = FBNet().sample_distinct(60, RNG).astype(np.int32)
SHORT = (RNG.random(60) * 20 + 2).astype(np.float32)


def written(folder, **arrays):
    np.savez(folder / "file.npz", **arrays)
    return folder / "file.npz"


def test_cells_come_in_the_official_order(tmp_path):
    bank = read_help(written(tmp_path, raspi4=CELLS, pixel2=CELLS[::-1]))
    assert bank.space == NASBench201()
    assert bank.devices == ("raspi4", "pixel2")
    np.testing.assert_array_equal(bank.ms, np.stack([CELLS, CELLS[::-1]], axis=1))
    texts = bank.space.to_string(bank.genotypes[[0, 1462, 1835]])
    assert texts[0] == "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"

    assert bank.genotypes[1462].tolist() == [3] * 6
    assert bank.genotypes[1835].tolist() == [1] * 6


@pytest.mark.reference
def test_official_order_is_that_of_the_benchmark(reference_data):
    import pandas as pd

    listed = pd.read_csv(reference_data / "nasbench201" / "epochs200.csv.gz").sort_values("index")["arch_str"]
    np.testing.assert_array_equal(NASBench201().from_string(listed.tolist()), official_order())


def test_fbnet_and_ofa_files_name_their_architectures(tmp_path):
    bank = read_help(written(tmp_path, arch=ARCH, fpga=SHORT))
    assert bank.space == FBNet()
    np.testing.assert_array_equal(bank.genotypes, ARCH)
    ofa = OFAMobileNetV3()
    genotypes = ofa.sample_distinct(60, RNG)
    settings = ofa.settings(genotypes)
    arrays = {name: getattr(settings, name) for name in ("kernel", "expand", "depth", "resolution")}
    bank = read_help(written(tmp_path, **arrays, latency_ms=SHORT))
    np.testing.assert_array_equal(bank.genotypes, genotypes)
    assert bank.devices == ("latency_ms",)


def test_files_become_tables_and_tables_banks(tmp_path):
    path = written(tmp_path, arch=ARCH, **{"1080ti_1": SHORT, "pixel2": SHORT + 3})
    (stored,) = importers.add([path], ImportOptions(source="here", licence="MIT"))
    assert stored.benchmark.name == "file-latency"
    assert "60 of the 9.84771e+20 architectures of fbnet" in stored.messages[0]
    table = open_benchmark("file-latency")
    assert latency_devices(table) == {"1080ti_1": "latency_1080ti_1_ms", "pixel2": "latency_pixel2_ms"}
    np.testing.assert_allclose(table.query(ARCH.astype(np.int64), "latency_pixel2_ms"), SHORT + 3)
    assert table.info.licence == "MIT"
    bank = latency_bank(table, ["pixel2"])
    order = np.argsort(FBNet().keys(ARCH.astype(np.int64)))
    np.testing.assert_allclose(bank.on("pixel2"), (SHORT + 3)[order])
    assert latency_bank(table).devices == ("1080ti_1", "pixel2")
    with pytest.raises(UnknownNameError, match="did you mean pixel2"):
        latency_bank(table, ["pixel3"])


def test_latencies_join_a_table_of_accuracies(tmp_path, small_table):
    from nasplug.benchmarks.table import read_table, write_table

    table = read_table(small_table).table()
    write_table(table.to_arrow(), importers.table_path("mine"))
    (stored,) = importers.add([written(tmp_path, raspi4=CELLS)], ImportOptions(), name="mine")
    assert stored.benchmark.search.metric == "valid"
    bank = latency_bank(stored.benchmark)
    row = int(np.flatnonzero((official_order() == bank.genotypes[7]).all(axis=1))[0])
    assert bank.on("raspi4")[7] == pytest.approx(float(CELLS[row]))
    assert latency_devices(read_table(small_table)) == {}
    with pytest.raises(DataError, match="no metric latency_DEVICE_ms"):
        latency_bank(read_table(small_table))


def test_a_table_in_seconds_is_no_bank(tmp_path):
    info = read_help(written(tmp_path, arch=ARCH, pixel2=SHORT))
    (imported,) = importers.import_files([tmp_path / "file.npz"], ImportOptions())
    from nasplug.benchmarks.table import TableBenchmark

    wrong = replace(imported.table, columns={name: ms / 1000 for name, ms in imported.table.columns.items()})
    with pytest.raises(DataError, match=r"slow, device 'pixel2': the median latency is 0.0.*seconds"):
        latency_bank(TableBenchmark("slow", wrong.to_arrow()))
    assert len(info) == 60


def spoilt(values, row, value):
    values = values.copy()
    values[row] = value
    return values


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"raspi4": CELLS[:100]}, r"'raspi4' has shape \(100,\).*15625 cells"),
        ({"arch": ARCH, "fpga": SHORT[:-1]}, r"'fpga' has shape \(59,\), expected one value"),
        ({"arch": ARCH, "fpga": SHORT / 1000}, "device 'fpga'.*seconds, multiply by 1000"),
        ({"arch": ARCH, "fpga": SHORT * 1e6}, "micro- or nanoseconds"),
        ({"arch": ARCH, "fpga": np.full(60, 3.0)}, "all alike"),
        ({"arch": ARCH, "fpga": spoilt(SHORT, 5, np.nan)}, "no latency in row 5"),
        ({"arch": ARCH, "fpga": spoilt(SHORT, 5, -1.0)}, "latency -1"),
        ({"arch": ARCH[:, :5], "fpga": SHORT}, "expects an integer array"),
        ({"arch": spoilt(ARCH, 3, 9), "fpga": SHORT}, "row 3 is not an architecture"),
        ({"arch": spoilt(ARCH.astype(float), 3, 0.5), "fpga": SHORT}, "row 3 is not an architecture"),
        ({"arch": ARCH}, "no array of latencies"),
        ({"kernel": ARCH, "fpga": SHORT}, "describe no known space"),
        ({"arch": ARCH, "a device": SHORT}, "device's name"),
        ({"arch": ARCH, "fpga": np.array(["x"] * 60)}, "expected numbers"),
        ({"arch": ARCH, "fpga": np.array([{}] * 60)}, "not a readable"),
        ({f"d{i}": np.zeros(1) for i in range(1001)}, "unpacks to more than .* bytes or 1000 arrays"),
    ],
)
def test_bad_files_are_refused(tmp_path, arrays, words):
    with pytest.raises(DataError, match=words):
        read_help(written(tmp_path, **arrays))


def test_hostile_and_damaged_files_are_refused(tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.npy", bytes(2**28 + 1))
    with pytest.raises(DataError, match="unpacks to more than"):
        read_help(path)
    path.write_bytes(b"no zip")
    with pytest.raises(DataError, match="not a readable"):
        read_help(path)
    with pytest.raises(DataError, match="no file"):
        importers.import_files([tmp_path / "none.npz"], ImportOptions())


def test_tasks_take_the_devices_there_are(tmp_path):
    arch = FBNet().sample_distinct(800, RNG)
    ms = RNG.random(800) + 3
    arrays = {"pixel2": ms, "raspi4": ms + 1, "1080ti_1": ms + 2}
    bank = read_help(written(tmp_path, arch=arch, **arrays))
    task, missing = TASKS["F3"].narrowed(bank)
    assert task.sources == ("pixel2", "raspi4")
    assert task.targets == ("1080ti_1",)
    assert set(missing) == {"essential_ph_1", "pixel3", "samsung_s7", "1080ti_32", "2080ti_1", "titan_rtx_1",
                            "titan_rtx_32"}  # fmt: skip
    with pytest.raises(DataError, match="task FD needs"):
        TASKS["FD"].narrowed(bank.only(["pixel2"]))
    with pytest.raises(DataError, match="task F3 needs"):
        TASKS["F3"].narrowed(bank.rows(np.arange(799)))
    with pytest.raises(DataError, match="is of space 'nasbench201'"):
        TASKS["ND"].narrowed(bank)


def test_tasks_keep_sources_and_targets_apart():
    assert list(TASKS) == ["HELP", "ND", "FD", "FA", "F1", "F2", "F3", "F4"]
    for task in TASKS.values():
        assert not set(task.sources) & set(task.targets)
        assert set(task.published) <= {"HELP", "MultiPredict", "NASFLAT"}


def test_trimmed_rows_leave_the_outer_tenths():
    ms = np.random.default_rng(0).permutation(3000).astype(float)
    rows = help_trimmed_rows(ms)
    assert len(rows) == 800
    assert (np.diff(rows) > 0).all()
    inside = np.sort(ms[900:1900])
    np.testing.assert_array_equal(np.sort(ms[rows]), inside[100:900])
    assert unmeasured_rows(5, np.array([3, 1])).tolist() == [0, 2, 4]


@pytest.mark.reference
def test_flops_row_of_help_is_reproduced(reference_data):
    from scipy.stats import spearmanr

    from nasplug.spaces.modules import complexity

    bank = read_help(reference_data / "latency" / "nasbench201.npz")
    flops = complexity.flops(bank.space, bank.genotypes)
    for device, published in (("gold_6226", 0.826), ("pixel2", 0.765), ("fpga", 0.900)):
        rows = help_trimmed_rows(bank.on(device))
        assert spearmanr(flops[rows], bank.on(device)[rows])[0] == pytest.approx(published, abs=0.006)
