"""lookup: additive tables, from whole networks and from blocks."""

import numpy as np
import pytest

from nasplug.cost_models.base import load_cost_model
from nasplug.cost_models.lookup import Lookup
from nasplug.errors import DataError, InputError
from nasplug.spaces import FBNet, NASBench201, OFAMobileNetV3


def additive(space, n, seed=0):
    rng = np.random.default_rng(seed)
    genotypes = space.sample(n, rng)
    return genotypes, 10.0 + space.encode(genotypes).astype(float) @ rng.random(space.encode(genotypes).shape[1])


@pytest.mark.parametrize("space", [NASBench201(), FBNet()])
def test_an_additive_device_is_learnt_exactly(space):
    genotypes, ms = additive(space, 600)
    model = Lookup(space=space).fit(genotypes[:500], ms[:500])
    np.testing.assert_allclose(model.predict(genotypes[500:]), ms[500:], rtol=1e-3)


def test_entries_grow_with_the_resolution():
    space = OFAMobileNetV3()
    genotypes = space.sample(2000, np.random.default_rng(0))
    settings = space.settings(genotypes)
    ms = 3.0 + (settings.expand * settings.kernel).sum(axis=1) * (settings.resolution / 224) ** 2 / 20
    model = Lookup(space=space).fit(genotypes[:1500], ms[:1500])
    np.testing.assert_allclose(model.predict(genotypes[1500:]), ms[1500:], rtol=0.05)


def test_fewer_networks_than_entries_are_fine():
    genotypes, ms = additive(FBNet(), 400)
    model = Lookup(space=FBNet()).fit(genotypes[:60], ms[:60])
    assert np.corrcoef(model.predict(genotypes[60:]), ms[60:])[0, 1] > 0.3


def blocks(space):
    return {(p.name, choice): 0.1 * i for p in space.parameters for i, choice in enumerate(p.choices)}


def test_measured_blocks_add_up(tmp_path):
    space = NASBench201()
    model = Lookup(space=space).fit_blocks(blocks(space), 2.0, device="bench")
    cells = space.sample(50, np.random.default_rng(0))
    np.testing.assert_allclose(model.predict(cells), 2.0 + 0.1 * cells.sum(axis=1))
    assert model.provenance == {"measurements": 31, "built_from": "blocks"}
    model.save(tmp_path / "table.npz")
    np.testing.assert_array_equal(load_cost_model(tmp_path / "table.npz").predict(cells), model.predict(cells))
    with np.load(tmp_path / "table.npz") as file:
        arrays = dict(file) | {"table": np.zeros(7)}
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(InputError, match="not a usable cost model"):
        load_cost_model(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("a letter")
    with pytest.raises(DataError, match=r"not a usable cost model \(BadZipFile: not an .npz file\)"):
        load_cost_model(tmp_path / "text.npz")


def test_a_model_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    model, path = Lookup(space=NASBench201()).fit_blocks(blocks(NASBench201()), 2.0), tmp_path / "table.npz"
    model.save(path)
    before = path.read_bytes()

    def full(*arguments, **arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(DataError, match=r"cannot write .*table\.npz \(No space left"):
        model.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_blocks_that_do_not_fit_are_refused():
    space = NASBench201()
    good = blocks(space)
    model = Lookup(space=space)
    with pytest.raises(InputError, match="missing 1"):
        model.fit_blocks({key: good[key] for key in list(good)[1:]}, 1.0)
    with pytest.raises(InputError, match="nowhere"):
        model.fit_blocks(good | {("nowhere", "none"): 1.0}, 1.0)
    for times, rest in ((good | {("edge_0_1", "none"): -1.0}, 1.0), (good, 0.0), (good, np.nan)):
        with pytest.raises(InputError, match="finite milliseconds"):
            model.fit_blocks(times, rest)
    with pytest.raises(InputError, match="whole networks instead"):
        Lookup(space=OFAMobileNetV3()).fit_blocks({}, 1.0)
