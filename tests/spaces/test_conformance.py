"""What every space promises, tested over all registered spaces and over parameter spaces of every kind."""

import pickle
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasplug.errors import InputError, SpaceExhaustedError, UnknownNameError
from nasplug.registry import configure, names
from nasplug.spaces import Categorical, Float, Integer, ParameterSpace, Space, encoded_space

PARAMETER_SPACES = {
    "categorical": [Categorical("a", ("x", "y", "z")), Categorical("b", (None, True, 1, 1.5, "1"))],
    "numbers": [Integer("i", -3, 12), Integer("j", 0, 100, step=7), Integer("k", 1, 10**6, log=True)],
    "floats": [Float("f", -1.0, 2.0), Float("g", 1e-5, 1.0, log=True), Float("h", 0.0, 1.0, step=0.1)],
    "mixed": [Categorical("op", ("conv", "pool")), Float("lr", 1e-4, 1e-1, log=True), Integer("width", 8, 64, step=8)],
    "single": [Categorical("only", ("x",)), Integer("one", 4, 4), Categorical("a", ("p", "q", "r")), Float("f", 2, 2)],
    "huge": [Categorical(f"c{i}", tuple(range(20))) for i in range(40)] + [Float("f", 0.0, 1.0)],
    "point": [Categorical("only", ("x",))],
}
ALL = [*names("space"), *PARAMETER_SPACES]
INJECTIVE = {"onehot", "pairwise", "adjacency"}
WITHOUT_STRUCTURE = {"nasbench-graph", "nasbench-graph-proteins"}


@pytest.fixture(scope="module", params=ALL)
def space(request: pytest.FixtureRequest) -> Space:
    return make(request.param)


def make(name: str) -> Space:
    return ParameterSpace(PARAMETER_SPACES[name]) if name in PARAMETER_SPACES else configure("space", name)


def drawn(space: Space, n: int = 200, seed: int = 0) -> np.ndarray:
    return space.sample(n, np.random.default_rng(seed))


def rows(genotypes: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, genotypes.tolist()))


def test_sample_is_valid_and_a_function_of_the_seed(space):
    first = drawn(space)
    assert first.shape == (200, space.n_sites)
    assert first.dtype == np.int64
    assert space.valid(first).all()
    np.testing.assert_array_equal(first, drawn(space))
    if space.size > 100:
        assert (first != drawn(space, seed=1)).any()
    np.testing.assert_array_equal(space.check(first), first)


def test_sample_reaches_every_code(space):
    # Chance of missing one of 20 codes in 2000 draws: below 20 * (19/20)^2000 < 1e-43 a site. Of a longer site the
    # draws must spread over its scale: a quarter of it is missed with (3/4)^2000.
    many = drawn(space, 2000)
    for site, (p, size) in enumerate(zip(space.parameters, space.n_choices, strict=True)):
        if size <= 20:
            assert set(many[:, site].tolist()) == set(range(size))
        else:
            assert np.histogram(p.coordinate(many[:, site]), bins=4, range=(0, 1))[0].min() > 0


def test_sample_distinct(space):
    rng = np.random.default_rng(0)
    some = space.sample_distinct(min(50, space.size), rng)
    keys = space.keys(some)
    assert len(np.unique(keys)) == len(some) == min(50, space.size)
    assert space.valid(some).all()
    assert space.sample_distinct(0, rng).shape == (0, space.n_sites)
    if space.enumerable:
        rest = space.sample_distinct(space.size, rng, exclude=keys) if len(some) < space.size else some[:0]
        assert len(rest) == space.size - len(some)
        assert not np.isin(space.keys(rest), keys).any()
        with pytest.raises(SpaceExhaustedError, match="already in the history"):
            space.sample_distinct(1, rng, exclude=space.keys(space.all()))


def test_all_is_distinct_valid_and_in_key_order(space):
    if not space.enumerable:
        with pytest.raises(InputError, match="cannot be enumerated"):
            space.all()
        return
    everything = space.all()
    assert everything.shape == (space.size, space.n_sites)
    assert space.valid(everything).all()
    assert (np.diff(space.keys(everything)) > 0).all()
    assert not everything.flags.writeable
    assert rows(drawn(space)) <= rows(everything)


