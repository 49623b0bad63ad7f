"""FBNet: strings, and the network that its layers describe."""

import itertools

import numpy as np
import pytest

from nasplug.errors import InputError
from nasplug.spaces.fbnet import LAYERS, OPERATIONS, FBNet


def test_strings_name_the_operations():
    text = "|".join(["skip", "k3_e1_g2"] + ["k5_e6"] * 20)
    (row,) = FBNet().from_string([text])
    assert row.tolist() == [8, 1] + [7] * 20
    assert FBNet().to_string(row[None]) == [text]
    assert FBNet().size == 9**22


@pytest.mark.parametrize("text", ["k3_e1", "|".join(["k3_e2"] * 22), "|".join(["skip"] * 23)])
def test_other_strings_are_refused(text):
    with pytest.raises(InputError, match="not an FBNet string"):
        FBNet().from_string([text])


def test_layers_are_those_of_the_cifar_network():
    assert len(LAYERS) == 22
    assert LAYERS[0] == (16, 16, 1, 32)
    assert LAYERS[5] == (24, 32, 2, 32)
    assert LAYERS[-1] == (184, 352, 1, 4)
    assert all(a.outputs == b.inputs and a.side // a.stride == b.side for a, b in itertools.pairwise(LAYERS))


@pytest.mark.reference
def test_published_sums_follow_from_these_layers(reference_data):
    # raspi4 is a sum of measured blocks: two layers of one geometry have equal entries there, exactly.
    file = np.load(reference_data / "latency" / "fbnet.npz")
    space = FBNet()
    rows = space.encode(file["arch"].astype(np.int64))
    table = np.linalg.lstsq(rows, file["raspi4"].astype(float), rcond=None)[0].reshape(22, len(OPERATIONS))
    table -= table[:, -1:]
    geometry: dict[tuple[int, ...], np.ndarray] = {}
    for layer, entries in zip(LAYERS, table, strict=True):
        np.testing.assert_allclose(geometry.setdefault(tuple(layer), entries), entries, atol=1e-4)
    assert len(geometry) == 12
