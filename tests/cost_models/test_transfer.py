"""Fine-tuning: the published output layer and our whole model, on made-up devices; real figures are in the scripts."""

import numpy as np
import pytest

from nasplug.cost_models.base import LatencyBank, load_cost_model
from nasplug.cost_models.features import kernel_sums
from nasplug.cost_models.mlp import MLP
from nasplug.cost_models.transfer import Transfer, TransferPaper
from nasplug.errors import DataError, InputError
from nasplug.spaces import DARTS, NASBench201, OFAMobileNetV3, Space
from nasplug.spaces.fbnet import FBNet

SPACE = OFAMobileNetV3()
CELLS = NASBench201()
DEVICES = ("near", "far")


def bank(n: int = 400) -> LatencyBank:
    rows = CELLS.sample_distinct(n, np.random.default_rng(0))
    return LatencyBank(CELLS, rows, DEVICES, np.stack([latency(rows, d) for d in DEVICES], axis=1))


def latency(rows: np.ndarray, device: str) -> np.ndarray:
    """Two devices that share a bend no sum shows; the target is the near one, slower and with an offset."""
    single = CELLS.encode(rows, "onehot").astype(float)
    shape = 5 + single @ np.random.default_rng(1).uniform(0, 1, 30) + 3 * np.abs(single[:, ::7].sum(axis=1) - 1)
    return {
        "near": shape,
        "far": 5 + single @ np.random.default_rng(2).uniform(0, 1, 30),
        "target": 2.5 * shape + 3 + 0.3 * (rows == 3).sum(axis=1),
    }[device]


@pytest.fixture(scope="module")
def pretrained() -> Transfer:
    return Transfer(space=CELLS, epochs=15).pretrain(bank())


