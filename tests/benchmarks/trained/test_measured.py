import json
from pathlib import Path

import numpy as np
import pytest

from nasplug.benchmarks.base import Signal
from nasplug.benchmarks.meter import Meter
from nasplug.benchmarks.table import TableBenchmark, read_table, write_table
from nasplug.benchmarks.trained import measured
from nasplug.benchmarks.trained.build import PLANS, SECONDS, Plan
from nasplug.benchmarks.trained.measured import digest, pack, packaged, read_packed, to_table
from nasplug.benchmarks.trained.metrics import METRICS
from nasplug.errors import DataError
from nasplug.spaces import NASBenchMacro
from nasplug.spaces.modules import complexity
from nasplug.strategies import Status

SEEDS = 3
SIZES = {"train": 96, "valid": 80, "test": 90}


@pytest.fixture(scope="module")
def plan() -> Plan:
    """All chains of NAS-Bench-Macro on few images, in chunks of 1,000; nothing is trained."""
    sizes = {"stem": 4, "width": 64, "strides": (1, 2, 2), "in_channels": 1}
    return Plan("made-up", "nasbench-macro", sizes, images="few", recipe={"epochs": 2}, stack=1000)


@pytest.fixture(autouse=True)
def _known(plan: Plan, few, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLANS, "made-up", plan)


@pytest.fixture
def curves(plan: Plan) -> np.ndarray:
    """Labels as a build has them, float32 shares of right answers, ``(classes, seeds, epochs, 6)``."""
    rng = np.random.default_rng(0)
    made = rng.gamma(1.0, 1.0, (len(plan.representatives), SEEDS, 2, 6))
    for k, size in zip((0, 2, 4), SIZES.values(), strict=True):
        made[..., k] = (rng.integers(0, size + 1, made.shape[:3]) / size).astype(np.float32)
    return made


@pytest.fixture
def seconds(plan: Plan) -> np.ndarray:
    return np.random.default_rng(1).gamma(2.0, 0.1, len(plan.representatives))


@pytest.fixture
def packed_file(plan: Plan, curves: np.ndarray, seconds: np.ndarray, tmp_path: Path):
    """Writes a build with these labels, and packs it."""

    def make(seeds: int = SEEDS) -> Path:
        for chunk in plan.chunks(SEEDS):
            rows = slice(chunk.number * plan.stack, (chunk.number + 1) * plan.stack)
            timed = chunk.part == SECONDS
            values = seconds[rows] if timed else curves[rows, int(chunk.part.removeprefix("seed-"))]
            path = chunk.path(tmp_path / "build")
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, genotypes=plan.rows(chunk), values=values, cpu_seconds=1.0)
        pack("made-up", tmp_path / "build", tmp_path / "packed.npz", seeds=seeds)
        return tmp_path / "packed.npz"

    return make


def test_from_a_build_to_a_table_and_its_file(plan, curves, seconds, packed_file, tmp_path):
    table = to_table("made-up", read_packed(packed_file()))
    write_table(table.to_arrow(), tmp_path / "table.arrow")
    opened = read_table(tmp_path / "table.arrow")
    space = NASBenchMacro()
    assert opened.rows == 6561
    cells = space.all()[np.random.default_rng(2).permutation(6561)[:500]]
    class_of = {tuple(row): k for k, row in enumerate(plan.representatives.tolist())}
    expected = curves[[class_of[tuple(row)] for row in space.representative(cells).tolist()]]
    for e in (1, 2):
        for k, metric in enumerate(METRICS):
            values = opened.seed_values(cells, metric, e)
            tolerance = {"rtol": 1e-3} if metric.endswith("loss") else {"rtol": 1e-6}
            np.testing.assert_allclose(values, expected[:, :, e - 1, k], **tolerance)
            if not metric.endswith("loss"):  # counts of images, exactly
                counts = values * SIZES[metric]
                np.testing.assert_allclose(counts, np.rint(counts), atol=1e-9)
        taken = [e * seconds[class_of[tuple(row)]] for row in space.representative(cells).tolist()]
        np.testing.assert_allclose(opened.cost_s(cells, Signal("valid", e)), taken, rtol=1e-6)
    np.testing.assert_array_equal(opened.query(cells, "params"), complexity.params(space, cells, **plan.sizes))
    np.testing.assert_array_equal(opened.query(cells, "flops"), complexity.flops(space, cells, size=8, **plan.sizes))


def test_how_a_table_is_searched(packed_file):
    opened = TableBenchmark("made-up", to_table("made-up", read_packed(packed_file())).to_arrow())
    assert (str(opened.search), str(opened.report)) == ("valid@2:one", "test@2")
    assert opened.fidelities("valid") == (1, 2)
    assert opened.continues
    assert opened.n_seeds("valid") == SEEDS
    assert any("266 images of 8x8 pixels" in note for note in opened.notes)
    observation = Meter(opened, opened.search, 3, lengths=(1, 2)).buy(opened.architectures()[0])
    assert observation.status == Status.OK
    assert np.isfinite(observation.cost_s)


