import numpy as np
import pytest

from nasplug.errors import InputError, SpaceExhaustedError
from nasplug.spaces import Categorical, Float, Integer, ParameterSpace


def test_a_space_needs_parameters_of_different_names():
    with pytest.raises(InputError, match="at least one parameter"):
        ParameterSpace([])
    with pytest.raises(InputError, match="one name"):
        ParameterSpace([Integer("a", 0, 1), Integer("a", 0, 2)])


def test_size_of_any_length_can_be_written():
    space = ParameterSpace([Float(f"f{i}", 0.0, 1.0) for i in range(80)])
    assert space.size == (2**20 + 1) ** 80  # beyond the largest float
    assert "10^481.6" in repr(space)
    with pytest.raises(InputError, match=r"10\^481.6 architectures"):
        space.all()


def test_a_hundred_sites_of_one_value_enumerate():
    space = ParameterSpace([Integer(f"i{i}", 1, 1) for i in range(99)] + [Integer("j", 0, 3)])
    assert space.all()[:, -1].tolist() == [0, 1, 2, 3]


def test_hashed_keys_do_not_collide_on_structured_genotypes():
    # Codes that are multiples of a power of two: a linear hash modulo 2^64 loses those bits.
    space = ParameterSpace([Float(f"f{i}", 0.0, 1.0) for i in range(8)])
    grid = np.stack(np.meshgrid(*[[0, 2**18, 2**19, 2**20]] * 8), axis=-1).reshape(-1, 8)
    assert len(np.unique(space.keys(grid))) == 4**8


def test_equal_codes_at_other_sites_have_other_keys():
    space = ParameterSpace([Categorical(f"c{i}", tuple(range(30))) for i in range(30)])
    codes = np.roll(np.arange(30), 1)
    cycled = np.stack([np.roll(codes, shift) for shift in range(30)])
    assert len(np.unique(space.keys(cycled))) == 30


def test_sample_distinct_finds_what_the_prior_hardly_reaches():
    space = ParameterSpace([Integer("i", 1, 200_000, log=True)])
    found = space.sample_distinct(120_000, np.random.default_rng(0))
    assert len(np.unique(found)) == len(found) == 120_000


def test_sample_distinct_returns_fewer_when_fewer_are_left():
    space = ParameterSpace([Integer("i", 0, 99)])
    taken = np.arange(97)
    assert sorted(space.sample_distinct(10, np.random.default_rng(0), taken)[:, 0].tolist()) == [97, 98, 99]


def test_sample_distinct_gives_up_on_a_large_space_that_keeps_repeating(monkeypatch):
    space = ParameterSpace([Float("f", 0.0, 1.0)])
    row = np.array([[5]])
    monkeypatch.setattr(space, "sample", lambda n, rng: np.repeat(row, n, axis=0))
    with pytest.raises(SpaceExhaustedError, match="no unseen"):
        space.sample_distinct(1, np.random.default_rng(0), space.keys(row))


def test_sample_follows_the_log_prior():
    space = ParameterSpace([Float("lr", 1e-4, 1.0, log=True), Float("p", 0.0, 1.0)])
    values = space.to_params(space.sample(2000, np.random.default_rng(0)))
    assert np.median([v["lr"] for v in values]) == pytest.approx(1e-2, rel=0.5)
    assert np.median([v["p"] for v in values]) == pytest.approx(0.5, abs=0.06)


def test_pairwise_features_are_products_of_two_sites():
    space = ParameterSpace([Categorical("a", ("x", "y")), Integer("i", 0, 4), Categorical("b", (0, 1, 2))])
    features = space.encode(np.array([[1, 2, 0]]), "pairwise")[0].tolist()
    single = [0, 1, 0.5, 1, 0, 0]
    products = [0, 0, 0, 0, 0.5, 1, 0, 0, 0.5, 0, 0]  # a x i, a x b by rows of a, i x b
    assert features == single + products


def test_json_string_is_readable():
    space = ParameterSpace([Categorical("a", ("x", None)), Integer("i", 0, 4)])
    assert space.to_string(np.array([[1, 2]])) == ['{"a":null,"i":2}']
    assert space.from_string([' {"i": 2, "a": null} ']).tolist() == [[1, 2]]
    with pytest.raises(InputError, match="lies in"):
        space.from_string(['{"a": null, "i": NaN}'])
