"""Every engine gives the same results, and outlives a worker that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from nasplug.benchmarks import engines
from nasplug.benchmarks.engines import Engine, LostError
from nasplug.errors import InputError, MissingDependencyError

CLUSTERS = ("dask", "ray")
INSTALLED = ["loky", *(name for name in CLUSTERS if engines.find_spec(engines.PACKAGES[name]))]


def square(n: int) -> int:
    return n * n


def marked(folder: Path, deadly: int, n: int) -> int:
    """Leave a file a call; kill the worker in the first call with ``deadly``, in every one where it is negative."""
    for attempt in range(100):
        try:
            (folder / f"{n}-{attempt}").touch(exist_ok=False)
        except FileExistsError:
            continue
        break
    if n == abs(deadly) and (attempt == 0 or deadly < 0):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.01)
    return n


@pytest.mark.parametrize("name", INSTALLED)
def test_every_item_has_its_result_once(name):
    found = sorted(Engine(name, jobs=2).spread(square, range(40)))
    assert found == [(n, n * n) for n in range(40)]


def test_one_job_stays_in_this_process():
    assert list(Engine().spread(lambda _: os.getpid(), [0, 1])) == [(0, os.getpid()), (1, os.getpid())]


@pytest.mark.parametrize("name", INSTALLED)
def test_a_worker_that_is_killed_loses_nothing(name, tmp_path):
    found = sorted(Engine(name, jobs=2).spread(partial(marked, tmp_path, 7), range(30)))
    assert found == [(n, n) for n in range(30)]
    again = {path.name.split("-")[0] for path in tmp_path.iterdir() if not path.name.endswith("-0")}
    assert "7" in again
    # Clusters repeat what the dead worker had; loky ends all its workers when one dies.
    assert len(again) <= (1 if name == "ray" else 8)


@pytest.mark.parametrize("name", INSTALLED)
def test_an_item_that_kills_every_worker_is_lost_and_the_others_are_not(name, tmp_path):
    found = dict(Engine(name, jobs=2).spread(partial(marked, tmp_path, -3), range(12)))
    assert isinstance(found.pop(3), LostError)
    assert found == {n: n for n in range(12) if n != 3}


def test_what_is_deadly_ends_in_loky_too_however_much_of_it_there_is(tmp_path):
    found = dict(Engine("loky", jobs=2).spread(partial(marked, tmp_path, -3), [3] * 12))
    assert isinstance(found[3], LostError)
    assert "its worker process died" in str(found[3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "mpi"}, "out of loky, dask, ray, got 'mpi'"),
        ({"jobs": 0}, "got 0"),
        ({"scheduler": "tcp://localhost:1"}, "loky has no scheduler"),
    ],
)
def test_an_engine_that_is_none(options, message):
    with pytest.raises(InputError, match=message):
        Engine(**options)


def test_an_engine_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(engines.PACKAGES, "ray", "nasplug_nowhere")
    with pytest.raises(MissingDependencyError, match=r"pip install 'nasplug\[ray\]'"):
        Engine("ray")


@pytest.mark.parametrize(
    ("name", "address"),
    [("dask", "tcp://127.0.0.1:9"), ("dask", "nonsense://"), ("ray", "127.0.0.1:9"), ("dask", "tcp://127.0.0.1:x")],
)
def test_a_cluster_that_does_not_answer(name, address):
    if name not in INSTALLED:
        pytest.skip(f"{name} is not installed")
    with pytest.raises(InputError, match=f"cluster answers at {address}"):
        list(Engine(name, scheduler=address).spread(square, [1]))


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> subprocess.Popen[bytes]:
        running.append(subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL))
        return running[-1]

    yield start
    for process in reversed(running):
        process.terminate()
        process.wait()


@pytest.mark.skipif("dask" not in INSTALLED, reason="dask is not installed")
def test_a_running_cluster(started, tmp_path):
    file = tmp_path / "scheduler.json"
    started("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
            "--scheduler-file", str(file))  # fmt: skip
    while not file.exists():
        time.sleep(0.1)
    address = json.loads(file.read_text())["address"]
    for _ in range(2):
        started("distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard",
                "--local-directory", str(tmp_path))  # fmt: skip
    found = sorted(Engine("dask", scheduler=address).spread(square, range(10)))
    assert found == [(n, n * n) for n in range(10)]
