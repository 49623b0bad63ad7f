"""``nasplug data build`` as a person runs it: real processes, the real plan, all but its last cells made up."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from nasplug.benchmarks import open_benchmark
from nasplug.benchmarks.trained.build import PLANS, SECONDS, Chunk, build, read_chunk
from nasplug.benchmarks.trained.measured import read_packed
from nasplug.plugins.cli.app import run

PLAN = PLANS["digits201"]
LAST = len(PLAN.representatives) // PLAN.stack  # the number of the last chunk, of two cells
SHELL = [sys.executable, "-c", "from nasplug.plugins.cli import main; main()"]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NASPLUG_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def nearly(data: Path) -> Path:
    """The default folder with two seeds of everything but the last chunk of each part."""
    folder = data / "built" / "digits201"
    next(build("digits201", folder, seeds=2, jobs=1))  # says what is built here
    rng = np.random.default_rng(0)
    for chunk in PLAN.chunks(2):
        if chunk.number < LAST:
            shape = () if chunk.part == SECONDS else (6, 6)
            values = rng.integers(1, 400, (PLAN.stack, *shape)) / 500
            path = chunk.path(folder)
            path.parent.mkdir(exist_ok=True)
            np.savez(path, genotypes=PLAN.rows(chunk), values=values, cpu_seconds=1.0)
    return folder


def test_kill_9_then_the_same_command_goes_on_to_the_table(
    nearly: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "build", "digits201", "--seeds", "2", "--json"]
    first = Chunk("digits201", "seed-0", LAST).path(nearly)
    killed = subprocess.Popen([*SHELL, *command, "--jobs", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not first.exists() and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert killed.poll() is None, "it finished before it could be killed"
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    kept = first.read_bytes()
    assert not Chunk("digits201", SECONDS, LAST).path(nearly).exists()

    assert run([*command, "--jobs", "2"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert first.read_bytes() == kept
    assert (facts["table"], facts["chunks"]) == ("digits201-local", 3 * (LAST + 1))
    curves = [read_chunk(PLAN, Chunk("digits201", f"seed-{seed}", LAST), nearly) for seed in (0, 1)]
    table = open_benchmark("digits201-local")
    labels = table.seed_values(PLAN.representatives[-2:], "test", 6)
    np.testing.assert_allclose(labels, np.stack([curve[:, -1, 4] for curve in curves], axis=1), atol=1e-6)
    assert read_packed(Path(facts["packed"])).facts["seeds"] == 2
    assert facts["path"] == str(data / "tables" / "digits201-local.arrow")


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["data", "build", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err


def test_bad_input_is_one_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown table to build 'digits'; did you mean digits201" in complaint(capsys, "digits")
    assert "--seeds" in complaint(capsys, "digits201", "--seeds", "0")
    assert "--jobs" in complaint(capsys, "digits201", "--jobs", "0")
    assert "cannot build in /proc/nasplug" in complaint(capsys, "digits201", "--folder", "/proc/nasplug")
    with FileLock(tmp_path / "build.lock"):
        said = complaint(capsys, "digits201", "--folder", str(tmp_path))
    assert "another process builds in" in said
    (tmp_path / "plan.json").write_text("{}")
    assert "holds a build with other settings" in complaint(capsys, "digits201", "--folder", str(tmp_path))
    assert not (data / "tables").exists()
