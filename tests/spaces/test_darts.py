import ast
from itertools import permutations

import numpy as np
import pytest

from nasplug.errors import InputError
from nasplug.spaces import DARTS, DARTSS1, DARTSS2, DARTSS3, DARTSS4
from nasplug.spaces.darts import EDGES, NODES, OPERATIONS, everywhere

SPACE = DARTS()

DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)


def cells(genotype):
    """Nodes of both cells as lists of (source, operation), read from the parameters, not from the code under test."""
    (params,) = SPACE.to_params(genotype[None])
    for cell in ("normal", "reduce"):
        yield {
            node: [
                (int(source), params[f"{cell}_{node}_op_{edge}"])
                for source, edge in zip(params.get(f"{cell}_{node}_inputs", "0,1").split(","), "ab", strict=True)
            ]
            for node in NODES
        }


def text_of(both):
    parts = []
    for name, cell in zip(("normal", "reduce"), both, strict=True):
        edges = [(op, source) for node in NODES for source, op in cell[node]]
        parts.append(f"{name}={edges}, {name}_concat=range(2, 6)")
    return f"Genotype({', '.join(parts)})"


def renumbered(cell, order):
    """The cell with node ``order[i]`` called ``2 + i``, or None where a source would come after its target."""
    name = {0: 0, 1: 1} | {old: 2 + i for i, old in enumerate(order)}
    moved = {name[node]: [(name[source], op) for source, op in edges] for node, edges in cell.items()}
    return moved if all(source < node for node, edges in moved.items() for source, _ in edges) else None


def test_size_and_keys_fit_63_bits():
    assert SPACE.size == (180 * 7**8) ** 2 < 2**63
    assert SPACE.n_sites == 22
    last = SPACE.n_choices[None] - 1
    assert SPACE.keys(last).tolist() == [SPACE.size - 1]
    assert not SPACE.enumerable


def test_the_published_cell_reads_and_writes():
    genotype = SPACE.from_string([DARTS_V2])
    (params,) = SPACE.to_params(genotype)
    assert params["normal_4_inputs"] == "0,1"
    assert (params["normal_4_op_a"], params["normal_4_op_b"]) == ("skip_connect", "sep_conv_3x3")
    assert params["reduce_5_inputs"] == "1,2"
    (text,) = SPACE.to_string(genotype)
    assert text.startswith("Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ")
    assert "normal_concat=range(2, 6)" in text
    np.testing.assert_array_equal(SPACE.from_string([text]), genotype)


def test_strings_agree_with_the_parameters():
    some = SPACE.sample(50, np.random.default_rng(0))
    np.testing.assert_array_equal(SPACE.from_string([text_of(cells(g)) for g in some]), some)


def test_all_numberings_of_a_cell_share_a_class_and_path_encoding():
    seen = 0
    for genotype in SPACE.sample(40, np.random.default_rng(1)):
        normal, reduce = cells(genotype)
        orders = list(permutations(NODES))
        texts = [text_of((n, reduce)) for order in orders if (n := renumbered(normal, order))]
        texts += [text_of((normal, r)) for order in orders if (r := renumbered(reduce, order))]
        family = SPACE.from_string(texts)
        seen += len(np.unique(family, axis=0)) > 1
        assert len(np.unique(SPACE.canonical(family))) == 1
        np.testing.assert_allclose(np.ptp(SPACE.encode(family, "path"), axis=0), 0)
        assert SPACE.canonical(family)[0] <= SPACE.keys(family).min()
    assert seen > 30  # most cells have several numberings


def test_other_cells_have_other_classes():
    """A class holds at most 24 numberings of each cell: nothing but renumbering is identified."""
    rng = np.random.default_rng(2)
    parents = SPACE.sample(300, rng)
    children = SPACE.mutate(parents, rng)
    # A changed operation changes the multiset of operations of its cell, which renumbering keeps.
    op_sites = [i for i, p in enumerate(SPACE.parameters) if "_op_" in p.name]
    changed = (parents[:, op_sites] != children[:, op_sites]).any(axis=1)
    assert changed.sum() > 100
    assert (SPACE.canonical(parents) != SPACE.canonical(children))[changed].all()
    assert (SPACE.canonical(parents) != SPACE.canonical(np.roll(parents, 11, axis=1))).all()  # the two cells differ


