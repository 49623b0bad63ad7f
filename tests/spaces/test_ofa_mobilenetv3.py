"""OFA-MobileNetV3: what is masked, the published encodings, what a network computes."""

import numpy as np
import pytest

from nasplug.errors import InputError
from nasplug.spaces import OFAMobileNetV3
from nasplug.spaces.ofa_mobilenetv3 import BLOCKS, STAGES

SPACE = OFAMobileNetV3()
SMALLEST = "128:k3e3-k3e3:k3e3-k3e3:k3e3-k3e3:k3e3-k3e3:k3e3-k3e3"
LARGEST = "224" + 5 * ":k7e6-k7e6-k7e6-k7e6"


def drawn(n: int = 300, seed: int = 0) -> np.ndarray:
    return SPACE.sample(n, np.random.default_rng(seed))


def unmasked(n: int = 300, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(SPACE.n_choices, size=(n, SPACE.n_sites))


def test_sites_and_size():
    assert SPACE.n_choices.tolist() == [3] * 45 + [25]
    assert SPACE.size == 3**45 * 25
    assert [SPACE.parameters[i].name for i in (0, 4, 5, 24, 25, 44, 45)] == [
        "depth_1", "depth_5", "kernel_1_1", "kernel_5_4", "expand_1_1", "expand_5_4", "resolution",
    ]  # fmt: skip


def test_what_no_active_block_holds_does_not_matter():
    rows = unmasked()
    masked = SPACE.masked(rows)
    assert SPACE.valid(rows).all()
    assert (masked != rows).any()
    np.testing.assert_array_equal(SPACE.canonical(rows), SPACE.canonical(masked))
    np.testing.assert_array_equal(SPACE.canonical(masked), SPACE.keys(masked))
    np.testing.assert_array_equal(SPACE.from_string(SPACE.to_string(rows)), masked)
    np.testing.assert_array_equal(SPACE.from_params(SPACE.to_params(rows)), masked)
    for kind in SPACE.encodings:
        np.testing.assert_array_equal(SPACE.encode(rows, kind), SPACE.encode(masked, kind))


def test_an_active_block_does_matter():
    rows = drawn()
    active = SPACE.active(rows)
    for row, blocks in zip(rows, active, strict=True):
        changed = row.copy()
        changed[5 + int(np.flatnonzero(blocks)[-1])] += 1
        changed[5:25] %= 3
        assert SPACE.canonical(changed[None]) != SPACE.canonical(row[None])


def test_moves_stay_masked():
    rng = np.random.default_rng(0)
    first, second = unmasked(seed=1), unmasked(seed=2)
    children = {
        "sample": drawn(),
        "mutate": SPACE.mutate(first, rng),
        "crossover": SPACE.crossover(first, second, rng),
        "neighbors": SPACE.neighbors(first[0]),
    }
    for name, rows in children.items():
        np.testing.assert_array_equal(rows, SPACE.masked(rows), err_msg=name)


def test_mutation_changes_what_counts():
    """Every child is another network: one site moved, or one block came in or went out."""
    parents = drawn(2000)
    children = SPACE.mutate(parents, np.random.default_rng(3))
    assert (SPACE.canonical(parents) != SPACE.canonical(children)).all()
    depth = children[:, :STAGES] - parents[:, :STAGES]
    assert set(np.abs(depth).sum(axis=1).tolist()) == {0, 1}
    same_depth = ~depth.any(axis=1)
    assert ((children != parents)[same_depth].sum(axis=1) == 1).all()
    grown = (depth > 0).any(axis=1)
    both = SPACE.active(children)[grown] & ~SPACE.active(parents)[grown]
    assert (both.sum(axis=1) == 1).all()
    assert set(children[grown][:, 5:25][both].tolist()) == set(children[grown][:, 25:45][both].tolist()) == {0, 1, 2}
    for parent, child in zip(parents[grown][:20], children[grown][:20], strict=True):
        assert tuple(child) in set(map(tuple, SPACE.neighbors(parent)))


def test_crossover_takes_a_block_from_a_parent_that_has_it():
    first = SPACE.from_string([LARGEST])
    second = SPACE.from_string([SMALLEST])
    children = SPACE.crossover(np.repeat(first, 200, 0), np.repeat(second, 200, 0), np.random.default_rng(0))
    settings = SPACE.settings(children)
    third = settings.kernel[:, 2::4]
    assert set(third.ravel().tolist()) == {0, 7}
    assert set(settings.kernel[:, 0::4].ravel().tolist()) == {3, 7}


def test_settings_come_back():
    rows = drawn()
    s = SPACE.settings(rows)
    np.testing.assert_array_equal(SPACE.from_settings(s.kernel, s.expand, s.depth, s.resolution), rows)
    # An inactive block may hold any number, 0 too.
    noise = np.where(s.kernel == 0, 99, s.kernel), np.where(s.expand == 0, -1, s.expand)
    np.testing.assert_array_equal(SPACE.from_settings(*noise, s.depth, s.resolution), rows)
    assert set(np.unique(s.resolution)) <= set(range(128, 225, 4))
    assert ((s.kernel > 0).sum(axis=1) == s.depth.sum(axis=1)).all()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("kernel", 4, "kernel 4 in row 1 is none of 3, 5, 7"),
        ("expand", 5, "expand 5 in row 1"),
        ("depth", 1, "depth 1 in row 1"),
        ("resolution", 130, "resolution 130 in row 1"),
    ],
)
def test_from_settings_refuses_other_values(name, value, message):
    s = SPACE.settings(drawn(3))
    arrays = {key: getattr(s, key).copy() for key in ("kernel", "expand", "depth", "resolution")}
    arrays[name].reshape(3, -1)[1, 0] = value
    with pytest.raises(InputError, match=message):
        SPACE.from_settings(**arrays)


