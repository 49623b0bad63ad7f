"""The trial command: what it reports under NNI, what it prints alone, and that it never reports a NaN."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nasplug.benchmarks import open_benchmark
from nasplug.benchmarks.base import Benchmark, Signal
from nasplug.plugins.nni import trial

TEXT = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|none~2|"


@pytest.fixture
def under_nni(monkeypatch: pytest.MonkeyPatch, small_table: Path) -> list[tuple[str, Any]]:
    """NNI as the trial meets it; returns what it is told."""
    nni = pytest.importorskip("nni", reason="NNI is not installed: pip install 'nasplug[nni]'")
    space = open_benchmark(str(small_table)).space
    told: list[tuple[str, Any]] = []
    monkeypatch.setenv("NNI_PLATFORM", "local")
    monkeypatch.setattr(nni, "get_next_parameter", lambda: space.to_params(space.from_string([TEXT]))[0])
    monkeypatch.setattr(nni, "report_intermediate_result", lambda value: told.append(("intermediate", value)))
    monkeypatch.setattr(nni, "report_final_result", lambda value: told.append(("final", value)))
    return told


def test_alone_it_prints_its_report(small_table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = open_benchmark(str(small_table))
    row = table.space.from_string([TEXT])
    for run in (0, 1):
        assert trial.main(["--benchmark", str(small_table), "--architecture", TEXT, "--run", str(run)]) == 0
        beside = {name: float(table.labels(row, Signal.parse(name), run)[0]) for name in ("test@200", "train_s")}
        expected = {"default": float(table.labels(row, table.search, run)[0]), "architecture": TEXT} | beside
        assert json.loads(capsys.readouterr().out) == expected
    seen = set()
    for seed in ("0", "0", "1"):
        trial.main(["--benchmark", str(small_table), "--seed", seed, "--metric", "test@200"])
        seen.add(capsys.readouterr().out)
    assert len(seen) == 2
    trial.main(["--benchmark", str(small_table), "--intermediate", "valid@12", "--metric", "test@200"])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_it_runs_as_a_command_without_nni(small_table: Path) -> None:
    run = "runpy.run_module('nasplug.plugins.nni.trial', run_name='__main__')"
    code = f"import sys, runpy; sys.modules['nni'] = None; {run}"
    environment = {name: value for name, value in os.environ.items() if name != "NNI_PLATFORM"}
    done = subprocess.run(
        [sys.executable, "-c", code, "--benchmark", str(small_table)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert 0 < json.loads(done.stdout)["default"] < 2
    environment["NNI_PLATFORM"] = "local"
    done = subprocess.run(
        [sys.executable, "-c", code, "--benchmark", str(small_table)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 2
    assert done.stderr == "trial: a trial under NNI needs the package 'nni'; pip install 'nasplug[nni]'\n"


def test_under_nni_it_reports_what_it_was_given(under_nni: list[tuple[str, Any]], small_table: Path) -> None:
    table = open_benchmark(str(small_table))
    row = table.space.from_string([TEXT])
    arguments = ["--benchmark", str(small_table), "--metric", "test@200", "--intermediate", "valid@12:one"]
    assert trial.main(arguments) == 0
    test, seconds = (float(table.labels(row, Signal.parse(name), 0)[0]) for name in ("test@200", "train_s"))
    assert under_nni == [
        ("intermediate", float(table.labels(row, Signal.parse("valid@12:one"), 0)[0])),
        ("final", {"default": test, "architecture": TEXT, "test@200": test, "train_s": seconds}),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmark", "nasbench20"], "unknown benchmark 'nasbench20'"),
        (["--metric", "test@@"], "expected METRIC"),
        (["--metric", "flair"], "unknown metric of small 'flair'"),
        (["--intermediate", "valid@99"], "99"),
    ],
)
def test_bad_input_is_one_line_and_no_report(
    under_nni: list[tuple[str, Any]],
    small_table: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert trial.main([*(["--benchmark", str(small_table)] * ("--benchmark" not in arguments)), *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("trial: ")
    assert said.count("\n") == 1
    assert message in said
    assert under_nni == []


def test_a_nan_is_not_reported(
    under_nni: list[tuple[str, Any]], small_table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Benchmark, "labels", lambda *_: np.array([np.nan]))
    assert trial.main(["--benchmark", str(small_table)]) == 2
    assert under_nni == []


def test_an_architecture_that_is_none_is_refused(small_table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trial.main(["--benchmark", str(small_table), "--architecture", "x"]) == 2
    assert "not a NAS-Bench-201 string" in capsys.readouterr().err
