import importlib.util
import pickle
import zlib
from pathlib import Path

import numpy as np
import pytest

from nasplug.errors import InputError
from nasplug.spaces import NASBenchGraph, NASBenchGraphProteins
from nasplug.spaces.nasbench_graph import LINKS

FULL, PROTEINS = NASBenchGraph(), NASBenchGraphProteins()
BOTH = pytest.mark.parametrize("space", [FULL, PROTEINS], ids=["full", "proteins"])


def combinations(space):
    return np.indices(tuple(space.n_choices)).reshape(space.n_sites, -1).T


def repaired(text):
    (out,) = FULL.to_string(FULL.from_string([text]))
    return out


def test_sizes_are_those_of_the_tables():
    assert (FULL.size, PROTEINS.size) == (26_206, 2_021)


@pytest.mark.parametrize(("space", "checksum"), [(FULL, 628110395), (PROTEINS, 1756370713)])
def test_table_keys_are_the_recorded_ones(space, checksum):
    # Recorded from the keys of nas-bench-graph 1.4.0, sorted.
    assert zlib.crc32(space.package_key(space.all()).astype("<i8").tobytes()) == checksum


@pytest.mark.parametrize(
    ("space", "tables"),
    [(FULL, ["arxiv", "citeseer", "computers", "cora", "cs", "photo", "physics", "pubmed"]), (PROTEINS, ["proteins"])],
)
def test_representatives_are_the_keys_of_the_package(space, tables):
    found = importlib.util.find_spec("nas_bench_graph")
    if found is None:
        pytest.skip("no nas-bench-graph: pip install 'nasplug[tables]'")
    ours = set(space.package_key(space.all()).tolist())
    for name in tables:
        with (Path(found.submodule_search_locations[0]) / "light" / f"{name}.bench").open("rb") as file:
            assert set(pickle.load(file)) == ours


@BOTH
def test_repair_gives_a_valid_representative_for_every_combination_and_keeps_it(space):
    once = space.repair(combinations(space))
    assert space.valid(once).all()
    np.testing.assert_array_equal(space.repair(once), once)
    np.testing.assert_array_equal(space.repair(space.all()), space.all())
    assert len(np.unique(space.canonical(combinations(space)))) == space.size
    np.testing.assert_array_equal(space.canonical(space.all()), space.keys(space.all()))


@pytest.mark.parametrize(
    ("text", "representative"),
    [
        ("0,0,0,0|fc|gcn|gat|gcn", "0,0,0,0|gat|gcn|gcn|fc"),  # leaves of one parent are interchangeable
        ("0,0,1,2|sage|gat|gcn|fc", "0,0,1,2|gat|sage|fc|gcn"),  # so are the two arms of a fork
        ("0,1,2,3|gcn|skip|gat|skip", "0,1,2,3|skip|skip|gcn|gat"),  # in a chain a skip is nothing
        ("0,0,0,1|skip|gcn|gat|fc", "0,1,1,1|skip|gat|gcn|fc"),  # a skip at the input, with fc below
        ("0,0,1,1|gcn|fc|skip|gat", "0,0,1,1|gcn|fc|gat|skip"),  # a skip leaf with siblings stays
        ("0,0,0,0|skip|gcn|gcn|skip", "0,1,2,2|skip|skip|gcn|gcn"),  # unless it only repeats the input
    ],
)
def test_the_rules_by_example(text, representative):
    assert repaired(text) == representative


@pytest.mark.parametrize("link", LINKS)
def test_four_skips_become_the_least_that_trains(link):
    text = ",".join(map(str, link)) + "|skip|skip|skip|skip"
    assert repaired(text) == "0,1,2,3|skip|skip|skip|fc"
    assert PROTEINS.to_string(PROTEINS.from_string([text])) == ["0,1,2,3|skip|skip|skip|fc"]


@BOTH
def test_table_keys_come_back(space):
    keys = space.package_key(space.all())
    np.testing.assert_array_equal(space.from_package_key(keys[::-1]), space.all()[::-1])
    for bad in (-1, 8888, 88_888, 10**17):
        with pytest.raises(InputError, match=str(bad)):
            space.from_package_key(np.array([keys[0], bad]))


def test_table_key_is_decimal_digits_also_for_proteins():
    text = ["0,0,0,1|gcn|sage|arma|fc"]
    assert FULL.package_key(FULL.from_string(text)).tolist() == [11457]
    assert PROTEINS.package_key(PROTEINS.from_string(text)).tolist() == [11457]


@BOTH
def test_params_of_any_combination_are_repaired(space):
    params = {"link": "0,0,0,0", "op_1": "fc", "op_2": "gcn", "op_3": "sage", "op_4": "gcn"}
    genotype = space.from_params([params])
    assert space.valid(genotype).all()
    assert space.to_string(genotype) == ["0,0,0,0|gcn|gcn|sage|fc"]


@pytest.mark.parametrize(
    "text",
    ["0,0,0,1|gcn|gcn|gcn", "0,0,0,2|gcn|gcn|gcn|gcn", "0,0,0,1|gcn|gcn|gcn|conv", "0,0,0,1|gcn|gcn|gcn|gcn|gcn"],
)
def test_other_strings_are_refused(text):
    with pytest.raises(InputError, match="expected LINK"):
        FULL.from_string([text])
    with pytest.raises(InputError, match="expected LINK"):
        PROTEINS.from_string(["0,0,0,0|gat|gcn|gcn|fc"])


def test_path_encoding_counts_nodes_by_word():
    # Repaired to a skip with gcn and fc below, gat below gcn: words of 0, 1, 1 and 2 letters.
    features = FULL.encode(FULL.from_string(["0,0,1,3|gcn|fc|gat|skip"]), "path")
    assert features.shape == (1, 1 + 8 + 64 + 512)
    gcn, fc, gat = (FULL.operations.index(op) for op in ("gcn", "fc", "gat"))
    assert np.flatnonzero(features[0]).tolist() == [0, 1 + gcn, 1 + fc, 1 + 8 + 8 * gcn + gat]
    assert features.sum() == 4
    # A skip leaf beside another counts a second node at its parent's word; a fourth letter counts nowhere.
    assert FULL.encode(FULL.from_string(["0,0,1,1|gcn|fc|gat|skip"]), "path")[0, 1 + gcn] == 2
    assert FULL.encode(FULL.from_string(["0,1,2,3|gcn|gcn|gcn|gcn"]), "path").sum() == 3


def test_adjacency_shows_the_parents():
    features = FULL.encode(FULL.from_string(["0,0,1,2|gat|gcn|gcn|gcn"]), "adjacency")[0]
    assert features[:9].tolist() == [1, 0, 0, 1, 0, 0, 0, 1, 0]
    assert features[9:].reshape(4, 9).argmax(axis=1).tolist() == [0, 1, 1, 1]


def test_depth_counts_nodes_by_the_work_behind_them():
    space = NASBenchGraph()
    rows = space.from_string(["0,1,2,3|gcn|gat|gin|fc", "0,0,0,1|skip|gcn|gcn|gcn", "0,0,1,1|gcn|gat|skip|skip"])
    given = space.to_string(rows)
    for text, depth in zip(given, space.encode(rows, "depth").tolist(), strict=True):
        link, *ops = text.split("|")
        work = [0]
        for parent, op in zip(map(int, link.split(",")), ops, strict=True):
            work.append(work[parent] + (op != "skip"))
        assert depth == [work[1:].count(k) for k in range(5)]
