"""Measuring: medians of blocks, again where they disagree, one row at once, and nothing twice."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nasplug import registry
from nasplug.cost_models import measuring
from nasplug.cost_models.measurements import latencies, read_measurements
from nasplug.cost_models.measuring import Protocol, measure
from nasplug.errors import DataError, InputError, MissingDependencyError, UnknownNameError
from nasplug.spaces import NASBench201

torch = pytest.importorskip("torch")
SMALL = {"channels": 4, "cells": 1}
QUICK = Protocol(side=8, sizes=SMALL, spread=1.0, attempts=1)


def cells(n, seed=0):
    return NASBench201().sample_distinct(n, np.random.default_rng(seed))


class Clock:
    """Every pass takes the next of some seconds."""

    def __init__(self, *seconds):
        self._seconds, self.now, self.passes = list(seconds), 0.0, 0

    def run(self):
        self.now += self._seconds[min(self.passes, len(self._seconds) - 1)]
        self.passes += 1

    def __call__(self):
        return self.now


def timed(clock, protocol):
    return measuring._measured(("nasbench201", "cell"), clock.run, protocol, "machine", clock)


def test_the_median_of_blocks_stands():
    # Two passes warm up and take 50 ms; a block is one pass then, and one of seven is disturbed.
    clock = Clock(0.025, 0.025, *[0.020] * 3, 0.900, *[0.020] * 20)
    row = timed(clock, Protocol())
    assert row.latency_ms == pytest.approx(20.0)
    assert (row.attempts, row.noisy, row.passes) == (1, False, 9)


def test_blocks_that_disagree_are_measured_again():
    wild = [0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08]
    row = timed(Clock(0.025, 0.025, *wild, *[0.02] * 7), Protocol(attempts=3))
    assert (row.attempts, row.noisy) == (2, False)
    assert row.latency_ms == pytest.approx(20.0)


def test_a_machine_that_never_settles_is_said_to_be_noisy():
    wild = [0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08]
    row = timed(Clock(0.025, 0.025, *wild, *[2 * one for one in wild]), Protocol(attempts=2))
    assert (row.attempts, row.noisy) == (2, True)
    assert row.spread > 0.05


def test_quick_passes_are_counted_in_blocks():
    row = timed(Clock(0.001), Protocol(blocks=3))
    assert row.passes == 50 + 3 * 20
    assert row.latency_ms == pytest.approx(1.0)


def test_a_machine_that_slows_down_between_networks_drifts(tmp_path, monkeypatch):
    (row,) = measure(NASBench201(), cells(1), tmp_path / "rows.csv", QUICK)
    slow = Clock(row.latency_ms * 1.2 / 1e3)
    monkeypatch.setattr(measuring, "_runner", lambda *a: slow.run)
    assert measuring.drift(NASBench201(), row, QUICK, clock=slow) == pytest.approx(0.2)
    assert read_measurements(tmp_path / "rows.csv") == [row]


def test_a_file_grows_by_a_row_a_network_and_is_continued(tmp_path, monkeypatch):
    path, genotypes = tmp_path / "new" / "rows.csv", cells(4)
    first = [next(measure(NASBench201(), genotypes, path, QUICK))]
    assert read_measurements(path) == first
    with path.open("a") as file:
        file.write("nasbench201,|half a li")  # killed while writing
    made = []
    runner = measuring._runner
    monkeypatch.setattr(measuring, "_runner", lambda *a: made.append(a[1]) or runner(*a))
    rows = list(measure(NASBench201(), genotypes, path, QUICK))
    assert rows[0] == first[0]
    assert len(made) == 3
    assert b"half a li" not in path.read_bytes()
    assert read_measurements(path) == rows
    space, again, ms = latencies(rows)
    assert space == NASBench201()
    np.testing.assert_array_equal(again, genotypes)
    assert (ms > 0).all()


def test_threads_and_cores_are_as_before(tmp_path):
    before, cores = torch.get_num_threads(), os.sched_getaffinity(0)
    torch.set_num_threads(3)
    try:
        run = measure(NASBench201(), cells(2), tmp_path / "rows.csv", QUICK)
        next(run)
        assert torch.get_num_threads() == 1
        assert len(os.sched_getaffinity(0)) == 1
        run.close()
        assert torch.get_num_threads() == 3
        assert os.sched_getaffinity(0) == cores
    finally:
        torch.set_num_threads(before)


def test_onnxruntime_runs_the_same_network(tmp_path):
    pytest.importorskip("onnxruntime")
    protocol = Protocol(engine="onnxruntime", side=8, sizes=SMALL, spread=1.0, attempts=1)
    (row,) = measure(NASBench201(), cells(1), tmp_path / "rows.csv", protocol)
    assert "onnxruntime" in row.software
    (out,) = measuring._runner(NASBench201(), cells(1)[0], protocol, 0)()
    np.testing.assert_allclose(out, measuring._runner(NASBench201(), cells(1)[0], QUICK, 0)().numpy(), atol=1e-4)


def test_onnxruntime_missing_names_the_extra(tmp_path):
    code = (
        "import sys\nsys.modules['onnxruntime'] = None\nimport numpy as np\nfrom pathlib import Path\n"
        "from nasplug.cost_models.measuring import Protocol, measure\nfrom nasplug.spaces import NASBench201\n"
        "space = NASBench201()\n"
        "next(measure(space, space.all()[:1], Path(sys.argv[1]), Protocol(engine='onnxruntime', side=8)))"
    )
    path = str(tmp_path / "rows.csv")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert MissingDependencyError.__name__ in done.stderr
    assert "pip install 'nasplug[onnx]'" in done.stderr


def test_torch_missing_names_the_extra(tmp_path):
    code = (
        "import sys\nsys.modules['torch'] = None\nfrom nasplug.plugins.cli.app import run\n"
        "sys.exit(run(['cost-model', 'measure', 'nasbench201', '--count', '1', '--out', sys.argv[1]]))"
    )
    path = tmp_path / "rows.csv"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.returncode == 2
    message = "nasplug: measuring networks needs the package 'torch'; pip install 'nasplug[torch]'"
    assert [line for line in done.stderr.splitlines() if not line.startswith("warning: other work")] == [message]
    assert not path.exists()


@pytest.mark.parametrize("protocol", [Protocol(side=8, batch=2, sizes=SMALL), Protocol(side=8, classes=9, sizes=SMALL)])
def test_measurements_of_another_kind_are_not_mixed(tmp_path, protocol):
    path = tmp_path / "rows.csv"
    list(measure(NASBench201(), cells(1), path, QUICK))
    with path.open("a") as file:
        file.write("nasbench201,|half a li")
    held = path.read_bytes()
    with pytest.raises(DataError, match=r"1x3x8x8, cells.*would be of.*(2x3x8x8|9 classes).*choose another file"):
        next(measure(NASBench201(), cells(1), path, protocol))
    assert path.read_bytes() == held


def test_classes_are_named_where_they_are_not_ten():
    assert Protocol(sizes=SMALL).text() == "eager on cpu, 1 thread, 1x3x32x32, cells 1, channels 4"
    assert Protocol(classes=100).text() == "eager on cpu, 1 thread, 1x3x32x32, 100 classes"


def test_sizes_that_the_networks_do_not_take(tmp_path):
    path = tmp_path / "rows.csv"
    for space, sizes, error, message in (
        ("nasbench201", {"foo": 3}, UnknownNameError, "'foo'; known: cells, channels"),
        ("nasbench201", {"norm": 3}, UnknownNameError, "'norm'; known: cells, channels"),
        ("darts", {"layer": 3}, UnknownNameError, "'layer'; did you mean layers"),
        ("single-path-digits", {"stom": 3}, UnknownNameError, "'stom'; did you mean stem"),
        ("vgg-widths", {"stages": 3}, UnknownNameError, "'stages'; known: none"),
        ("nasbench-macro", {"strides": 2}, InputError, "strides of space 'nasbench-macro' are several numbers"),
    ):
        opened = registry.load("space", space)()
        rows = opened.sample(1, np.random.default_rng(0))
        with pytest.raises(error, match=message):
            next(measure(opened, rows, path, Protocol(sizes=sizes)))
        assert not path.exists()
    for name, option in (("classes", "--classes"), ("in_channels", "--channels")):
        with pytest.raises(InputError, match=f"'{name}' is not one of the sizes; give it by {option}"):
            Protocol(sizes={name: 3})


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"batch": 0}, {"blocks": 2}, {"spread": 0.0}, {"attempts": 0}])
def test_protocols_that_cannot_be(wrong):
    with pytest.raises(InputError, match="a measurement has counts of at least 1"):
        Protocol(**wrong)


@pytest.mark.parametrize("wrong", [{"device": "tpu"}, {"device": "cuda", "engine": "onnxruntime"}])
def test_devices_that_cannot_be(wrong):
    with pytest.raises(InputError, match="expected device cpu, or for eager cuda"):
        Protocol(**wrong)


def test_a_card_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="torch sees 1 CUDA devices here, not 'cuda:1'"):
        next(measure(NASBench201(), cells(1), tmp_path / "rows.csv", Protocol(device="cuda:1")))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device}")
    assert measuring.machine_name("cuda") == "card cuda"


def test_a_busy_machine_is_said_to_be(monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0, 0))
    assert measuring.busy() is None
    monkeypatch.setattr(os, "getloadavg", lambda: (3.25, 0, 0))
    assert "other work keeps 3.2 of" in measuring.busy()
    monkeypatch.delattr(os, "getloadavg")
    assert measuring.busy() is None
    assert measuring._load() == ""


def test_the_machine_has_a_name():
    assert measuring.machine_name("cpu")
    assert Path("/proc/cpuinfo").exists() is False or "\n" not in measuring.machine_name("cpu")
