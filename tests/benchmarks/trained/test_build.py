import itertools
import json
import resource
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from nasplug.benchmarks.trained import build as building
from nasplug.benchmarks.trained.build import (
    PLANS,
    Chunk,
    Plan,
    build,
    read_chunk,
    read_curves,
    read_seconds,
    time_rows,
    train_rows,
)
from nasplug.errors import DataError, InputError, MissingDependencyError, UnknownNameError


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One build for the tests of this file, made by the first of them."""
    return {"folder": tmp_path_factory.mktemp("tiny") / "build"}


@pytest.fixture
def done(tiny: Plan, finished: dict[str, Path], tmp_path: Path) -> Path:
    """A finished build of ``tiny`` with two seeds, to spoil."""
    if not finished["folder"].exists():
        list(build("tiny", finished["folder"], seeds=2, jobs=1))
    return Path(shutil.copytree(finished["folder"], tmp_path / "done"))


def contents(folder: Path) -> dict[str, bytes]:
    """What every curve is; chunks also hold the seconds they took."""
    files = sorted(folder.glob("seed-*/*.npz"))
    return {str(path.relative_to(folder)): np.load(path)["values"].tobytes() for path in files}


def finish(folder: Path) -> tuple[int, int]:
    """Build what is missing with two seeds, and return how far it was before."""
    started, *_ = build("tiny", folder, seeds=2, jobs=1)
    return started


def unchanging(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def largest_file(n: int) -> Iterator[None]:
    """No file may grow beyond ``n`` bytes: a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_build_says_how_far_it_is_and_has_everything(tiny, tmp_path):
    steps = list(build("tiny", tmp_path / "new" / "folder", seeds=1, jobs=1))
    assert steps == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert list(build("tiny", tmp_path / "new" / "folder", seeds=1, jobs=2)) == [(4, 4)]
    assert not list(tmp_path.rglob("*.tmp"))


def test_curves_are_those_of_the_stacks(tiny, done):
    curves, seconds = read_curves(tiny, done, 2), read_seconds(tiny, done)
    assert curves.shape == (5, 2, 2, 6)
    assert seconds.shape == (5,)
    assert (seconds > 0).all()
    for seed in (0, 1):
        for rows in (slice(0, 3), slice(3, 5)):
            expected = train_rows(tiny, tiny.representatives[rows], seed)
            np.testing.assert_array_equal(curves[rows, seed], expected)
    assert not np.array_equal(curves[:, 0], curves[:, 1])


def test_a_disconnected_cell_has_chance_accuracy_and_is_no_error(tiny, done):
    assert not tiny.representatives[0].any()
    curves = read_curves(tiny, done, 2)
    assert np.isfinite(curves).all()
    assert (curves[0, :, :, [2, 4]] <= 0.15).all()
    assert (curves[0, :, :, [2, 4]] >= 0.05).all()
    # Nothing of the image comes through: it answers one class, and knows no more than how frequent that is.
    assert (np.abs(curves[0, :, :, [3, 5]] - np.log(10)) < 0.2).all()


def test_seeds_may_be_added_later(tiny, done, tmp_path):
    folder = tmp_path / "later"
    list(build("tiny", folder, seeds=1, jobs=1))
    assert read_curves(tiny, folder, 1).shape == (5, 1, 2, 6)
    with pytest.raises(DataError, match=r"seed-1/0000\.npz is missing"):
        read_curves(tiny, folder, 2)
    assert finish(folder) == (4, 6)
    assert contents(folder) == contents(done)


def test_a_build_that_stopped_goes_on(tiny, done, tmp_path):
    folder = tmp_path / "stopped"
    assert list(itertools.islice(build("tiny", folder, seeds=2, jobs=1), 3)) == [(0, 6), (1, 6), (2, 6)]
    kept = unchanging(folder / "seed-0")
    assert finish(folder) == (2, 6)
    assert unchanging(folder / "seed-0") == kept
    assert contents(folder) == contents(done)


def spoiled(tiny: Plan, path: Path, how: str) -> None:
    whole = dict(np.load(path))
    match how:
        case "cut":
            path.write_bytes(path.read_bytes()[:-100])
        case "empty":
            path.write_bytes(b"")
        case "an array":
            np.save(path.with_suffix(".npy"), whole["values"])
            path.with_suffix(".npy").replace(path)
        case "a pickle":
            np.savez(path, genotypes=whole["genotypes"], values=np.array([[{}]], dtype=object))
        case "a part missing":
            np.savez(path, genotypes=whole["genotypes"])
        case "other architectures":
            np.savez(path, **{**whole, "genotypes": whole["genotypes"][::-1]})
        case "fewer epochs":
            np.savez(path, **{**whole, "values": whole["values"][:, :1]})
        case "texts":
            np.savez(path, **{**whole, "values": whole["values"].astype(str)})


@pytest.mark.parametrize(
    "how",
    ["cut", "empty", "an array", "a pickle", "a part missing", "other architectures", "fewer epochs", "texts"],
)
def test_a_damaged_chunk_is_trained_again(tiny, done, how):
    before = contents(done)
    chunk = Chunk("tiny", "seed-1", 1)
    spoiled(tiny, chunk.path(done), how)
    with pytest.raises(DataError, match=r"seed-1/0001.npz (is missing or damaged|holds).* build(ing)? (it )?again"):
        read_chunk(tiny, chunk, done)
    assert list(build("tiny", done, seeds=2, jobs=1)) == [(5, 6), (6, 6)]
    assert contents(done) == before


