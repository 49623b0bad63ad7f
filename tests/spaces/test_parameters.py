import math

import numpy as np
import pytest

from nasplug.errors import InputError, UnknownNameError
from nasplug.spaces import Categorical, Float, Integer, ParameterSpace


def codes_of(parameter):
    return np.arange(parameter.size)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Categorical("a", ()), "at least one choice"),
        (lambda: Categorical("a", ("x", "x")), "choice twice"),
        (lambda: Categorical("a", (math.nan, math.nan)), "choice twice"),
        (lambda: Integer("i", 3, 1), "low <= high"),
        (lambda: Integer("i", 0, math.inf), "finite"),
        (lambda: Integer("i", 0.5, 3), "whole"),
        (lambda: Integer("i", 0, 3, step=0), "step > 0"),
        (lambda: Integer("i", 0, 3, step=math.nan), "step > 0"),
        (lambda: Integer("i", 0, 3, step=1.5), "whole"),
        (lambda: Integer("i", 0, 2**60), "2\\^53"),
        (lambda: Integer("i", 2**60, 2**60 + 512, step=512), "2\\^53"),
        (lambda: Integer("i", 0, 3, log=True), "low > 0"),
        (lambda: Float("f", math.nan, 1.0), "finite"),
        (lambda: Float("f", -1e308, 1e308), "finite"),
        (lambda: Float("f", 0.0, 1.0, step=-0.1), "step > 0"),
        (lambda: Float("f", 0.0, 1.0, step=1e-300), "2\\^53"),
        (lambda: Float("f", 0.0, 1.0, log=True), "low > 0"),
        (lambda: Float("f", 0.1, 1.0, step=0.1, log=True), "both step and log"),
        (lambda: Float("f", 1.0, 1.0 + 1e-12), "too little"),
    ],
)
def test_a_bad_definition_says_what_is_wrong(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_choices_are_told_apart_by_type():
    site = Categorical("a", (1, True, 1.0, "1", None, math.nan))
    assert site.encode([math.nan, "1", True, 1, None, 1.0]).tolist() == [5, 3, 1, 0, 4, 2]
    assert site.encode([np.int64(1), np.float64(1.0), np.bool_(True)]).tolist() == [0, 2, 1]
    assert Categorical("a", (1, 2)) != Categorical("a", (True, 2))
    assert Categorical("a", (1, 2)) != Categorical("a", (1.0, 2))
    assert Categorical("a", (math.nan,)) == Categorical("a", (float("nan"),))
    assert hash(Categorical("a", ("x", "y"))) == hash(Categorical("a", ("x", "y")))
    assert ParameterSpace([Categorical("a", (0, 1))]) != ParameterSpace([Categorical("a", (False, True))])


def test_choices_given_as_a_list_are_frozen():
    given = ["x", "y"]
    site = Categorical("a", given)
    given.append("z")
    assert site.choices == ("x", "y")


def test_an_unknown_choice_is_answered_with_near_ones():
    with pytest.raises(UnknownNameError, match="did you mean conv3x3"):
        Categorical("op", ("conv3x3", "pool")).encode(["pool", "conv3"])


@pytest.mark.parametrize(
    ("parameter", "values"),
    [
        (Integer("i", 2, 6), [2, 3, 4, 5, 6]),
        (Integer("i", 3, 20, step=4), [3, 7, 11, 15, 19]),
        (Integer("i", -2.0, 2.0, step=2.0), [-2, 0, 2]),
        (Integer("i", 5, 8, step=10), [5]),
        (Float("f", 0.0, 0.3, step=0.1), [0.0, 0.1, 0.2, 0.3]),
        (Float("f", 0.0, 0.25, step=0.1), [0.0, 0.1, 0.2]),
        (Float("f", 2.5, 2.5), [2.5]),
    ],
)
def test_values_are_those_of_the_steps(parameter, values):
    assert parameter.size == len(values)
    decoded = parameter.decode(codes_of(parameter))
    assert decoded == pytest.approx(values)
    assert {type(v) for v in decoded} == {int if isinstance(parameter, Integer) else float}
    assert parameter.encode(values).tolist() == list(range(len(values)))


@pytest.mark.parametrize(
    ("parameter", "bad"),
    [
        (Integer("i", 0, 10, step=2), 3),
        (Integer("i", 0, 10), 2.5),
        (Integer("i", 0, 10), 11),
        (Integer("i", 0, 10), "3"),
        (Integer("i", 0, 10), None),
        (Integer("i", 0, 10), math.nan),
        (Float("f", 0.0, 1.0, step=0.25), 0.3),
        (Float("f", 0.0, 1.0), 1.001),
        (Float("f", 1e-12, 1e-10), 5e-10),
        (Float("f", 1e-12, 1.0, log=True), -5e-10),
        (Float("f", 0.0, 1.0), math.inf),
    ],
)
def test_a_value_the_parameter_does_not_have_is_refused(parameter, bad):
    with pytest.raises(InputError, match=parameter.name):
        parameter.encode([parameter.low, bad])


def test_a_rounding_error_outside_the_range_is_forgiven():
    site = Float("f", 1e-12, 1.0, log=True)
    assert site.encode([1e-12 - 1e-22, 1.0 + 1e-15]).tolist() == [0, site.size - 1]


@pytest.mark.parametrize("parameter", [Float("f", -3.0, 5.0), Float("f", 1e-7, 10.0, log=True)])
def test_a_float_is_rounded_to_the_grid_and_no_further(parameter):
    rng = np.random.default_rng(0)
    wanted = np.array(parameter.decode(parameter.draw(100, rng))) * (1 + 1e-9)
    got = np.array(parameter.decode(parameter.encode(wanted.tolist())))
    scale = np.log(parameter.high / parameter.low) * got if parameter.log else parameter.high - parameter.low
    assert (np.abs(got - wanted) <= 5e-7 * scale).all()


def test_log_draws_spread_over_the_orders_of_magnitude():
    # 4000 draws, five decades: each holds 800 in expectation, standard deviation 25; six of those is 1e-9.
    values = np.array(Float("f", 1e-5, 1.0, log=True).decode(Float("f", 1e-5, 1.0, log=True).draw(4000, _rng())))
    assert (np.abs(np.histogram(np.log10(values), bins=5, range=(-5, 0))[0] - 800) < 150).all()
    whole = np.array(Integer("i", 1, 10**5, log=True).decode(Integer("i", 1, 10**5, log=True).draw(4000, _rng())))
    assert np.median(whole) == pytest.approx(10**2.5, rel=0.4)


@pytest.mark.parametrize(
    "parameter",
    [
        Integer("i", 0, 1),
        Integer("i", 0, 2),
        Integer("i", 0, 40),
        Integer("i", 1, 1000, log=True),
        Float("f", 0.0, 1.0),
        Float("f", 1e-5, 1.0, log=True),
        Float("f", 0.0, 1.0, step=0.1),
        Categorical("c", tuple("abcde")),
    ],
)
def test_perturb_changes_and_stays_inside_also_at_the_boundary(parameter):
    for code in (0, parameter.size // 2, parameter.size - 1):
        before = np.full(500, code)
        after = parameter.perturb(before, _rng())
        assert ((after >= 0) & (after < parameter.size)).all()
        assert (after != before).all()
        assert len(np.unique(after)) >= min(parameter.size - 1, 3)


def test_perturb_moves_a_number_about_a_tenth_of_its_scale():
    site = Float("f", 1e-4, 1.0, log=True)
    middle = np.full(2000, site.size // 2)
    moved = site.coordinate(site.perturb(middle, _rng())) - 0.5
    assert np.std(moved) == pytest.approx(0.1, rel=0.1)  # 2000 draws: relative error of a standard deviation 1.6 %


def test_perturb_of_a_single_value_is_refused():
    with pytest.raises(InputError, match="single value"):
        Integer("i", 3, 3).perturb(np.zeros(2, np.int64), _rng())


def test_alternatives_of_a_long_range_are_powers_of_two_away():
    assert Integer("i", 0, 99).alternatives(50).tolist() == [18, 34, 42, 46, 48, 49, 51, 52, 54, 58, 66, 82]
    assert Integer("i", 0, 4).alternatives(1).tolist() == [0, 2, 3, 4]
    assert Categorical("c", tuple(range(30))).alternatives(3).tolist() == [0, 1, 2, *range(4, 30)]


@pytest.mark.parametrize("parameter", [Integer("i", 1, 300, log=True), Integer("i", 0, 30, step=3), Float("f", 0, 1)])
def test_coordinates_come_back(parameter):
    codes = np.unique(np.linspace(0, parameter.size - 1, 50).astype(np.int64))
    coordinates = parameter.coordinate(codes)
    assert coordinates[0] == 0
    assert coordinates[-1] == 1
    assert (np.diff(coordinates) > 0).all()
    np.testing.assert_array_equal(parameter.at(coordinates), codes)


def _rng():
    return np.random.default_rng(0)
