"""Training, on a tenth of the digits."""

import random

import numpy as np
import pytest
import torch

from nasplug.benchmarks.trained.training import Recipe, Training
from nasplug.errors import InputError
from nasplug.images import Images, Split, load_images
from nasplug.spaces import NASBench201, NASBenchMacro
from nasplug.spaces.modules.build import network

CELLS, CHAINS = NASBench201(), NASBenchMacro()
ROWS = np.concatenate([[[0] * 6], CELLS.sample(3, np.random.default_rng(3))])
RECIPE = Recipe(epochs=3, batch_size=16)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits() -> Images:
    return some(load_images("digits"))


def some(images: Images, *, crop: int = 0, dtype: type = np.float32) -> Images:
    """65 images to train on: four batches of 16, and one image that no batch norm could stand alone."""
    parts = [
        Split(s.images[:n].astype(dtype), s.labels[:n])
        for s, n in ((images.train, 65), (images.valid, 60), (images.test, 140))
    ]
    return Images(images.name, *parts, classes=10, crop=crop)


def cells(rows=ROWS, seed: int = 0) -> list[torch.nn.Module]:
    return [network(CELLS, row, classes=10, in_channels=1, channels=4, cells=1, seed=seed) for row in rows]


def chains(n: int = 3) -> list[torch.nn.Module]:
    rows = CHAINS.sample(n, np.random.default_rng(0))
    sizes = {"stem": 2, "width": 8, "strides": (1, 2, 2)}
    return [network(CHAINS, row, classes=10, in_channels=1, seed=0, **sizes) for row in rows]


def curves(training: Training) -> np.ndarray:
    return np.stack(list(training), axis=1)


@pytest.mark.parametrize(("make", "crop"), [(cells, 0), (cells, 2), (chains, 0)])
def test_a_network_trains_alike_in_any_stack(digits, make, crop):
    """In double precision, where rounding has no time to grow."""
    images, recipe = some(digits, crop=crop, dtype=np.float64), Recipe(epochs=2, batch_size=16)

    def trained(*parts: slice) -> np.ndarray:
        nets = [net.double() for net in make()]
        return np.concatenate([curves(Training(nets[part], images, recipe, seed=4)) for part in parts])

    whole = trained(slice(None))
    np.testing.assert_allclose(trained(slice(1), slice(1, 4)), whole, rtol=1e-6)
    np.testing.assert_allclose(trained(slice(2, 3)), whole[2:3], rtol=1e-6)
    assert np.ptp(whole[:, -1, 3]) > 1e-3  # they do differ from each other


def test_in_single_precision_rounding_grows_within_bounds(digits):
    """Measured: losses agree to 5e-7, answers are the same. Longer trainings drift (reproduce/stacked_training.py)."""
    whole = curves(Training(cells(), digits, RECIPE, seed=0))
    alone = np.concatenate([curves(Training([net], digits, RECIPE, seed=0)) for net in cells()])
    np.testing.assert_allclose(alone[:, 0], whole[:, 0], atol=1e-3)
    np.testing.assert_allclose(alone[:, -1], whole[:, -1], atol=0.05)


def test_metrics_are_of_the_parts_they_name(digits):
    training = Training(cells(), digits, RECIPE, seed=0)
    metrics = next(training)
    assert metrics.shape == (4, 6)
    training.stack.eval()
    for part, column in ((digits.valid, 2), (digits.test, 4)):
        with torch.no_grad():
            logits = training.stack(torch.from_numpy(part.images))
        expected = (logits.argmax(2).numpy() == part.labels).mean(axis=1)
        np.testing.assert_allclose(metrics[:, column], expected, atol=1e-6)
        log_p = torch.log_softmax(logits, 2).numpy()[:, np.arange(len(part)), part.labels]
        np.testing.assert_allclose(metrics[:, column + 1], -log_p.mean(axis=1), rtol=1e-4)
    assert training.fit_seconds > 0
    seen = 64  # the odd image is left out
    np.testing.assert_allclose(metrics[:, 0] * seen, np.rint(metrics[:, 0] * seen), atol=1e-4)


def test_training_learns(digits):
    training = Training(cells(ROWS[2:3]), load_images("digits"), Recipe(epochs=4), seed=0)
    last = list(training)[-1][0]
    assert min(last[[0, 2, 4]]) > 0.7


