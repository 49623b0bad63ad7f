import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from nasplug.benchmarks.base import Signal
from nasplug.benchmarks.catalog import open_benchmark
from nasplug.benchmarks.meter import Meter
from nasplug.benchmarks.trained import benchmark as trained
from nasplug.benchmarks.trained.benchmark import TrainedBenchmark
from nasplug.benchmarks.trained.metrics import METRICS
from nasplug.benchmarks.trained.training import Recipe, Training
from nasplug.errors import DataError, InputError, UnknownNameError
from nasplug.plugins.cli.app import run
from nasplug.spaces import NASBench201, NASBenchMacro
from nasplug.spaces.modules import complexity
from nasplug.spaces.modules.build import network
from nasplug.strategies import Status

CELLS = NASBench201()
ROWS = CELLS.representative(CELLS.sample(3, np.random.default_rng(1)))


@pytest.fixture(autouse=True)
def small(few, monkeypatch):
    """Networks a quarter as wide, on few images, for three epochs of two steps."""
    monkeypatch.setitem(trained._RECIPES, "few", Recipe(epochs=3))
    monkeypatch.setitem(trained._SMALL, "nasbench201", {"channels": 4, "cells": 1})


@pytest.fixture
def epochs_trained(monkeypatch):
    """A list that grows by one an epoch that anything trains."""
    grown, plain = [], Training.__next__

    def counted(self):
        metrics = plain(self)
        grown.append(self.epoch)
        return metrics

    monkeypatch.setattr(Training, "__next__", counted)
    return grown


@pytest.fixture
def open_few(tmp_path):
    return lambda **options: TrainedBenchmark("few", folder=tmp_path / "cache", **options)


def curves(benchmark: TrainedBenchmark, row=ROWS[0], seed: int = 0) -> np.ndarray:
    """All labels of an architecture, longest first so that it is trained in one go."""
    values = [[benchmark.query(row[None], m, epochs=e, seed=seed)[0] for m in METRICS] for e in (3, 2, 1)]
    return np.array(values)[::-1]


def files(folder: Path, ending: str) -> list[Path]:
    return sorted(folder.rglob(f"*{ending}"))


# -- labels ----------------------------------------------------------------------------------------------------------


def test_labels_are_those_of_training(open_few, few):
    benchmark = open_few(seeds=2)
    for seed in (0, 1):
        net = network(CELLS, ROWS[1], classes=10, in_channels=1, seed=seed, channels=4, cells=1)
        expected = np.concatenate(list(Training([net], few, Recipe(epochs=3), seed)))
        np.testing.assert_array_equal(curves(benchmark, ROWS[1], seed), expected)


def test_labels_of_several_seeds(open_few, monkeypatch):
    benchmark = open_few(seeds=2)
    assert (str(benchmark.search), str(benchmark.report)) == ("valid@3:one", "test@3")
    both = benchmark.seed_values(ROWS, "valid")
    assert both.shape == (3, 2)
    np.testing.assert_allclose(benchmark.query(ROWS, "valid"), both.mean(axis=1))
    np.testing.assert_array_equal(benchmark.labels(ROWS, benchmark.search, run=3), both[:, 1])
    np.testing.assert_array_equal(benchmark.labels(ROWS, Signal("valid", 3, "others"), run=3), both[:, 0])
    assert benchmark.n_seeds("valid") == 2
    assert benchmark.n_seeds("params") == 1
    assert str(open_few().search) == "valid@3"


def test_a_seed_that_diverged_is_left_out_of_the_mean(open_few):
    benchmark = open_few(seeds=2)
    benchmark.query(ROWS[:2], "valid")
    keys = CELLS.keys(ROWS).tolist()
    benchmark._known[keys[0], 1].curves[:] = np.nan
    for seed in (0, 1):
        benchmark._known[keys[1], seed].curves[:] = np.nan
    mean = benchmark.query(ROWS[:2], "valid")
    assert mean[0] == benchmark.query(ROWS[:1], "valid", seed=0)[0]
    assert np.isnan(mean[1])


def test_architectures_of_one_class_share_a_training(open_few, epochs_trained):
    ids = CELLS.canonical(CELLS.all())
    members = CELLS.all()[ids == np.flatnonzero(np.bincount(ids) == 4)[-1]]
    labels = open_few().query(members, "test")
    assert epochs_trained == [1, 2, 3]
    assert len(set(labels.tolist())) == 1


