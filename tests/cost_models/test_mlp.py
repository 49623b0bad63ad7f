"""The predictors on encodings: published sizes and training, ours beside them, files, speed, bad input."""

import subprocess
import sys
import time

import numpy as np
import pytest

from nasplug import registry
from nasplug.cost_models.base import load_cost_model
from nasplug.cost_models.corrected import ENOUGH
from nasplug.cost_models.features import Features
from nasplug.cost_models.mlp import MLP, MLPPaper
from nasplug.cost_models.perceptron import Perceptron, Recipe, layer_sizes, train
from nasplug.cost_models.ridge import fit_ridge
from nasplug.errors import DataError, InputError, MissingDependencyError
from nasplug.spaces import DARTS, NASBench201, OFAMobileNetV3, Space
from nasplug.spaces.subspace import Subspace

SPACE = OFAMobileNetV3()
CELLS = NASBench201()


def measured(space: Space, n: int, seed: int = 0, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Architectures and made-up milliseconds: a sum over sites, and a bend that no sum can show."""
    rng = np.random.default_rng(seed)
    rows = space.sample(n, rng)
    sites = space.encode(rows, "onehot").astype(np.float64)
    weights = np.random.default_rng(5).uniform(0.0, 1.0, sites.shape[1])
    total = 10 + sites @ weights
    bent = total + 2.0 * np.abs(sites @ np.random.default_rng(6).normal(0, 0.3, sites.shape[1]))
    return rows, bent + rng.normal(0, noise, n)


def rmse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


# -- the parts -------------------------------------------------------------------------------------------------------


def test_ridge_error_is_leave_one_out_by_hand():
    rng = np.random.default_rng(0)
    for n, d in ((30, 5), (12, 40)):
        rows, free = rng.normal(size=(n, d)), rng.normal(size=(n, 1))
        targets = rows[:, 0] + 2 * free[:, 0] + rng.normal(0, 0.3, n)
        fit = fit_ridge(rows, targets, free)
        errors = []
        for i in range(n):
            left = np.arange(n) != i
            x = np.column_stack([rows, free, np.ones(n)])
            penalty = np.diag([fit.penalty] * d + [0, 0])
            solved = np.linalg.solve(x[left].T @ x[left] + penalty, x[left].T @ targets[left])
            errors.append(targets[i] - x[i] @ solved)
        assert fit.error == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-6)
        whole = np.linalg.solve(x.T @ x + penalty, x.T @ targets)
        np.testing.assert_allclose(np.r_[fit.weights, fit.free_weights, fit.constant], whole, atol=1e-8)


def test_ridge_of_one_row_is_its_target():
    fit = fit_ridge(np.ones((1, 3)), np.array([7.0]))
    assert (fit.weights == 0).all()
    assert fit.constant == 7.0


@pytest.mark.parametrize("space", [SPACE, CELLS, DARTS()], ids=lambda s: s.name)
def test_sums_are_linear_in_the_sites(space):
    features = Features(space)
    rows = space.sample(200, np.random.default_rng(9))
    every = features.all(rows)
    assert np.isfinite(every).all()
    assert features.sites(rows).dtype == np.float32
    np.testing.assert_allclose(features.sites(rows), every[:, : features.width], atol=1e-5)
    weights = np.random.default_rng(1).normal(size=every.shape[1])
    folded, constant = features.on_sites(weights)
    np.testing.assert_allclose(features.sites(rows) @ folded + constant, every @ weights, atol=2e-2)


def test_features_do_not_depend_on_what_is_measured():
    few = SPACE.sample(2, np.random.default_rng(0))
    features = Features(SPACE)
    np.testing.assert_array_equal(features.sites(few)[:1], Features(SPACE).sites(few[:1]))
    spread = features.sites(SPACE.sample(4000, np.random.default_rng(1)))
    assert abs(spread.mean(axis=0)).max() < 0.1
    assert abs(spread.std(axis=0) - 1).max() < 0.1


def test_layer_sizes():
    assert layer_sizes("400-400-400") == (400, 400, 400)
    assert layer_sizes("7") == layer_sizes(7) == (7,)
    for bad in (0, -3, 99999, "", "400,400", "0", "-", "10-x", "99999999", "1-" * 20 + "1"):
        with pytest.raises(InputError, match="widths joined by"):
            layer_sizes(bad)


def test_numpy_and_torch_agree():
    torch = pytest.importorskip("torch")
    network = Perceptron.drawn([5, 8, 4, 1], np.random.default_rng(0))
    layers: list = []
    for weight, bias in zip(network.weights, network.biases, strict=True):
        linear = torch.nn.Linear(*weight.shape)
        linear.weight.data, linear.bias.data = torch.tensor(weight.T), torch.tensor(bias)
        layers += [linear, torch.nn.ReLU()]
    rows = np.random.default_rng(1).normal(size=(20, 5)).astype(np.float32)
    expected = torch.nn.Sequential(*layers[:-1])(torch.tensor(rows))[:, 0].detach().numpy()
    np.testing.assert_allclose(network(rows), expected, atol=1e-6)


def test_one_step_of_sgd_follows_the_published_loss():
    """By hand: the gradient of sqrt(mse + 1e-6) through one linear layer, with weight decay."""
    start = Perceptron((np.array([[0.5], [-1.0]], np.float32),), (np.array([0.25], np.float32),))
    rows = np.array([[1.0, 2.0], [3.0, -1.0]], np.float32)
    targets = np.array([1.0, 2.0])
    learnt = train(start, rows, targets, Recipe("sgd", 0.1, 0.01, epochs=1, batch=2), np.random.default_rng(0))
    error = rows @ start.weights[0][:, 0] + 0.25 - targets
    loss = np.sqrt(np.mean(error**2) + 1e-6)
    gradient = rows.T @ error / 2 / loss
    np.testing.assert_allclose(
        learnt.weights[0][:, 0], start.weights[0][:, 0] - 0.1 * (gradient + 0.01 * start.weights[0][:, 0]), rtol=1e-5
    )
    assert learnt.biases[0][0] == pytest.approx(0.25 - 0.1 * (error.sum() / 2 / loss + 0.01 * 0.25), rel=1e-5)


def test_training_leaves_the_start_and_the_global_streams_alone():
    torch = pytest.importorskip("torch")
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - the stream under test
    start = Perceptron.drawn([3, 4, 1], np.random.default_rng(0))
    kept = [w.copy() for w in start.weights]
    rows = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
    recipe = Recipe("adamw", 1e-2, 0.1, epochs=3, batch=16, schedule="onecycle", loss="huber")
    first, second = (train(start, rows, rows[:, 0].astype(float), recipe, np.random.default_rng(2)) for _ in range(2))
    for a, b in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(start.weights, kept, strict=True):
        np.testing.assert_array_equal(a, b)
    assert torch.equal(before[0], torch.random.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_training_that_diverges_says_so():
    start = Perceptron.drawn([3, 1], np.random.default_rng(0))
    rows = np.full((8, 3), 1e18, np.float32)
    with pytest.raises(InputError, match="smaller one"):
        train(start, rows, np.full(8, 1e18), Recipe("sgd", 1e30, 0.0, epochs=3, batch=8), np.random.default_rng(0))


def test_without_torch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    rows, ms = measured(SPACE, 20)
    with pytest.raises(MissingDependencyError, match=r"nasplug\[torch\]"):
        MLPPaper(space=SPACE).fit(rows, ms)


def test_importing_the_models_loads_no_torch():
    code = "import sys, nasplug.cost_models.mlp, nasplug.cost_models.transfer, nasplug.cost_models.gpu; "
    run = subprocess.run(
        [sys.executable, "-c", code + "print('torch' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "False"


# -- the models ------------------------------------------------------------------------------------------------------


def test_registered_names():
    assert registry.load("cost model", "mlp") is MLP
    assert registry.load("cost model", "mlp-paper") is MLPPaper
    assert registry.configure("cost model", "mlp:hidden=32-16,epochs=3", SPACE).hidden == "32-16"


def test_published_sizes():
    rows, ms = measured(SPACE, 64)
    model = MLPPaper(space=SPACE, epochs=1).fit(rows, ms)
    assert model.network.sizes == [128, 400, 400, 400, 1]
    cells, cell_ms = measured(CELLS, 64)
    assert MLPPaper(space=CELLS, epochs=1).fit(cells, cell_ms).network.sizes == [30, 400, 400, 400, 1]


def test_published_training_learns():
    rows, ms = measured(SPACE, 1200)
    unseen, truth = measured(SPACE, 400, seed=1)
    model = MLPPaper(space=SPACE, epochs=12).fit(rows, ms)
    assert rmse(model.predict(unseen), truth) < 0.6 * truth.std()


@pytest.mark.parametrize("space", [SPACE, CELLS], ids=lambda s: s.name)
def test_the_network_adds_what_no_sum_can_show(space):
    rows, ms = measured(space, 1500)
    unseen, truth = measured(space, 500, seed=1)
    model = MLP(space=space).fit(rows, ms)
    linear = fit_ridge(model.features.all(rows), ms)
    sums = model.features.all(unseen) @ linear.weights + linear.constant
    assert rmse(model.predict(unseen), truth) < 0.8 * rmse(sums, truth)


@pytest.mark.reference
def test_two_thousand_networks_beat_the_published_seven_thousand(reference_data):
    """Mean absolute error on the paper's test rows: 0.3525 ms published, about 0.063 ours; latency_glp.py has all."""
    with np.load(reference_data / "latency" / "glp_ofa_note10_lut.npz") as file:
        rows = SPACE.from_settings(*(file[key] for key in ("kernel", "expand", "depth", "resolution")))
        ms = file["latency_ms"].astype(np.float64)
    model = MLP(space=SPACE).fit(rows[:2000], ms[:2000])
    assert np.abs(model.predict(rows[8500:]) - ms[8500:]).mean() < 0.1


def test_few_measurements_suffice_for_a_sum():
    """Forty networks for 237 features: the sums over blocks are cheap to learn."""
    rows = SPACE.sample(40, np.random.default_rng(0))
    unseen = SPACE.sample(500, np.random.default_rng(1))
    weights = np.array([0.01, 0.02, 0.01, 0.5, 0.3, 1.0, 0.0])
    ms, truth = SPACE.encode(rows, "totals") @ weights, SPACE.encode(unseen, "totals") @ weights
    model = MLP(space=SPACE).fit(rows, ms)
    assert model.function.amplitude == 0
    assert rmse(model.predict(unseen), truth) < 0.05 * truth.std()


def test_noise_is_not_believed():
    """Of pure noise beyond the sum the network holds nothing on what it has not seen."""
    rows = CELLS.sample(1500, np.random.default_rng(0))
    clean = 10 + (rows == 3).sum(axis=1)
    ms = clean + np.random.default_rng(1).normal(0, 0.5, len(rows))
    model = MLP(space=CELLS, epochs=20).fit(rows, ms)
    assert rmse(model.predict(rows[:500]), clean[:500]) < 0.15


def test_enough_is_the_border():
    rows, ms = measured(CELLS, ENOUGH)
    assert MLP(space=CELLS, epochs=2).fit(rows[:-1], ms[:-1]).function.amplitude == 0.0
    assert MLP(space=CELLS, epochs=20).fit(rows, ms).function.amplitude > 0


def test_predictions_stay_above_half_of_the_smallest():
    rows, _ = measured(SPACE, 30)
    ms = np.exp(np.random.default_rng(0).normal(0, 3, 30))
    predicted = MLP(space=SPACE).fit(rows, ms).predict(SPACE.sample(300, np.random.default_rng(1)))
    assert predicted.min() >= ms.min() / 2


@pytest.mark.parametrize("cls", [MLP, MLPPaper])
def test_same_seed_same_model_and_files_come_back(cls, tmp_path):
    rows, ms = measured(CELLS, 400)
    epochs = 25 if cls is MLP else 3
    unseen = CELLS.sample(5000, np.random.default_rng(3))
    model = cls(space=CELLS, epochs=epochs).fit(rows, ms, device="made up")
    expected = model.predict(unseen)
    np.testing.assert_array_equal(cls(space=CELLS, epochs=epochs).fit(rows, ms).predict(unseen), expected)
    assert (cls(space=CELLS, epochs=epochs, seed=1).fit(rows, ms).predict(unseen) != expected).any()
    model.save(tmp_path / "model.npz")
    again = load_cost_model(tmp_path / "model.npz", CELLS)
    assert type(again) is cls
    assert again.device == "made up"
    np.testing.assert_array_equal(again.predict(unseen), expected)
    assert model.predict(unseen[:0]).shape == (0,)


def test_a_model_of_the_whole_serves_a_part(tmp_path):
    part = Subspace(
        SPACE, lambda rows: rows[:, -1] >= 8, "resolution >= 160", SPACE.sample(50, np.random.default_rng(0))
    )
    rows, ms = measured(SPACE, 30)
    model = MLP(space=SPACE).fit(rows, ms)
    model.save(tmp_path / "model.npz")
    some = part.sample(20, np.random.default_rng(0))
    again = load_cost_model(tmp_path / "model.npz", part)
    assert again.space == SPACE
    np.testing.assert_array_equal(again.predict(some), model.predict(some))


@pytest.mark.parametrize("cls", [MLP, MLPPaper])
def test_damaged_files_are_refused(cls, tmp_path):
    path = tmp_path / "model.npz"
    rows, ms = measured(SPACE, 20)
    cls(space=SPACE, epochs=1).fit(rows, ms).save(path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    first = arrays["weight_0"]
    spoiled = {
        "another space's": {"weight_0": first[1:]},
        "not a chain": {"weight_1": arrays["weight_1"][1:]},
        "not finite": {"bias_0": np.full_like(arrays["bias_0"], np.nan)},
        "flat": {"weight_0": first.ravel()},
    }
    if cls is MLP:
        spoiled |= {"linear": {"weights": arrays["weights"][1:]}, "scalars": {"scalars": np.full(3, np.inf)}}
    for change in spoiled.values():
        np.savez(path, **(arrays | change))
        with pytest.raises(DataError, match="not a usable cost model"):
            load_cost_model(path, SPACE)
    np.savez(path, **{k: v for k, v in arrays.items() if k != "weight_3" and k != "weight_2"})
    with pytest.raises(DataError, match="not a usable cost model"):
        load_cost_model(path, SPACE)


@pytest.mark.parametrize("name", ["mlp", "mlp-paper", "transfer", "transfer-paper"])
def test_one_hidden_layer_is_a_number(name, tmp_path):
    model = registry.configure("cost model", f"{name}:hidden=16,epochs=1", CELLS)
    assert model.hidden == 16
    with pytest.raises(InputError, match=r"must be str or int, got 1\.5"):
        registry.configure("cost model", f"{name}:hidden=1.5", CELLS)
    if name.startswith("mlp"):
        rows, ms = measured(CELLS, ENOUGH)
        model.fit(rows, ms).save(tmp_path / "model.npz")
        again = load_cost_model(tmp_path / "model.npz", CELLS)
        assert again.hidden == 16
        np.testing.assert_array_equal(again.predict(rows), model.predict(rows))


@pytest.mark.parametrize("cls", [MLP, MLPPaper])
def test_bad_options_and_order(cls):
    for options, message in (
        ({"epochs": 0}, "epochs >= 1"),
        ({"batch": 0}, "batch >= 1"),
        ({"seed": -1}, "seed >= 0"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"hidden": "x"}, "widths"),
    ):
        with pytest.raises(InputError, match=message):
            cls(space=SPACE, **options)
    model = cls(space=SPACE)
    with pytest.raises(InputError, match="not fitted yet"):
        model.predict(SPACE.sample(1, np.random.default_rng(0)))
    with pytest.raises(InputError, match="not fitted yet"):
        model.network if cls is MLPPaper else model.function  # noqa: B018 - the property raises


def test_speed():
    """At least 10^5 architectures a second of processor time; on an idle core the clock shows the same."""
    rows, ms = measured(SPACE, ENOUGH)
    model = MLP(space=SPACE, epochs=5).fit(rows, ms)
    many = SPACE.sample(20_000, np.random.default_rng(0))
    model.predict(many[:100])
    spent = []
    for _ in range(3):
        started = time.process_time()
        model.predict(many)
        spent.append(time.process_time() - started)
    assert len(many) / min(spent) > 1e5