@pytest.mark.parametrize("crop", [0, 2])
@pytest.mark.parametrize("n", [1, 3])
def test_a_continued_training_is_the_uninterrupted_one_bit_by_bit(digits, tmp_path, n, crop):
    images = some(digits, crop=crop)
    undisturbed = curves(Training(cells()[:n], images, RECIPE, seed=2))
    first = Training(cells()[:n], images, RECIPE, seed=2)
    begun = next(first)
    torch.save(first.state(), tmp_path / "state.pt")
    second = Training(cells(seed=9)[:n], images, RECIPE, seed=2)  # whatever weights it has now
    second.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert second.epoch == 1
    np.testing.assert_array_equal(np.concatenate([begun[:, None], curves(second)], axis=1), undisturbed)
    assert second.epoch == 3
    assert next(second, None) is None


def test_a_checkpoint_of_another_network_is_refused(digits):
    state = Training(cells()[:2], digits, RECIPE, seed=0).state()
    for bad in (state, {}, {**Training(cells()[2:3], digits, RECIPE, seed=0).state(), "epoch": "one"}):
        with pytest.raises(InputError, match=r"not of this network .{,200}; remove it to train anew"):
            Training(cells()[2:3], digits, RECIPE, seed=0).restore(bad)


def test_the_order_of_images_depends_on_seed_and_epoch_alone(digits):
    def labels(seed: int, rows: np.ndarray, epoch: int = 0) -> list[int]:
        training = Training(cells(rows), digits, RECIPE, seed=seed)
        training.epoch = epoch
        return [int(label) for _, labels, _ in training.steps() for label in labels]

    one = labels(0, ROWS[:1])
    assert len(one) == 64
    np.random.seed(1)  # noqa: NPY002 - the global streams must not matter
    torch.manual_seed(1)
    assert labels(0, ROWS[2:4]) == one
    assert labels(1, ROWS[:1]) != one
    assert labels(0, ROWS[:1], epoch=1) != one


def test_augmentation_shifts_and_mirrors(digits):
    seen = []

    def look(module, inputs):
        seen.append(inputs[0])

    training = Training(cells()[:1], some(digits, crop=2), RECIPE, seed=0)
    training.stack.register_forward_pre_hook(look)
    for _ in training.steps():
        pass
    shown = torch.cat(seen).numpy()[:, 0]
    padded = np.pad(digits.train.images[:, 0], ((0, 0), (2, 2), (2, 2)))
    every = [
        (image, side, down, right, image[down : down + 8, right : right + 8][:, ::side])
        for image in padded
        for side in (1, -1)
        for down in range(5)
        for right in range(5)
    ]
    crops = {crop.tobytes(): (side, down, right) for _, side, down, right, crop in every}
    moves = [crops[image.tobytes()] for image in shown]
    assert {side for side, _, _ in moves} == {1, -1}
    assert {down for _, down, _ in moves} == {right for _, _, right in moves} == set(range(5))


def test_global_streams_stay(digits):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    next(Training(cells()[:2], some(digits, crop=2), RECIPE, seed=0))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert random.getstate() == before[2]


def test_a_network_that_diverges_is_nan_and_its_neighbours_do_not_notice(digits):
    def trained(broken: bool) -> np.ndarray:
        nets = cells()
        if broken:
            nets[1].head.linear.weight.data[:] = 1e38
        return curves(Training(nets, digits, RECIPE, seed=0))

    healthy, broken = trained(False), trained(True)
    assert np.isnan(broken[1]).all()
    others = [0, 2, 3]
    np.testing.assert_array_equal(broken[others], healthy[others])


def test_a_learning_rate_that_is_too_high(digits):
    metrics = curves(Training(cells(), digits, Recipe(epochs=3, batch_size=16, learning_rate=1e30), seed=0))
    diverged = np.isnan(metrics).any(axis=2)
    assert diverged[:, -1].all()
    assert (np.isnan(metrics).all(axis=2) == diverged).all()  # an epoch has all its metrics or none


def test_the_learning_rate_warms_up_and_falls_to_nothing():
    recipe = Recipe(epochs=6, learning_rate=0.2)
    rates = np.array([recipe.learning_rate_at(step, 100) for step in range(100)])
    assert rates[0] == pytest.approx(0.02)
    assert (np.diff(rates[:10]) > 0).all()
    assert (np.diff(rates[10:]) < 0).all()
    assert rates[-1] < 1e-4 < rates.max() <= 0.2
    assert Recipe(epochs=1).learning_rate_at(0, 1) == pytest.approx(0.1)


@pytest.mark.parametrize(
    "options",
    [{"epochs": 0}, {"batch_size": 1}, {"learning_rate": 0.0}, {"momentum": 1.0}, {"weight_decay": -0.1}],
)
def test_recipes_that_cannot_be(options):
    with pytest.raises(InputError, match=f"a recipe has .*{next(iter(options))}"):
        Recipe(**options)