def test_from_settings_refuses_other_shapes():
    s = SPACE.settings(drawn(3))
    with pytest.raises(InputError, match=r"expand must have shape \(3, 20\), got \(3, 19\)"):
        SPACE.from_settings(s.kernel, s.expand[:, 1:], s.depth, s.resolution)
    with pytest.raises(InputError, match="kernel must have shape"):
        SPACE.from_settings(s.kernel, s.expand, s.depth, 224)


@pytest.mark.parametrize(
    "text",
    [
        SMALLEST.replace("128", "130"),
        SMALLEST.replace("128", "120"),
        SMALLEST + ":k3e3-k3e3",
        SMALLEST.replace("-k3e3", "", 1),
        SMALLEST.replace("k3e3", "k4e3", 1),
        LARGEST + "-k7e6",
        "２２４" + LARGEST[3:],
    ],
)
def test_from_string_refuses_what_is_no_network(text):
    with pytest.raises(InputError, match="not an OFA-MobileNetV3 string"):
        SPACE.from_string([text])


def test_published_encodings():
    """The check of the latency sheet: sum(d) kernel bits, sum(d) expansion bits, one resolution bit."""
    rows = drawn()
    depth = SPACE.settings(rows).depth.sum(axis=1)
    for kind, width in (("ofa", 128), ("help", 145)):
        bits = SPACE.encode(rows, kind)
        assert bits.shape[1] == width
        assert set(np.unique(bits).tolist()) == {0.0, 1.0}
        np.testing.assert_array_equal(bits[:, :60].sum(axis=1), depth)
        np.testing.assert_array_equal(bits[:, 60:120].sum(axis=1), depth)
        np.testing.assert_array_equal(bits[:, 120:].sum(axis=1), 1)
    (row,) = SPACE.encode(SPACE.from_string(["188" + SMALLEST[3:].replace("k3e3", "k7e4", 1)]), "ofa")
    assert np.flatnonzero(row)[[0, 1]].tolist() == [2, 3]  # block 0: kernel 7; block 1: kernel 3
    assert np.flatnonzero(row[60:120])[[0, 1]].tolist() == [1, 3]
    assert np.flatnonzero(row[120:]).tolist() == [(188 - 112) // 16]


def test_counts_are_of_active_blocks():
    rows = drawn()
    counts = SPACE.encode(rows, "counts")
    s = SPACE.settings(rows)
    for column, (name, value) in enumerate(
        [("depth", v) for v in (2, 3, 4)] + [("kernel", v) for v in (3, 5, 7)] + [("expand", v) for v in (3, 4, 6)]
    ):
        np.testing.assert_array_equal(counts[:, column], (getattr(s, name) == value).sum(axis=1))


def multiply_accumulates(text: str) -> float:
    """Millions, layer by layer as a network would be written down: convolutions and linear layers, no SE."""
    resolution, *stages = text.split(":")
    side = (int(resolution) + 1) // 2
    total = side**2 * (3 * 3 * 3 * 24) + side**2 * (9 * 24 + 24 * 24)
    width = 24
    for out, stride, blocks in zip((32, 48, 96, 136, 192), (2, 2, 2, 1, 2), stages, strict=True):
        for i, block in enumerate(blocks.split("-")):
            kernel, middle = int(block[1]), width * int(block[3])
            total += side**2 * width * middle
            side = -(-side // stride) if i == 0 else side
            total += side**2 * (kernel**2 * middle + middle * out)
            width = out
    return (total + side**2 * 192 * 1152 + 1152 * 1536 + 1536 * 1000) / 1e6


def test_work_adds_up_to_the_network():
    texts = [SMALLEST, LARGEST, *SPACE.to_string(drawn(20))]
    work = SPACE.encode(SPACE.from_string(texts), "work")
    blocks = work[:, :-1].reshape(len(texts), BLOCKS, 5)
    total = blocks[:, :, :3].sum(axis=(1, 2)) + work[:, -1]
    np.testing.assert_allclose(total, [multiply_accumulates(text) for text in texts], rtol=1e-5)
    totals = SPACE.encode(SPACE.from_string(texts), "totals")
    np.testing.assert_allclose(totals[:, [0, 1, 2, 6]].sum(axis=1), total, rtol=1e-5)
    stages = SPACE.encode(SPACE.from_string(texts), "stages").reshape(len(texts), STAGES, 6)
    np.testing.assert_allclose(stages.sum(axis=1), totals[:, :6], rtol=1e-5)
    np.testing.assert_array_equal(stages[:, :, 5], SPACE.settings(SPACE.from_string(texts)).depth)
    assert not blocks[0, 2].any()  # the third block of a stage of two
    # The first block of the largest network: 112 x 112 x 24 expanded six times, then strided.
    np.testing.assert_allclose(
        blocks[1, 0],
        np.array([112**2 * 24 * 144, 56**2 * 144 * 49, 56**2 * 144 * 32, 112**2 * 144, 56**2 * 144]) / 1e6,
        rtol=1e-6,
    )


@pytest.mark.reference
def test_published_files_are_networks_of_the_space(reference_data):
    with np.load(reference_data / "latency" / "ofa.npz") as file:
        rows = SPACE.from_settings(*(file[name] for name in ("kernel", "expand", "depth", "resolution")))
    assert SPACE.valid(rows).all()
    assert len(np.unique(SPACE.canonical(rows))) == 5000
