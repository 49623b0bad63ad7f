from itertools import permutations

import numpy as np
import pytest

from nasplug.errors import InputError
from nasplug.spaces import DARTS
from nasplug.spaces.darts import NODES, OPERATIONS

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
