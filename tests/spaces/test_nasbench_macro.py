import json
from collections import defaultdict

import numpy as np
import pytest

from nasplug.errors import InputError
from nasplug.spaces import NASBenchMacro

SPACE = NASBenchMacro()


def test_there_are_3969_classes_of_6561_chains():
    assert SPACE.size == 6561
    assert len(np.unique(SPACE.canonical(SPACE.all()))) == 9 * 21 * 21


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("22212220", "22212202", True),  # an identity behind the first layer of stage 3 commutes
        ("11110111", "11111011", False),  # ... but not across the first layer of a stage
        ("11201111", "11210111", True),
        ("11101111", "11110111", True),
        ("00000001", "00000010", True),
        ("01000000", "10000000", False),  # the first layer of a stage resizes, also as an identity
        ("11012222", "11021222", False),  # order of operations that are not identities counts
    ],
)
def test_identities_commute_inside_a_stage(one, other, same):
    pair = SPACE.from_string([one, other])
    classes = SPACE.canonical(pair)
    assert (classes[0] == classes[1]) == same
    features = SPACE.encode(pair, "path")
    assert (features[0] == features[1]).all() == same


def test_path_encoding_is_the_class():
    features = SPACE.encode(SPACE.all(), "path")
    assert features.shape == (6561, 51)
    assert (features.sum(axis=1) == 3).all()
    rows, inverse = np.unique(features, axis=0, return_inverse=True)
    assert len(rows) == 3969
    assert len(set(zip(inverse.tolist(), SPACE.canonical(SPACE.all()).tolist(), strict=True))) == 3969


@pytest.mark.reference
def test_members_of_a_class_carry_the_same_accuracies(reference_data):
    table = json.loads((reference_data / "nasbench_macro" / "nas-bench-macro_cifar10.json").read_text())
    strings = list(table)
    assert sorted(strings) == sorted(SPACE.to_string(SPACE.all()))
    accuracies = defaultdict(set)
    for text, one in zip(strings, SPACE.canonical(SPACE.from_string(strings)).tolist(), strict=True):
        accuracies[one].add(tuple(table[text]["test_acc"]))
    assert len(accuracies) == 3969
    assert all(len(values) == 1 for values in accuracies.values())


@pytest.mark.parametrize("text", ["2221222", "222122200", "22212223", "2221222 ", "²2212220", "\uff12" * 8])
def test_other_strings_are_refused(text):
    with pytest.raises(InputError, match="expected 8 digits"):
        SPACE.from_string(["22212220", text])