def test_any_flipped_byte_is_noticed(tiny, done):
    chunk = Chunk("tiny", "seed-0", 0)
    path, expected = chunk.path(done), read_chunk(tiny, chunk, done)
    whole, noticed = path.read_bytes(), 0
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        try:
            np.testing.assert_array_equal(read_chunk(tiny, chunk, done), expected)
        except DataError:
            noticed += 1
    assert noticed > len(whole) / 3 / 2  # the rest is dates and the like


@pytest.mark.parametrize("written", [None, b'{"name": "something else"}', b"\xff\xfe"])
def test_a_folder_with_another_build_is_refused(tiny, done, written, monkeypatch):
    if written is None:
        other = Plan("tiny", "nasbench201", tiny.sizes, images="few", recipe={"epochs": 3}, stack=3)
        monkeypatch.setitem(PLANS, "tiny", other)
    else:
        (done / "plan.json").write_bytes(written)
    before = unchanging(done)
    with pytest.raises(DataError, match=r"holds a build with other settings .*choose another folder"):
        list(build("tiny", done, seeds=2, jobs=1))
    assert unchanging(done) == before


def test_two_builders_at_once(tiny, tmp_path):
    first = build("tiny", tmp_path, seeds=1, jobs=1)
    assert next(first) == (0, 4)
    with pytest.raises(DataError, match=r"another process builds in .*; wait for it, or choose another folder"):
        next(build("tiny", tmp_path, seeds=1, jobs=1))
    first.close()
    assert next(build("tiny", tmp_path, seeds=1, jobs=1)) == (0, 4)


def test_a_full_disk_is_one_error_and_loses_nothing(tiny, done, tmp_path):
    folder = tmp_path / "full"
    steps = build("tiny", folder, seeds=2, jobs=1)
    assert [next(steps), next(steps)] == [(0, 6), (1, 6)]
    steps.close()
    with (
        largest_file(500),
        pytest.raises(DataError, match=r"cannot write .*npz \(File too large\); free space") as full,
    ):
        list(build("tiny", folder, seeds=2, jobs=1))
    assert len(list(folder.rglob("*.npz"))) == 1
    assert not list(folder.rglob("*.tmp"))
    assert finish(folder) == (1, 6)  # while the error is still around
    assert full.value
    assert contents(folder) == contents(done)


@pytest.mark.parametrize("folder", ["/proc/nasplug", "file/below"])
def test_a_folder_that_cannot_be_written(tiny, tmp_path, folder):
    (tmp_path / "file").write_text("a file, not a folder")
    with pytest.raises(DataError, match=r"cannot build in .*; choose a folder you can write to"):
        list(build("tiny", tmp_path / folder))


def test_bad_requests(tiny, tmp_path, monkeypatch):
    with pytest.raises(UnknownNameError, match="unknown table to build 'digit201'; did you mean digits201"):
        list(build("digit201", tmp_path))
    for sizes in ({"seeds": 0}, {"jobs": 0}):
        with pytest.raises(InputError, match="at least 1 seed and 1 job"):
            list(build("tiny", tmp_path, **sizes))
    monkeypatch.setitem(sys.modules, "filelock", None)
    with pytest.raises(MissingDependencyError, match=r"needs the package 'filelock'; pip install 'nasplug\[torch\]'"):
        list(build("tiny", tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "classes"), [("digits201", 6466), ("digits-macro", 3969)])
def test_the_chunks_of_a_plan_are_its_classes(name, classes):
    plan = PLANS[name]
    chunks = plan.chunks(2)
    assert [chunk.part for chunk in chunks] == sorted(chunk.part for chunk in chunks if chunk.part != "seconds") + [
        "seconds"
    ] * (len(chunks) // 3)
    rows = np.concatenate([plan.rows(chunk) for chunk in chunks if chunk.part == "seed-1"])
    space = plan.open_space()
    np.testing.assert_array_equal(rows, plan.representatives)
    assert len(rows) == len(np.unique(space.canonical(rows))) == len(np.unique(space.canonical(space.all()))) == classes
    assert max(len(plan.rows(chunk)) for chunk in chunks) == plan.stack


def test_the_settings_of_the_packaged_tables_are_for_ever():
    """Builds that are half done, and tables that are packaged, were measured with these."""
    text = json.dumps(PLANS["digits201"].facts())
    assert text == (
        '{"name": "digits201", "space": "nasbench201", "sizes": {"channels": 8, "cells": 1, "in_channels": 1}, '
        '"images": "digits", "recipe": {"epochs": 6}, "stack": 32, '
        '"images_checksum": "5bd9dde1e819db682167604fa1c717e3"}'
    )
    sizes = PLANS["digits-macro"].facts()["sizes"]
    assert sizes == {"stem": 4, "width": 64, "strides": (2, 2, 1), "in_channels": 1}


def test_seconds_are_of_a_whole_epoch(tiny, few, monkeypatch):
    assert len(few.train) == 96  # two steps of up to 64 images
    ticks = itertools.count(step=0.25)
    monkeypatch.setattr(building.time, "process_time", lambda: next(ticks))
    np.testing.assert_allclose(time_rows(tiny, tiny.representatives[:2]), 0.25 * 2)
