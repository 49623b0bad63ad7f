import dataclasses

import numpy as np
import pytest
import torch

from nasplug.errors import InputError
from nasplug.images import Images, Split, load_images
from nasplug.strategies.supernet.data import halves


def test_halves_share_no_image_and_never_hold_a_test_image():
    images = load_images("digits")
    both = halves(images)
    assert (len(both.weights), len(both.selection)) == (550, 550)
    assert (both.channels, both.side, both.classes, both.crop) == (1, 8, 10, 0)
    # Some digits are there twice, so equal pixels count as often as they do in the data set.
    seen = sorted(row.tobytes() for part in (both.weights, both.selection) for row in part.images.numpy())
    assert seen == sorted(row.tobytes() for part in (images.train, images.valid) for row in part.images)
    for part in (both.weights, both.selection):
        assert np.ptp(np.bincount(part.labels.numpy())) <= 3  # class by class


def test_batches_are_whole_and_depend_on_the_seed_alone(data):
    batches = list(data.weights.batches(32, [3, 1]))
    assert [len(labels) for _, labels in batches] == [32, 32]  # of 80
    again = list(data.weights.batches(32, [3, 1]))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(batches, again, strict=True))
    other = next(iter(data.weights.batches(32, [3, 2])))
    assert not torch.equal(other[0], batches[0][0])
    (everything,) = data.weights.batches(500, [0])
    assert len(everything[1]) == 80


def test_cropping_moves_the_images_and_keeps_their_labels(data):
    (plain,), (cropped,) = (list(data.weights.batches(80, [0], crop=crop)) for crop in (0, 2))
    assert torch.equal(plain[1], cropped[1])
    assert not torch.equal(plain[0], cropped[0])
    assert plain[0].shape == cropped[0].shape


def test_chunks_are_all_images_in_their_order(data):
    chunks = list(data.selection.chunks(30))
    assert [len(labels) for _, labels in chunks] == [27, 27, 26]
    assert torch.equal(torch.cat([images for images, _ in chunks]), data.selection.images)


def _images(labels: list[int]) -> Images:
    split = Split(np.zeros((len(labels), 1, 8, 8), np.float32), np.array(labels))
    empty = Split(split.images[:0], split.labels[:0])
    return Images("made", split, empty, empty, classes=2)


@pytest.mark.parametrize("labels", [[0, 1], [1, 1, 1, 1, 1, 1]])
def test_a_half_that_is_empty_or_of_one_class_is_refused(labels):
    with pytest.raises(InputError, match=r"half has \d images of 1 classes; a search needs at least 2"):
        halves(_images(labels))


def test_unknown_devices_and_shares_are_refused(few):
    with pytest.raises(InputError, match="no device 'gpu7' here"):
        halves(few, device="gpu7")
    with pytest.raises(InputError, match="between 0 and 1, got 1"):
        halves(few, share=1.0)


def test_share_is_of_the_weights(few):
    both = halves(dataclasses.replace(few), share=0.75)
    assert (len(both.weights), len(both.selection)) == (120, 40)