def test_sizes_cost_no_training(open_few, epochs_trained):
    benchmark = open_few()
    sizes = {"channels": 4, "cells": 1, "classes": 10, "in_channels": 1}
    np.testing.assert_array_equal(benchmark.query(ROWS, "params"), complexity.params(CELLS, ROWS, **sizes))
    np.testing.assert_array_equal(benchmark.query(ROWS, "flops"), complexity.flops(CELLS, ROWS, size=8, **sizes))
    assert np.isnan(benchmark.cost_s(ROWS, Signal("params"))).all()
    assert benchmark.fidelities("params") == ()
    assert benchmark.fidelities("valid") == benchmark.fidelities("train_s") == (1, 2, 3)
    assert benchmark.query(ROWS[:0], "valid").shape == benchmark.cost_s(ROWS[:0], benchmark.search).shape == (0,)
    assert epochs_trained == []


def test_seconds_grow_with_epochs_and_are_of_the_training_that_was_bought(open_few, epochs_trained):
    benchmark = open_few(seeds=3)
    benchmark.labels(ROWS, benchmark.search, run=2)
    assert len(epochs_trained) == 9
    seconds = [benchmark.cost_s(ROWS, Signal("valid", epochs, "one")) for epochs in (1, 2, 3)]
    assert len(epochs_trained) == 9  # and not another seed for the price alone
    assert (np.diff(np.array([np.zeros(3), *seconds]), axis=0) > 0).all()
    np.testing.assert_array_equal(seconds[2], benchmark.query(ROWS, "train_s", seed=2))
    assert len(benchmark.cost_s(CELLS.all()[[7]], Signal("valid"))) == 1  # nothing bought: trains
    assert len(epochs_trained) == 12


def test_other_spaces_and_images(tmp_path, few):
    chains = TrainedBenchmark("few", "nasbench-macro", folder=tmp_path, epochs=1)
    assert chains.name == "trained-few-nasbench-macro"
    assert 0 <= chains.query(NASBenchMacro().all()[:1], "test")[0] <= 1
    large = TrainedBenchmark("digits", networks="full", folder=tmp_path)
    assert large.query(CELLS.all()[-1:], "params")[0] > 7e4
    darts = TrainedBenchmark("few", "darts", folder=tmp_path, epochs=1)
    assert 0 <= darts.query(darts.space.sample(1, np.random.default_rng(0)), "test")[0] <= 1


# -- the cache -------------------------------------------------------------------------------------------------------


def test_a_second_benchmark_trains_nothing(open_few, epochs_trained):
    first = curves(open_few())
    assert epochs_trained == [1, 2, 3]
    np.testing.assert_array_equal(curves(open_few()), first)
    assert epochs_trained == [1, 2, 3]


def test_other_settings_share_nothing(open_few, tmp_path):
    for options in ({}, {"epochs": 2}, {"networks": "full"}):
        assert open_few(**options).query(ROWS[:1], "params") > 0
        open_few(**options).query(CELLS.all()[:1], "valid", epochs=1)
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_a_longer_training_continues_a_shorter_one(open_few, epochs_trained, tmp_path):
    undisturbed = curves(open_few())
    shutil.rmtree(tmp_path / "cache")
    epochs_trained.clear()
    for epochs in (1, 1, 2):
        open_few().query(ROWS[:1], "valid", epochs=epochs)
    assert epochs_trained == [1, 2]
    assert len(files(tmp_path, ".pt")) == 1
    np.testing.assert_array_equal(curves(open_few()), undisturbed)
    assert epochs_trained == [1, 2, 3]
    assert files(tmp_path, ".pt") == []


@pytest.mark.parametrize(
    "spoil", ["checkpoint gone", "checkpoint cut", "older checkpoint", "record gone", "record cut"]
)
def test_what_was_killed_between_two_files_comes_out_the_same(open_few, epochs_trained, tmp_path, spoil):
    undisturbed = curves(open_few())
    shutil.rmtree(tmp_path / "cache")
    open_few().query(ROWS[:1], "valid", epochs=1)
    (checkpoint,), (record,) = files(tmp_path, ".pt"), files(tmp_path, ".npz")
    older = checkpoint.read_bytes()
    open_few().query(ROWS[:1], "valid", epochs=2)
    epochs_trained.clear()
    match spoil:
        case "checkpoint gone":
            checkpoint.unlink()
        case "checkpoint cut":
            checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
        case "older checkpoint":
            checkpoint.write_bytes(older)
        case "record gone":
            record.unlink()
        case "record cut":
            record.write_bytes(record.read_bytes()[:100])
    np.testing.assert_array_equal(curves(open_few()), undisturbed)
    assert epochs_trained == ([2, 3] if spoil == "older checkpoint" else [1, 2, 3])