def error(model, n: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    rows, unseen = CELLS.sample_distinct(n, rng), CELLS.sample(500, rng)
    predicted = model.fit(rows, latency(rows, "target")).predict(unseen)
    return float(np.mean(np.abs(predicted - latency(unseen, "target"))))


def test_a_base_saves_measurements(pretrained):
    """With 12 networks: the mean over five draws is well below that of a model without bases."""
    with_base = np.mean([error(pretrained, 12, seed) for seed in range(5)])
    without = np.mean([error(MLP(space=CELLS), 12, seed) for seed in range(5)])
    assert with_base < 0.75 * without
    assert pretrained.sources == DEVICES


def test_many_measurements_teach_the_network(pretrained):
    pretrained.fit(bank().genotypes, latency(bank().genotypes, "target"))
    assert pretrained._function is not None
    assert pretrained._function.amplitude > 0
    assert error(pretrained, 350, 0) < error(pretrained, 12, 0)


def test_missing_measurements_of_a_source_are_left_out():
    one = bank(120)
    ms = one.ms.copy()
    ms[::2, 1] = np.nan
    model = Transfer(space=CELLS, epochs=2).pretrain(LatencyBank(CELLS, one.genotypes, DEVICES, ms))
    expected = MLP(space=CELLS, epochs=2).fit(one.genotypes[1::2], ms[1::2, 1])
    rows = CELLS.sample(20, np.random.default_rng(0))
    sites = model.features.sites(rows)
    np.testing.assert_allclose(model._bases["far"](sites), expected.predict(rows))


def test_suggested_architectures_cover_the_range(pretrained):
    rows = pretrained.suggest(10, np.random.default_rng(0))
    assert len(np.unique(CELLS.keys(rows))) == 10
    assert np.isin(CELLS.keys(rows), CELLS.keys(bank().genotypes)).all()
    ranked = np.argsort(np.argsort(latency(bank().genotypes, "near") + latency(bank().genotypes, "far")))
    places = ranked[np.searchsorted(np.sort(CELLS.keys(bank().genotypes)), CELLS.keys(rows))]
    assert len(places) == 10
    predicted = pretrained._based(rows, pretrained.features.sites(rows)).mean(axis=1)
    assert (np.diff(predicted) >= 0).all()
    np.testing.assert_array_equal(rows, pretrained.suggest(10, np.random.default_rng(0)))
    assert (rows != pretrained.suggest(10, np.random.default_rng(1))).any()


def test_a_saved_model_comes_back(pretrained, tmp_path):
    rows = CELLS.sample(30, np.random.default_rng(5))
    pretrained.fit(rows, latency(rows, "target"), device="target").save(tmp_path / "m.npz")
    again = load_cost_model(tmp_path / "m.npz", CELLS)
    assert isinstance(again, Transfer)
    assert again.sources == DEVICES
    np.testing.assert_array_equal(again.predict(rows), pretrained.predict(rows))
    with np.load(tmp_path / "m.npz") as file:
        arrays = {name: file[name] for name in file.files}
    for change in (
        {"sources": np.array(["near"])},
        {"sources": np.array([], dtype=str)},
        {"base_0.weights": np.ones(3)},
    ):
        np.savez(tmp_path / "bad.npz", **(arrays | change))
        with pytest.raises(DataError, match="not a usable cost model"):
            load_cost_model(tmp_path / "bad.npz", CELLS)


@pytest.mark.reference
def test_note10_to_rtx2080ti(reference_data):
    """Below a one-hot log-ridge with 700 networks, 0.541 ms, and an affine map of the truth with 100, 0.72 ms."""
    ms = {}
    for device, name in (("note10", "glp_ofa_note10_lut"), ("rtx", "glp_ofa_rtx2080ti_batch64")):
        with np.load(reference_data / "latency" / f"{name}.npz") as file:
            rows = SPACE.from_settings(*(file[key] for key in ("kernel", "expand", "depth", "resolution")))
            ms[device] = file["latency_ms"].astype(np.float64)
    known = LatencyBank(SPACE, rows[:1000], ("note10",), ms["note10"][:1000, None])
    model = Transfer(space=SPACE).pretrain(known)
    for n, bar in ((700, 0.541), (100, 0.72)):
        predicted = model.fit(rows[:n], ms["rtx"][:n]).predict(rows[8500:])
        assert np.abs(predicted - ms["rtx"][8500:]).mean() < bar


# -- from another space ----------------------------------------------------------------------------------------------


def work_ms(space: Space, rows: np.ndarray) -> np.ndarray:
    """A device that takes time for multiply-accumulates of each kind of kernel, and for launching."""
    times = np.zeros(36)
    times[0::4], times[3::4] = np.random.default_rng(3).uniform(0.01, 0.1, 9), 0.02
    return 1.0 + kernel_sums(space, rows) @ times


def test_a_base_of_another_space_predicts_by_kernels(tmp_path):
    fbnet = FBNet()
    rows = SPACE.sample(300, np.random.default_rng(0))
    source = LatencyBank(SPACE, rows, ("elsewhere",), work_ms(SPACE, rows)[:, None])
    model = Transfer(space=fbnet).pretrain(source)
    few = model.suggest(6, np.random.default_rng(0))
    unseen = fbnet.sample(300, np.random.default_rng(1))
    truth = 1.5 * work_ms(fbnet, unseen)
    with_base = np.abs(model.fit(few, 1.5 * work_ms(fbnet, few)).predict(unseen) - truth).mean()
    alone = np.abs(MLP(space=fbnet).fit(few, 1.5 * work_ms(fbnet, few)).predict(unseen) - truth).mean()
    assert with_base < 0.8 * alone
    model.save(tmp_path / "m.npz")
    np.testing.assert_array_equal(load_cost_model(tmp_path / "m.npz", fbnet).predict(unseen), model.predict(unseen))
    with np.load(tmp_path / "m.npz") as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(tmp_path / "bad.npz", **(arrays | {"base_0.kernel_ms": np.ones(3)}))
    with pytest.raises(DataError, match="not a usable cost model"):
        load_cost_model(tmp_path / "bad.npz", fbnet)


def test_many_measurements_train_a_fresh_network():
    fbnet = FBNet()
    rows = SPACE.sample(50, np.random.default_rng(0))
    model = Transfer(space=fbnet, epochs=2).pretrain(
        LatencyBank(SPACE, rows, ("elsewhere",), work_ms(SPACE, rows)[:, None])
    )
    more = fbnet.sample(320, np.random.default_rng(1))
    noisy = work_ms(fbnet, more) * np.random.default_rng(2).uniform(0.9, 1.1, 320)
    assert np.isfinite(model.fit(more, noisy).predict(more)).all()


def test_spaces_that_are_not_described_are_refused():
    with pytest.raises(InputError, match=r"networks of 'darts' make a device do is not described"):
        Transfer(space=DARTS()).pretrain(ofa_bank())
    cells = DARTS().sample(3, np.random.default_rng(0))
    with pytest.raises(InputError, match=r"'darts'.*not described"):
        Transfer(space=SPACE).pretrain(LatencyBank(DARTS(), cells, ("a",), np.ones((3, 1))))


# -- as published ----------------------------------------------------------------------------------------------------


def ofa_bank(n: int = 100) -> LatencyBank:
    rows = SPACE.sample(n, np.random.default_rng(0))
    return LatencyBank(SPACE, rows, ("base",), SPACE.encode(rows, "totals")[:, :3].sum(axis=1, dtype=float)[:, None])


def test_fine_tuning_touches_401_numbers(tmp_path):
    bank = ofa_bank()
    model = TransferPaper(space=SPACE, base_epochs=2, epochs=2, learning_rate=1e-3).pretrain(bank)
    base = model._base
    assert base is not None
    model.fit(bank.genotypes[:50], bank.ms[:50, 0] * 2)
    tuned = model._network
    assert tuned is not None
    assert tuned.sizes == [128, 400, 400, 400, 1]
    changed = sum(
        (a != b).sum() for a, b in zip((*base.weights, *base.biases), (*tuned.weights, *tuned.biases), strict=True)
    )
    assert changed == 401
    model.save(tmp_path / "m.npz")
    again = load_cost_model(tmp_path / "m.npz", SPACE)
    np.testing.assert_array_equal(again.predict(bank.genotypes), model.predict(bank.genotypes))


def test_published_fine_tuning_learns_the_new_scale():
    bank = ofa_bank(600)
    model = TransferPaper(space=SPACE, base_epochs=15, epochs=30, learning_rate=1e-3).pretrain(bank)
    target = 3 * bank.ms[:, 0]
    model.fit(bank.genotypes[:200], target[:200])
    assert np.mean(np.abs(model.predict(bank.genotypes[200:]) - target[200:])) < 0.5 * target.std()


def test_it_takes_one_base_device():
    with pytest.raises(InputError, match=r"one base device, the bank has near, far.*--sources DEVICE.*bank.only"):
        TransferPaper(space=CELLS).pretrain(bank())
    with pytest.raises(InputError, match="the bank is of space 'ofa-mobilenetv3'"):
        TransferPaper(space=CELLS).pretrain(ofa_bank())


@pytest.mark.parametrize("cls", [Transfer, TransferPaper])
def test_bad_order_and_input(cls):
    model = cls(space=CELLS)
    rows = CELLS.sample(3, np.random.default_rng(0))
    with pytest.raises(InputError, match=r"needs pretrain\(bank\), on the command line --bank TABLE"):
        model.fit(rows, np.arange(1.0, 4.0))
    with pytest.raises(InputError, match="before it can suggest"):
        model.suggest(3, np.random.default_rng(0))
    empty = LatencyBank(CELLS, rows, ("a",), np.full((3, 1), np.nan))
    with pytest.raises(InputError, match="no measurement of 'a'"):
        model.pretrain(empty)
    with pytest.raises(InputError, match="epochs >= 1"):
        cls(space=CELLS, epochs=0)


def test_bad_scale_and_numbers(pretrained):
    with pytest.raises(InputError, match="scale"):
        Transfer(space=CELLS, scale=0.0)
    with pytest.raises(InputError, match="epochs >= 1"):
        TransferPaper(space=CELLS, base_epochs=0)
    with pytest.raises(InputError, match="between 1 and 400"):
        pretrained.suggest(401, np.random.default_rng(0))
