import hashlib

import numpy as np
import pytest
from sklearn.datasets import load_digits

from nasplug.errors import DataError, InputError, UnknownNameError
from nasplug.images import Images, Split, load_images
from nasplug.images.base import normalised, stratified


@pytest.fixture(scope="module")
def digits() -> Images:
    return load_images("digits")


def test_digits_in_three_parts(digits):
    assert [len(part) for part in (digits.train, digits.valid, digits.test)] == [500, 600, 697]
    assert (digits.classes, digits.channels, digits.crop) == (10, 1, 0)
    for part in (digits.train, digits.valid, digits.test):
        assert part.images.dtype == np.float32
        assert part.labels.dtype == np.int64
        assert part.images.shape == (len(part), 1, 8, 8)


def test_digits_are_all_there_and_none_is_in_two_parts(digits):
    loaded = load_digits()
    mean, deviation = loaded.images.mean(), loaded.images.std()

    def prints(images: np.ndarray) -> list[str]:
        """A digest an image; contrast does not matter to it."""
        whole = np.rint((images - images.min()) / (images.max() - images.min()) * 16).astype(np.uint8)
        return [hashlib.sha256(image.tobytes()).hexdigest() for image in whole.reshape(len(images), -1)]

    every = [one for part in (digits.train, digits.valid, digits.test) for one in prints(part.images)]
    assert sorted(every) == sorted(prints((loaded.images - mean) / deviation))
    assert len(set(every)) == 1797


def test_digits_are_stratified(digits):
    every = np.bincount(load_digits().target) / 1797
    for part in (digits.train, digits.valid, digits.test):
        assert np.abs(np.bincount(part.labels) - every * len(part)).max() <= 1.5


def test_the_split_of_the_digits_is_for_ever(digits):
    """Tables that were measured on it name this checksum."""
    assert digits.checksum() == "5bd9dde1e819db682167604fa1c717e3"


def test_a_checksum_sees_pixels_and_labels(digits):
    def of(test: Split) -> str:
        return Images("another name", digits.train, digits.valid, test, classes=10).checksum()

    images, labels = digits.test.images, digits.test.labels
    assert of(digits.test) == digits.checksum()
    assert of(Split(images, np.roll(labels, 1))) != digits.checksum()
    assert of(Split(np.roll(images, 1), labels)) != digits.checksum()


def test_every_prefix_of_the_order_has_each_class_in_its_share():
    labels = np.repeat([0, 1, 5], [10, 200, 90])
    order = stratified(labels)
    assert sorted(order.tolist()) == list(range(300))
    for n in (30, 100, 150, 299):
        share = np.bincount(labels[order[:n]], minlength=6)[[0, 1, 5]]
        assert np.abs(share - np.array([10, 200, 90]) * n / 300).max() <= 1
    np.testing.assert_array_equal(order, stratified(labels))


def pictures(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, [[[[50]], [[200]]]], (n, 2, 4, 4), dtype=np.uint8), rng.integers(0, 3, n)


def test_channels_are_normalised_by_the_training_part():
    parts = [pictures(40, 0), pictures(30, 1), pictures(20, 2)]
    made = normalised("made", *parts, classes=3, crop=2)
    np.testing.assert_allclose(made.train.images.mean(axis=(0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(made.train.images.std(axis=(0, 2, 3)), 1, atol=1e-6)
    pixels = parts[0][0].astype(np.float64)
    mean, deviation = (f(pixels, axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.std))
    for split, (raw, labels) in zip((made.train, made.valid, made.test), parts, strict=True):
        np.testing.assert_allclose(split.images, (raw - mean) / deviation, atol=1e-5)
        np.testing.assert_array_equal(split.labels, labels)
        assert split.images.dtype == np.float32
    assert (made.classes, made.crop, made.channels) == (3, 2, 2)


def test_a_channel_without_contrast_is_refused():
    pixels, labels = pictures(10, 0)
    pixels[:, 1] = 7
    with pytest.raises(DataError, match="black: a colour channel is the same everywhere"):
        normalised("black", *[(pixels, labels)] * 3, classes=3)


def test_names_are_checked(tmp_path):
    with pytest.raises(UnknownNameError, match="unknown image data set 'digit'; did you mean digits"):
        load_images("digit")
    with pytest.raises(InputError, match="digits come with scikit-learn and take no folder"):
        load_images("digits", tmp_path)