def test_fewer_seeds(plan, curves, packed_file):
    packed = read_packed(packed_file(seeds=1))
    assert packed.correct.shape == (3969, 1, 2, 3)
    assert packed.facts["seeds"] == 1
    table = to_table("made-up", packed)
    assert table.columns["valid@2"].shape == (6561,)


def test_a_training_that_diverged_has_no_label_at_any_epoch(plan, curves, packed_file):
    curves[5, 1, 1] = np.nan  # one seed, second epoch
    curves[7, :, 1] = np.nan  # all seeds
    curves[9, 0, :, 1] = 1e9  # not diverged, but more than a float16 holds
    packed = read_packed(packed_file())
    opened = TableBenchmark("made-up", to_table("made-up", packed).to_arrow())
    one, gone, wild = plan.representatives[[5, 7, 9], None]
    assert opened.n_seeds("valid") == 2
    for epochs, metric in ((1, "valid"), (2, "valid"), (1, "test_loss"), (2, "train_loss")):
        values = opened.seed_values(one, metric, epochs)[0]
        expected = curves[5, [0, 2], epochs - 1, METRICS.index(metric)]
        np.testing.assert_allclose(values[:2], expected, rtol=1e-3)
        assert np.isnan(values[2])
    members = (NASBenchMacro().canonical(NASBenchMacro().all()) == NASBenchMacro().canonical(gone)).sum()
    assert opened.rows == 6561 - members
    with pytest.raises(DataError, match="does not hold"):
        opened.query(gone, "valid")
    assert opened.seed_values(wild, "train_loss", 2)[0, 0] == 65504


def test_an_unfinished_build_is_not_packed(plan, packed_file, tmp_path):
    packed_file()
    (tmp_path / "build" / SECONDS / "0002.npz").unlink()
    with pytest.raises(DataError, match=r"seconds/0002\.npz is missing or damaged"):
        pack("made-up", tmp_path / "build", tmp_path / "again.npz", seeds=SEEDS)
    assert not (tmp_path / "again.npz").exists()


def test_the_same_labels_are_the_same_file(packed_file, tmp_path):
    first = digest(packed_file())
    assert digest(packed_file()) == first
    assert len(first) == 12


BAD = {
    "cut": lambda path, whole: path.write_bytes(path.read_bytes()[:-200]),
    "empty": lambda path, whole: path.write_bytes(b""),
    "gone": lambda path, whole: path.unlink(),
    "a part missing": lambda path, whole: np.savez(path, **{k: v for k, v in whole.items() if k != "losses"}),
    "other losses": lambda path, whole: np.savez(path, **{**whole, "losses": whole["losses"][:-1]}),
    "other seconds": lambda path, whole: np.savez(path, **{**whole, "epoch_s": whole["epoch_s"][:-1]}),
    "two metrics": lambda path, whole: np.savez(path, **{**whole, "correct": whole["correct"][..., :2]}),
    "other numbers": lambda path, whole: np.savez(path, **{**whole, "correct": whole["correct"].astype(np.int64)}),
    "no facts": lambda path, whole: np.savez(path, **{**whole, "facts": np.array("[]")}),
    "facts that are none": lambda path, whole: np.savez(path, **{**whole, "facts": np.array('{"torch": 2}')}),
    "a pickle": lambda path, whole: np.savez(path, **{**whole, "facts": np.array([{}], dtype=object)}),
}


@pytest.mark.parametrize("how", BAD)
def test_a_damaged_file_is_one_error(packed_file, how):
    path = packed_file()
    with np.load(path) as file:
        whole = dict(file)
    BAD[how](path, whole)
    with pytest.raises(DataError, match=r"packed\.npz is damaged \(.*; install nasplug again"):
        read_packed(path)


def test_labels_of_other_architectures_are_refused(packed_file, monkeypatch):
    packed = read_packed(packed_file())
    monkeypatch.setitem(PLANS, "made-up", Plan("made-up", "nasbench201", {}, images="few", recipe={"epochs": 2}))
    with pytest.raises(DataError, match="labels of made-up are of 3969 architectures, expected 6466"):
        to_table("made-up", packed)


def test_an_installation_without_the_file(monkeypatch, tmp_path):
    monkeypatch.setattr(measured, "files", lambda package: tmp_path)
    with pytest.raises(DataError, match="measure it with 'nasplug data build digits201'"):
        packaged("digits201")
    (tmp_path / "digits201.npz").write_bytes(b"")
    assert packaged("digits201") == tmp_path / "digits201.npz"


def test_facts_travel(packed_file, plan, few):
    facts = read_packed(packed_file()).facts
    assert facts["images_checksum"] == few.checksum()
    assert facts["space"] == "nasbench-macro"
    assert json.loads(json.dumps(plan.facts())).items() <= facts.items()