def test_a_foreign_checkpoint_is_not_run(open_few, tmp_path):
    class Harm:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    import torch

    undisturbed = curves(open_few())
    shutil.rmtree(tmp_path / "cache")
    open_few().query(ROWS[:1], "valid", epochs=2)
    torch.save({"epoch": 2, "stack": Harm()}, files(tmp_path, ".pt")[0])
    np.testing.assert_array_equal(curves(open_few()), undisturbed)
    assert not (tmp_path / "harm").exists()


def test_long_trainings_leave_checkpoints_on_their_way(open_few, monkeypatch, tmp_path):
    monkeypatch.setattr(trained, "CHECKPOINT_EVERY_S", 0.0)
    plain, seen = Training.__next__, []

    def watched(self):
        seen.append(len(files(tmp_path, ".pt")))
        return plain(self)

    monkeypatch.setattr(Training, "__next__", watched)
    open_few().query(ROWS[:1], "valid")
    assert seen == [0, 1, 1]


def test_what_another_process_trains_is_waited_for(open_few, tmp_path, epochs_trained):
    benchmark = open_few()
    expected = benchmark.query(ROWS[:1], "valid")
    (record,) = files(tmp_path, ".npz")
    answers: list[float] = []
    other = open_few()
    asking = threading.Thread(target=lambda: answers.append(other.query(ROWS[:1], "valid")[0]))
    with FileLock(record.with_suffix(".lock")):
        whole = record.read_bytes()
        record.unlink()
        asking.start()
        asking.join(0.3)
        assert asking.is_alive()
        record.write_bytes(whole)  # it is done
    asking.join(30)
    assert answers == expected.tolist()
    assert epochs_trained == [1, 2, 3]


# -- failures --------------------------------------------------------------------------------------------------------


def test_a_training_that_torch_gives_up_failed_and_is_tried_again(open_few, monkeypatch, tmp_path, caplog):
    def no_memory(self):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as broken:
        broken.setattr(Training, "__next__", no_memory)
        benchmark = open_few()
        assert np.isnan(benchmark.query(ROWS[:1], "valid")).all()
        assert np.isnan(benchmark.cost_s(ROWS[:1], benchmark.search)).all()
        observation = Meter(benchmark, benchmark.search, 5).buy(ROWS[0])
    assert observation.status == Status.FAILED
    assert np.isnan(observation.value)
    assert f"training of {CELLS.to_string(ROWS[:1])[0]} failed after 0 epochs: out of memory" in caplog.text
    assert files(tmp_path, ".npz") == []
    assert np.isfinite(benchmark.query(ROWS[:1], "valid")).all()


def test_what_was_trained_before_a_failure_is_known(open_few, monkeypatch):
    benchmark = open_few()
    first = benchmark.query(ROWS[:1], "valid", epochs=1)
    with monkeypatch.context() as broken:
        broken.setattr(Training, "__next__", lambda self: (_ for _ in ()).throw(MemoryError()))
        assert np.isnan(benchmark.query(ROWS[:1], "valid", epochs=2)).all()
        assert benchmark.query(ROWS[:1], "valid", epochs=1) == first


def test_a_training_that_diverges_failed_and_is_remembered(open_few, epochs_trained):
    benchmark = open_few()
    benchmark.recipe = Recipe(epochs=3, learning_rate=1e30)
    meter = Meter(benchmark, benchmark.search, 5)
    assert [meter.buy(ROWS[0]).status for _ in range(2)] == [Status.FAILED] * 2
    assert meter.spent == 2
    assert len(epochs_trained) == 3
    assert np.isnan(open_few().query(ROWS[:1], "test")).all()
    assert len(epochs_trained) == 3