def test_two_equal_nodes_are_not_one_node():
    """Nodes 2 and 3 alike, read by 4 and 5: both from node 2 is not one from each, the weights differ."""
    sep, start = (
        "sep_conv_3x3",
        {2: [(0, "sep_conv_3x3"), (1, "sep_conv_3x3")], 3: [(0, "sep_conv_3x3"), (1, "sep_conv_3x3")]},
    )
    both = start | {4: [(0, sep), (2, sep)], 5: [(0, sep), (2, sep)]}
    each = start | {4: [(0, sep), (2, sep)], 5: [(0, sep), (3, sep)]}
    swapped = start | {4: [(0, sep), (3, sep)], 5: [(0, sep), (2, sep)]}
    classes = SPACE.canonical(SPACE.from_string([text_of((c, start | both)) for c in (both, each, swapped)]))
    assert classes[0] != classes[1]
    assert classes[1] == classes[2]


def test_path_encoding_counts_short_paths():
    genotype = SPACE.from_string([DARTS_V2])
    normal = SPACE.encode(genotype, "path")[0, :112]
    one, two = normal[:14].reshape(2, 7), normal[14:].reshape(2, 7, 7)
    sep, skip, dil = (OPERATIONS.index(op) for op in ("sep_conv_3x3", "skip_connect", "dil_conv_3x3"))
    assert one[0, [sep, skip]].tolist() == [2, 2]  # from input 0: sep into nodes 2 and 3, skip into 4 and 5
    assert one[1, sep] == 3
    assert one.sum() == 7
    assert two[0, sep, dil] == two[1, sep, dil] == 1  # through node 2 into node 5
    assert two.sum() == 2


def test_adjacency_marks_eight_edges_a_cell():
    features = SPACE.encode(SPACE.from_string([DARTS_V2]), "adjacency").reshape(2, 14, 7)
    assert features.sum(axis=(1, 2)).tolist() == [8, 8]
    # Edges in the order 0-2 1-2 | 0-3 1-3 2-3 | 0-4 1-4 2-4 3-4 | 0-5 1-5 2-5 3-5 4-5.
    assert np.flatnonzero(features[0].any(axis=1)).tolist() == [0, 1, 2, 3, 5, 6, 9, 11]


def test_widths_of_encodings():
    some = SPACE.sample(2, np.random.default_rng(0))
    widths = {kind: SPACE.encode(some, kind).shape[1] for kind in SPACE.encodings}
    assert widths == {"onehot": 150, "pairwise": 1074, "counts": 26, "adjacency": 196, "path": 224}


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("Genotype(", "Other(", "not a call of Genotype"),
        ("Genotype(", "__import__('os').system(", "not a call of Genotype"),
        ("reduce_concat=", "concat=", "the fields are"),
        (", reduce_concat=[2, 3, 4, 5]", "", "the fields are"),
        ("normal=[", "**[", "the fields are"),
        ("normal_concat=[2, 3, 4, 5]", "normal_concat=range(2, 5)", "normal_concat must be"),
        ("[('sep_conv_3x3', 0), ", "[", "a list of 8 edges"),
        ("('skip_connect', 0)", "('none', 0)", "no edge into node"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', 5)", "no edge into node 5"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', True)", "no edge into node 5"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', 0)", "both edges into node 5 come from node 0"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3',)", "not a DARTS genotype"),
        ("('dil_conv_3x3', 2)", "3", "not a DARTS genotype"),
        ("('dil_conv_3x3', 2)", "(print('hello'), 2)", "not a DARTS genotype"),
        (")", "", "not a DARTS genotype"),
        ("Genotype(", "-" * 3000 + "Genotype(", "not a DARTS genotype"),
        ("Genotype(", " " * 5000 + "Genotype(", "reasonable length"),
    ],
)
def test_hostile_and_damaged_texts_are_refused(old, new, why, capsys):
    assert old in DARTS_V2
    with pytest.raises(InputError, match=why):
        SPACE.from_string([DARTS_V2, DARTS_V2.replace(old, new, 1) if old != ")" else DARTS_V2[:-1]])
    assert capsys.readouterr().out == ""


# -- the reduced spaces ------------------------------------------------------------------------------------------------

REDUCED = (DARTSS1(), DARTSS2(), DARTSS3(), DARTSS4())


def test_reduced_spaces_offer_what_was_published():
    s1, s2, s3, s4 = REDUCED
    assert all(space.size == (180 * 2**8) ** 2 for space in REDUCED)
    plain = ("skip_connect", "sep_conv_3x3")
    assert [space.choices for space in REDUCED] == [(0, 1), plain, plain, ("noise", "sep_conv_3x3")]
    assert [space.mixes_none for space in REDUCED] == [False, False, True, False]
    normal, reduce = s1.on_edges
    # As counted in the published lists: how many of the 14 edges offer it.
    offered = [[sum(op in edge for edge in cell) for op in OPERATIONS] for cell in (normal, reduce)]
    assert offered == [[2, 0, 12, 4, 0, 6, 4], [8, 6, 6, 1, 0, 2, 5]]
    assert normal[EDGES.index((0, 4))] == ("max_pool_3x3", "skip_connect")
    assert reduce[EDGES.index((1, 4))] == ("max_pool_3x3", "sep_conv_3x3")
    assert reduce[EDGES.index((0, 2))] == reduce[EDGES.index((0, 3))] == ("max_pool_3x3", "avg_pool_3x3")
    assert normal[EDGES.index((4, 5))] == ("dil_conv_3x3", "dil_conv_5x5")
    assert len({SPACE, s1, s2, s3, s4}) == 5


