"""Hardware lists, and the model that is conditioned on them; real figures: latency_glp.py."""

import math

import numpy as np
import pytest
import yaml

from nasplug.cost_models.base import LatencyBank, load_cost_model
from nasplug.cost_models.gpu import GPU, _at_batch
from nasplug.cost_models.hardware import device_and_batch, hardware, read_hardware
from nasplug.errors import DataError, InputError, UnknownNameError
from nasplug.spaces import NASBench201, OFAMobileNetV3

SPACE = OFAMobileNetV3()
ROWS = SPACE.sample(250, np.random.default_rng(0))
UNSEEN = SPACE.sample(200, np.random.default_rng(1))


def work(rows: np.ndarray) -> np.ndarray:
    return SPACE.encode(rows, "totals")[:, [0, 1, 2, 6]].sum(axis=1, dtype=float)


def latency(rows: np.ndarray, name: str, batch: int) -> np.ndarray:
    """A GPU as the model imagines one: a floor that does not scale, and work that does."""
    one = hardware(name)
    speed = math.sqrt(one.fp32_tflops * one.bandwidth_gb_s) / 60
    return np.maximum(4 + 0.1 * SPACE.encode(rows, "totals")[:, 5], work(rows) * batch / 600 / speed)


def bank(devices: tuple[str, ...]) -> LatencyBank:
    return LatencyBank(SPACE, ROWS, devices, np.stack([latency(ROWS, *device_and_batch(d)) for d in devices], axis=1))


@pytest.fixture(scope="module")
def known() -> GPU:
    return GPU(space=SPACE).pretrain(bank(("2080ti_1", "2080ti_32", "2080ti_64", "titan_rtx_32", "titan_rtx_64")))


# -- hardware --------------------------------------------------------------------------------------------------------


def test_listed_hardware():
    """Values of the latency sheet."""
    one = hardware("2080ti")
    assert (one.cores, one.ram_gb, one.bandwidth_gb_s, one.fp32_tflops) == (4352, 11, 616, 13.45)
    assert hardware("titan_xp") is hardware("titanxp")
    assert hardware("p40").bandwidth_gb_s == 347
    assert hardware("pixel2").fp32_tflops is None
    with pytest.raises(UnknownNameError, match="titan_rtx"):
        hardware("titan_rtz")


