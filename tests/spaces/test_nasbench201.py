import csv
import gzip

import numpy as np
import pytest

from nasplug.errors import InputError
from nasplug.spaces import NASBench201

SPACE = NASBench201()

SAME_FUNCTION = [
    (
        "|nor_conv_1x1~0|+|none~0|avg_pool_3x3~1|+|nor_conv_3x3~0|none~1|skip_connect~2|",
        "|nor_conv_1x1~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|none~0|none~1|skip_connect~2|",
    ),
    (
        "|skip_connect~0|+|avg_pool_3x3~0|avg_pool_3x3~1|+|avg_pool_3x3~0|skip_connect~1|avg_pool_3x3~2|",
        "|avg_pool_3x3~0|+|avg_pool_3x3~0|skip_connect~1|+|skip_connect~0|skip_connect~1|avg_pool_3x3~2|",
    ),
]
OTHER_FUNCTION = (
    "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
    "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|skip_connect~1|none~2|",
)


def classes(strings):
    return SPACE.canonical(SPACE.from_string(strings)).tolist()


def test_there_are_6466_classes():
    assert SPACE.size == 15_625
    np.testing.assert_array_equal(np.unique(SPACE.canonical(SPACE.all())), np.arange(6466))


@pytest.mark.parametrize(("one", "other"), SAME_FUNCTION)
def test_cells_of_one_function_share_a_class(one, other):
    assert len(set(classes([one, other]))) == 1
    features = SPACE.encode(SPACE.from_string([one, other]), "path")
    np.testing.assert_array_equal(features[0], features[1])


def test_cells_of_two_functions_do_not():
    assert len(set(classes(OTHER_FUNCTION))) == 2


@pytest.mark.reference
def test_classes_are_those_of_the_benchmark(reference_data):
    with gzip.open(reference_data / "nasbench201" / "epochs200.csv.gz", "rt") as file:
        strings = {int(row["index"]): row["arch_str"] for row in csv.DictReader(file)}
    with gzip.open(reference_data / "nasbench201" / "isomorphism.csv.gz", "rt") as file:
        official = {int(row["index"]): int(row["isomorphism_class"]) for row in csv.DictReader(file)}
    ours = classes([strings[i] for i in range(15_625)])
    pairs = set(zip(ours, (official[i] for i in range(15_625)), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}) == 6466


def test_strings_are_the_official_ones():
    text = "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|"
    genotype = SPACE.from_string([text])
    assert genotype.tolist() == [[3, 0, 4, 1, 2, 3]]
    assert SPACE.to_string(genotype) == [text]


@pytest.mark.parametrize(
    "change", [("~2", "~1"), ("nor_conv_3x3", "conv_3x3"), ("+", ""), ("|+|", "|+||"), ("~0|", "~0")]
)
def test_a_damaged_string_is_refused(change):
    good = "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|"
    with pytest.raises(InputError, match="not a NAS-Bench-201 string"):
        SPACE.from_string([good, good.replace(*change)])


def test_path_encoding_counts_words():
    # Paths: 3 directly (skip), conv3 then pool, none, none: the empty word once and the word (conv3, pool) once.
    text = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
    features = SPACE.encode(SPACE.from_string([text]), "path")[0]
    assert features.shape == (40,)
    assert features.sum() == 2
    assert features[0] == 1  # the empty word comes first
    assert features[1 + 3 + 1 * 3 + 2] == 1  # after 1 + 3 shorter words: word (1, 2) of two digits 0..2


def test_adjacency_leaves_absent_edges_empty():
    features = SPACE.encode(np.array([[0, 1, 2, 3, 4, 0]]), "adjacency")[0].reshape(6, 4)
    np.testing.assert_array_equal(features, np.eye(5)[[0, 1, 2, 3, 4, 0], 1:])


def test_depth_counts_paths_by_their_working_operations():
    cells = SPACE.from_string(
        [
            "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
            "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
            "|skip_connect~0|+|avg_pool_3x3~0|none~1|+|none~0|nor_conv_1x1~1|skip_connect~2|",
        ]
    )
    # Paths of the first cell: the skip, two of two convolutions, one of three.
    assert SPACE.encode(cells, "depth").tolist() == [[1, 0, 2, 1], [0, 0, 0, 0], [0, 2, 0, 0]]


def test_counts_say_what_a_cell_is_made_of():
    rows = SPACE.sample(50, np.random.default_rng(0))
    counts = SPACE.encode(rows, "counts")
    assert (counts.sum(axis=1) == 6).all()
    np.testing.assert_array_equal(SPACE.encode(rows[:, ::-1], "counts"), counts)
    assert counts[0].tolist() == [(rows[0] == code).sum() for code in range(5)]
