import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from nasplug import registry
from nasplug.benchmarks import compare as protocol
from nasplug.benchmarks.base import Signal
from nasplug.benchmarks.catalog import open_benchmark
from nasplug.benchmarks.compare import Study, compare
from nasplug.benchmarks.engines import PACKAGES, Engine, LostError
from nasplug.benchmarks.results import META_KEY
from nasplug.benchmarks.search import search
from nasplug.errors import DataError, InputError, UnknownNameError
from nasplug.plugins.cli.app import run
from nasplug.strategies import RandomSearch, Strategy

SHELL = [sys.executable, "-c", "from nasplug.plugins.cli import main; main()"]


@dataclass(frozen=True, kw_only=True)
class Climber(Strategy):
    """Tries the neighbours of the best; with ``breaks_at`` it raises at that query."""

    breaks_at: int = -1
    proposals: int = 1

    def propose(self, history, n, rng):
        if len(history) == self.breaks_at and rng.random() < 0.5:
            raise ZeroDivisionError("an unlucky draw")
        return super().propose(history, self.proposals, rng)

    def _candidates(self, history, n, rng):
        best = history.best()
        return (
            self.space.sample(n, rng)
            if best is None
            else rng.permutation(self.space.neighbors(history.genotypes[best]))
        )


@pytest.fixture
def climber(monkeypatch):
    load = registry.load
    monkeypatch.setattr(
        registry, "load", lambda role, name: Climber if (role, name) == ("strategy", "climber") else load(role, name)
    )


def study(table: Path, **changes) -> Study:
    given = {"benchmarks": [str(table)], "strategies": ["random"], "seeds": 3, "budget": 12} | changes
    return Study(**given)