def test_own_hardware_is_data(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"h1": {"cores": 10, "fp32_tflops": 1.5, "aliases": ["h-one"], "sure": "guess"}}))
    listed = read_hardware(path)
    assert hardware("h-one", listed).fp32_tflops == 1.5
    assert listed["h1"].kind == "gpu"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "no list of hardware"),
        ("", "no list of hardware"),
        ("a: 3", "no list of hardware"),
        ("a: [", "is not YAML"),
        ("a: {cores: -1}", "cores of a must be a number above zero"),
        ("a: {ram_gb: many}", "ram_gb of a must be"),
        ("a: {fp32_tflops: .nan}", "fp32_tflops of a must be"),
        ("a: {cores: true}", "cores of a must be"),
        ("a: {tflops: 3}", "fp32_tflops"),
        ("a: !!python/object:os.system {}", "is not YAML"),
    ],
)
def test_bad_lists_are_refused(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_hardware(path)


def test_unreadable_lists_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot read hardware"):
        read_hardware(tmp_path / "missing.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(DataError, match="at most"):
        read_hardware(tmp_path / "large.yaml")


def test_device_names():
    assert device_and_batch("titan_rtx_64") == ("titan_rtx", 64)
    assert device_and_batch("rtx2080ti_batch64") == ("rtx2080ti", 64)
    for bad in ("pixel2", "_64", "2080ti_0", "2080ti_x", "essential_ph_1", "gold_6226"):
        with pytest.raises(InputError, match="HARDWARE_BATCH"):
            device_and_batch(bad)


# -- the model -------------------------------------------------------------------------------------------------------


def relative(model: GPU, name: str, batch: int) -> float:
    truth = latency(UNSEEN, name, batch)
    return float(np.mean(np.abs(model.aim(name, batch).predict(UNSEEN) / truth - 1)))


def test_a_known_gpu_speaks_alone(known):
    alone = GPU(space=SPACE).pretrain(bank(("titan_rtx_32", "titan_rtx_64")))
    np.testing.assert_allclose(
        known.aim("titan_rtx", 64).predict(UNSEEN), alone.aim("titan_rtx", 64).predict(UNSEEN), rtol=1e-9
    )
    assert relative(known, "titan_rtx", 64) < 0.02


def test_an_unknown_gpu_scales_with_its_speed(known):
    """At batch 64 all is work; the V100 has 1.17 times the TFLOP/s and 1.46 times the GB/s of the 2080 Ti."""
    assert relative(known, "v100", 64) < 0.06
    unscaled = latency(UNSEEN, "2080ti", 64) / latency(UNSEEN, "v100", 64)
    assert abs(np.mean(unscaled) - 1) > 0.2


def test_launch_bound_latencies_do_not_scale(known):
    truth = latency(UNSEEN, "v100", 1)
    np.testing.assert_allclose(truth, latency(UNSEEN, "2080ti", 1))
    assert relative(known, "v100", 1) < 0.12


def test_batch_sizes_between(known):
    assert relative(known, "2080ti", 48) < 0.08
    assert relative(known, "2080ti", 128) < 0.12


def test_a_few_measurements_set_the_scale(known):
    truth = 1.8 * latency(UNSEEN, "v100", 64)
    known.aim("v100", 64).fit(UNSEEN[:5], truth[:5], device="v100_64")
    assert np.mean(np.abs(known.predict(UNSEEN) / truth - 1)) < 0.05
    assert known.provenance["measurements"] == 5
    known.aim("v100", 64)
    assert np.mean(known.predict(UNSEEN) / truth) < 0.7


def test_weights_fall_with_distance_and_never_vanish():
    model = GPU(space=SPACE, reach=1e-3).pretrain(bank(("2080ti_64", "1080ti_64")))
    near = GPU(space=SPACE).pretrain(bank(("2080ti_64",))).aim("titan_rtx", 64).predict(UNSEEN)
    both = model.aim("titan_rtx", 64).predict(UNSEEN)
    assert np.isfinite(both).all()
    wide = GPU(space=SPACE, reach=0.2).pretrain(bank(("2080ti_64", "1080ti_64"))).aim("titan_rtx", 64).predict(UNSEEN)
    np.testing.assert_allclose(wide, near, rtol=1e-3)


def test_interpolation_of_batches():
    one, two, three = (np.log(np.array([x, x])) for x in (2.0, 2.0, 4.0))
    level, slope = _at_batch({1: one, 2: two, 4: three}, 2)
    np.testing.assert_allclose(level, two)
    np.testing.assert_allclose(slope, 0.5)
    level, slope = _at_batch({1: one, 2: two, 4: three}, 8)
    np.testing.assert_allclose(level, np.log(8))
    np.testing.assert_allclose(slope, 1.0)
    level, slope = _at_batch({2: two, 4: three}, 1)
    np.testing.assert_allclose(level, 0.0, atol=1e-12)
    level, slope = _at_batch({32: three}, 64)
    np.testing.assert_allclose(level, np.log(8))


def test_options_suggestions_and_files(known, tmp_path):
    model = GPU(space=SPACE, hardware="v100", batch=64).pretrain(bank(("2080ti_32", "2080ti_64")))
    assert model.device == "v100_64"
    rows = model.suggest(7, np.random.default_rng(0))
    assert np.isin(SPACE.keys(rows), SPACE.keys(ROWS)).all()
    model.fit(rows, latency(rows, "v100", 64))
    model.save(tmp_path / "m.npz")
    again = load_cost_model(tmp_path / "m.npz", SPACE)
    np.testing.assert_array_equal(again.predict(UNSEEN), model.predict(UNSEEN))
    with np.load(tmp_path / "m.npz") as file:
        arrays = {name: file[name] for name in file.files}
    for change in (
        {"traits": arrays["traits"][:1]},
        {"target": np.full(3, np.nan)},
        {"devices": np.array(["2080ti_32", "nonsense"])},
        {"known_0.weights": np.ones(4)},
    ):
        np.savez(tmp_path / "bad.npz", **(arrays | change))
        with pytest.raises(DataError, match="not a usable cost model"):
            load_cost_model(tmp_path / "bad.npz", SPACE)


def test_own_hardware_comes_first(tmp_path):
    path = tmp_path / "mine.yaml"
    facts = {"fp32_tflops": 13.45, "bandwidth_gb_s": 4 * 616, "capability": 7.5}
    path.write_text(yaml.safe_dump({"twice": facts, "v100": facts}))
    plain = GPU(space=SPACE).pretrain(bank(("2080ti_64",))).aim("2080ti", 64).predict(UNSEEN)
    for name in ("twice", "v100"):
        model = GPU(space=SPACE, hardware=name, batch=64, hardware_file=str(path)).pretrain(bank(("2080ti_64",)))
        np.testing.assert_allclose(model.predict(UNSEEN), plain / 2, rtol=1e-5)


def test_bad_calls_say_what_is_wrong(known):
    for options in ({"batch": 0}, {"seed": -1}, {"reach": 0.0}):
        with pytest.raises(InputError, match="gpu expects"):
            GPU(space=SPACE, **options)
    blank = GPU(space=SPACE)
    with pytest.raises(InputError, match="not fitted"):
        blank.predict(UNSEEN)
    with pytest.raises(InputError, match=r"needs pretrain.*--bank TABLE and gpu:hardware=NAME"):
        blank.fit(ROWS[:2], np.arange(1.0, 3.0))
    with pytest.raises(InputError, match="knows 0 architectures"):
        blank.suggest(1, np.random.default_rng(0))
    with pytest.raises(InputError, match="knows 250 architectures"):
        known.suggest(251, np.random.default_rng(0))
    with pytest.raises(InputError, match="batch size is at least 1"):
        known.aim("v100", 0)
    with pytest.raises(UnknownNameError, match="v100"):
        known.aim("v10", 64)
    with pytest.raises(InputError, match="fp32_tflops, capability of 'pixel2'"):
        known.aim("pixel2", 1)
    with pytest.raises(InputError, match=r"a phone\), which is not listed; .*: gpu:hardware_file=FILE"):
        known.aim("pixel2", 1)
    for devices, message in (
        (("fpga",), r"from fpga \(expected HARDWARE_BATCH.*by --sources DEVICE"),
        (
            ("2080ti_1", "essential_ph_1", "pixel3", "v100_1"),
            r"from essential_ph_1, pixel3 \(.*got 'essential_ph_1'\); leave them out by --sources 2080ti_1,v100_1,",
        ),
        (("pixel2_1",), r"from pixel2_1 \(gpu needs fp32_tflops, capability"),
    ):
        with pytest.raises(InputError, match=message):
            GPU(space=SPACE).pretrain(LatencyBank(SPACE, ROWS, devices, np.ones((250, len(devices)))))
    with pytest.raises(DataError, match="cannot read hardware"):
        GPU(space=SPACE, hardware_file="none.yaml").pretrain(bank(("2080ti_1",)))
    with pytest.raises(InputError, match="no measurement of '2080ti_1'"):
        GPU(space=SPACE).pretrain(LatencyBank(SPACE, ROWS, ("2080ti_1",), np.full((250, 1), np.nan)))
    cells = NASBench201().sample(2, np.random.default_rng(0))
    with pytest.raises(InputError, match="of space 'nasbench201'"):
        GPU(space=SPACE).pretrain(LatencyBank(NASBench201(), cells, ("2080ti_1",), np.ones((2, 1))))