def test_valid_agrees_with_the_list(space):
    any_combination = np.random.default_rng(0).integers(-1, space.n_choices + 1, size=(500, space.n_sites))
    if not space.enumerable:
        np.testing.assert_array_equal(space.valid(any_combination), space.in_range(any_combination))
        return
    listed = set(space.keys(space.all()).tolist())
    expected = [(g >= 0).all() and (g < space.n_choices).all() and int(space.keys(g[None])[0]) in listed
                for g in any_combination]  # fmt: skip
    assert space.valid(any_combination).tolist() == expected


def test_check_names_the_first_bad_row(space):
    batch = drawn(space, 3).copy()
    batch[1, 0] = space.n_choices[0]
    with pytest.raises(InputError, match="row 1"):
        space.check(batch)
    for bad in (batch[0], batch[:, 1:], batch.astype(float)):
        with pytest.raises(InputError, match="expects an integer array"):
            space.check(bad)


def test_neighbors_are_valid_distinct_and_others(space):
    for genotype in drawn(space, 20):
        near = space.neighbors(genotype)
        assert near.shape[1:] == (space.n_sites,)
        assert space.valid(near).all()
        assert len(rows(near)) == len(near)
        assert tuple(genotype.tolist()) not in rows(near)
        assert (len(near) > 0) == (space.size > 1)
        np.testing.assert_array_equal(near, space.neighbors(genotype))


def test_neighbors_are_symmetric(space):
    for genotype in drawn(space, 10):
        near = space.neighbors(genotype)
        for other in near[:: max(1, len(near) // 40)]:
            assert tuple(genotype.tolist()) in rows(space.neighbors(other))


def test_mutation_changes_stays_inside_and_leaves_its_input_alone(space):
    parents = drawn(space, 500)
    before = parents.copy()
    children = space.mutate(parents, np.random.default_rng(1))
    np.testing.assert_array_equal(parents, before)
    np.testing.assert_array_equal(children, space.mutate(parents, np.random.default_rng(1)))
    assert space.valid(children).all()
    assert (children != parents).any(axis=1).all() == (space.size > 1)
    if not any(p.ordered for p in space.parameters):
        for parent, child in zip(parents[:20], children[:20], strict=True):
            assert space.size == 1 or tuple(child.tolist()) in rows(space.neighbors(parent))


def test_crossover_is_valid_and_keeps_what_parents_share(space):
    first, second = drawn(space, 300), drawn(space, 300, seed=1)
    children = space.crossover(first, second, np.random.default_rng(2))
    assert space.valid(children).all()
    np.testing.assert_array_equal(space.crossover(first, first, np.random.default_rng(2)), first)
    if space.size > 1000:
        assert len(rows(children) - rows(first) - rows(second)) > 0
    if space.name not in WITHOUT_STRUCTURE:
        assert ((children == first) | (children == second)).all()


def test_resampling_draws_as_many_sites_as_asked_for(space):
    parents = drawn(space, 400)
    np.testing.assert_array_equal(space.resample(parents, 0.0, np.random.default_rng(2)), parents)
    some = space.resample(parents, 0.1, np.random.default_rng(2))
    np.testing.assert_array_equal(some, space.resample(parents, 0.1, np.random.default_rng(2)))
    every = space.resample(parents, 1.0, np.random.default_rng(2))
    assert space.valid(some).all()
    assert space.valid(every).all()
    if space.size > 1000 and space.name not in WITHOUT_STRUCTURE:
        changed = (some != parents).mean(), (every != parents).mean()
        assert 0.02 * changed[1] < changed[0] < 0.35 * changed[1]


def test_strings_and_params_come_back(space):
    some = drawn(space)
    strings = space.to_string(some)
    assert all(isinstance(text, str) for text in strings)
    assert len(set(strings)) == len(rows(some))
    np.testing.assert_array_equal(space.from_string(strings), some)
    params = space.to_params(some)
    assert list(params[0]) == [p.name for p in space.parameters]
    np.testing.assert_array_equal(space.from_params(params), some)
    assert space.from_string([]).shape == space.from_params([]).shape == (0, space.n_sites)
    assert space.to_string(some[:0]) == space.to_params(some[:0]) == []


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "{}", "1" * 50_000, "[" * 50_000, "\0", "|||", 7, None])
def test_from_string_refuses_other_text(space, text):
    with pytest.raises(InputError):
        space.from_string([*space.to_string(drawn(space, 1)), text])