def test_search_sees_one_signal_and_is_a_function_of_its_seed(small_table):
    benchmark = open_benchmark(str(small_table))
    strategy = RandomSearch(space=benchmark.space)
    first, again, other = (
        [step.observation for step in search(strategy, benchmark, benchmark.search, budget=9, seed=seed)]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert len({observation.genotype for observation in first}) == 9
    cells = np.array([observation.genotype for observation in first])
    seen = benchmark.query(cells, "valid", epochs=12, seed=1)  # the training seed that run 1 shows
    assert [observation.value for observation in first] == seen.tolist()


def test_a_long_run_begins_with_the_short_one(small_table, climber):
    benchmark = open_benchmark(str(small_table))
    short, long = (
        [s.observation for s in search(Climber(space=benchmark.space), benchmark, benchmark.search, budget=b, seed=0)]
        for b in (5, 20)
    )
    assert long[:5] == short


def test_results_hold_every_query_with_its_report_label(small_table, tmp_path):
    outcome = compare(study(small_table), tmp_path)
    assert (outcome.computed, outcome.reused, outcome.failures) == (3, 0, ())
    frame = pd.read_parquet(tmp_path / "results.parquet")
    assert list(frame.columns) == [
        "benchmark",
        "strategy",
        "seed",
        "query",
        "architecture",
        "value",
        "report_value",
        "cost_s",
        "status",
        "cost:train_s",
    ]
    assert frame["query"].tolist() == list(range(1, 13)) * 3
    assert frame["seed"].tolist() == [0] * 12 + [1] * 12 + [2] * 12
    benchmark = open_benchmark(str(small_table))
    cells = benchmark.space.from_string(frame["architecture"].tolist())
    np.testing.assert_array_equal(frame["report_value"], benchmark.query(cells, "test", epochs=200))
    timings = pd.read_parquet(tmp_path / "timings.parquet")
    assert (timings["suggest_ms"] > 0).all()
    assert timings[["seed", "query"]].equals(frame[["seed", "query"]])


def test_metadata_holds_exact_baselines_a_training_seed(small_table, tmp_path):
    compare(study(small_table), tmp_path)
    facts = json.loads(pq.read_schema(tmp_path / "results.parquet").metadata[META_KEY])
    about = facts["benchmarks"][str(small_table)]
    benchmark = open_benchmark(str(small_table))
    cells = benchmark.architectures()
    assert about["provenance"]["checksum"] == benchmark.provenance()["checksum"]
    for seed in (0, 1):
        baseline = about["baselines"][str(seed)]
        assert baseline["search_best"] == benchmark.query(cells, "valid", epochs=12, seed=seed).max()
        assert baseline["random_mean"] == pytest.approx(benchmark.query(cells, "test").mean())


def test_signals_can_be_chosen(small_table, tmp_path):
    chosen = study(small_table, search=Signal.parse("test@200"), report=Signal.parse("valid@12:others"))
    compare(chosen, tmp_path)
    frame = pd.read_parquet(tmp_path / "results.parquet")
    benchmark = open_benchmark(str(small_table))
    shown = frame[frame["seed"] == 1]
    cells = benchmark.space.from_string(shown["architecture"].tolist())
    np.testing.assert_array_equal(shown["value"], benchmark.query(cells, "test"))
    np.testing.assert_array_equal(shown["report_value"], benchmark.query(cells, "valid", epochs=12, seed=0))


def test_finished_runs_are_used_again_and_a_bigger_study_adds_to_them(small_table, tmp_path):
    assert compare(study(small_table), tmp_path).computed == 3
    first = (tmp_path / "results.parquet").read_bytes()
    landed = []
    again = compare(study(small_table), tmp_path, progress=landed.append)
    assert (again.computed, again.reused) == (0, 3)
    assert [(one.strategy, one.seed, one.how) for one in landed] == [("random", seed, "reused") for seed in range(3)]
    assert (tmp_path / "results.parquet").read_bytes() == first
    landed.clear()
    more = compare(study(small_table, seeds=5, budget=8), tmp_path, progress=landed.append)
    assert [one.how for one in landed] == ["reused"] * 3 + ["computed"] * 2
    assert (more.computed, more.reused) == (2, 3)
    fresh = tmp_path / "fresh"
    compare(study(small_table, seeds=5, budget=8), fresh)
    assert (tmp_path / "results.parquet").read_bytes() == (fresh / "results.parquet").read_bytes()


def test_a_longer_budget_makes_runs_again(small_table, tmp_path):
    compare(study(small_table), tmp_path)
    assert compare(study(small_table, budget=13), tmp_path).reused == 0


@pytest.mark.parametrize(
    "change", ["signal", "version", "libraries", "code", "options", "inputs", "table"], ids=lambda change: change
)
def test_a_changed_configuration_is_never_mixed_in(change, small_table, partial_table, tmp_path, monkeypatch, climber):
    table = tmp_path / "table.arrow"
    table.write_bytes(small_table.read_bytes())
    before = study(table, strategies=["climber"])
    compare(before, tmp_path / "out")
    after = before
    if change == "signal":
        after = study(table, strategies=["climber"], search=Signal("valid", 12, "mean"))
    elif change == "version":
        monkeypatch.setattr(protocol, "version", lambda name: "99")
    elif change == "libraries":
        monkeypatch.setattr(protocol, "libraries", lambda: {"numpy": "0.1"})
    elif change == "code":
        monkeypatch.setattr(protocol, "code_digest", lambda *modules: "other")
    elif change == "inputs":
        monkeypatch.setattr(Climber, "inputs", {"file": "with other contents"})
    elif change == "options":
        after = study(table, strategies=["climber:breaks_at=99"])
    else:
        table.write_bytes(partial_table.read_bytes())
    assert compare(after, tmp_path / "out").reused == 0


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00", b"not a run"], ids=["empty", "truncated", "foreign"])
def test_a_damaged_run_is_made_again(damage, small_table, tmp_path):
    compare(study(small_table), tmp_path)
    (kept,) = tmp_path.glob("runs/*/seed-1.npy")
    kept.write_bytes(damage)
    outcome = compare(study(small_table), tmp_path)
    assert (outcome.computed, outcome.reused) == (1, 2)


def test_a_run_file_of_another_shape_is_made_again(small_table, tmp_path):
    compare(study(small_table), tmp_path)
    (kept,) = tmp_path.glob("runs/*/seed-1.npy")
    np.save(kept, np.zeros(50))
    assert compare(study(small_table), tmp_path).computed == 1


def test_missing_architectures_fail_and_are_charged(partial_table, tmp_path):
    compare(study(partial_table, seeds=2, budget=40), tmp_path)
    frame = pd.read_parquet(tmp_path / "results.parquet")
    failed = frame["status"] == "failed"
    assert 0.6 < failed.mean() < 0.95  # four in five are missing
    assert frame[failed][["value", "report_value"]].isna().all(axis=None)
    assert frame[~failed][["value", "report_value"]].notna().all(axis=None)


def test_a_strategy_that_raises_loses_only_its_run(small_table, tmp_path, climber):
    seeds = 8
    mixed = study(small_table, strategies=["random", "climber:breaks_at=5"], seeds=seeds)
    outcome = compare(mixed, tmp_path)
    lost = {failure.seed for failure in outcome.failures}
    assert 0 < len(lost) < seeds
    assert str(outcome.failures[0]) == (
        f"climber:breaks_at=5 on {small_table}, seed {min(lost)}: ZeroDivisionError: an unlucky draw"
    )
    assert "Climber" not in str(outcome.failures[0])
    assert "in propose" in outcome.failures[0].details
    written = sorted(tmp_path.rglob("*.error.txt"))
    assert written
    assert "in propose" in written[0].read_text(encoding="utf-8")
    frame = pd.read_parquet(tmp_path / "results.parquet")
    finished = frame.groupby("strategy")["seed"].unique()
    assert set(finished["random"]) == set(range(seeds))
    assert set(finished["climber:breaks_at=5"]) == set(range(seeds)) - lost


def test_a_strategy_that_proposes_too_much_is_told(small_table, tmp_path, climber):
    outcome = compare(study(small_table, strategies=["climber:proposals=2"], seeds=1), tmp_path)
    assert "was asked for 1 proposal and made 2" in outcome.failures[0].error


def test_a_benchmark_without_a_list_has_no_baselines(unlisted, tmp_path):
    compare(study("unlisted"), tmp_path, opener=lambda name: unlisted)
    facts = json.loads(pq.read_schema(tmp_path / "results.parquet").metadata[META_KEY])
    assert facts["benchmarks"]["unlisted"]["baselines"] is None
    with pytest.raises(InputError, match="more than the 15625 architectures of 'unlisted'"):
        compare(study("unlisted", budget=15626), tmp_path, opener=lambda name: unlisted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"benchmarks": []}, "at least one benchmark"),
        ({"strategies": ["random", "random"]}, "strategy 'random' is given twice"),
        ({"seeds": 0}, "at least 1 seed"),
        ({"budget": 0}, "1 query"),
        ({"seed": -1}, "a seed is at least 0, got -1"),
    ],
)
def test_a_study_checks_itself(changes, message, small_table):
    with pytest.raises(InputError, match=message):
        study(small_table, **changes)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"budget": 15626}, InputError, "--budget 15625 or less"),
        ({"benchmarks": ["nasbench201-cifar1"]}, UnknownNameError, "did you mean nasbench201-cifar10"),
        ({"strategies": ["rondom"]}, UnknownNameError, "did you mean random"),
        ({"strategies": ["random:x=1"]}, UnknownNameError, "unknown option"),
        ({"search": Signal("vald")}, UnknownNameError, "did you mean valid"),
        ({"report": Signal("test", 12)}, DataError, "200 epochs, got 12"),
    ],
)
def test_bad_input_is_found_before_anything_runs(changes, error, message, small_table, tmp_path):
    with pytest.raises(error, match=message):
        compare(study(small_table, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_workers_are_refused_before_anything_runs(small_table, tmp_path):
    with pytest.raises(InputError, match="got 0"):
        compare(study(small_table), tmp_path / "out", jobs=0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_results_are_the_same_bytes_on_every_engine(backend, small_table, tmp_path):
    pytest.importorskip(PACKAGES[backend])
    for name in ("loky", backend):
        compare(study(small_table), tmp_path / name, jobs=2, backend=name)
    assert (tmp_path / "loky" / "results.parquet").read_bytes() == (tmp_path / backend / "results.parquet").read_bytes()


def test_a_run_that_kills_its_workers_is_a_failure(small_table, tmp_path, monkeypatch):
    monkeypatch.setattr(Engine, "spread", lambda self, function, runs: ((run, LostError("killed")) for run in runs))
    outcome = compare(study(small_table), tmp_path)
    assert outcome.computed == 0
    assert {failure.error for failure in outcome.failures} == {"killed"}


@pytest.mark.parametrize("folder", ["/proc/nasplug", "file/below"])
def test_a_folder_that_cannot_be_written(folder, small_table, tmp_path):
    (tmp_path / "file").write_text("a file, not a folder")
    with pytest.raises(DataError, match=r"cannot write .* choose another folder"):
        compare(study(small_table), tmp_path / folder)


def test_a_full_disk_is_one_line_and_loses_nothing(small_table, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["compare", "-b", str(small_table), "-s", "random", "--seeds", "20", "--budget", "60"]
    command += ["--jobs", "1", "--no-html", "--out", str(out)]
    # A run of 60 queries fits into 8 kB, the table of results does not.
    full = subprocess.run(
        [*SHELL, *command],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)),
        capture_output=True,
        text=True,
    )
    assert full.returncode == 2
    progress, error = full.stderr.splitlines()
    assert progress.startswith("20 of 20 runs")
    assert error.startswith("nasplug: cannot write")
    assert "File too large" in error
    assert not (out / "results.parquet").exists()
    assert run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs_reused"] == 20


def test_kill_9_in_the_middle_then_resume_gives_the_bytes_of_an_undisturbed_run(small_table, tmp_path, capsys):
    out, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    sizes = {"seeds": 30, "budget": 150}
    command = ["compare", "-b", str(small_table), "-s", "random", "--jobs", "2", "--no-html", "--json"]
    command += ["--seeds", "30", "--budget", "150", "--out", str(out)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*SHELL, *command], start_new_session=True, **quiet)
    deadline = time.monotonic() + 200
    while len(list(out.glob("runs/*/seed-*.npy"))) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert process.poll() is None, "it finished before it could be killed; make the study larger"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = len(list(out.glob("runs/*/seed-*.npy")))
    assert 3 <= finished < 30
    assert not (out / "results.parquet").exists()
    assert run(command) == 0
    resumed = json.loads(capsys.readouterr().out)
    assert resumed["runs_reused"] == finished
    assert resumed["runs_computed"] == 30 - finished
    compare(study(small_table, **sizes), undisturbed, jobs=1)
    assert (out / "results.parquet").read_bytes() == (undisturbed / "results.parquet").read_bytes()


def test_global_random_streams_are_left_alone(small_table, tmp_path):
    np.random.seed(5)  # noqa: NPY002 - the stream that must not move
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    compare(study(small_table), tmp_path)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
