"""CIFAR in the layout that its authors publish, written small."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nasplug.errors import DataError, InputError
from nasplug.images import cifar as module
from nasplug.images import load_images

FILES = {
    "cifar10": ("cifar-10-batches-py", [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"], b"labels", 10),
    "cifar100": ("cifar-100-python", ["train", "test"], b"fine_labels", 100),
}


def content(name: str, n: int, seed: int) -> dict[bytes, Any]:
    """What one file holds: ``n`` images, every class as often, no two alike."""
    rng = np.random.default_rng(seed)
    _, _, key, classes = FILES[name]
    data = rng.integers(0, 256, (n, 3072), dtype=np.uint8)
    data[:, :1024] //= 2  # a channel that is darker than the others
    return {
        b"batch_label": b"a batch",
        b"data": data,
        key: (np.arange(n) % classes).tolist(),
        b"filenames": [b"x.png"] * n,
    }


def written(root: Path, name: str = "cifar10", n: int = 40, protocol: int = 2) -> Path:
    """Write the data set, ``n`` images a file, and return its folder."""
    folder_name, files, _, _ = FILES[name]
    folder = root / folder_name
    folder.mkdir()
    for seed, file in enumerate(files):
        (folder / file).write_bytes(pickle.dumps(content(name, n, seed), protocol))
    return folder


@pytest.mark.parametrize(("name", "n", "sizes"), [("cifar10", 40, [160, 40, 40]), ("cifar100", 500, [400, 100, 500])])
def test_four_to_one_and_the_test_files(name, n, sizes, tmp_path):
    written(tmp_path, name, n)
    images = load_images(name, tmp_path)
    assert [len(part) for part in (images.train, images.valid, images.test)] == sizes
    classes = FILES[name][3]
    assert (images.name, images.classes, images.channels, images.crop) == (name, classes, 3, 4)
    for part in (images.train, images.valid, images.test):
        assert part.images.shape == (len(part), 3, 32, 32)
        assert part.images.dtype == np.float32
        assert (np.bincount(part.labels, minlength=classes) == len(part) // classes).all()


def test_images_are_those_of_the_files(tmp_path):
    """Each image of a part is one of the files, with its label, rows of red, green and blue in order."""
    written(tmp_path)
    images = load_images("cifar10", tmp_path)
    given = [content("cifar10", 40, seed) for seed in range(6)]
    pixels = np.concatenate([one[b"data"] for one in given[:5]]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([one[b"labels"] for one in given[:5]])
    stacked = np.concatenate([images.train.images, images.valid.images])
    # The normalisation undone: of the training part, and of no other.
    first = images.train.images.reshape(160, 3, -1)
    np.testing.assert_allclose(first.mean(axis=(0, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(first.std(axis=(0, 2)), 1, atol=1e-4)
    assert abs(images.valid.images.mean(axis=(0, 2, 3))).max() > 1e-4
    place = {tuple(row): k for k, row in enumerate(pixels[:, 1, 0, :8].tolist())}
    low, high = stacked[:, 1].min(), stacked[:, 1].max()
    whole = np.rint((stacked[:, 1, 0, :8] - low) / (high - low) * 255).astype(int)
    rows = [place[tuple(row)] for row in whole.tolist()]
    assert sorted(rows) == list(range(200))
    np.testing.assert_array_equal(np.concatenate([images.train.labels, images.valid.labels]), labels[rows])


def test_the_split_is_for_ever(tmp_path):
    written(tmp_path)
    assert load_images("cifar10", tmp_path).checksum() == "c67fc8678891e104a7a7eaa886b3fa21"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_is_read(protocol, tmp_path):
    written(tmp_path, protocol=protocol)
    (tmp_path / "2").mkdir()
    written(tmp_path / "2")
    assert load_images("cifar10", tmp_path).checksum() == load_images("cifar10", tmp_path / "2").checksum()


def test_what_python_2_wrote(tmp_path):
    """The published files: strings that are bytes, names of an old NumPy."""
    folder = written(tmp_path)
    expected = load_images("cifar10", tmp_path).checksum()
    for seed, file in enumerate(FILES["cifar10"][1]):
        one = content("cifar10", 40, seed)
        raw = one[b"data"].tobytes()
        array = (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01bt\x52"
            b"(K\x01(M" + (40).to_bytes(2, "little") + b"M" + (3072).to_bytes(2, "little") + b"t"
            b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
            b"\x89T" + len(raw).to_bytes(4, "little") + raw + b"tb"
        )
        labels = b"(" + b"".join(b"K" + bytes([label]) for label in one[b"labels"]) + b"l"
        data = b"\x80\x02}(U\x04data" + array + b"U\x06labels" + labels + b"u."
        (folder / file).write_bytes(data)
    assert load_images("cifar10", tmp_path).checksum() == expected


# -- bad input -------------------------------------------------------------------------------------------------------


def test_a_root_is_needed():
    with pytest.raises(InputError, match="cifar10 needs the folder that holds cifar-10-batches-py; expected ROOT/"):
        load_images("cifar10")


def test_a_missing_folder_names_folder_files_and_remedy(tmp_path):
    with pytest.raises(DataError) as caught:
        load_images("cifar100", tmp_path)
    text = str(caught.value)
    assert text.startswith(f"no folder {tmp_path / 'cifar-100-python'}, in which cifar100 is expected; ")
    assert "ROOT/cifar-100-python/ with train, test" in text
    assert "torchvision.datasets.CIFAR100(ROOT, download=True)" in text


def test_the_folder_itself_as_root_is_pointed_out(tmp_path):
    folder = written(tmp_path)
    with pytest.raises(DataError, match="is itself such a folder: name the one above it"):
        load_images("cifar10", folder)


def test_missing_batches_are_named(tmp_path):
    folder = written(tmp_path)
    for file in ("data_batch_3", "test_batch"):
        (folder / file).unlink()
    with pytest.raises(DataError, match="cifar-10-batches-py lacks data_batch_3, test_batch; expected"):
        load_images("cifar10", tmp_path)


class Hostile:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.target}",)


def changed(**changes: Any) -> Callable[[dict[bytes, Any]], Any]:
    return lambda one: one | {key.encode(): value for key, value in changes.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: [1, 2], "holds list, not CIFAR's dictionary"),
        (lambda one: {b"data": one[b"data"]}, "has no 'labels', it holds b'data'; expected"),
        (lambda one: {b"labels": one[b"labels"]}, "has no 'data', it holds b'labels'"),
        (changed(data=np.zeros((40, 3071), np.uint8)), r"must be uint8 of shape \(n, 3072\), got uint8 \(40, 3071\)"),
        (changed(data=np.zeros((40, 3, 1024), np.uint8)), r"got uint8 \(40, 3, 1024\)"),
        (changed(data=np.zeros((40, 3072), np.float32)), r"got float32 \(40, 3072\)"),
        (changed(data=np.zeros((0, 3072), np.uint8), labels=[]), r"got uint8 \(0, 3072\)"),
        (changed(labels=[1] * 39), r"labels must be 40 integers, one an image, got int64 \(39,\)"),
        (changed(labels=["1"] * 40), "labels must be 40 integers"),
        (changed(labels=[2**70] * 40), "labels must be 40 integers, one an image, got object"),
        (changed(labels=[[1], [1, 2]]), "'labels' is not an array"),
        (changed(labels=[0] * 39 + [10]), r"labels must lie in 0\.\.9, got 0\.\.10"),
        (changed(labels=[-1] * 40), r"got -1\.\.-1"),
    ],
)
def test_content_that_is_not_cifar(change, message, tmp_path):
    folder = written(tmp_path)
    (folder / "data_batch_2").write_bytes(pickle.dumps(change(content("cifar10", 40, 1)), 4))
    with pytest.raises(DataError, match=message) as caught:
        load_images("cifar10", tmp_path)
    assert str(folder / "data_batch_2") in str(caught.value)


def test_labels_may_be_an_array(tmp_path):
    folder = written(tmp_path)
    expected = load_images("cifar10", tmp_path).checksum()
    one = content("cifar10", 40, 0)
    (folder / "data_batch_1").write_bytes(pickle.dumps(one | {b"labels": np.array(one[b"labels"])}, 2))
    assert load_images("cifar10", tmp_path).checksum() == expected


def test_files_of_different_sizes(tmp_path):
    folder = written(tmp_path)
    (folder / "data_batch_4").write_bytes(pickle.dumps(content("cifar10", 39, 3), 2))
    with pytest.raises(DataError, match="hold 40, 40, 40, 39, 40 images and should hold the same number"):
        load_images("cifar10", tmp_path)


def test_too_few_images_to_split(tmp_path):
    written(tmp_path, "cifar100", 4)
    with pytest.raises(DataError, match="holds 4 images to train on, too few"):
        load_images("cifar100", tmp_path)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_file(share, tmp_path):
    folder = written(tmp_path)
    whole = (folder / "test_batch").read_bytes()
    (folder / "test_batch").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"test_batch is truncated or not a pickle.*get it again"):
        load_images("cifar10", tmp_path)


def test_a_hostile_pickle_is_not_run(tmp_path):
    folder = written(tmp_path)
    (folder / "data_batch_1").write_bytes(pickle.dumps({b"data": Hostile(tmp_path / "pwned"), b"labels": []}, 2))
    with pytest.raises(DataError, match=r"data_batch_1 is not safe to read: it asks for (posix|nt)\.system"):
        load_images("cifar10", tmp_path)
    assert not (tmp_path / "pwned").exists()


def test_a_file_too_large_to_be_cifar_is_not_read(tmp_path, monkeypatch):
    written(tmp_path)
    monkeypatch.setattr(module, "LARGEST_FILE", 1000)
    with pytest.raises(DataError, match="more than the 1,000 that CIFAR can have"):
        load_images("cifar10", tmp_path)


def test_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    written(tmp_path)

    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(DataError, match=r"cannot read .*data_batch_1 \(Permission denied\)"):
        load_images("cifar10", tmp_path)


def labelled(root: Path, fine: Any, coarse: Any) -> None:
    folder = root / "cifar-100-python"
    folder.mkdir()
    (folder / "train").write_bytes(pickle.dumps({b"fine_labels": fine, b"coarse_labels": coarse}, 2))


def test_superclasses_are_the_pairs_of_the_training_file(tmp_path):
    labelled(tmp_path, [7, 3, 5, 3, 9, 1], [2, 0, 2, 0, 0, 2])
    assert module.superclasses(tmp_path) == {"superclass-0": (3, 9), "superclass-2": (1, 5, 7)}


@pytest.mark.parametrize(
    ("fine", "coarse", "message"),
    [([1, 2], [0], "as many integers each"), ([1, 1], [0, 1], "into two superclasses"), ([0.5], [0], "integers each")],
)
def test_other_pairs_make_no_superclasses(fine, coarse, message, tmp_path):
    labelled(tmp_path, fine, coarse)
    with pytest.raises(DataError, match=message):
        module.superclasses(tmp_path)


def test_superclasses_need_the_files(tmp_path):
    with pytest.raises(InputError, match="cifar100 needs the folder"):
        module.superclasses(None)
    with pytest.raises(DataError, match="cannot read"):
        module.superclasses(tmp_path)