def test_from_params_refuses_missing_and_foreign_values(space):
    (params,) = space.to_params(drawn(space, 1))
    name = space.parameters[0].name
    with pytest.raises(InputError, match="missing"):
        space.from_params([params, {k: v for k, v in params.items() if k != name}])
    with pytest.raises(InputError, match=name):
        space.from_params([params | {name: "no such value"}])


def test_graphs_are_acyclic_and_of_this_architecture(space):
    rows = space.sample(20, np.random.default_rng(0))
    drawn = [space.graphs(row) for row in rows]
    for graphs in drawn:
        for graph in graphs:
            assert all(0 <= a < b < len(graph.nodes) for a, b, _ in graph.edges)
            assert len(graph.rows) in (0, len(graph.nodes))
            assert graph.sentences()
    if drawn[0]:  # one picture for one architecture, another for another
        classes = {tuple(row) for row in rows.tolist()}
        assert len({str(graphs) for graphs in drawn}) >= 0.8 * len(classes)


def test_encodings_have_one_shape_and_finite_values(space):
    some = drawn(space, 50)
    for kind in space.encodings:
        features = space.encode(some, kind)
        assert features.dtype == np.float32
        assert features.shape == (50, space.encode(some[:0], kind).shape[1])
        assert np.isfinite(features).all()
        np.testing.assert_array_equal(features[7:9], space.encode(some[7:9], kind))
    with pytest.raises(UnknownNameError, match="onehot"):
        space.encode(some, "one-hot")


