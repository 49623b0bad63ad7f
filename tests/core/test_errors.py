import pickle

import pytest

from nasplug import errors
from nasplug.errors import InputError, NasplugError, UnknownNameError


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("InputError", ValueError),
        ("DataError", ValueError),
        ("SpaceExhaustedError", ValueError),
        ("UnknownNameError", LookupError),
        ("MissingDependencyError", ImportError),
    ],
)
def test_errors_are_ours_and_the_builtin_kind(name, builtin):
    assert issubclass(getattr(errors, name), NasplugError)
    assert issubclass(getattr(errors, name), builtin)


def test_unknown_name_offers_the_near_ones_first():
    message = str(UnknownNameError("strategy", "weakna", ["random", "weaknas", "weaknas-paper"]))
    assert message == "unknown strategy 'weakna'; did you mean weaknas or weaknas-paper?"


def test_unknown_name_lists_all_when_none_is_near():
    assert str(UnknownNameError("metric", "xyz", ["b", "a"])) == "unknown metric 'xyz'; known: a, b"
    assert str(UnknownNameError("metric", "xyz", [])) == "unknown metric 'xyz'; known: none"


@pytest.mark.parametrize("error", [UnknownNameError("space", "dart", iter(["darts"])), InputError("expected a, got b")])
def test_errors_travel_between_processes(error):
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is type(error)
    assert str(twin) == str(error)