def test_a_code_means_the_operation_of_its_own_edge():
    space = DARTSS1()
    some = space.sample(50, np.random.default_rng(0))
    for row, text, params in zip(some, space.to_string(some), space.to_params(some), strict=True):
        for cell, name in enumerate(("normal", "reduce")):
            edges = ast.literal_eval(text.split(f"{name}=")[1].split(f", {name}_concat")[0])
            for i, node in enumerate(NODES):
                for (op, source), letter in zip(edges[2 * i : 2 * i + 2], "ab", strict=True):
                    pair = space.on_edges[cell][EDGES.index((source, node))]
                    assert pair.index(op) == params[f"{name}_{node}_op_{letter}"]
        np.testing.assert_array_equal(space.from_string([text])[0], row)


@pytest.mark.parametrize("space", [SPACE, *REDUCED], ids=lambda space: space.name)
def test_edges_come_back(space):
    some = space.sample(300, np.random.default_rng(0))
    places, codes = space.edges(some)
    assert (np.diff(places) > 0).all()
    into = np.array(EDGES)[places, 1]
    assert (into == np.repeat(NODES, 2)).all()
    np.testing.assert_array_equal(space.from_edges(places, codes), some)


def test_numberings_of_a_reduced_cell_share_a_class_where_its_edges_offer_the_operations():
    """Against every renumbering written down and read again: those that the space refuses are of no class."""
    space, seen = DARTSS1(), 0
    for genotype in space.sample(60, np.random.default_rng(1)):
        normal, reduce = cells(SPACE.from_string(space.to_string(genotype[None]))[0])
        family = []
        for order in permutations(NODES):
            if renumbering := renumbered(normal, order):
                try:
                    family.append(space.from_string([text_of((renumbering, reduce))])[0])
                except InputError:
                    continue
        family = np.array(family)
        seen += len(np.unique(family, axis=0)) > 1
        assert len(np.unique(space.canonical(family))) == 1
        assert space.canonical(family)[0] <= space.keys(family).min()
        np.testing.assert_allclose(np.ptp(space.encode(family, "path"), axis=0), 0)
        np.testing.assert_allclose(np.ptp(space.encode(family, "counts")[:, : len(space.operations)], axis=0), 0)
    assert seen > 5


def test_encodings_of_edges_with_lists_of_their_own_go_by_name():
    space = DARTSS1()
    some = space.sample(50, np.random.default_rng(0))
    counts = space.encode(some, "counts")
    texts = space.to_string(some)
    for i, name in enumerate(space.operations):
        assert counts[:, i].tolist() == [text.count(f"'{name}'") for text in texts]
    widths = {kind: space.encode(some, kind).shape[1] for kind in space.encodings}
    # 16 sites of two codes and pairs of sources; 6 names; 14 edges of two codes.
    assert widths == {"onehot": 70, "pairwise": 70 + 2 * (4 + 16 + 28 + 44), "counts": 25, "adjacency": 56, "path": 168}


def test_words_of_the_whole_space_that_a_reduced_one_lacks_are_refused():
    with pytest.raises(InputError, match="no edge into node 2; operations: skip_connect, dil_conv_3x3"):
        REDUCED[0].from_string([DARTS_V2])
    skips = {node: [(0, "skip_connect"), (1, "skip_connect")] for node in NODES}
    with pytest.raises(InputError, match=r"\('none', 0\) is no edge into node 4; operations: skip_connect, sep_conv"):
        REDUCED[2].from_string([text_of((skips, skips | {4: [(0, "none"), (1, "skip_connect")]}))])


@pytest.mark.parametrize(
    "on_edges",
    [
        everywhere("skip_connect", "skip_connect"),
        everywhere("skip_connect", "none"),
        everywhere("skip_connect")[:1],
        (everywhere("skip_connect")[0], everywhere("skip_connect")[1][:13]),
        (everywhere("skip_connect")[0], everywhere("skip_connect", "sep_conv_3x3")[1]),
    ],
)
def test_other_lists_of_operations_are_refused(on_edges):
    with pytest.raises(InputError, match="'mine' needs, for each of 2 cells and 14 edges"):
        DARTS("mine", on_edges)
