"""flops, params and roofline: what they can express they fit exactly, and nothing else."""

import numpy as np
import pytest

from nasplug.cost_models.base import load_cost_model
from nasplug.cost_models.baselines import Flops, Params, Roofline
from nasplug.cost_models.virtual import grid_of_devices
from nasplug.cost_models.workload import workload
from nasplug.errors import InputError
from nasplug.registry import configure
from nasplug.spaces import FBNet, NASBench201, NASBenchMacro, OFAMobileNetV3
from nasplug.spaces.modules import complexity

SPACES = [NASBench201(), NASBenchMacro(), FBNet(), OFAMobileNetV3()]


@pytest.mark.parametrize(("model", "form"), [(Flops, complexity.flops), (Params, complexity.params)])
def test_a_line_in_the_count(model, form, tmp_path):
    cells = NASBench201().sample(60, np.random.default_rng(0))
    ms = 4.0 + 1e-7 * form(NASBench201(), cells)
    fitted = model(space=NASBench201()).fit(cells[:20], ms[:20])
    np.testing.assert_allclose(fitted.predict(cells), ms)
    fitted.save(tmp_path / "line.npz")
    np.testing.assert_array_equal(load_cost_model(tmp_path / "line.npz").predict(cells), fitted.predict(cells))
    backwards = model(space=NASBench201()).fit(cells[:20], 100.0 - ms[:20])
    assert np.ptp(backwards.predict(cells)) == 0


@pytest.mark.parametrize("name", ["flops", "params", "roofline"])
@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_every_described_space_is_counted(name, space):
    rng = np.random.default_rng(1)
    genotypes = space.sample(30, rng)
    model = configure("cost model", name, space).fit(genotypes, 5.0 + rng.random(30))
    assert model.predict(genotypes).shape == (30,)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_roofline_finds_a_device_of_its_kind(space, tmp_path):
    work = workload(space)
    times = grid_of_devices([1e5], [1e4], [1.0], len(work.kernels.folds)).times(work.kernels)[0]
    genotypes = space.sample(300, np.random.default_rng(2))
    ms = 1.5 + 0.02 * work.total(genotypes, times)
    model = Roofline(space=space).fit(genotypes[:20], ms[:20])
    np.testing.assert_allclose(model.predict(genotypes), ms, rtol=1e-6)
    model.save(tmp_path / "roofline.npz")
    np.testing.assert_array_equal(
        load_cost_model(tmp_path / "roofline.npz").predict(genotypes), model.predict(genotypes)
    )
    with np.load(tmp_path / "roofline.npz") as file:
        arrays = dict(file) | {"weights": np.zeros(7)}
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(InputError, match="not a usable cost model"):
        load_cost_model(tmp_path / "other.npz")


@pytest.mark.parametrize("name", ["flops", "params", "roofline"])
def test_a_space_without_a_described_network_is_refused(name):
    space = configure("space", "nasbench-graph")
    genotypes = space.sample(5, np.random.default_rng(0))
    with pytest.raises(InputError, match=f"{name} needs to know the network"):
        configure("cost model", name, space).fit(genotypes, np.arange(5.0) + 1)


@pytest.mark.parametrize("name", ["flops", "roofline", "lookup", "mlp"])
def test_latencies_that_are_all_alike_teach_nothing(name):
    rows = NASBench201().sample_distinct(5, np.random.default_rng(0))
    with pytest.raises(InputError, match="all 5 latencies are 3 ms: nothing to learn"):
        configure("cost model", name, NASBench201()).fit(rows, np.full(5, 3.0))


@pytest.mark.parametrize(
    ("name", "least"), [("params", 2), ("roofline", 2), ("lookup", 3), ("mlp", 3), ("mlp-paper", 3)]
)
def test_fewer_measurements_than_a_model_has_numbers_are_refused(name, least):
    rows = NASBench201().sample_distinct(least - 1, np.random.default_rng(0))
    with pytest.raises(InputError, match=f"needs at least {least} measurements, got {least - 1}; measure more"):
        configure("cost model", name, NASBench201()).fit(rows, np.arange(1.0, least))