def test_encodings_tell_architectures_apart(space):
    some = space.all()[:: max(1, space.size // 3000)] if space.enumerable else drawn(space, 3000)
    for kind in INJECTIVE & set(space.encodings):
        if space.encode(some[:1], kind).shape[1] > 2000:
            continue
        features = space.encode(some, kind)
        assert len(np.unique(features, axis=0)) == len(rows(some))


def test_a_class_has_one_representative_which_is_of_it(space):
    some = space.sample(200, np.random.default_rng(3))
    some = np.concatenate([some, space.mutate(some, np.random.default_rng(4))])
    standing = space.representative(some)
    classes = space.canonical(some)
    assert space.valid(standing).all()
    np.testing.assert_array_equal(space.canonical(standing), classes)
    by_class = {}
    for number, row in zip(classes.tolist(), standing.tolist(), strict=True):
        assert by_class.setdefault(number, row) == row


def test_canonical_is_a_function_of_the_genotype_and_refines_nothing(space):
    some = drawn(space)
    classes = space.canonical(some)
    assert classes.shape == (200,)
    assert classes.dtype == np.int64
    np.testing.assert_array_equal(classes[50:60], space.canonical(some[50:60]))
    assert len(np.unique(classes)) <= len(rows(some))


def test_keys_are_equal_exactly_for_equal_rows(space):
    some = drawn(space, 3000)
    assert space.keys(some).dtype == np.int64
    assert len(np.unique(space.keys(some))) == len(rows(some))
    np.testing.assert_array_equal(space.keys(some[10:20]), space.keys(some)[10:20])


def test_equality_hash_and_pickle(space):
    twin = pickle.loads(pickle.dumps(space))
    assert twin == space
    assert hash(twin) == hash(space)
    assert space in {twin}
    assert space != "a space"
    assert space.name in repr(space)
    some = drawn(space)
    np.testing.assert_array_equal(twin.keys(some), space.keys(some))
    np.testing.assert_array_equal(drawn(twin), some)
    assert len(pickle.dumps(space)) < 20_000  # what is derived does not travel


def test_global_random_stream_is_left_alone(space):
    np.random.seed(3)  # noqa: NPY002 - the stream under test
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    rng = np.random.default_rng(0)
    some = space.sample(20, rng)
    space.mutate(some, rng)
    space.crossover(some, some, rng)
    space.sample_distinct(min(3, space.size), rng)
    space.canonical(some)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_encoded_space_is_computed_once():
    space = make("categorical")
    features = encoded_space(space, "pairwise")
    assert features is encoded_space(make("categorical"), "pairwise")
    assert not features.flags.writeable
    np.testing.assert_array_equal(features, space.encode(space.all(), "pairwise"))


def test_registered_spaces_differ():
    spaces = [make(name) for name in ALL]
    assert len(set(spaces)) == len(spaces)
    assert all(a != b for a, b in pairwise(spaces))


def test_same_keys_in_a_fresh_process():
    code = (
        "import numpy as np; from nasplug.spaces import Categorical, Float, ParameterSpace\n"
        "s = ParameterSpace([Categorical(f'c{i}', tuple(range(20))) for i in range(40)] + [Float('f', 0.0, 1.0)])\n"
        "print(int(np.bitwise_xor.reduce(s.keys(s.sample(200, np.random.default_rng(0))))))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    space = make("huge")
    assert int(run.stdout) == np.bitwise_xor.reduce(space.keys(drawn(space)))


parameters = st.one_of(
    st.integers(1, 6).map(lambda k: lambda name: Categorical(name, tuple(range(k)))),
    st.tuples(st.integers(-50, 50), st.integers(0, 60), st.integers(1, 9)).map(
        lambda t: lambda name: Integer(name, t[0], t[0] + t[1], step=t[2])
    ),
    st.tuples(st.integers(1, 50), st.integers(0, 10**6)).map(
        lambda t: lambda name: Integer(name, t[0], t[0] + t[1], log=True)
    ),
    st.tuples(st.floats(-1e6, 1e6), st.floats(0.1, 1e6)).map(lambda t: lambda name: Float(name, t[0], t[0] + t[1])),
    st.tuples(st.floats(1e-12, 1e3), st.floats(1.1, 1e9)).map(
        lambda t: lambda name: Float(name, t[0], t[0] * t[1], log=True)
    ),
    st.tuples(st.floats(-1e3, 1e3), st.floats(0, 1e3), st.floats(1e-3, 10)).map(
        lambda t: lambda name: Float(name, t[0], t[0] + t[1], step=t[2])
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(parameters, min_size=1, max_size=5), st.integers(0, 2**32))
def test_any_parameter_space_keeps_its_promises(makers, seed):
    space = ParameterSpace([make_one(f"p{i}") for i, make_one in enumerate(makers)])
    rng = np.random.default_rng(seed)
    some = space.sample(30, rng)
    assert space.valid(some).all()
    edges = np.stack([np.zeros(space.n_sites, np.int64), space.n_choices - 1])
    for batch in (some, edges):
        np.testing.assert_array_equal(space.from_params(space.to_params(batch)), batch)
        np.testing.assert_array_equal(space.from_string(space.to_string(batch)), batch)
        children = space.mutate(batch, rng)
        assert space.valid(children).all()
        assert (children != batch).any(axis=1).all() or space.size == 1
        for kind in space.encodings:
            features = space.encode(batch, kind)
            assert features.dtype == np.float32
            assert np.isfinite(features).all()
            assert kind == "counts" or ((features >= 0) & (features <= 1)).all()
            np.testing.assert_array_equal(space.encode(batch[::-1], kind), features[::-1])
        if not any(p.ordered for p in space.parameters):  # numbers near each other may share a float32
            assert len(np.unique(space.encode(batch), axis=0)) == len(rows(batch))
        assert (space.keys(batch)[:, None] == space.keys(batch)).sum() == sum(
            (batch == one).all(axis=1).sum() for one in batch
        )
    for genotype in edges:
        near = space.neighbors(genotype)
        assert space.valid(near).all()
        assert len(rows(near)) == len(near)