def test_a_cache_that_cannot_be_written_ends_a_search(open_few, monkeypatch, tmp_path):
    """Otherwise every architecture would look like a failed one."""

    def full(path, save, *, remedy):
        raise DataError(f"cannot write {path} (No space left on device); {remedy}")

    benchmark = open_few()
    with monkeypatch.context() as disk:
        disk.setattr(trained, "write_whole", full)
        with pytest.raises(InputError, match=r"No space left on device.*set NASPLUG_DATA to another") as error:
            Meter(benchmark, benchmark.search, 5).buy(ROWS[0])
    assert not isinstance(error.value, DataError)
    assert np.isfinite(benchmark.query(ROWS[:1], "valid")).all()  # also while the error is still around
    (tmp_path / "file").write_text("a file, not a folder")
    for folder in (Path("/proc/nasplug"), tmp_path / "file"):
        benchmark = TrainedBenchmark("few", folder=folder)
        with pytest.raises(InputError, match=r"cannot write .*set NASPLUG_DATA to another"):
            Meter(benchmark, benchmark.search, 5).buy(ROWS[0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"images": "mnist"}, UnknownNameError, "unknown image data set 'mnist'"),
        ({"space": "nasbench-graph"}, UnknownNameError, "unknown space with torch networks 'nasbench-graph'"),
        ({"seeds": 0}, InputError, "at least 1 training seed, got 0"),
        ({"epochs": 0}, InputError, "at least 1 epoch"),
        ({"networks": "huge"}, UnknownNameError, "unknown size of networks 'huge'"),
        ({"device": "abacus"}, InputError, "torch has no device 'abacus' here .*; use cpu"),
        ({"device": "cuda:77"}, InputError, "torch has no device 'cuda:77' here .*; use cpu"),
        ({"root": "somewhere"}, InputError, "digits come with scikit-learn and take no folder"),
        ({"images": "cifar10"}, InputError, "cifar10 needs the folder that holds cifar-10-batches-py"),
        ({"images": "cifar10", "root": "/nowhere"}, DataError, "no folder /nowhere/cifar-10-batches-py"),
    ],
)
def test_benchmarks_that_cannot_be(options, error, message):
    with pytest.raises(error, match=message):
        TrainedBenchmark(**options)


def test_questions_it_does_not_answer(open_few):
    benchmark = open_few(seeds=2)
    with pytest.raises(UnknownNameError, match="unknown metric of trained-few-nasbench201 'latency_ms'"):
        benchmark.query(ROWS, "latency_ms")
    for epochs in (0, 4):
        with pytest.raises(DataError, match=f"trains for 1 to 3 epochs, got {epochs}"):
            benchmark.query(ROWS, "valid", epochs=epochs)
    with pytest.raises(DataError, match=r"training seeds 0\.\.1, got 2"):
        benchmark.query(ROWS, "valid", seed=2)
    with pytest.raises(InputError, match="row 0 is not an architecture"):
        benchmark.query(np.full((1, 6), 9), "valid")


# -- in a search -----------------------------------------------------------------------------------------------------


def test_a_search_that_stops_early_trains_no_further(open_few, epochs_trained):
    benchmark = open_few()
    meter = Meter(benchmark, benchmark.search, 2, lengths=benchmark.fidelities("valid"))
    looks: list[np.ndarray] = []

    def stops(curve: np.ndarray) -> bool:
        looks.append(curve)
        return np.isfinite(curve).sum() == 2

    observation = meter.buy(ROWS[0], stops)
    assert (observation.status, observation.epochs) == (Status.PRUNED, 2)
    assert [np.isfinite(look).sum() for look in looks] == [1, 2]
    assert epochs_trained == [1, 2]
    assert meter.spent == pytest.approx(2 / 3)
    assert observation.value == benchmark.query(ROWS[:1], "valid", epochs=2)[0]
    assert observation.cost_s == benchmark.query(ROWS[:1], "train_s", epochs=2)[0]
    assert meter.buy(ROWS[0]).status == Status.OK
    assert epochs_trained == [1, 2, 3]


def test_what_a_report_says_of_it(open_few):
    facts = open_few().provenance()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["images"] == "few"
    assert facts["recipe"]["epochs"] == 3
    assert "trained here with torch" in facts["source"]
    assert open_few().architectures() is None


def test_a_search_from_the_command_line(capsys):
    # Fresh folders: NASPLUG_DATA is the tests' own.
    spec = "trained:few,space=nasbench201,epochs=2,seeds=2"
    command = ["search", "-b", spec, "-s", "random", "--budget", "3", "--json"]
    assert run(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert [query["status"] for query in found["queries"]] == ["ok"] * 3
    assert found["search_signal"] == "valid@2:one"
    assert 0 <= found["recommendation"]["report_value"] <= 1
    assert found["simulated_cost_s"] > 0
    assert run(["search", "-b", "trained:mnist", "-s", "random", "--budget", "3"]) == 2
    assert capsys.readouterr().err.startswith("nasplug: unknown image data set 'mnist'")


def test_a_comparison_in_two_processes(tmp_path, capsys):
    spec = "trained:digits,epochs=1"
    command = ["compare", "-b", spec, "-s", "random", "--seeds", "2", "--budget", "2", "--jobs", "2", "--no-html"]
    assert run([*command, "--out", str(tmp_path), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["benchmark"], row["seeds"]) == (spec, 2)
    assert 0 < row["value_mean"] < 1
    assert open_benchmark(spec)._folder.is_dir()  # the workers share what they trained
